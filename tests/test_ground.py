"""How much ground pixels cover."""

import numpy as np
import pytest
import shapely
from affine import Affine
from conftest import grid
from odc.geo.geobox import GeoBox

from s2cd.detection.ground import ground_of
from s2cd.results.polygons.shapes import ellipsoidal

WHOLE = (10980, 10980)


@pytest.mark.parametrize(
    ("crs", "origin", "size", "exact"),
    [
        ("EPSG:32643", (199980.0, 2600040.0), 10.0, 1e-6),
        ("EPSG:32743", (166000.0, 9990000.0), 10.0, 1e-6),
        ("EPSG:4326", (72.5, 23.1), 1e-4, 1e-6),
        ("EPSG:3857", (8070000.0, 8100000.0), 20.0, 1e-6),
        ("EPSG:2154", (700000.0, 6600000.0), 10.0, 1e-5),
        ("EPSG:3413", (0.0, -1500000.0), 30.0, 1e-5),
        ("EPSG:2263", (900000.0, 200000.0), 30.0, 1e-5),
    ],
)
def test_areas_are_those_of_the_ellipsoid_in_each_corner_of_a_tile(crs, origin, size, exact):
    box = grid(WHOLE, origin, size, crs)
    ground = ground_of(box)
    for top, left in ((0, 0), (0, 9000), (9000, 0), (9000, 9000), (5000, 5000)):
        ys, xs = slice(top, top + 1500), slice(left, left + 1500)
        corners = [box.affine * (x, y) for x in (xs.start, xs.stop) for y in (ys.start, ys.stop)]
        outline = shapely.segmentize(shapely.MultiPoint(corners).convex_hull, 20 * size)
        expected = ellipsoidal(np.array([outline]), box)[0][0]
        assert ground.area(np.ones((1500, 1500), bool), ys, xs) == pytest.approx(expected, exact)


def test_a_plane_that_lies_nowhere_keeps_its_areas_and_no_crs_has_none():
    site = 'LOCAL_CS["building site",UNIT["metre",1]]'
    box = GeoBox((30, 40), Affine.scale(2, -2), site)
    assert ground_of(box).area(np.ones((30, 40), bool)) == pytest.approx(30 * 40 * 4)
    assert ground_of(GeoBox((30, 40), Affine.scale(2, -2), None)) is None
