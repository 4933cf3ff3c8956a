"""Polygons to pixels, block by block, by a rule that is stated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import Block
from s2cd.learning.labels.polygons import Polygons

RULES = {
    False: "a pixel belongs to the polygon that its centre lies in",
    True: "a pixel belongs to a polygon that covers any part of it",
}
"""Which pixels a polygon takes, by whether all that it touches are asked for."""
_SLIVER = 1e-6
"""Pixels; a polygon that reaches no further into a pixel does not touch it."""
_MANY_POINTS = 10_000


class Burner:
    """Says of each pixel of a grid in which polygon it lies; the later one wins.

    Nothing depends on the blocks: a shape is moved by whole pixels only, which is exact.
    """

    def __init__(self, polygons: Polygons, touched: bool = False) -> None:
        import shapely

        self.shapes = polygons.shapes
        self.touched = touched
        self._tree = shapely.STRtree(self.shapes)

    def numbers_in(self, block: Block) -> NDArray[np.int32]:
        """Number (from 1) of the polygon of each pixel: (height, width); 0 for none."""
        import shapely
        from rasterio.features import rasterize

        height, width = block.ys.stop - block.ys.start, block.xs.stop - block.xs.start
        around = shapely.box(*_corners(block, 2))
        found = np.sort(self._tree.query(around))
        result = np.zeros((height, width), np.int32)
        if not len(found):
            return result
        near = [_cut(shape, around) for shape in self.shapes[found]]
        moved = shapely.transform(np.array(near), lambda p: p - (block.xs.start, block.ys.start))
        kept = ~shapely.is_empty(moved)
        pairs = zip(moved[kept], (found[kept] + 1).tolist(), strict=True)
        rasterize(pairs, out=result, dtype="int32")
        if self.touched:
            np.maximum(result, _touched(moved[kept], found[kept] + 1, result.shape), out=result)
        return result


def _corners(block: Block, margin: int) -> tuple[int, int, int, int]:
    return (
        block.xs.start - margin,
        block.ys.start - margin,
        block.xs.stop + margin,
        block.ys.stop + margin,
    )


def _cut(shape: Any, around: Any) -> Any:
    """A shape of very many points, without what lies far from a block."""
    import shapely

    if shapely.get_num_coordinates(shape) < _MANY_POINTS:
        return shape
    parts = shapely.get_parts(shapely.intersection(shape, around))
    return shapely.multipolygons([p for p in parts if p.geom_type == "Polygon"])


def _touched(
    shapes: NDArray[Any], numbers: NDArray[np.int64], size: tuple[int, ...]
) -> NDArray[np.int32]:
    """The last polygon that reaches into each pixel that an outline crosses.

    GDAL's own rule also takes pixels that an outline only runs along (its issues 8918 and 10606),
    so each pixel near an outline is compared with the polygons themselves.
    """
    import shapely
    from rasterio.features import rasterize
    from scipy.ndimage import binary_dilation

    lines = rasterize(shapely.boundary(shapes), size, all_touched=True, dtype="uint8")
    rows, columns = np.nonzero(binary_dilation(lines > 0, np.ones((3, 3), bool)))
    inner, outer = _SLIVER, 1 - _SLIVER
    pixels = shapely.box(columns + inner, rows + inner, columns + outer, rows + outer)
    pixel, shape = shapely.STRtree(shapes).query(pixels, predicate="intersects")
    result = np.zeros(size, np.int32)
    np.maximum.at(result, (rows[pixel], columns[pixel]), numbers[shape].astype(np.int32))
    return result
