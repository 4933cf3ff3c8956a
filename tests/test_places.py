"""Where DATA keeps its pairs, how they are split, and what is kept of them on disk."""

import json
from itertools import product

import numpy as np
import pytest
import rasterio
from conftest import grid, landscape

from s2cd.errors import S2cdError
from s2cd.learning.areas import cut
from s2cd.learning.chips import Chips
from s2cd.learning.places import Place, find_places, with_splits
from s2cd.learning.prepared import key_of, prepare
from s2cd.learning.store import TILE, Area, Store
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack, stack_array, write_stack

BANDS = ("B02", "B03", "B04", "B08")


def names(folder, sides=("A", "B", "label"), stems=("x",), ending=".png"):
    for side, stem in product(sides, stems):
        (folder / side).mkdir(parents=True, exist_ok=True)
        (folder / side / f"{stem}{ending}").touch()


def table(path, *lines, header="before,after,label,split"):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def splits(data):
    return {(p.name, p.split) for p in find_places(data)}


# ---- layouts


def test_lists_say_which_pictures_are_learned_from(tmp_path):
    names(tmp_path, stems=("a", "b", "c", "d"))
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.txt").write_text("a.png\r\nb.png\n\n")
    (tmp_path / "list" / "val.txt").write_text("c.png")
    assert splits(tmp_path) == {("a", "train"), ("b", "train"), ("c", "val")}
    (tmp_path / "list" / "test.txt").write_text("e.png")
    with pytest.raises(S2cdError, match="names e, which is not there"):
        find_places(tmp_path)
    (tmp_path / "list" / "test.txt").write_text("a.png")
    with pytest.raises(S2cdError, match="names a, and so does another list"):
        find_places(tmp_path)


def test_the_layout_of_the_reference_is_understood(tmp_path):
    for split in ("train", "val"):
        names(tmp_path / split, stems=("1", "2"), ending=".tif")
    # files of one name in two folders are two places
    assert splits(tmp_path) == {
        ("train_1", "train"), ("train_2", "train"), ("val_1", "val"), ("val_2", "val")
    }  # fmt: skip


def test_endings_of_one_picture_may_differ_and_none_may_be_missing(tmp_path):
    names(tmp_path, sides=("A", "B"), ending=".tif")
    names(tmp_path, sides=("label",))
    assert find_places(tmp_path)[0].label.name == "x.png"
    (tmp_path / "B" / "x.tif").unlink()
    with pytest.raises(S2cdError, match="is not there, but"):
        find_places(tmp_path)


def test_oscd_takes_what_the_authors_registered_and_the_names_of_their_archives(tmp_path):
    images, labels = (tmp_path / f"Onera Satellite - {k}" for k in ("Images", "Train Labels"))
    tests = tmp_path / "Onera Satellite - Test Labels"
    for city, folder in product(("paris", "pisa", "rio"), ("imgs_1", "imgs_2")):
        (images / city / folder).mkdir(parents=True)
    for folder in ("imgs_1_rect", "imgs_2_rect"):
        (images / "paris" / folder).mkdir()
    for place in (labels / "paris", labels / "pisa", tests / "rio"):
        (place / "cm").mkdir(parents=True)
        (place / "cm" / f"{place.name}-cm.tif").touch()
    found = {p.name: p for p in find_places(tmp_path)}
    assert found["paris"].before.name == "imgs_1_rect" and found["pisa"].after.name == "imgs_2"
    assert {p.split for p in found.values()} == {"", "test"} and found["rio"].split == "test"


def test_a_table_may_leave_splits_empty_name_places_and_leave_some_out(tmp_path):
    for name in "abcl":
        (tmp_path / f"{name}.tif").touch()
    path = table(
        tmp_path / "d.csv", "a.tif,b.tif,l.tif,,one", "b.tif,c.tif,l.tif,gap,two",
        f"{tmp_path}/c.tif,a.tif,l.tif,test,../../three",
        header="before,after,label,split,name",
    )  # fmt: skip
    assert splits(path) == {("one", ""), ("../../three", "test")}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as a spreadsheet saves it
    assert len(find_places(path)) == 2
    path = table(tmp_path / "no_split.csv", "a.tif,b.tif,l.tif", header="before,after,label")
    assert splits(path) == {("0001_a", "")}
    for header, line, said in (
        ("before;after;label", "a;b;l", "no column 'before'"),
        ("before,after,label,split", "a.tif,b.tif,l.tif,valid", "line 2: split 'valid'"),
        ("before,after,label,split", "a.tif,,l.tif,val", "line 2: no after"),
    ):
        with pytest.raises(S2cdError, match=said):
            find_places(table(tmp_path / "bad.csv", line, header=header))


