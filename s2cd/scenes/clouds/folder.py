"""Clouds of a folder of band files, which says of the sun at most when the date was sensed."""

import logging
from datetime import datetime
from pathlib import Path

import xarray as xr

from s2cd.errors import S2cdError
from s2cd.scenes.clouds.flags import NEEDED, cloud_flags, missing_bands
from s2cd.scenes.clouds.lattice import lattice_of
from s2cd.scenes.clouds.sun import SunAngles, sun_at
from s2cd.scenes.safe import band_files, open_folder

logger = logging.getLogger(__name__)


def folder_clouds(
    folder: Path, stack: xr.DataArray, offset: float | None, wanted: bool | None
) -> xr.DataArray | None:
    """Flags (y, x) of `cloud_flags` on the grid of a folder's stack; None where not looked for.

    Args:
        folder: Holds the band files.
        stack: What `open_folder` made of it: its grid, and its time of sensing if known.
        offset: RADIO_ADD_OFFSET, in DN; 0 where None.
        wanted: True: refuse where it cannot be done. None: say so, and go on without.

    Raises:
        S2cdError: where clouds are wanted and a band or s2cloudless is missing.
    """
    if wanted is False:
        return None
    missing = missing_bands(band_files(folder))
    if missing and not wanted:
        logger.info("%s: clouds are not looked for, since %s is missing", folder, " ".join(missing))
        return None
    try:
        bands = {n: open_folder(folder, (n,), offset or 0.0)[0] for n in NEEDED if n not in missing}
        return cloud_flags(bands, _sun_over(stack), stack.odc.geobox)
    except S2cdError as e:
        if wanted:
            raise
        logger.warning("%s: clouds are not masked: %s", folder, e)
        return None


def _sun_over(stack: xr.DataArray) -> SunAngles | None:
    """Where the sun stood over the middle of a stack, where its time of sensing is known."""
    sensed = stack.attrs.get("SENSING_TIME")
    place = lattice_of(stack.odc.geobox)
    if sensed is None or place.latitude is None or place.longitude is None:
        return None
    return sun_at(datetime.fromisoformat(str(sensed)), place.latitude, place.longitude)
