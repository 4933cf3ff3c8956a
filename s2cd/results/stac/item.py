"""A change map as a STAC item, beside it: where, when, of what, by what, and its files."""

import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.detection.changemap import classes_said, read_map
from s2cd.errors import S2cdError
from s2cd.networks.shipped import made_by
from s2cd.output import check_writable, completed
from s2cd.results.places import degrees_at
from s2cd.results.report.facts import day
from s2cd.results.stac.assets import asset, map_asset, probability_asset, relative
from s2cd.results.stac.model import model_item

_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
_SCENES = "https://stac.dataspace.copernicus.eu/v1/collections/sentinel-2-l1c/items/"
"""Where the Copernicus Data Space has the items of Level-1C products, by their names."""
_PRODUCT = re.compile(r"S2[A-Z]_MSIL1C_\d{8}T\d{6}_N\d{4}_R\d{3}_T\d{2}[A-Z]{3}_\d{8}T\d{6}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")


@dataclass(frozen=True)
class Files:
    """A map and what belongs to it.

    Attributes:
        change: The map.
        probability: Its probabilities.
        polygons: Its changes as polygons.
        report: Its page.
        before: The stack of the earlier date.
        after: The stack of the later date.
        model: The checkpoint that made it; one that ships with s2cd is found by itself.
        dates: The days of both dates, where the map does not say them.
    """

    change: Path
    probability: Path | None = None
    polygons: Path | None = None
    report: Path | None = None
    before: Path | None = None
    after: Path | None = None
    model: Path | None = None
    dates: tuple[str, str] | None = None