# ---- splits


def places(*named):
    return [Place(name, *[None] * 3, split) for name, split in named]


def sides(found):
    return {p.name: p.split for p in found}


def test_a_folder_may_hold_one_table(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.tif").touch()
    (tmp_path / "pairs.csv").write_text("before,after,label,split\na.tif,b.tif,c.tif,val\n")
    (place,) = find_places(tmp_path)
    assert (place.before, place.split) == (tmp_path / "a.tif", "val")
    (tmp_path / "other.csv").touch()
    with pytest.raises(S2cdError, match=r"holds 2 CSVs \(other\.csv, pairs\.csv\)"):
        find_places(tmp_path)


def test_what_data_says_of_splits_is_kept():
    found = sides(with_splits(places(("a", "train"), ("b", "val"), ("c", ""), ("d", "test"))))
    assert found == {"a": "train", "b": "val", "c": "train", "d": "test"}
    # those that are to be learned from stay so, and validation is taken of the rest
    for seed in range(5):
        some = places(("a", "train"), ("b", ""), ("c", ""), ("d", "test"))
        found = sides(with_splits(some, 0.2, seed))
        assert found["a"] == "train" and found["d"] == "test"
        assert sorted((found["b"], found["c"])) == ["train", "val"]
    some = places(("a", "val"), ("b", "test"))
    assert with_splits(some) == some  # to be evaluated on


def test_no_city_is_validated_on_that_lies_close_to_one_learned_from(caplog):
    for seed in range(10):
        some = places(("bercy", "train"), ("paris", ""), ("pisa", ""), ("rio", ""))
        assert sides(with_splits(some, 0.5, seed))["paris"] == "train"
    with pytest.raises(S2cdError, match="lie close together"):
        with_splits(places(("bercy", ""), ("paris", "")))
    assert set(sides(with_splits(places(("a", ""), ("b", "")), 0.9)).values()) == {"train", "val"}
    with_splits(places(("bercy", "train"), ("paris", "val")))
    assert "bercy lies close to it" in caplog.text


# ---- one scene cut into areas


def scattered(shape, seed=0, spots=40):
    label = np.zeros(shape, np.uint8)
    for y, x in np.random.default_rng(seed).integers(0, np.array(shape) - 15, (spots, 2)):
        label[y : y + 15, x : x + 15] = 1
    return label


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((700, 900), 64),
        ((900, 400), 64),
        ((200, 210), 32),
        ((3000, 2500), 128),
        ((110, 90), 32),
        ((2100, 2200), 256),
    ],
)
def test_areas_to_learn_from_keep_a_window_away_from_those_to_validate_on(shape, window):
    label = scattered(shape)
    found = cut(label, window)
    seen = np.zeros(shape, np.uint8)
    for area in found.val:
        seen[area.slices] = 2
        assert min(area.shape) >= window
    near = np.zeros(shape, bool)
    for area in found.val:
        near[area.grown(window, shape).slices] = True
    for area in found.train:
        assert min(area.shape) >= window and not near[area.slices].any()
        assert not (seen[area.slices] == 1).any()  # each pixel once
        seen[area.slices] = 1
    share = (seen == 2).mean()
    assert 0.1 < share < 0.4 and (seen == 1).mean() > 0.15
    assert (label[seen == 2] == 1).any() and (label[seen == 1] == 1).any()
    assert cut(label, window) == found


def test_a_large_scene_is_validated_on_in_several_blocks_and_loses_little():
    label = scattered((3000, 3000), spots=300)
    label[:, 2500:] = 255
    found = cut(label, 64, 0.2)
    assert len(found.val) >= 5 and min(min(a.shape) for a in found.val) >= 512
    assert cut(label, 200, 0.2).val == found.val  # only the gap is wider
    known = label != 255
    changed = label == 1
    inside = np.zeros(label.shape, bool)
    for area in found.val:
        inside[area.slices] = True
    assert inside[known].mean() == pytest.approx(0.2, abs=0.05)
    assert inside[changed].mean() == pytest.approx(0.2, abs=0.05)
    assert sum(a.shape[0] * a.shape[1] for a in found.train) > 0.5 * label.size


