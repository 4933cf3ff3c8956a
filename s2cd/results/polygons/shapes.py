"""Outlines in pixels to polygons on the ground: holes, slopes, fewer points, true areas."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.results.polygons.outlines import Corners, polygons_of


@dataclass(frozen=True)
class Shaping:
    """How outlines are drawn.

    Attributes:
        min_area: Smaller changes are left out, in m2 of the map's plane.
        fill_holes: Smaller holes are filled, in m2 of the map's plane.
        smooth: Whether corners are cut half a pixel from their tips.
        simplify: How far an outline may be from that of the pixels, in metres, about.
    """

    min_area: float = 400.0
    fill_holes: float = 0.0
    smooth: bool = False
    simplify: float = 0.0


def draw(corners: Corners, geobox: GeoBox, shaping: Shaping) -> tuple[NDArray[Any], NDArray[Any]]:
    """Polygons by number as they are drawn, and as the pixels are, in the map's CRS.

    Holes are filled in both.
    """
    pixel = metres_of(geobox)
    exact = _filled(polygons_of(corners), shaping.fill_holes / pixel**2)
    drawn = exact
    if shaping.smooth:
        drawn = _filled(polygons_of(corners, smooth=True), shaping.fill_holes / pixel**2)
    if shaping.simplify > 0:
        drawn = _simplified(drawn, shaping.simplify / pixel)
    placed = _placed(exact, geobox)
    return (placed if drawn is exact else _placed(drawn, geobox)), placed


def metres_of(geobox: GeoBox) -> float:
    """Side of a square of the area of a pixel in the middle of the map, in metres."""
    from s2cd.detection.changemap import pixel_areas

    areas = pixel_areas(geobox)
    if areas is None:
        raise S2cdError("The map has no CRS: its changes have no place. Georeference it in a GIS")
    return float(np.sqrt(areas[len(areas) // 2]))


def _filled(polygons: NDArray[Any], below: float) -> NDArray[Any]:
    """Polygons without the holes that are smaller than ``below``, in pixels.

    A hole in which another change lies stays: filled, the two would lie on each other.
    """
    import shapely

    if below <= 0 or not len(polygons):
        return polygons
    rings, owner = shapely.get_rings(polygons, return_index=True)
    outer = np.diff(owner, prepend=-1) > 0
    discs = shapely.polygons(rings)
    kept = outer | (shapely.area(discs) >= below)
    small = np.flatnonzero(~kept)
    within = shapely.point_on_surface(polygons)
    kept[small[np.unique(shapely.STRtree(within).query(discs[small], "contains")[0])]] = True
    points, ring = shapely.get_coordinates(rings[kept], return_index=True)
    offsets = np.searchsorted(ring, np.arange(int(kept.sum()) + 1))
    holders = np.searchsorted(owner[kept], np.arange(len(polygons) + 1))
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (offsets, holders))


def _simplified(polygons: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Fewer points, without polygons or rings that cross or vanish.

    The algorithm of Visvalingam and Whyatt 1993, kept from crossing, on all outlines together;
    its tolerance is the square root of the area of the triangles that are dropped.
    """
    import shapely

    if not len(polygons):
        return polygons
    return np.asarray(shapely.coverage_simplify(polygons, tolerance))


def _placed(polygons: NDArray[Any], geobox: GeoBox) -> NDArray[Any]:
    """Polygons in columns and rows to the map's CRS; outer rings against the clock."""
    import shapely

    a = geobox.affine

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points.T
        return np.stack([a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f], axis=1)

    return shapely.orient_polygons(shapely.transform(polygons, place))


def ellipsoidal(polygons: NDArray[Any], geobox: GeoBox) -> tuple[NDArray[Any], NDArray[Any]]:
    """Areas (m2) and perimeters (m) on the WGS84 ellipsoid.

    In Lambert's azimuthal equal-area projection about the map's middle (Snyder, "Map projections:
    a working manual", USGS 1395, 1987, p. 187-190): areas are true, and lengths to 1 in 10 000
    within 100 km of the middle.
    """
    import shapely
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(geobox.crs.to_wkt(), "EPSG:4326", always_xy=True)
    height, width = geobox.shape
    middle = to_degrees.transform(*(geobox.affine * (width / 2, height / 2)))
    plane = f"+proj=laea +lon_0={middle[0]} +lat_0={middle[1]} +datum=WGS84 +units=m"
    to_plane = Transformer.from_crs(geobox.crs.to_wkt(), plane, always_xy=True).transform

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(to_plane(points[:, 0], points[:, 1]), axis=1)

    flat = shapely.transform(polygons, project)
    return shapely.area(flat), shapely.length(flat)
