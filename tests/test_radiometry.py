"""Radiometric normalisation: true gains are found, over what did not change."""

import json

import numpy as np
import pytest
import rasterio
from conftest import grid, landscape, refused

from s2cd.networks.classical.radiometry import radiometry_of
from s2cd.scenes.pair import make_pair
from s2cd.scenes.radiometry import METHODS
from s2cd.scenes.stack import stack_array, write_stack

BANDS = ("B02", "B03", "B04", "B08")
GAIN = np.array([1.2, 0.9, 1.05, 0.8], np.float32)[:, None, None]
OFFSET = np.array([0.02, -0.01, 0.0, 0.03], np.float32)[:, None, None]


def dates(changed=0.0, seed=0):
    """Before, and after under another light, with noise and a part that changed."""
    before = landscape((256, 256), len(BANDS), seed)
    random = np.random.default_rng(seed)
    after = before.copy()
    after[:, : int(256 * changed)] = random.uniform(0.3, 0.5, (len(BANDS), 1, 1))
    after = (after - OFFSET) / GAIN + random.normal(scale=0.002, size=before.shape)
    box = grid((256, 256))
    return [stack_array(v.astype(np.float32), box, BANDS) for v in (before, after)]


@pytest.mark.parametrize(
    ("method", "changed"), [("linear", 0.0), ("linear", 0.02), ("ir-mad", 0.0), ("ir-mad", 0.2)]
)
def test_the_light_of_the_second_date_is_found(method, changed):
    found = radiometry_of(make_pair(*dates(changed)), method)
    np.testing.assert_allclose(found.gain, GAIN.ravel(), rtol=0.03)
    np.testing.assert_allclose(found.offset, OFFSET.ravel(), atol=0.006)


def test_none_is_none():
    assert radiometry_of(make_pair(*dates()), "none") is None


@pytest.mark.parametrize("method", METHODS)
def test_identical_dates_are_left_exactly_as_they_are(method):
    before, _ = dates()
    found = radiometry_of(make_pair(before, before), method)
    if found is not None:
        assert set(found.gain) == {1.0} and set(found.offset) == {0.0}


def test_detect_says_what_it_did_and_continues_from_it(tmp_path, run):
    for date, name in zip(dates(0.01), ("b.tif", "a.tif"), strict=True):
        write_stack(date, tmp_path / name)
    done = run("detect", "b.tif", "a.tif", "-o", "c.tif", "--model", "cva", "--json")
    assert json.loads(done.stdout)["normalization"] == "linear", done.stderr
    with rasterio.open(tmp_path / "c.tif") as file:
        tags = file.tags()
    assert tags["NORMALIZATION"] == "linear"
    np.testing.assert_allclose(json.loads(tags["RADIOMETRY"])["gain"], GAIN.ravel(), rtol=0.03)
    done = run("detect", "b.tif", "a.tif", "-o", "d.tif", "--normalize", "none", "--json")
    assert json.loads(done.stdout)["normalization"] == "none"
    done = run("detect", "b.tif", "a.tif", "-o", "e.tif", "--model", "irmad", "--json")
    assert json.loads(done.stdout)["normalization"] == "none"
    said = refused(run("detect", "b.tif", "a.tif", "-o", "f.tif", "--normalize", "histogram"))
    assert "none, linear, ir-mad" in said


def test_a_calm_and_a_rough_sea_do_not_change_the_land():
    random = np.random.default_rng(0)
    before, _ = dates()
    after = before.copy()
    before.values[:, 50:] = 0.03 + random.normal(scale=0.008, size=before.values[:, 50:].shape)
    after.values[:, 50:] = 0.03 + random.normal(scale=0.002, size=before.values[:, 50:].shape)
    found = radiometry_of(make_pair(before, after), "linear")
    land = after.values[:, :50] * np.array(found.gain)[:, None, None]
    land += np.array(found.offset)[:, None, None]
    assert np.abs(land - before.values[:, :50]).max() < 0.01