def test_a_scene_too_small_for_two_windows_and_a_gap_is_refused():
    with pytest.raises(S2cdError, match="must be 384 pixels"):
        cut(np.zeros((300, 383), np.uint8), 128)
    assert cut(np.zeros((300, 384), np.uint8), 128).gap == 128


@pytest.fixture
def one_scene(tmp_path):
    """A single labelled place, in a table; its bands say where in the scene a pixel lies."""
    shape = (400, 420)
    random = np.random.default_rng(0)
    values = np.stack([*np.mgrid[1 : shape[0] + 1, 1 : shape[1] + 1], np.zeros(shape)]) / 1e4
    values[2] = random.uniform(0.1, 0.4, shape)
    stack = stack_array(values.astype(np.float32), grid(shape), ("B02", "B03", "B04"))
    for date in ("before", "after"):
        write_stack(stack, tmp_path / f"{date}.tif")
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 400, "width": 420}
    with rasterio.open(tmp_path / "l.tif", "w", **profile) as file:
        file.write(scattered(shape), 1)
    return table(tmp_path / "one.csv", "before.tif,after.tif,l.tif,")


def places_in(dates):
    """Rows and columns of the scene that are seen in windows (n, 2, band, y, x)."""
    rows, columns = np.rint(dates[:, :, :2] * 1e4).astype(int).transpose(2, 0, 1, 3, 4) - 1
    there = rows >= 0  # there is nothing where a window reaches beyond its area
    return rows[there], columns[there]


def test_one_scene_is_learned_from_and_validated_on_without_a_leak(one_scene, tmp_path):
    window = 32
    found = with_splits(find_places(one_scene), 0.2, 0, window)
    again = with_splits(find_places(one_scene), 0.2, 5, window)
    assert found == again  # whatever the seed: an evaluation finds the same areas
    samples = [prepare(p, None, tmp_path / "cache") for p in found]
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the scene is kept once
    train = tuple(s for s in samples if s.place.split == "train")
    kept = np.zeros((400, 420), bool)
    for place in found:
        if place.split == "val":
            kept[place.area.grown(window, kept.shape).slices] = True
    assert 0.2 < kept.mean() < 0.8
    chips = Chips(train, size=window, batch=8, normalized=False)
    plain = chips.draw(0, 0)[0]
    assert plain.shape == (8, 2, 3, window, window)
    seen = np.zeros_like(kept)
    for sample, step in product(train, range(60)):
        y, x = np.random.default_rng(step).integers(-window, sample.pair.shape)
        part = sample.pair.window(slice(y, y + window), slice(x, x + window))
        dates = np.nan_to_num(np.stack([part.before, part.after]))[None]
        seen[places_in(dates)] = True
    assert seen.mean() > 0.2 and not (seen & kept).any()


def test_parts_of_a_scene_are_what_the_scene_is_there(one_scene, tmp_path):
    found = find_places(one_scene)
    whole = prepare(found[0], None, tmp_path / "cache")
    for place in with_splits(found, 0.2, 0, 32):
        sample = prepare(place, None, tmp_path / "cache")
        height, width = place.area.shape
        part = sample.pair.window(slice(0, height), slice(0, width))
        np.testing.assert_array_equal(part.before, whole.pair.window(*place.area.slices).before)
        np.testing.assert_array_equal(sample.label, whole.label[place.area.slices])
        assert sample.statistics == whole.statistics
        assert sample.pair.geobox == whole.pair.geobox[place.area.slices]
        assert sum(w.valid.sum() for w in sample.pair.sample(0)) == 400 * 420


def test_what_is_validated_on_is_seen_with_what_lies_around_it_in_the_gap(one_scene, tmp_path):
    found = with_splits(find_places(one_scene), 0.2, 0, 32)
    place = next(p for p in found if p.split == "val")
    sample = prepare(place, None, tmp_path / "cache")
    height, width = place.area.shape
    window = sample.pair.window(slice(-40, height + 40), slice(-40, width + 40))
    inside = place.area.grown(32, (400, 420))
    seen = np.isfinite(window.before[0])
    top, left = place.area.top - 40, place.area.left - 40
    expected = np.zeros_like(seen)
    expected[inside.moved(-top, -left).slices] = True
    np.testing.assert_array_equal(seen, expected)


