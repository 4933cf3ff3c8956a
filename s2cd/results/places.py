"""Where the pixels of a grid lie on the ground, and how large they are there."""

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox


def metres_in_pixel(geobox: GeoBox) -> tuple[float, float]:
    """Width and height of the middle pixel of a grid with a CRS, in metres on the ellipsoid."""
    from pyproj import Geod

    height, width = geobox.shape
    x = np.array([width / 2 - 0.5, width / 2 + 0.5, width / 2, width / 2])
    y = np.array([height / 2, height / 2, height / 2 - 0.5, height / 2 + 0.5])
    lon, lat = degrees_at(geobox, x, y)
    across, down = Geod(ellps="WGS84").inv(lon[::2], lat[::2], lon[1::2], lat[1::2])[2]
    return float(across), float(down)


def is_north_up(geobox: GeoBox) -> bool:
    """Whether north is up, and east to the right, but for the convergence of the meridians."""
    affine = geobox.affine
    return bool(affine.a > 0 > affine.e and affine.b == affine.d == 0)


def degrees_at(
    geobox: GeoBox, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude on WGS84 of columns and rows of a grid."""
    from pyproj import Transformer

    transformer = Transformer.from_crs(geobox.crs.to_wkt(), "EPSG:4326", always_xy=True)
    lon, lat = transformer.transform(*(geobox.affine * (x, y)))
    return np.asarray(lon), np.asarray(lat)
