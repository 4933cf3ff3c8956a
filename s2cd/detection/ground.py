"""How much ground the pixels of a map cover, so that areas told anywhere are the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.changemap import pixel_areas

_NODES = 65
"""Places along each side at which the size of pixels is measured."""
_SQUARE = 64
"""Pixels at a side of the squares that are measured: large enough for PROJ's precision."""
EVERY = slice(None)


@dataclass(frozen=True)
class Ground:
    """Areas of pixels: that of a pixel is the product of its row's and its column's number.

    Attributes:
        rows: (height,) in m2.
        columns: (width,), about 1.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    def area(self, mask: NDArray[np.bool_], ys: slice = EVERY, xs: slice = EVERY) -> float:
        """Area of the pixels of a mask that lies at these rows and columns, in m2."""
        return float(self.rows[ys] @ (mask @ self.columns[xs]))


def ground_of(geobox: GeoBox) -> Ground | None:
    """Areas of the pixels of a grid on the WGS84 ellipsoid; None without a CRS.

    A projection shows areas larger or smaller than they are: UTM by up to 0.2 % at the sides of a
    zone. How much changes slowly, and is measured along the middle row and the middle column.
    Where the CRS has no place on Earth, as that of a building site, or the grid reaches beyond it,
    areas are the plane's.
    """
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    plane = pixel_areas(geobox)
    if plane is None:
        return None
    height, width = geobox.shape
    if geobox.crs.geographic:
        return Ground(plane, np.ones(width))
    try:
        to_degrees = Transformer.from_crs(geobox.crs.to_wkt(), "EPSG:4326", always_xy=True)
    except ProjError:
        return Ground(plane, np.ones(width))
    down = [_true_area(geobox, to_degrees, (width / 2, y)) for y in _nodes(height)]
    across = [_true_area(geobox, to_degrees, (x, height / 2)) for x in _nodes(width)]
    middle = _true_area(geobox, to_degrees, (width / 2, height / 2))
    if not np.isfinite([*down, *across, middle]).all():
        return Ground(plane, np.ones(width))
    return Ground(_along(height, np.array(down)), _along(width, np.array(across) / middle))


def _nodes(size: int) -> NDArray[np.float64]:
    return np.linspace(0, size, _NODES)


def _along(size: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at the nodes brought to the middles of all pixels."""
    along: NDArray[np.float64] = np.interp(np.arange(size) + 0.5, _nodes(size), values)
    return along


def _true_area(geobox: GeoBox, to_degrees: Any, place: tuple[float, float]) -> float:
    """The area on the ellipsoid of a pixel at a column and a row, from a square of many."""
    from pyproj import Geod

    half = _SQUARE / 2
    x, y = (np.array(offsets) for offsets in ((-1, 1, 1, -1), (-1, -1, 1, 1)))
    corners = geobox.affine * (place[0] + half * x, place[1] + half * y)
    area = Geod(ellps="WGS84").polygon_area_perimeter(*to_degrees.transform(*corners))[0]
    return abs(area) / _SQUARE**2
