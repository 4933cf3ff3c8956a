"""Windows on disk: the pixels of the pair, where they lie, split by areas, safe to interrupt."""

import csv
import json

import numpy as np
import pytest
import rasterio
from conftest import grid, landscape, refused

from s2cd.errors import S2cdError
from s2cd.learning.places import find_places, with_splits
from s2cd.learning.prepared import prepare
from s2cd.learning.tiling import Tiling, tile
from s2cd.scenes.mask import read_label
from s2cd.scenes.stack import open_qa, open_stack, stack_array, write_stack

BANDS = ("B02", "B03", "B04", "B08")
SIZE = 32


@pytest.fixture
def pair(make_place, tmp_path):
    """A pair of 130 x 230 pixels, its mask, and clouds flagged in the later date."""
    place = make_place((130, 230), bands=BANDS, hole=True)
    after = open_stack(place.after)
    qa = np.isfinite(after.values).any(axis=0).astype(np.uint16)
    qa[100:120, 100:140] |= 2
    flags = stack_array(qa[None], place.geobox, ("QA",))[0]
    write_stack(after.compute(), tmp_path / "cloudy.tif", flags, {"PRODUCT": "S2B"})
    label = tmp_path / "label.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 130, "width": 230}
    with rasterio.open(label, "w", crs=place.geobox.crs.to_wkt(), nodata=255,
                       transform=place.geobox.affine, **profile) as file:  # fmt: skip
        truth = place.truth.copy()
        truth[:5] = 255
        file.write(truth, 1)
    return place, Tiling(place.before, tmp_path / "cloudy.tif", label, SIZE, align=False)


def index_of(folder):
    with (folder / "index.csv").open() as file:
        return list(csv.DictReader(file))


def content_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_windows_hold_the_pixels_of_the_pair_where_they_lie(pair, tmp_path):
    place, tiling = pair
    facts = tile(tiling, tmp_path / "chips")
    rows = index_of(tmp_path / "chips")
    assert facts["windows"] == facts["written"] == len(rows) == 5 * 8 - facts["without_data"]
    before, after = (open_stack(p, mask=()).values for p in (tiling.before, tiling.after))
    label = read_label(tiling.label, place.geobox)
    covered = np.zeros(label.shape, bool)
    for row in rows:
        ys, xs = (slice(int(row[k]), int(row[k]) + SIZE) for k in ("row", "column"))
        covered[ys, xs] = True
        for role, values in (("before", before), ("after", after)):
            path = tmp_path / "chips" / row[role]
            np.testing.assert_array_equal(open_stack(path, mask=()).values, values[:, ys, xs])
            box = open_stack(path).odc.geobox
            assert box.affine == place.geobox[ys, xs].affine and box.crs == place.geobox.crs
        chip = read_label(tmp_path / "chips" / row["label"], box)
        np.testing.assert_array_equal(chip, label[ys, xs])
        assert [float(row[k]) for k in ("west", "north")] == [box.affine.c, box.affine.f]
        assert row["crs"] == "EPSG:32643"
        valid = np.isfinite(open_stack(tmp_path / "chips" / row["after"]).values).all(axis=0)
        assert float(row["valid_fraction"]) == pytest.approx(valid.mean(), abs=1e-6)
        known = valid & (chip != 255)
        assert float(row["change_fraction"]) == pytest.approx(chip[known].mean(), abs=1e-6)
    assert covered.sum() >= covered.size - facts["without_data"] * SIZE**2
    with rasterio.open(tmp_path / "chips" / rows[0]["after"]) as file:
        assert file.descriptions == (*BANDS, "QA") and file.tags()["PRODUCT"] == "S2B"


def test_clouds_stay_to_be_seen_and_are_flagged(pair, tmp_path):
    _, tiling = pair
    tile(tiling, tmp_path / "chips")
    path = tmp_path / "chips" / "B" / "r00096_c00096.tif"
    assert np.isfinite(open_stack(path, mask=()).values).all()
    assert (open_qa(path).values[4:24, 4:] == 3).all()
    assert np.isnan(open_stack(path).values[:, 4:24, 4:]).all()