# ---- what is kept on disk


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 130, 201), (1, 5, 7)])
def test_a_store_gives_back_every_window(tmp_path, shape):
    random = np.random.default_rng(0)
    values = random.normal(size=shape).astype(np.float32)
    store = Store(tmp_path / "s.bin", shape)
    with store.path.open("wb") as file:
        for top in range(0, shape[1], TILE):
            for left in range(0, shape[2], 2 * TILE):
                ys, xs = slice(top, top + TILE), slice(left, left + 2 * TILE)
                store.write(file, ys, xs, values[:, ys, xs])
    assert store.path.stat().st_size == store.size
    for _ in range(30):
        (top, bottom), (left, right) = (
            np.sort(random.choice(n + 1, 2, replace=False)) for n in shape[1:]
        )
        ys, xs = slice(int(top), int(bottom)), slice(int(left), int(right))
        np.testing.assert_array_equal(store.read(ys, xs), values[:, ys, xs])
    store.path.write_bytes(store.path.read_bytes()[:-100])
    with pytest.raises(S2cdError, match="cut short"):
        store.read(slice(0, shape[1]), slice(0, shape[2]))


def test_a_prepared_pair_is_the_pair(make_place, tmp_path):
    place = make_place((150, 170), bands=BANDS, hole=True)
    label = tmp_path / "l.png"
    profile = {"driver": "PNG", "count": 1, "dtype": "uint8", "height": 150, "width": 170}
    with rasterio.open(label, "w", **profile) as file:
        file.write(place.truth * 255, 1)
    sample = prepare(Place("a/../b", place.before, place.after, label), None, tmp_path / "cache")
    assert [p.name[:7] for p in (tmp_path / "cache").iterdir()] == ["a_b-" + key(tmp_path)[:3]]
    pair = make_pair(open_stack(place.before), open_stack(place.after))
    for ys, xs in ((slice(0, 150), slice(0, 170)), (slice(-9, 70), slice(100, 190)),
                   (slice(-50, -10), slice(0, 9))):  # fmt: skip
        seen, expected = sample.pair.window(ys, xs), pair.window(ys, xs)
        for name in ("before", "after", "valid"):
            np.testing.assert_array_equal(getattr(seen, name), getattr(expected, name))
    assert sample.pair.bands == pair.bands and sample.pair.shape == pair.shape
    np.testing.assert_array_equal(sample.pair.after.values, pair.after.values)
    one, other = (list(p.sample(3)) for p in (sample.pair, pair))
    assert len(one) == len(other)
    np.testing.assert_array_equal(one[0].after, other[0].after)


def key(tmp_path):
    (folder,) = (tmp_path / "cache").iterdir()
    return folder.name.rpartition("-")[2]


def test_clouds_of_a_stack_are_not_learned_from(make_place, tmp_path):
    place = make_place((140, 150), bands=BANDS)
    qa = np.ones((1, 140, 150), np.uint16)
    qa[0, 40:60, 50:80] = 3
    write_stack(
        open_stack(place.after).compute(), tmp_path / "cloudy.tif",
        stack_array(qa, place.geobox, ("QA",))[0],
    )  # fmt: skip
    with rasterio.open(tmp_path / "l.tif", "w", driver="GTiff", count=1, dtype="uint8",
                       height=140, width=150) as file:  # fmt: skip
        file.write(place.truth, 1)
    path = table(tmp_path / "d.csv", "before.tif,cloudy.tif,l.tif,train")
    sample = prepare(find_places(path)[0], None, tmp_path / "cache")
    chips = Chips((sample,), size=140, batch=2, normalized=False)
    valid = sample.pair.window(slice(0, 140), slice(0, 150)).valid
    assert not valid[40:60, 50:80].any() and valid.sum() == valid.size - 600
    masks = chips.draw(0, 0)[1]
    assert 0.01 < (masks == 255).mean() < 0.2


def test_a_killed_or_damaged_preparation_is_made_again(make_place, tmp_path, monkeypatch):
    from s2cd.learning import prepared

    place = make_place((140, 150), bands=BANDS)
    with rasterio.open(tmp_path / "l.tif", "w", driver="GTiff", count=1, dtype="uint8",
                       height=140, width=150) as file:  # fmt: skip
        file.write(place.truth, 1)
    where, cache = Place("p", place.before, place.after, tmp_path / "l.tif"), tmp_path / "cache"
    (cache / ".p-0.999999999.partial").mkdir(parents=True)  # of another key: left alone

    def killed(pair, store):
        store.path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_write_dates", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(where, None, cache)
    assert [p.name for p in cache.iterdir()] == [".p-0.999999999.partial"]
    first = prepare(where, None, cache).pair.window(slice(0, 140), slice(0, 150))
    (made,) = cache.glob("p-*")
    (cache / f".{made.name}.999999999.partial").mkdir()
    (made / "dates.bin").write_bytes((made / "dates.bin").read_bytes()[:-1])
    again = prepare(where, None, cache).pair.window(slice(0, 140), slice(0, 150))
    np.testing.assert_array_equal(again.before, first.before)
    assert not list(cache.glob(f".{made.name}*"))
    meta = json.loads((made / "meta.json").read_text())
    assert meta["bands"] == list(BANDS)


