"""Requests to Sentinel Hub, made with the `sentinelhub` package; the bytes go by our own HTTP.

The package retries a busy server for ever, counts a broken Retry-After for an error, does not
renew a token that is refused, and keeps whatever comes with status 200 under the final name.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from sentinelhub.api.catalog import SentinelHubCatalog
from sentinelhub.api.process import SentinelHubRequest
from sentinelhub.config import SHConfig
from sentinelhub.constants import CRS, MimeType, ResamplingType
from sentinelhub.data_collections import DataCollection
from sentinelhub.geometry import BBox

from s2cd.errors import SourceError
from s2cd.sources.http import Call, Client, said_url
from s2cd.sources.process_api.pieces import Piece

Box = tuple[float, float, float, float]
_MARGIN = timedelta(seconds=10)
"""Around when tiles were taken: satellites that fly one behind the other are 30 s apart."""
_TURN = Lock()
_MOST_PAGES, _MOST_BYTES = 200, 32 << 20
_SCRIPT = """//VERSION=3
function setup() {{
  return {{
    input: [{{bands: {inputs}, units: "DN"}}],
    output: {{id: "default", bands: {count}, sampleType: "UINT16"}},
    mosaicking: "SIMPLE"
  }};
}}
function evaluatePixel(sample) {{
  return [{values}];
}}
"""


def call_for(piece: Piece, taken: Sequence[datetime], root: str) -> Call:
    """The request for a piece: its bands as whole DN, and where there is data, as uint16.

    The offset of baselines since 04.00 is taken off by the server (``harmonizeValues``), whatever
    the baseline is, so that none is left.

    Args:
        piece: What to ask for.
        taken: When the tiles of one datatake were taken.
        root: Of the service.
    """
    first, last = (moment.replace(microsecond=0) for moment in (min(taken), max(taken)))
    data = SentinelHubRequest.input_data(
        _collection(root),
        time_interval=(first - _MARGIN, last + _MARGIN),
        upsampling=ResamplingType.BICUBIC,
        downsampling=ResamplingType.BICUBIC,
        other_args={"processing": {"harmonizeValues": True}},
    )
    height, width = piece.geobox.shape
    made = SentinelHubRequest(
        evalscript=_script(piece.layer.bands),
        input_data=[data],
        responses=[SentinelHubRequest.output_response("default", MimeType.TIFF)],
        bbox=BBox(tuple(piece.geobox.boundingbox.bbox), CRS(str(piece.geobox.crs.epsg))),
        size=(int(width), int(height)),
        config=_config(root),
    ).download_list[0]
    body = json.dumps(made.post_values, sort_keys=True).encode()
    return Call(str(made.url), "POST", dict(made.headers), body)


def digest_of_call(call: Call) -> str:
    """What tells a request from others: the host does not."""
    return hashlib.sha256(call.body or b"").hexdigest()[:16]


def search(client: Client, root: str, box: Box, days: tuple[str, str]) -> list[dict[str, Any]]:
    """The features of the catalogue that meet a box on some days (UTC, both included).

    Raises:
        SourceError: where the catalogue does not answer as it should.
    """
    catalogue = SentinelHubCatalog(config=_config(root))
    asked = _Asked(client)
    catalogue.client = asked  # type: ignore[assignment]
    found = catalogue.search(
        _collection(root),
        bbox=BBox(box, CRS.WGS84),
        time=(f"{days[0]}T00:00:00Z", f"{days[1]}T23:59:59Z"),
    )
    return list(found)


class _Asked:
    """The one thing that a catalogue of `sentinelhub` wants of its client."""

    def __init__(self, client: Client) -> None:
        self._client, self._pages = client, 0

    def get_json_dict(
        self, url: str, post_values: dict[str, Any] | None = None, use_session: bool = False
    ) -> dict[str, Any]:
        """The page that a question is answered with; the session is that of our client."""
        self._pages += 1
        if self._pages > _MOST_PAGES:
            raise SourceError(f"{said_url(url)} lists without end. Check the URL")
        body = json.dumps(post_values).encode()
        call = Call(url, "POST", {"Content-Type": "application/json"}, body)
        return self._client.read(call, "json", _MOST_BYTES, _page)


def _page(content: bytes) -> dict[str, Any]:
    page = json.loads(content)
    features = page.get("features") if isinstance(page, dict) else None
    if not isinstance(features, list) or not all(isinstance(one, dict) for one in features):
        raise ValueError("it is no list of features")
    context = page.get("context")
    following = context.get("next") if isinstance(context, dict) else None
    return {"features": features, "context": {"next": following}}


def _script(bands: Sequence[str]) -> str:
    values = ", ".join(f"sample.{name}" for name in (*bands, "dataMask"))
    inputs = json.dumps([*bands, "dataMask"])
    return _SCRIPT.format(inputs=inputs, count=len(bands) + 1, values=values)


def _collection(root: str) -> DataCollection:
    """Level-1C at a service: a collection's own address counts more than the configured one."""
    usual = DataCollection.SENTINEL2_L1C
    if usual.service_url == root:
        return usual
    name = f"SENTINEL2_L1C_{hashlib.sha256(root.encode()).hexdigest()[:16]}"
    with _TURN:  # the package looks first and adds then
        return usual.define_from(name, service_url=root)


def _config(root: str) -> SHConfig:
    """A configuration without secrets; the user's own file is neither read nor made."""
    return SHConfig(use_defaults=True, sh_base_url=root)
