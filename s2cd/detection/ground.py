"""How much ground the pixels of a map cover, so that areas told anywhere are the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.changemap import pixel_areas

_NODES = 65
"""Places along each side at which a projection is asked for its scale, which changes slowly."""
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
    """Areas of the pixels of a grid on the ellipsoid; None without a CRS.

    A projection shows areas larger or smaller than they are: UTM by up to 0.2 % at the sides of a
    zone. The scale is that of Snyder, "Map projections: a working manual" (USGS 1395, 1987), p. 24,
    as PROJ gives it, along the middle row and the middle column; where the grid's CRS has none, as
    a plane of some building site, areas are those of the plane.
    """
    plane = pixel_areas(geobox)
    if plane is None:
        return None
    height, width = geobox.shape
    if geobox.crs.geographic:
        return Ground(plane, np.ones(width))
    y, x = (np.arange(size) + 0.5 for size in (height, width))
    down = _scale(geobox, np.full(height, width / 2), y)
    across = _scale(geobox, x, np.full(width, height / 2))
    middle = _scale(geobox, np.array([width / 2]), np.array([height / 2]))
    return Ground(plane / down, middle / across)


def _scale(geobox: GeoBox, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much larger the plane shows areas along a line of columns and rows (n,)."""
    from pyproj import Proj
    from pyproj.exceptions import ProjError

    at = np.linspace(0, len(x) - 1, min(len(x), _NODES)).round().astype(int)
    try:
        projection = Proj(geobox.crs.proj)
        lon, lat = projection(*(geobox.affine * (x[at], y[at])), inverse=True)
        scale = np.asarray(projection.get_factors(lon, lat).areal_scale)
    except ProjError:
        return np.ones(len(x))
    if not (np.isfinite(scale) & (scale > 0)).all():
        return np.ones(len(x))
    along: NDArray[np.float64] = np.interp(np.arange(len(x)), at, scale)
    return along