def test_no_window_to_learn_from_touches_one_to_validate_on_nor_its_gap(pair, tmp_path):
    _, tiling = pair
    facts = tile(tiling, tmp_path / "chips")
    rows = index_of(tmp_path / "chips")
    assert facts["train"] > facts["val"] > 0 and facts["gap"] > 0
    at = {s: np.array([[int(r["row"]), int(r["column"])] for r in rows if r["split"] == s])
          for s in ("train", "val")}  # fmt: skip
    apart = np.abs(at["train"][:, None] - at["val"][None]).max(axis=2)
    assert apart.min() >= 2 * SIZE  # one window lies between them


def test_the_same_request_goes_on_and_another_is_refused(pair, tmp_path, monkeypatch):
    _, tiling = pair
    tile(tiling, tmp_path / "whole")
    chips = tmp_path / "chips"

    def killed(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tile(Tiling(*vars(tiling).values()), chips, report=killed)
    assert not (chips / "index.csv").exists()
    (chips / "A" / ".r00000_c00000.tif.999999999.partial").write_text("left by a killed process")
    some = sorted((chips / "A").glob("*.tif"))
    some[0].unlink()
    stamp = some[1].stat().st_mtime_ns
    facts = tile(tiling, chips)
    assert 0 < facts["written"] < facts["windows"] and some[1].stat().st_mtime_ns == stamp
    assert content_of(chips) == content_of(tmp_path / "whole")
    assert tile(tiling, chips)["written"] == 0
    with pytest.raises(S2cdError, match="another request"):
        tile(Tiling(tiling.before, tiling.after, tiling.label, 64), chips)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(S2cdError, match="holds something else"):
        tile(tiling, tmp_path / "other")


def test_the_later_date_is_brought_to_the_grid_and_registered(tmp_path):
    shape = (260, 300)
    values = landscape((shape[0] + 8, shape[1] + 8), len(BANDS))
    boxes = grid(shape), grid(shape, (200010.0, 2600020.0))  # 3 columns right, 2 rows down
    write_stack(stack_array(values[:, 2:-6, 2:-6], boxes[0], BANDS), tmp_path / "b.tif")
    write_stack(stack_array(values[:, 5:-3, 6:-2], boxes[1], BANDS), tmp_path / "a.tif")
    facts = tile(Tiling(tmp_path / "b.tif", tmp_path / "a.tif", None, 64), tmp_path / "chips")
    assert facts["windows"] == 25 - facts["without_data"]
    row = index_of(tmp_path / "chips")[7]
    assert row["label"] == "" and not (tmp_path / "chips" / "label").exists()
    one, other = (open_stack(tmp_path / "chips" / row[r]).values for r in ("before", "after"))
    # in its file it lies one row and one column off
    assert np.abs(one - other)[:, 4:-4, 4:-4].max() < 0.01
    with rasterio.open(tmp_path / "chips" / row["after"]) as file:
        assert float(file.tags()["SHIFT_PX"]) == pytest.approx(np.sqrt(2), abs=0.05)


def test_a_zarr_store_holds_the_same_windows(pair, tmp_path):
    import zarr

    _, tiling = pair
    tile(tiling, tmp_path / "chips")
    packed = Tiling(tiling.before, tiling.after, tiling.label, SIZE, align=False, format="zarr")

    def killed(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tile(packed, tmp_path / "packed", report=killed)
    facts = tile(packed, tmp_path / "packed")
    assert facts["written"] == 0 or facts["written"] < facts["windows"]
    store = zarr.open_group(str(tmp_path / "packed" / "windows.zarr"), mode="r")
    assert store.attrs["bands"] == [*BANDS, "QA"]
    for row, packed_row in zip(
        index_of(tmp_path / "chips"), index_of(tmp_path / "packed"), strict=True
    ):
        number = int(packed_row["name"])
        assert packed_row["split"] == row["split"] and packed_row["row"] == row["row"]
        for role in ("before", "after"):
            with rasterio.open(tmp_path / "chips" / row[role]) as file:
                np.testing.assert_array_equal(store[role][number], file.read())
        with rasterio.open(tmp_path / "chips" / row["label"]) as file:
            np.testing.assert_array_equal(store["label"][number], file.read(1))


@pytest.mark.parametrize("data", ["chips", "chips/index.csv"])
def test_windows_are_learned_from_as_they_were_split(pair, tmp_path, data):
    _, tiling = pair
    tile(tiling, tmp_path / "chips")
    rows = {(r["row"], r["column"]): r for r in index_of(tmp_path / "chips")}
    places = with_splits(find_places(tmp_path / data))
    assert sorted(p.split for p in places) == sorted(
        r["split"] for r in rows.values() if r["split"] != "gap"
    )
    whole = prepare(
        type(places[0])("scene", tiling.before, tiling.after, tiling.label), None, tmp_path / "c"
    )
    for chosen in places[:: len(places) // 4]:
        sample = prepare(chosen, None, tmp_path / "cache")
        row = rows[tuple(str(int(t[1:])) for t in chosen.name.split("_"))]
        assert chosen.split == row["split"]
        # windows are normalised as the scene of which they are parts
        np.testing.assert_allclose(sample.statistics.mean, whole.statistics.mean, rtol=1e-6)
        np.testing.assert_allclose(sample.statistics.std, whole.statistics.std, rtol=1e-6)
        ys, xs = (slice(int(row[k]), int(row[k]) + SIZE) for k in ("row", "column"))
        seen, expected = (
            sample.pair.window(slice(0, SIZE), slice(0, SIZE)),
            whole.pair.window(ys, xs),
        )
        np.testing.assert_array_equal(seen.valid, expected.valid)
        np.testing.assert_array_equal(seen.after, expected.after)
        np.testing.assert_array_equal(sample.label, whole.label[ys, xs])


def test_windows_of_one_scene_that_is_too_small_to_be_split_are_not_split_by_windows(
    make_place, tmp_path
):
    place = make_place((70, 70), bands=BANDS)
    label = tmp_path / "l.tif"
    with rasterio.open(label, "w", driver="GTiff", height=70, width=70, count=1, dtype="uint8",
                       crs="EPSG:32643", transform=place.geobox.affine) as file:  # fmt: skip
        file.write(place.truth, 1)
    facts = tile(Tiling(place.before, place.after, label, SIZE, align=False), tmp_path / "chips")
    assert facts["windows"] == 9 and facts["train"] == facts["val"] == 0
    with pytest.raises(S2cdError, match="lie close together"):
        with_splits(find_places(tmp_path / "chips"))


def test_pictures_without_a_place_are_cut_too(make_raster, tmp_path):
    random = np.random.default_rng(0)
    paths = [
        make_raster(f"{n}.png", random.integers(0, 255, (3, 100, 100), np.uint8), driver="PNG",
                    crs=None, transform=None)
        for n in "ab"
    ]  # fmt: skip
    facts = tile(Tiling(*paths, None, SIZE, align=False), tmp_path / "chips")
    assert facts["windows"] == 16
    assert index_of(tmp_path / "chips")[0]["west"] == ""
    assert len(open_stack(tmp_path / "chips" / "A" / "r00068_c00068.tif")) == 3


def test_the_command_says_what_came_out_and_what_cannot_be(pair, run, tmp_path):
    _, tiling = pair
    words = ("tile", tiling.before, tiling.after, "--label", tiling.label, "-o", "chips")
    done = run(*words, "--size", SIZE, "--no-align", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["windows"] == len(index_of(tmp_path / "chips"))
    assert "less than a window of 256" in refused(run(*words[:-1], "big", "--size", 256))
    with pytest.raises(S2cdError, match="does not exist"):
        tile(Tiling(tmp_path / "no.tif", tiling.after), tmp_path / "none")


def test_a_network_learns_from_the_folder_of_windows(pair, tmp_path, caplog):
    from s2cd.learning.train import Recipe, train

    _, tiling = pair
    tile(tiling, tmp_path / "chips")
    recipe = Recipe(arch="fc-ef", batch=2, steps=2, size=SIZE, window=64, halo=16, epochs=1)
    assert 0 <= train(tmp_path / "chips", tmp_path / "run", recipe)["f1"] <= 1
    assert "lies close to it" not in caplog.text  # a gap parts the windows of either side
