"""Sentinel Hub on this machine: a catalogue, and pixels of products by the Process API."""

import json
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.warp import Resampling, reproject
from servers import Asked, Reply, Server, serving
from space import CLIENT, Space, facts_of, json_reply

from s2cd.scenes.product import open_product

_LATER = timedelta(minutes=9, seconds=31)
"""From when a datatake begins to when its tiles are taken."""


@dataclass
class Hub(Space):
    """Products behind a Process API; ``spoil`` changes what is written, and is told how often."""

    spoil: Callable[[dict, int], None] = lambda profile, number: None
    answers: int = 0
    tokens: set[str] = field(default_factory=set)

    def service(self, asked: Asked) -> Reply | None:
        """The catalogue and the process endpoint, for whoever has the newest token."""
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.issued or token != self.issued[-1] or token in self.refused:
            return json_reply({"error": {"message": f"expired {token}"}}, 401)
        if asked.path == "/api/v1/catalog/1.0.0/search":
            return self.found(asked.json)
        return self.pixels(asked.json) if asked.path == "/api/v1/process" else None

    def found(self, body: dict) -> Reply:
        """Features by dates, page by page."""
        assert body["collections"] == ["sentinel-2-l1c"] and len(body["bbox"]) == 4
        start, end = (datetime.fromisoformat(text) for text in body["datetime"].split("/"))
        roots = [root for root in self.products if start <= taken(root) <= end]
        skip = int(body.get("next", 0))
        context = {"next": skip + self.page} if len(roots) > skip + self.page else {}
        features = [self.feature(root) for root in roots[skip:][: self.page]]
        return json_reply({"type": "FeatureCollection", "features": features, "context": context})

    def feature(self, root: Path) -> dict:
        item = self.item(root)
        item["id"] = root.name
        item["properties"] = {
            "datetime": f"{taken(root):%Y-%m-%dT%H:%M:%SZ}",
            "eo:cloud_cover": facts_of(root).cloud,
        }
        return item

    def pixels(self, body: dict) -> Reply:
        """The answer to a request, whose every word is looked at."""
        (data,), bounds, output = body["input"]["data"], body["input"]["bounds"], body["output"]
        assert data["type"] == "sentinel-2-l1c"
        assert data["processing"]["harmonizeValues"] is True
        assert data["processing"]["upsampling"] == "BICUBIC"
        span = data["dataFilter"]["timeRange"]
        start, end = (datetime.fromisoformat(span[key]) for key in ("from", "to"))
        assert end - start < timedelta(minutes=1)
        (root,) = [root for root in self.products if start <= taken(root) <= end]
        epsg = int(bounds["properties"]["crs"].rsplit("/", 1)[1])
        west, south, east, north = bounds["bbox"]
        width, height = output["width"], output["height"]
        size = (east - west) / width
        assert size == (north - south) / height and max(width, height) <= 2500
        assert west % size == north % size == 0
        assert output["responses"] == [{"identifier": "default", "format": {"type": "image/tiff"}}]
        bands = json.loads(re.search(r"bands: (\[.*?\]), units: \"DN\"", body["evalscript"])[1])
        assert f'bands: {len(bands)}, sampleType: "UINT16"' in body["evalscript"]
        assert f"return [{', '.join(f'sample.{b}' for b in bands)}]" in body["evalscript"]
        profile = {
            "driver": "GTiff",
            "dtype": "uint16",
            "count": len(bands),
            "width": width,
            "height": height,
            "crs": f"EPSG:{epsg}",
            "compress": "deflate",
            "transform": Affine(size, 0, west, 0, -size, north),
        }
        values = np.stack([seen(root, band, profile) for band in bands])
        profile["values"] = values
        self.spoil(profile, self.answers)
        self.answers += 1
        return Reply(tiff_of(profile), kind="image/tiff", ranges=False)


def seen(root: Path, band: str, profile: dict) -> np.ndarray:
    """A band as the service gives it: without offset, on the grid asked for."""
    dn, transform, crs, offset = numbers(root, "B02" if band == "dataMask" else band)
    shape = profile["height"], profile["width"]
    place = {
        "src_transform": transform,
        "src_crs": crs,
        "dst_transform": profile["transform"],
        "dst_crs": profile["crs"],
    }
    there = np.zeros(shape, np.uint8)
    reproject((dn > 0).astype(np.uint8), there, resampling=Resampling.nearest, **place)
    if band == "dataMask":
        return there.astype(np.uint16)
    values = np.zeros(shape, np.float64)
    harmonized = np.maximum(0, dn.astype(np.float64) + offset)
    reproject(harmonized, values, resampling=Resampling.cubic, **place)
    return np.where(there, np.clip(np.rint(values), 0, 65535), 0).astype(np.uint16)


@lru_cache(maxsize=64)
def numbers(root: Path, band: str):
    product = open_product(root)
    with rasterio.open(next((root / "GRANULE").glob(f"*/IMG_DATA/*_{band}.jp2"))) as source:
        return source.read(1), source.transform, source.crs, product.offsets[band]


def tiff_of(profile: dict) -> bytes:
    """A GeoTIFF of a profile with ``values``."""
    settings = {key: value for key, value in profile.items() if key != "values"}
    with MemoryFile() as memory:
        with memory.open(**settings) as target:
            target.write(profile["values"])
        return memory.read()


def taken(root: Path) -> datetime:
    """When the tile of a product was taken."""
    return facts_of(root).sensed + _LATER


@dataclass
class HubServers:
    """The servers of a `Hub`."""

    hub: Hub
    identity: Server
    service: Server

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead here."""
        return {
            "S2CD_PROCESS_API_URL": self.service.url,
            "S2CD_PROCESS_API_TOKEN_URL": f"{self.identity.url}/token",
            "SH_CLIENT_ID": CLIENT["client_id"],
            "SH_CLIENT_SECRET": CLIENT["client_secret"],
        }


@contextmanager
def serving_hub(hub: Hub):
    """Its servers while the block lasts."""
    with serving(hub.identity) as identity, serving(hub.service) as service:
        yield HubServers(hub, identity, service)
