import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import grid, refused

from s2cd.errors import S2cdError
from s2cd.learning import evaluate
from s2cd.learning.evaluate import intervals
from s2cd.learning.metrics import Confusion, confusion
from s2cd.learning.places import Place, with_splits
from s2cd.scenes.mask import read_label

TRUTH = np.zeros((40, 50), np.uint8)
TRUTH[10:20, 5:25] = 1
BOX = grid((40, 50))


@pytest.mark.parametrize(
    ("values", "profile"),
    [
        (TRUTH, {}),
        (TRUTH + 1, {}),
        (TRUTH * 255, {}),
        (TRUTH.astype(np.int32) + 1, {}),
        (TRUTH.astype(np.float32), {}),
        (np.stack([TRUTH * 255] * 3 + [np.full_like(TRUTH, 255)]), {}),
        (np.stack([TRUTH * 255, TRUTH * 0, TRUTH * 0]), {}),
        (TRUTH * 201 + 20, {}),
    ],
)
@pytest.mark.parametrize("placed", [True, False])
def test_masks_in_all_usual_codes_are_understood(make_raster, values, profile, placed):
    place = {} if placed else {"crs": None, "transform": None}
    label = read_label(make_raster("l.tif", values.astype(values.dtype), **profile, **place), BOX)
    np.testing.assert_array_equal(label, TRUTH)


def test_png_masks_are_understood(make_raster):
    values = np.stack([TRUTH * 255] * 4)
    values[3] = 255
    path = make_raster("cm.png", values, driver="PNG", crs=None, transform=None)
    np.testing.assert_array_equal(read_label(path, BOX), TRUTH)


def test_unlabelled_pixels_stay_so(make_raster):
    values = TRUTH.copy()
    values[0] = 255
    assert (read_label(make_raster("l.tif", values), BOX)[0] == 255).all()
    values = TRUTH.copy()
    values[0] = 9
    label = read_label(make_raster("l.tif", values, nodata=9), BOX)
    assert (label[0] == 255).all() and label[10:20, 5:25].all()


@pytest.mark.parametrize("codes", [(1, 1), (6, 7), (1, 3), (0, 2)])
def test_codes_that_could_mean_anything_are_refused(make_raster, codes):
    values = np.where(TRUTH == 1, codes[1], codes[0]).astype(np.uint8)
    with pytest.raises(S2cdError, match="0 = no change, 1 = change"):
        read_label(make_raster("l.tif", values), BOX)


def test_a_mask_on_another_grid_is_brought_by_nearest_neighbour(make_raster):
    fine = TRUTH.repeat(2, 0).repeat(2, 1)
    transform = grid((80, 100), size=5.0).affine
    np.testing.assert_array_equal(
        read_label(make_raster("l.tif", fine, transform=transform), BOX), TRUTH
    )
    part = make_raster("p.tif", TRUTH[5:], transform=grid((1, 1), (199980.0, 2599990.0)).affine)
    label = read_label(part, BOX)
    assert (label[:5] == 255).all() and (label[5:] == TRUTH[5:]).all()


def test_a_mask_without_a_place_must_have_the_size_of_the_map(make_raster):
    path = make_raster("l.tif", TRUTH[1:], crs=None, transform=None)
    with pytest.raises(S2cdError, match="50 x 39 pixels and no CRS"):
        read_label(path, BOX)


def test_scores_agree_with_a_count_by_hand():
    predicted = np.array([1, 1, 1, 0, 0, 0, 0, 255, 1, 0], np.uint8)
    label = np.array([1, 1, 0, 1, 0, 0, 0, 1, 255, 0], np.uint8)
    counts = confusion(predicted, label)
    assert counts == Confusion(tp=2, fp=1, fn=1, tn=4)
    assert counts.precision == counts.recall == counts.f1 == pytest.approx(2 / 3)
    assert counts.iou == pytest.approx(0.5)
    assert counts.kappa == pytest.approx((6 / 8 - (9 + 25) / 64) / (1 - (9 + 25) / 64))
    assert counts + counts == Confusion(4, 2, 2, 8)


