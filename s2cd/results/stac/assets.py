"""Files as a STAC item lists them: where they are, of what kind, and how to tell a change."""

import os
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from s2cd.detection.blocks import NOT_OBSERVED, STEPS
from s2cd.results.places import metres_in_pixel
from s2cd.results.report.facts import digest

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_KINDS = {
    ".gpkg": "application/geopackage+sqlite3",
    ".geojson": "application/geo+json",
    ".json": "application/geo+json",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet",
    ".html": "text/html",
    ".safetensors": "application/octet-stream",
}


def classes_of(count: int) -> list[dict[str, Any]]:
    """The classes of a map with so many kinds of change, by the classification extension 2.0."""
    if count == 1:
        changes = [{"value": 1, "name": "change", "description": "Change", "color_hint": "D61820"}]
    else:
        changes = [
            {"value": n, "name": f"change-{n}", "description": f"Change of class {n}"}
            for n in range(1, count + 1)
        ]
    none = {"value": 0, "name": "no-change", "description": "No change", "color_hint": "EEEEE8"}
    unseen = {"value": NOT_OBSERVED, "name": "not-observed", "nodata": True}
    return [none, *changes, {**unseen, "description": "Not observed in both dates"}]


def asset(path: Path, beside: Path, title: str, roles: list[str]) -> dict[str, Any]:
    """A file of an item: its address from the item on, its kind, size and checksum.

    The checksum is a multihash, as the file extension 2.1 asks: 12 (SHA-256), 20 (32 bytes).
    """
    return {
        "href": relative(path, beside),
        "title": title,
        "type": _KINDS.get(path.suffix.lower(), COG),
        "roles": roles,
        "file:size": path.stat().st_size,
        "file:checksum": f"1220{digest(path)}",
    }


def map_asset(path: Path, beside: Path, geobox: GeoBox, classes: int) -> dict[str, Any]:
    """A change map with its classes."""
    band = {**_band("change", geobox), "classification:classes": classes_of(classes)}
    return {**asset(path, beside, "Change map", ["data"]), "bands": [band]}


def probability_asset(path: Path, beside: Path, geobox: GeoBox) -> dict[str, Any]:
    """A map of probabilities with what its values mean."""
    band = {**_band("probability", geobox), "raster:scale": 1 / STEPS, "raster:offset": 0}
    return {**asset(path, beside, "Probability of change", ["data"]), "bands": [band]}


def _band(name: str, geobox: GeoBox) -> dict[str, Any]:
    width, height = metres_in_pixel(geobox)
    return {
        "name": name,
        "data_type": "uint8",
        "nodata": NOT_OBSERVED,
        "raster:sampling": "area",
        "raster:spatial_resolution": round((width * height) ** 0.5, 3),
    }


def relative(path: Path, beside: Path) -> str:
    """The address of a file from that of another on, as STAC writes it."""
    from urllib.parse import quote

    away = os.path.relpath(path.resolve(), beside.resolve().parent)
    text = quote(Path(away).as_posix())
    return text if text.startswith("../") else f"./{text}"
