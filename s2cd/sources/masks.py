"""How much of an area is cloud, by the mask that a product itself holds: coarse, but small."""

import math
import re
from collections.abc import Sequence
from typing import Any

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.scenes.metadata import parse_xml
from s2cd.sources.tiles import epsg_of

MOST_MASK = 32 << 20
_RASTER = re.compile(r"GRANULE/[^/]+/QI_DATA/MSK_CLASSI_B00\.jp2")
_VECTOR = re.compile(
    r"GRANULE/[^/]+/QI_DATA/(?:MSK_CLOUDS_B00|S2\w+_MSK_CLOUDS_\w+_B00_MSIL1C)\.gml"
)
_LARGEST = 10_980
_STEP = 0.02


def mask_among(names: Sequence[str]) -> str | None:
    """The file of the cloud mask among a product's files: raster since baseline 04.00, else GML."""
    for pattern in (_RASTER, _VECTOR):
        for name in names:
            if pattern.fullmatch(name):
                return name
    return None


def cloud_in_mask(content: bytes, name: str, tile: str, area: Any) -> float:
    """Percent of an area that a product's mask takes for cloud or cirrus.

    Args:
        content: The mask.
        name: Its file's name.
        tile: Of the product, such as ``43QBF``.
        area: Within the product's footprint: shapely, in degrees.

    Raises:
        S2cdError: where it is no such mask.
    """
    import shapely

    try:
        shape = _projected(area, epsg_of(tile))
        if name.endswith(".jp2"):
            return _in_raster(content, name, shape)
        share = float(_polygons(content, name).intersection(shape).area / shape.area)
    except (shapely.errors.ShapelyError, ZeroDivisionError) as e:
        raise S2cdError(f"{name} cannot be laid over the area: {one_line(e)}") from e
    if not 0 <= share <= 1.001:
        raise S2cdError(f"{name} cannot be laid over the area")
    return 100 * min(share, 1.0)


def _projected(area: Any, epsg: int) -> Any:
    import numpy as np
    import shapely
    from pyproj import Transformer

    to_metres = Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True)

    def apply(points: Any) -> Any:
        return np.stack(to_metres.transform(points[:, 0], points[:, 1]), axis=1)

    shape = shapely.transform(shapely.segmentize(area, _STEP), apply)
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        raise S2cdError(f"The area lies far from EPSG:{epsg}, where its tile is")
    return shapely.make_valid(shape)


def _in_raster(content: bytes, name: str, shape: Any) -> float:
    """Bands 1 and 2 of MSK_CLASSI: opaque cloud and cirrus (Sentinel-2 PSD 14.9, 4.9.9)."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.features import geometry_mask
    from rasterio.windows import from_bounds

    from s2cd.scenes.decode import decoding

    try:
        with decoding(), rasterio.MemoryFile(content) as memory, memory.open() as source:
            right = source.count >= 2 and source.dtypes[:2] == ("uint8", "uint8")
            if not right or max(source.shape) > _LARGEST or source.crs is None:
                raise S2cdError(f"{name} is no mask of clouds")
            window = from_bounds(*shape.bounds, source.transform).round_offsets().round_lengths()
            window = window.intersection(rasterio.windows.Window(0, 0, source.width, source.height))
            flags = source.read([1, 2], window=window)
            place = source.window_transform(window)
    except (RasterioError, ValueError) as e:
        raise S2cdError(f"{name} cannot be read as a mask of clouds: {one_line(e)}") from e
    inside = geometry_mask([shape], flags.shape[1:], place, invert=True, all_touched=True)
    if not inside.any():
        raise S2cdError(f"{name} does not reach the area")
    return 100 * float(flags.any(axis=0)[inside].mean())


def _polygons(content: bytes, name: str) -> Any:
    """The union of the outlines in a GML mask; each lies in the tile's own CRS."""
    import shapely

    parts = []
    for element in parse_xml(content, name).iter():
        if element.tag.rpartition(":")[2] != "Polygon":
            continue
        rings = [_ring(e.text or "", name) for e in element.iter() if e.tag.endswith("posList")]
        if rings:
            parts.append(shapely.make_valid(shapely.Polygon(rings[0], rings[1:])))
    return shapely.union_all(parts)


def _ring(text: str, name: str) -> list[tuple[float, float]]:
    try:
        numbers = [float(word) for word in text.split()]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
    except ValueError as e:
        raise S2cdError(f"{name} holds an outline that is none") from e
    if len(points) < 4 or not all(map(math.isfinite, numbers)):
        raise S2cdError(f"{name} holds an outline that is none")
    return points