def write_item(files: Files, path: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the item of a map; and beside it that of the network, where its checkpoint is at hand.

    Raises:
        S2cdError: where a file cannot be used, or nothing says when the dates were.
    """
    check_writable(path, overwrite)
    _, geobox, tags = read_map(files.change)
    if geobox.crs is None:
        raise S2cdError(f"{files.change} has no CRS, and so no place. Georeference it in a GIS")
    item = map_item(files, path, geobox, tags)
    if (model := files.model or made_by(tags)) is not None:
        target = path.with_name(f"{model.stem}.json")
        network = model_item(model, target, item["properties"]["end_datetime"], tags)
        item["links"].append(
            {"rel": "derived_from", "href": relative(target, path), "type": "application/json"}
        )
        if not (target.exists() and target.read_text(encoding="utf-8") == as_text(network)):
            write_json(network, target, overwrite)
    write_json(item, path, overwrite)
    return item


def write_json(value: dict[str, Any], path: Path, overwrite: bool = False) -> None:
    """Write one JSON object, complete or not at all."""
    with completed(path, overwrite) as temporary:
        temporary.write_text(as_text(value), encoding="utf-8")


def as_text(value: dict[str, Any]) -> str:
    """A JSON object as it is written."""
    return f"{json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)}\n"


def map_item(files: Files, path: Path, geobox: GeoBox, tags: dict[str, str]) -> dict[str, Any]:
    """The item of a map, as an object; addresses start from ``path``."""
    geometry, bbox = footprint(geobox)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": files.change.stem,
        "geometry": geometry,
        "bbox": bbox,
        "properties": {**_times(files, tags), **_projection(geobox), **_processing(tags)},
        "links": _links(files, path, tags),
        "assets": _assets(files, path, geobox, classes_said(tags)),
    }


def footprint(geobox: GeoBox) -> tuple[dict[str, Any], list[float]]:
    """The outline of a grid in longitude and latitude, and its bounding box (RFC 7946).

    Across the antimeridian it is cut in two, and the box's west is larger than its east.
    """
    import shapely

    height, width = geobox.shape
    x = np.array([0, 0, 0.5, 1, 1, 1, 0.5, 0]) * width
    y = np.array([0.5, 1, 1, 1, 0.5, 0, 0, 0]) * height
    lon, lat = degrees_at(geobox, x, y)
    lon = lon[0] + (lon - lon[0] + 180) % 360 - 180
    outline = shapely.orient_polygons(shapely.Polygon(np.stack([lon, lat], axis=1).round(7)))
    parts = []
    for turns in (-360, 0, 360):
        world = shapely.box(-180 + turns, -90, 180 + turns, 90)
        part = shapely.intersection(outline, world)
        if part.area > 0:
            moved = shapely.transform(part, lambda p, by=turns: p - [by, 0])
            parts.append(shapely.orient_polygons(moved))
    shape = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    west, south, east, north = outline.bounds
    box = [(west + 180) % 360 - 180, south, (east + 180) % 360 - 180, north]
    return json.loads(shapely.to_geojson(shape)), [round(float(v), 7) for v in box]


def _times(files: Files, tags: dict[str, str]) -> dict[str, Any]:
    """The time from the one date to the other."""
    known = [_time(tags, role, files, at) for at, role in enumerate(("BEFORE", "AFTER"))]
    first, last = known
    if first > last:
        raise S2cdError(f"Before ({first}) is later than after ({last}). Give --dates in order")
    return {"datetime": None, "start_datetime": first, "end_datetime": last}


def _time(tags: dict[str, str], role: str, files: Files, at: int) -> str:
    text = tags.get(f"{role}_SENSING_TIME", "")
    if files.dates is not None:
        try:
            return f"{date.fromisoformat(files.dates[at]).isoformat()}T00:00:00Z"
        except ValueError as e:
            raise S2cdError(f"{files.dates[at]!r} is no day. Write YYYY-MM-DD") from e
    if not _TIME.fullmatch(text):
        raise S2cdError(
            f"{files.change} does not say when {role.lower()} was. Give --dates BEFORE,AFTER, "
            "such as 2015-11-20,2020-11-28"
        )
    return text


def _projection(geobox: GeoBox) -> dict[str, Any]:
    affine, box = geobox.affine, geobox.boundingbox
    code = geobox.crs.proj.to_authority()
    place = {"proj:code": ":".join(code)} if code else {"proj:code": None}
    return {
        **place,
        **({} if code else {"proj:wkt2": geobox.crs.to_wkt()}),
        "proj:shape": list(geobox.shape),
        "proj:transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "proj:bbox": [box.left, box.bottom, box.right, box.top],
    }


def _processing(tags: dict[str, str]) -> dict[str, Any]:
    steps = [f"{tags.get('MODEL', 'a detector')} on bands {tags.get('BANDS', 'not named')}"]
    if tags.get("REGISTRATION"):
        steps.append(f"registration: {tags['REGISTRATION']}")
    steps.append(f"threshold {tags.get('THRESHOLD', 'not named')}")
    days = [day(tags.get(f"{role}_SENSING_TIME", "")[:10] or None) for role in ("BEFORE", "AFTER")]
    between = f" between {days[0]} and {days[1]}" if all(days) else ""
    return {
        "title": f"Land-cover change{between}",
        "description": f"0 no change, {_changes(tags)}, 255 not observed. "
        "Contains modified Copernicus Sentinel data.",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "processing:software": {"s2cd": tags.get("S2CD_VERSION", "unknown")},
        "processing:lineage": "; ".join(steps),
    }


def _changes(tags: dict[str, str]) -> str:
    count = classes_said(tags)
    return "1 change" if count == 1 else f"1 to {count} classes of change"


def _links(files: Files, path: Path, tags: dict[str, str]) -> list[dict[str, Any]]:
    links: list[dict[str, Any]] = []
    for role, stack in (("BEFORE", files.before), ("AFTER", files.after)):
        for name in _PRODUCT.findall(tags.get(f"{role}_PRODUCT", "")):
            links.append(
                {
                    "rel": "derived_from",
                    "href": f"{_SCENES}{name}",
                    "type": "application/geo+json",
                    "title": f"{role.lower()}: {name}",
                }
            )
        if stack is not None:
            if not stack.is_file():
                raise S2cdError(f"There is no file {stack}. Name the stack that was used")
            kind = "image/tiff; application=geotiff"
            title = f"{role.lower()}: {stack.name}"
            link = {"rel": "derived_from", "href": relative(stack, path), "type": kind}
            links.append({**link, "title": title})
    return links


def _assets(files: Files, path: Path, geobox: GeoBox, classes: int) -> dict[str, Any]:
    assets = {"change": map_asset(files.change, path, geobox, classes)}
    others = (
        ("polygons", files.polygons, "Changes as polygons", ["data"]),
        ("report", files.report, "Report", ["overview"]),
    )
    for given in (files.probability, files.polygons, files.report):
        if given is not None and not given.is_file():
            raise S2cdError(f"There is no file {given}. Name one that belongs to the map")
    if files.probability is not None:
        assets["probability"] = probability_asset(files.probability, path, geobox)
    for name, file, title, roles in others:
        if file is not None:
            assets[name] = asset(file, path, title, roles)
    return assets
