"""The worked example of Olofsson et al. 2014 (section 5), to the digits that are printed there."""

import numpy as np
import pytest
import rasterio
from conftest import refused

from s2cd.errors import S2cdError
from s2cd.results.assess import estimate, sample_size
from s2cd.results.interpret import Dates
from s2cd.results.sample import Plan, estimate_files, write_sample

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
    table = geopandas.read_file(tmp_path / "sample.gpkg", layer="sample")
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


def square_map(make_raster, name="change.tif", value=1, **place):
    values = np.zeros((90, 110), np.uint8)
    values[40:70, 20:60] = value
    values[:10] = 255
    return make_raster(name, values, nodata=255, **place)


def test_a_sample_is_of_the_pixels_of_each_class_and_none_twice(make_raster, tmp_path):
    import geopandas
    import rasterio

    change = square_map(make_raster)
    sizes = write_sample(change, tmp_path / "s.gpkg", Plan(error=0.01, seed=3))
    table = geopandas.read_file(tmp_path / "s.gpkg", layer="sample")
    with rasterio.open(change) as source:
        values = source.read(1)
        places = [source.index(p.x, p.y) for p in table.geometry]
    assert [values[y, x] for y, x in places] == table["map"].tolist()
    assert len(set(places)) == len(places) == sum(sizes)
    assert table["map"].value_counts().to_dict() == {0: sizes[0], 1: sizes[1]}
    share = 1200 / (80 * 110)
    expected = sample_size(np.array([1 - share, share]), np.array([0.9, 0.7]), 0.01)
    assert sum(sizes) == expected and sizes[1] == round(expected * share)
    changed = np.flatnonzero(table["map"])
    assert 0 < changed.min() < len(table) / 10 and changed.max() > 0.9 * len(table)  # mixed
    again = write_sample(change, tmp_path / "t.gpkg", Plan(error=0.01, seed=3))
    assert again == sizes
    same = geopandas.read_file(tmp_path / "t.gpkg", layer="sample")
    assert same.geometry.equals(table.geometry)


def test_each_place_has_a_picture_of_both_dates_around_its_pixel(place, run, tmp_path):
    import geopandas
    from PIL import Image

    from s2cd.detection.detect import Request, detect_files

    change = tmp_path / "change.tif"
    detect_files(Request(place.before, place.after, change, model="cva"))
    dates = ("--before", place.before, "--after", place.after)
    done = run("assess", "plan", change, "-o", "s.gpkg", "--error", "0.05", *dates)
    assert done.returncode == 0, done.stderr
    table = geopandas.read_file(tmp_path / "s.gpkg", layer="sample")
    assert sorted(table["chip"]) == sorted(
        p.relative_to(tmp_path).as_posix() for p in (tmp_path / "s-chips").iterdir()
    )
    frame, around = 196, 22 + 196  # the middle of the upper left square
    for row in table.itertuples():
        x, y = ~place.geobox.affine * (row.geometry.x, row.geometry.y)
        changed = bool(place.truth[int(y), int(x)])
        picture = np.asarray(Image.open(tmp_path / row.chip).convert("RGB")).astype(int)
        before, after = picture[around, frame], picture[around, frame + 396]
        if changed:  # to 0.45 in all bands, which is the brightest there is
            assert after.min() > 240
        assert np.abs(picture[210:226, 188:204] - [255, 212, 0]).sum(axis=-1).min() < 9
        assert changed or np.abs(before - after).max() < 200
    plan = Plan(error=0.1, dates=Dates(place.before, place.after))
    with pytest.raises(S2cdError, match=r"s\.gpkg exists"):
        write_sample(change, tmp_path / "s.gpkg", plan)
    (tmp_path / "s.gpkg").unlink()
    with pytest.raises(S2cdError, match="s-chips exists"):
        write_sample(change, tmp_path / "s.gpkg", plan)
    write_sample(change, tmp_path / "s.gpkg", plan, overwrite=True)
    left = {p.name for p in tmp_path.iterdir() if p.name.startswith(".")}
    assert not left


def test_qgis_offers_the_classes_and_shows_the_pictures(make_raster, tmp_path):
    import sqlite3
    import xml.etree.ElementTree as ET

    write_sample(square_map(make_raster), tmp_path / "s.gpkg", Plan(error=0.05))
    with sqlite3.connect(tmp_path / "s.gpkg") as base:
        ((layer, style),) = base.execute("SELECT f_table_name, styleQML FROM layer_styles")
    base.close()
    root = ET.fromstring(style)
    assert layer == "sample" and '"chip"' in root.findtext("mapTip")
    assert root.find("fieldConfiguration/field").get("name") == "reference"


def test_a_sample_of_another_map_is_refused(make_raster, run, tmp_path):
    import geopandas

    change = square_map(make_raster)
    write_sample(change, tmp_path / "s.gpkg", Plan(error=0.05))
    table = geopandas.read_file(tmp_path / "s.gpkg", layer="sample")
    table.assign(reference=table["map"]).to_file(tmp_path / "done.gpkg", layer="sample")
    estimate_files(change, tmp_path / "done.gpkg")
    values = np.zeros((90, 110), np.uint8)
    values[:5] = 1
    other = make_raster("other.tif", values, nodata=255)
    with pytest.raises(S2cdError, match="another map"):
        estimate_files(other, tmp_path / "done.gpkg")
    table["map"] = 7
    table.assign(reference=1).to_file(tmp_path / "odd.gpkg", layer="sample")
    assert "no interpreted point" in refused(run("assess", "estimate", change, "odd.gpkg"))


def test_maps_without_change_without_crs_or_never_observed(make_raster, run, tmp_path):
    none = make_raster("none.tif", np.zeros((60, 60), np.uint8), nodata=255)
    assert write_sample(none, tmp_path / "s.gpkg", Plan(error=0.05)) == [50, 0]
    unseen = make_raster("unseen.tif", np.full((60, 60), 255, np.uint8), nodata=255)
    with pytest.raises(S2cdError, match="nothing to sample"):
        write_sample(unseen, tmp_path / "u.gpkg", Plan())
    flat = square_map(make_raster, "flat.tif", crs=None)
    assert "no CRS" in refused(run("assess", "plan", flat, "-o", "u.gpkg"))
    several = square_map(make_raster, "several.tif", 3)
    with rasterio.open(several, "r+") as target:
        target.update_tags(CHANGE_CLASSES="3")
    assert write_sample(several, tmp_path / "c.gpkg", Plan(error=0.05))[1] == 50
    assert run("assess", "plan", none, "-o", "u.gpkg", "--expected", "1").returncode == 2
    assert not (tmp_path / "u.gpkg").exists()
