"""Addresses that the environment may set, for other deployments and for tests."""

import os

from s2cd.errors import S2cdError
from s2cd.sources.http.trust import check_url

_USUAL = {
    "S2CD_GOOGLE_URL": "https://storage.googleapis.com/gcp-public-data-sentinel-2",
    "S2CD_CDSE_CATALOGUE_URL": "https://catalogue.dataspace.copernicus.eu/odata/v1",
    "S2CD_CDSE_TOKEN_URL": (
        "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    ),
    "S2CD_CDSE_DOWNLOAD_URL": "https://download.dataspace.copernicus.eu/odata/v1",
    "S2CD_CDSE_S3_URL": "https://eodata.dataspace.copernicus.eu",
    "S2CD_PROCESS_API_URL": "https://sh.dataspace.copernicus.eu",
    "S2CD_PROCESS_API_TOKEN_URL": (
        "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    ),
    "S2CD_STAC_URL": "https://stac.dataspace.copernicus.eu/v1",
}


def endpoint(name: str) -> str:
    """The address that a variable of the environment sets, or the public one; without a last /.

    Raises:
        S2cdError: where it is not https (or http on this machine).
    """
    given = os.environ.get(name, "").strip()
    try:
        return check_url((given or _USUAL[name]).rstrip("/"))
    except S2cdError as e:
        raise S2cdError(f"{name}: {e}") from e
