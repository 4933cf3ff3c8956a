"""Items of maps that belong together as a STAC collection."""

import json
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError
from s2cd.output import check_writable
from s2cd.results.stac.assets import relative
from s2cd.results.stac.item import write_json

_NOTICE = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"


def write_collection(items: list[Path], path: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write a collection of items that are there; each of them is given a link to it.

    Raises:
        S2cdError: where there is no item, or one cannot be read or written.
    """
    check_writable(path, overwrite)
    if not items:
        raise S2cdError(f"{path} would hold no item. Name some maps")
    read = [_read(item) for item in items]
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": path.resolve().parent.name or "changes",
        "title": "Land-cover change",
        "description": "Change maps by s2cd. They contain modified Copernicus Sentinel data.",
        "license": "other",
        "extent": _extent(read),
        "links": [
            {"rel": "license", "href": _NOTICE, "title": "Legal notice on Sentinel data"},
            *(
                {"rel": "item", "href": relative(item, path), "type": "application/geo+json"}
                for item in items
            ),
        ],
    }
    for value, item in zip(read, items, strict=True):
        _link_up(value, item, path)
        write_json({**value, "collection": collection["id"]}, item, overwrite=True)
    write_json(collection, path, overwrite)
    return collection


def _link_up(value: dict[str, Any], item: Path, collection: Path) -> None:
    """Give an item the links to its collection, in place of any to another."""
    up = {"href": relative(collection, item), "type": "application/json"}
    kept = [link for link in value["links"] if link["rel"] not in ("collection", "parent")]
    value["links"] = [*kept, *({"rel": rel, **up} for rel in ("collection", "parent"))]


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise S2cdError(f"{path} cannot be read as a STAC item. Make it with `s2cd stac`") from e
    if not isinstance(value, dict) or not {"bbox", "links", "properties"} <= set(value):
        raise S2cdError(f"{path} is no STAC item of a map. Make it with `s2cd stac`")
    return value


def _extent(items: list[dict[str, Any]]) -> dict[str, Any]:
    """What the items cover: the box of all first, then, where there are more, each one's."""
    boxes = [item["bbox"] for item in items]
    west, south, east, north = zip(*boxes, strict=True)
    whole = [min(west), min(south), max(east), max(north)]
    if any(w > e for w, e in zip(west, east, strict=True)):  # one crosses the antimeridian
        whole[0], whole[2] = -180.0, 180.0
    start = min(item["properties"]["start_datetime"] for item in items)
    end = max(item["properties"]["end_datetime"] for item in items)
    every = [whole, *boxes] if len(boxes) > 1 else [whole]
    return {"spatial": {"bbox": every}, "temporal": {"interval": [[start, end]]}}
