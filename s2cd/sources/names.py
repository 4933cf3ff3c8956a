"""What a product's name says of it, for sources that answer with little more than names."""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from s2cd.errors import S2cdError
from s2cd.sources.facts import polygon_of

_NAME = re.compile(
    r"(?P<unit>S2[A-Z])_MSIL1C_(?P<sensed>\d{8}T\d{6})_N(?P<baseline>\d{4})_R(?P<orbit>\d{3})"
    r"_T(?P<tile>\d{2}[A-Z]{3})_(?P<made>\d{8}T\d{6})(?:\.SAFE)?",
    re.ASCII,
)
_MOST_POINTS = 10_000


@dataclass(frozen=True)
class Named:
    """The parts of a name, such as `Found` has them.

    Attributes:
        name: Without an ending.
        sensed: When the satellite began to take it, in UTC.
        made: When it was processed, as ESA writes it.
        tile: Such as ``43QBF``.
        orbit: Relative orbit number.
        baseline: Of the processing, such as ``05.00``.
        datatake: What the satellite took in one go: its name and when it began.
    """

    name: str
    sensed: datetime
    made: str
    tile: str
    orbit: int
    baseline: str
    datatake: str


def named(text: Any) -> Named | None:
    """What a name says, with or without ``.SAFE``; None where it is no Level-1C product's.

    Products in the format from before December 2016 have other names; the same dates are there
    anew in the later one (Collection-1).
    """
    match = _NAME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    try:
        sensed = datetime.strptime(match["sensed"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Named(
        name=text.removesuffix(".SAFE"),
        sensed=sensed,
        made=match["made"],
        tile=match["tile"],
        orbit=int(match["orbit"]),
        baseline=f"{match['baseline'][:2]}.{match['baseline'][2:]}",
        datatake=f"{match['unit']}_{match['sensed']}",
    )


def footprint_of(geometry: Any, said: str) -> Any:
    """The footprint that a GeoJSON geometry gives: a shapely polygon or multipolygon in degrees.

    Raises:
        S2cdError: where it is none.
    """
    import shapely

    try:
        shape = shapely.from_geojson(json.dumps(geometry))
        parts = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon" and not p.is_empty]
        rings = [list(part.exterior.coords) for part in parts]
    except (shapely.errors.ShapelyError, ValueError, TypeError, RecursionError) as e:
        raise S2cdError(f"{said} has a footprint that is none. Take another product") from e
    points = [point for ring in rings for point in ring]
    right = all(math.isfinite(p[0]) and abs(p[0]) <= 360 and abs(p[1]) <= 90 for p in points)
    if not rings or not right or len(points) > _MOST_POINTS:
        raise S2cdError(f"{said} has a footprint that is none. Take another product")
    wrapped = [
        [((p[0] + 180) % 360 - 180 if abs(p[0]) > 180 else p[0], p[1]) for p in ring]
        for ring in rings
    ]
    return shapely.union_all([polygon_of(ring) for ring in wrapped])


def footprint_of_text(text: Any, said: str) -> Any:
    """The footprint of ``geography'SRID=4326;POLYGON((…))'``, as `footprint_of`.

    Raises:
        S2cdError: where it is none.
    """
    import shapely

    match = re.fullmatch(r"geography'SRID=4326;([^']{0,200000})'", str(text))
    shape = shapely.from_wkt(match[1] if match else "", on_invalid="ignore")
    if shape is None:
        raise S2cdError(f"{said} has a footprint that is none. Take another product")
    return footprint_of(json.loads(shapely.to_geojson(shape)), said)


def percentage(value: Any) -> float | None:
    """A share in percent; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= 100 else None
