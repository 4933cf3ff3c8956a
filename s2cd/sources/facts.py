"""What a product's own metadata says of it, as a source's answer: time, cloud, footprint."""

import math
from typing import Any
from xml.etree.ElementTree import Element

from s2cd.errors import S2cdError
from s2cd.scenes.metadata import parse_xml, read_product_xml
from s2cd.sources.source import Found


def found_in(content: bytes, said: str, source: str, place: str, tile: str) -> Found:
    """A product by its MTD_MSIL1C.xml.

    Args:
        content: The file.
        said: Its name in messages.
        source: Of which source.
        place: Where the source keeps the product; it ends in the product's folder.
        tile: Such as ``43QBF``.

    Raises:
        S2cdError: where it is no such XML, or says nothing of where the product lies.
    """
    folder = place.rstrip("/").rsplit("/", 1)[-1]
    facts = read_product_xml(content, said, folder)
    root = parse_xml(content, said)
    return Found(
        source=source,
        name=folder.removesuffix(".SAFE"),
        sensed=facts.sensed,
        made=facts.made,
        tile=tile,
        orbit=facts.orbit,
        baseline=facts.baseline,
        datatake=facts.datatake,
        cloud=_cloud(root),
        footprint=_footprint(root, said),
        place=place,
    )


def polygon_of(points: list[tuple[float, float]]) -> Any:
    """A polygon of longitudes and latitudes; where it crosses 180 degrees, two."""
    import shapely

    longitudes = [x for x, _ in points]
    if max(longitudes) - min(longitudes) <= 180:
        return shapely.make_valid(shapely.Polygon(points))
    turned = shapely.make_valid(shapely.Polygon([(x % 360, y) for x, y in points]))
    east = turned.intersection(shapely.box(0, -90, 180, 90))
    west = turned.intersection(shapely.box(180, -90, 360, 90))
    return shapely.union_all([east, shapely.transform(west, lambda xy: xy - (360, 0))])


def _cloud(root: Element) -> float | None:
    """Percent of cloud: Cloud_Coverage_Assessment; None where it is no percentage."""
    try:
        value = float((root.findtext(".//Cloud_Coverage_Assessment") or "").strip())
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None


def _footprint(root: Element, said: str) -> Any:
    """EXT_POS_LIST of Global_Footprint: latitude and longitude of each corner, in turns."""
    import shapely

    parts = [_points(element.text or "", said) for element in root.iter("EXT_POS_LIST")]
    if not parts:
        raise S2cdError(f"{said} has no footprint (EXT_POS_LIST). Take another product")
    return shapely.union_all([polygon_of(points) for points in parts])


def _points(text: str, said: str) -> list[tuple[float, float]]:
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    points = list(zip(numbers[1::2], numbers[::2], strict=False))
    right = all(math.isfinite(x) and abs(x) <= 180 and abs(y) <= 90 for x, y in points)
    if len(points) < 4 or not right:
        raise S2cdError(f"{said} has a footprint that is none. Take another product")
    return points