def test_scores_without_a_denominator_are_none():
    empty = Confusion(tn=5)
    assert empty.f1 is None and empty.precision is None and empty.iou is None
    assert Confusion(fp=1, tn=4).f1 == 0


def test_evaluate_prints_one_object_with_the_promised_names(place, run):
    import rasterio
    from conftest import UTM

    run("detect", place.before, place.after, "-o", "c.tif")
    height, width = place.truth.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        place.folder / "l.tif", "w", crs=UTM, transform=place.geobox.affine, **profile
    ) as file:
        file.write(place.truth, 1)
    done = run("evaluate", "--prediction", "c.tif", "--label", "l.tif", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for name in ("f1", "iou", "dice", "precision", "recall", "kappa", "threshold", "scenes"):
        assert name in said
    assert said["f1"] == said["dice"] > 0.6 and said["scenes"]["c"]["f1"] == said["f1"]
    assert "assumed: 0 = no change, 1 = change" in done.stderr
    assert "not a change map" in refused(
        run("evaluate", "--prediction", place.before, "--label", "l.tif")
    )
    assert "does not exist" in refused(run("evaluate", "--prediction", "c.tif", "--label", "no"))


def test_a_model_is_judged_by_the_places_that_its_own_run_held_apart(tmp_path, monkeypatch):
    some = [Place(name, tmp_path, tmp_path, tmp_path, "") for name in "abcdefghij"]
    monkeypatch.setattr(evaluate, "find_places", lambda data: some)
    checkpoint = tmp_path / "best.safetensors"
    checkpoint.touch()
    (tmp_path / "config.toml").write_text("validation = 0.4\nseed = 3\nsize = 64\n")
    held = {p.name for p in with_splits(some, 0.4, 3, 64) if p.split == "val"}
    assert {p.name for p in evaluate.places_of(tmp_path, "", str(checkpoint))} == held
    usual = {p.name for p in with_splits(some) if p.split == "val"}
    assert {p.name for p in evaluate.places_of(tmp_path, "", "cva")} == usual != held


def test_intervals_are_of_draws_of_places():
    one, other = Confusion(tp=80, fp=20, fn=20, tn=880), Confusion(tp=10, fp=90, fn=90, tn=810)
    found = intervals([one, other])
    assert set(found) == {"f1", "iou", "dice", "precision", "recall", "kappa"}
    # a quarter of the draws are of one place alone
    assert found["f1"] == pytest.approx([other.f1, one.f1])
    assert found["kappa"] == pytest.approx([other.kappa, one.kappa])
    assert found["dice"] == found["f1"]
    assert intervals([one, one])["recall"] == pytest.approx([0.8, 0.8])
    assert set(intervals([one]).values()) == {None}


def test_what_cannot_be_scored_is_refused(make_place, make_raster, tmp_path):
    place = make_place((128, 128), bands=("B02", "B03", "B04", "B08"))
    make_raster("label.tif", np.full((128, 128), 255, np.uint8), nodata=255)
    data = tmp_path / "d.csv"
    data.write_text(f"before,after,label\n{place.before},{place.after},label.tif\n")
    options = evaluate.Options("all", cache=tmp_path / "cache")
    with pytest.raises(S2cdError, match="No pixel is both observed and labelled"):
        evaluate.evaluate_data(data, "cva", options)
    with pytest.raises(S2cdError, match=r"nowhere is not there\. DATA is"):
        evaluate.evaluate_data(tmp_path / "nowhere", "cva", options)
    curves = replace(options, curves=tmp_path / "no" / "c.png")
    with pytest.raises(S2cdError, match="does not exist"):  # before anything is computed
        evaluate.evaluate_data(tmp_path / "nowhere", "cva", curves)
