"""Pictures of a pair and its map."""

import numpy as np
import pytest
import rasterio
from conftest import grid
from matplotlib.colors import to_rgb

from s2cd.results import plot
from s2cd.results.plot import Panels, write_plot


def read(path):
    with rasterio.open(path) as source:
        return source.read([1, 2, 3])


def share_of(picture: np.ndarray, colour: str) -> float:
    """The share of a picture's pixels that are of a colour."""
    wanted = np.rint(np.array(to_rgb(colour)) * 255)[:, None, None]
    return float((np.abs(picture - wanted) <= 1).all(axis=0).mean())


def test_errors_are_in_the_colours_of_the_legend(place, make_raster, tmp_path):
    found, truth = np.zeros((2, *place.geobox.shape), np.uint8)
    found[:, :100], truth[:, 60:180] = 1, 1
    change = make_raster("change.tif", found, transform=place.geobox.affine, nodata=255)
    label = make_raster("label.tif", truth, transform=place.geobox.affine)
    write_plot(Panels(place.before, place.after, change, label), tmp_path / "r.png")
    picture = read(tmp_path / "r.png")
    last = picture[:, :, picture.shape[2] * 4 // 5 :]
    shares = [share_of(last, plot._COLOURS[n]) for n in ("false alarm", "found", "missed")]
    assert np.array(shares) / shares[0] == pytest.approx([1, 40 / 60, 80 / 60], rel=0.1)


@pytest.mark.parametrize(("most", "bar"), [(3100, 2000), (5000, 5000), (0.9, 0.5), (999, 500)])
def test_a_scale_bar_is_of_a_round_length(most, bar):
    assert plot._round_length(most) == bar


def test_pixels_in_degrees_are_as_high_as_on_the_ground():
    ground = plot._ground(grid((10, 10), (10.0, 60.0), 1e-4, "EPSG:4326"), 1)
    assert ground.aspect == pytest.approx(2.0, rel=0.01)  # a meridian's degree at 60 north
    assert ground.north_up
    assert plot._ground(grid((10, 10), crs=None), 1) is None


def test_both_dates_are_under_one_stretch(place, tmp_path):
    from s2cd.results.views import date_views
    from s2cd.scenes.pair import make_pair
    from s2cd.scenes.stack import open_stack

    stack = open_stack(place.before)
    darker = stack.copy(data=stack.data * 0.5)
    before, after, _ = date_views(make_pair(stack, darker, ("B04", "B03", "B02")), 1)
    middle = np.median(before.astype(float)), np.median(after.astype(float))
    assert middle[0] > middle[1] + 50
    same = date_views(make_pair(stack, stack, ("B04",)), 2)
    assert (same[0] == same[1]).all() and same[0].shape == (150, 170, 3)
