"""The worked example of Olofsson et al. 2014 (section 5), to the digits that are printed there."""

import numpy as np
import pytest

from s2cd.errors import S2cdError
from s2cd.results.assess import estimate, sample_size

MATRIX = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000.0, 150_000.0, 3_200_000.0, 6_450_000.0])
HECTARES = PIXELS * 0.09


def test_the_sample_size_is_that_of_the_paper():
    weights = PIXELS / PIXELS.sum()
    assert sample_size(weights, np.array([0.7, 0.6, 0.9, 0.95]), 0.01) == 641


def test_accuracies_are_those_of_the_paper():
    found = estimate(MATRIX, HECTARES)
    assert np.round(found.overall, 2).tolist() == [0.95, 0.02]
    assert np.round(found.users[0], 2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert np.round(found.users[1], 2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert np.round(found.producers[0], 2).tolist() == [0.75, 0.85, 0.93, 0.96]
    assert np.round(found.producers[1], 2)[0] == 0.21


def test_the_area_of_deforestation_is_that_of_the_paper():
    area, half = estimate(MATRIX, HECTARES).areas[:, 0]
    assert area == pytest.approx(21_158, abs=1)
    assert half == pytest.approx(6_158, abs=5)


def test_the_areas_add_up_to_the_map():
    assert estimate(MATRIX, HECTARES).areas[0].sum() == pytest.approx(HECTARES.sum())


def test_too_small_a_sample_is_refused():
    with pytest.raises(S2cdError, match="Class 1 of the map has 1"):
        estimate(np.array([[5, 1], [0, 1]]), np.array([90.0, 10.0]))
    with pytest.raises(S2cdError, match="standard error"):
        sample_size(np.array([1.0]), np.array([0.9]), 0)


def test_a_sample_is_drawn_interpreted_and_estimated(place, run, tmp_path):
    import json

    import geopandas

    done = run("detect", place.before, place.after, "-o", "change.tif")
    assert done.returncode == 0, done.stderr
    done = run("assess", "plan", "change.tif", "-o", "sample.gpkg", "--error", "0.03")
    assert done.returncode == 0, done.stderr
    assert "interpreted" in run("assess", "estimate", "change.tif", "sample.gpkg").stderr
    table = geopandas.read_file(tmp_path / "sample.gpkg")
    assert (table["map"] == 1).sum() >= 50
    rows, columns = (~place.geobox.affine * (table.geometry.x, table.geometry.y))[::-1]
    table["reference"] = place.truth[rows.astype(int), columns.astype(int)].astype(int)
    table.to_file(tmp_path / "done.gpkg", layer="sample")
    done = run("assess", "estimate", "change.tif", "done.gpkg", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["change_area_m2"] == pytest.approx(
        place.truth.sum() * 100, abs=1.5 * facts["change_area_half_width_m2"] + 20_000
    )
