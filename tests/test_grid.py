import numpy as np
import pytest
from affine import Affine
from conftest import grid
from odc.geo.geobox import GeoBox

from s2cd.scenes.grid import regrid, source_window, whole_offset


def plane(shape):
    """An image whose values are its own pixel coordinates (column, row)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return np.stack([x, y])


def read(image):
    return lambda ys, xs: image[:, ys, xs].copy()


def test_a_shift_and_a_scale_put_values_where_they_belong():
    source = GeoBox((200, 220), Affine(1e-4, 0, 10, 0, -1e-4, 50), "EPSG:4326")
    target = GeoBox((190, 210), Affine(1.01e-4, 0, 10 + 3e-5, 0, -1.02e-4, 50), "EPSG:4326")
    values = regrid(read(plane((200, 220))), (source, target), (slice(0, 190), slice(0, 210)))
    x = (np.arange(210) + 0.5) * 1.01 + 0.3 - 0.5
    y = (np.arange(190) + 0.5) * 1.02 - 0.5
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(values[0] - x)[inner].max() < 1e-3
    assert np.abs(values[1] - y[:, None])[inner].max() < 1e-3


def test_another_projection_agrees_with_pyproj():
    from pyproj import Transformer

    source = GeoBox((300, 300), Affine(1e-4, 0, 9, 0, -1e-4, 50), "EPSG:4326")
    target = GeoBox((150, 150), Affine(10, 0, 500300, 0, -10, 5538000), "EPSG:32632")
    values = regrid(read(plane((300, 300))), (source, target), (slice(0, 150), slice(0, 150)))
    x, y = np.meshgrid(500300 + 10 * (np.arange(150) + 0.5), 5538000 - 10 * (np.arange(150) + 0.5))
    lon, lat = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True).transform(x, y)
    seen = np.isfinite(values[0])
    assert seen.mean() > 0.5
    inner = seen & (values[0] > 5) & (values[0] < 290) & (values[1] > 5) & (values[1] < 290)
    assert np.abs(values[0] - ((lon - 9) / 1e-4 - 0.5))[inner].max() < 0.02
    assert np.abs(values[1] - ((50 - lat) / 1e-4 - 0.5))[inner].max() < 0.02


@pytest.mark.parametrize(
    "window", [(slice(13, 300), slice(-7, 411)), (slice(255, 257), slice(3, 5))]
)
def test_a_value_does_not_depend_on_the_window_that_asks(window):
    source = grid((700, 800), size=9.97)
    target = grid((690, 790))
    image = np.random.default_rng(0).normal(size=(2, 700, 800)).astype(np.float32)
    whole = regrid(read(image), (source, target), (slice(0, 690), slice(0, 790)))
    part = regrid(read(image), (source, target), window)
    ys, xs = window
    skip = max(0, -xs.start)
    np.testing.assert_array_equal(part[:, :, skip:], whole[:, ys, max(0, xs.start) : xs.stop])
    assert np.isnan(part[:, :, :skip]).all()


def test_no_data_stays_no_data_and_does_not_leak():
    image = np.ones((1, 60, 60), np.float32)
    image[:, 20:30, 20:30] = np.nan
    source, target = grid((60, 60)), grid((60, 60), (199980.0 + 4, 2600040.0 - 3))
    values = regrid(read(image), (source, target), (slice(0, 60), slice(0, 60)))[0]
    assert np.isnan(values[21:29, 21:29]).all()
    assert np.nanmax(np.abs(values - 1)) < 1e-5


def test_a_whole_number_of_pixels_is_told_from_a_fraction():
    one = grid((50, 60))
    assert whole_offset(one, grid((20, 20), (199980.0 + 70, 2600040.0 - 30))) == (3, 7)
    assert whole_offset(one, grid((20, 20), (199980.0 - 20, 2600040.0))) == (0, -2)
    assert whole_offset(one, grid((20, 20), (199983.0, 2600040.0))) is None
    assert whole_offset(one, grid((50, 60), size=9.99)) is None
    assert whole_offset(one, grid((50, 60), crs="EPSG:32642")) is None


def test_grids_apart_need_no_source_pixel():
    far = grid((50, 60), (400000.0, 2600040.0))
    ys, xs = source_window(grid((50, 60)), far, slice(0, 50), slice(0, 60))
    assert (ys.stop - ys.start) * (xs.stop - xs.start) == 0
