"""Products as STAC items (SpatioTemporal Asset Catalog 1.1.0)."""

import json
from collections.abc import Iterable
from typing import Any

from s2cd.sources.source import Found, Scene

_EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/grid/v1.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/sat/v1.0.0/schema.json",
)


def item_collection(scenes: Iterable[Scene]) -> dict[str, Any]:
    """Scenes as one FeatureCollection of items, in their order."""
    items = [
        stac_item(found, {"s2cd:coverage": round(scene.coverage, 4)})
        for scene in scenes
        for found in scene.products
    ]
    return {"type": "FeatureCollection", "features": items}


def stac_item(found: Found, more: dict[str, Any]) -> dict[str, Any]:
    """A product as an item."""
    import shapely

    properties = {
        "datetime": f"{found.sensed:%Y-%m-%dT%H:%M:%SZ}",
        "platform": f"sentinel-2{found.name[2:3].lower()}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "sat:relative_orbit": found.orbit,
        "grid:code": f"MGRS-{found.tile}",
        "processing:level": "L1C",
        "processing:version": found.baseline,
        "s2cd:source": found.source,
        "license": "other",
        **({} if found.cloud is None else {"eo:cloud_cover": found.cloud}),
        **more,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": found.name,
        "geometry": json.loads(shapely.to_geojson(found.footprint)),
        "bbox": [round(value, 9) for value in found.footprint.bounds],
        "properties": properties,
        "links": [],
        "assets": {},
    }