def test_another_area_or_file_is_other_data(make_place, tmp_path):
    place = make_place((140, 150), bands=BANDS)
    where = Place("p", place.before, place.after, place.before)
    keys = {key_of(where, None), key_of(where, BANDS)}
    keys.add(
        key_of(Place("p", place.before, place.after, place.before, area=Area(0, 0, 9, 9)), None)
    )
    assert len(keys) == 3 and key_of(where, None) in keys
    place.after.touch()
    assert key_of(where, None) not in keys


def test_more_places_than_a_shell_lets_files_be_open_are_read(tmp_path, monkeypatch):
    """LEVIR-CD has 637 pairs, each of three files; a shell allows 1024."""
    import os
    import resource

    from s2cd.learning import prepared

    values = landscape((40, 40), 1)
    write_stack(stack_array(values, grid((40, 40)), ("B04",)), tmp_path / "d.tif")
    with rasterio.open(tmp_path / "l.tif", "w", driver="GTiff", count=1, dtype="uint8",
                       height=40, width=40) as file:  # fmt: skip
        file.write((values[0] > 0.2).astype(np.uint8), 1)
    where = Place("p", tmp_path / "d.tif", tmp_path / "d.tif", tmp_path / "l.tif")
    monkeypatch.setattr(prepared, "_SMALL", 0)  # as if each mask were large
    limits, most = resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir("/proc/self/fd")) + 50
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        samples = [prepare(where, None, tmp_path / "cache") for _ in range(2 * most)]
        seen = [sample.pair.window(slice(0, 40), slice(0, 40)).valid.all() for sample in samples]
    finally:
        del samples
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert all(seen)


def test_a_network_learns_from_one_scene_and_an_evaluation_finds_what_it_was_validated_on(
    make_place, tmp_path
):
    from s2cd.learning.evaluate import Options, evaluate_data
    from s2cd.learning.train import Recipe, train

    place = make_place((300, 400), bands=BANDS)
    with rasterio.open(tmp_path / "l.tif", "w", driver="GTiff", count=1, dtype="uint8",
                       height=300, width=400) as file:  # fmt: skip
        file.write(np.maximum(place.truth, scattered((300, 400))), 1)
    data = table(tmp_path / "one.csv", "before.tif,after.tif,l.tif,")
    recipe = Recipe(arch="fc-ef", batch=2, steps=2, size=64, window=128, halo=32, epochs=1)
    found = train(data, tmp_path / "runs" / "a", recipe)
    cache = tmp_path / "runs" / ".prepared"
    scores = evaluate_data(data, found["checkpoint"], Options("val", cache=cache))
    assert scores["f1"] == pytest.approx(found["f1"], abs=1e-9) and len(scores["scenes"]) == 1
    assert len(list(cache.iterdir())) == 1


def test_what_is_assumed_of_many_places_is_said_once(make_raster, tmp_path):
    import logging

    lines = []

    class Said(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    random = np.random.default_rng(0)
    for side, stem in product("AB", "xyz"):
        make_raster(f"{side}/{stem}.png", random.integers(0, 255, (3, 64, 64), np.uint8),
                    driver="PNG", crs=None, transform=None)  # fmt: skip
    for stem in "xyz":
        make_raster(f"label/{stem}.png", random.integers(0, 2, (64, 64), np.uint8) * 255,
                    driver="PNG", crs=None, transform=None)  # fmt: skip
    logger, handler = logging.getLogger("s2cd"), Said()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        for place in find_places(tmp_path):
            prepare(place, None, tmp_path / "cache")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assumed = [line.partition("assumed: ")[2] for line in lines if "assumed" in line]
    assert len(assumed) == len(set(assumed)) > 1
    assert sum("could not be measured" in line for line in lines) == 1
