"""What a fetch writes down: products and dates as plain JSON, and back."""

import json
from datetime import datetime
from typing import Any

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.sources.choice import Pair
from s2cd.sources.source import Found, Scene


def noted_pair(pair: Pair) -> dict[str, Any]:
    """Two dates as JSON holds them."""
    return {
        "before": _noted_scene(pair.before),
        "after": _noted_scene(pair.after),
        "notes": list(pair.notes),
    }


def pair_in(noted: Any) -> Pair:
    """The two dates that were noted.

    Raises:
        S2cdError: where the note cannot be read.
    """
    try:
        before, after = (_scene_in(noted[key]) for key in ("before", "after"))
        return Pair(before, after, tuple(map(str, noted["notes"])))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise S2cdError(f"The note of this fetch cannot be read: {one_line(e)}") from e


def noted_found(found: Found) -> dict[str, Any]:
    """A product as JSON holds it."""
    import shapely

    return {
        "source": found.source,
        "name": found.name,
        "sensed": found.sensed.isoformat(),
        "made": found.made,
        "tile": found.tile,
        "orbit": found.orbit,
        "baseline": found.baseline,
        "datatake": found.datatake,
        "cloud": found.cloud,
        "footprint": json.loads(shapely.to_geojson(found.footprint)),
        "size": found.size,
        "place": found.place,
        "extra": dict(found.extra),
    }


def _noted_scene(scene: Scene) -> dict[str, Any]:
    return {
        "date": str(scene.day),
        "orbit": scene.orbit,
        "coverage": round(scene.coverage, 6),
        "cloud": scene.cloud,
        "cloud_of": "area" if scene.looked_at else "products",
        "products": [noted_found(found) for found in scene.products],
    }


def _scene_in(noted: Any) -> Scene:
    products = tuple(_found_in(one) for one in noted["products"])
    if not products:
        raise ValueError("no products")
    cloud = None if noted["cloud"] is None else float(noted["cloud"])
    return Scene(products, float(noted["coverage"]), cloud, noted["cloud_of"] == "area")


def _found_in(noted: Any) -> Found:
    import shapely

    footprint = shapely.from_geojson(json.dumps(noted["footprint"]))
    sensed = datetime.fromisoformat(noted["sensed"])
    return Found(**{**noted, "footprint": footprint, "sensed": sensed})
