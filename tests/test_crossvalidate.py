"""Leave-places-out: no network sees the place it is judged on, and a stopped one goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from s2cd.errors import S2cdError
from s2cd.learning.crossvalidate import cross_validate, folds_of, scores_of
from s2cd.learning.metrics import Nearness

pytest.importorskip("torch")
BANDS = ("B02", "B03", "B04", "B08")
EXAMPLE = Path(__file__).parents[1] / "examples" / "experiments.py"
RECIPE = """arch = "fc-ef"
epochs = 1
steps = 2
batch = 2
size = 64
window = 128
halo = 32
validation = 0
"""


@pytest.fixture
def data(make_place, tmp_path):
    """A CSV of three simulated places."""
    lines = ["name,before,after,label"]
    for seed in range(3):
        place = make_place((128, 128), bands=BANDS, seed=seed)
        folder = tmp_path / f"place{seed}"
        folder.mkdir()
        for path in (place.before, place.after):
            path.rename(folder / path.name)
        profile = {"width": 128, "height": 128, "count": 1, "dtype": "uint8"}
        with rasterio.open(folder / "label.png", "w", driver="PNG", **profile) as file:
            file.write(place.truth[None] * 255)
        names = (f"{folder.name}/{n}" for n in ("before.tif", "after.tif", "label.png"))
        lines.append(",".join([f"place{seed}", *names]))
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines))
    return path


def test_no_network_is_judged_on_what_it_saw_and_a_stopped_one_goes_on(data, tmp_path):
    from s2cd.learning.recipe import recipe_of
    from s2cd.networks.checkpoint import read_spec

    recipe = recipe_of({"arch": "fc-ef", "epochs": 1, "steps": 2, "batch": 2, "size": 64,
                        "window": 128, "halo": 32, "validation": 0})  # fmt: skip
    folds, out = folds_of(data, tmp_path / "cache", 3), tmp_path / "cross"
    assert sorted(n for part in folds.parts for n in part) == ["place0", "place1", "place2"]

    def stopped(done, of):
        if (out / "fold1" / "config.toml").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(folds, out, recipe, stopped)
    first = (out / "fold0" / "counts.json").stat().st_mtime_ns
    scores = cross_validate(folds, out, recipe)
    assert (out / "fold0" / "counts.json").stat().st_mtime_ns == first
    assert set(scores["scenes"]) == {"place0", "place1", "place2"}
    for number, part in enumerate(folds.parts):
        seen = read_spec(out / f"fold{number}" / "best.safetensors").trained_on
        assert all((name in seen) == (name not in part) for name in scores["scenes"])
        assert np.load(out / f"fold{number}" / "maps" / f"{part[0]}.npy").shape == (128, 128)
    assert (out / "curves.png").stat().st_size > 1000
    assert scores == cross_validate(folds, out, recipe)
    with pytest.raises(S2cdError, match="another recipe"):
        cross_validate(folds, out, recipe_of({"rate": 0.1}, recipe))


def test_a_threshold_comes_from_the_other_folds_only():
    counts = {}
    for name, at in (("a", 20), ("b", 60), ("c", 150)):
        histogram = np.zeros((2, 201), np.int64)
        histogram[0, at - 5], histogram[1, at + 5] = 900, 100
        counts[name] = histogram
    scores = scores_of(
        counts, (("a",), ("b",), ("c",)), lambda name, threshold: Nearness(2, 1, 2, 1)
    )
    assert scores["f1_one_pixel"] == 0.5 and scores["calibration_error"] > 0
    one, other, last = scores["chosen"]["threshold"]
    assert scores["scenes"]["c"]["recall"] == 1 and scores["scenes"]["a"]["recall"] == 0
    # of two places, the higher limit costs half the recall and the lower all precision
    assert one > 65 / 200 - 1e-9 and other > 25 / 200 and last <= 65 / 200
    assert scores["best"]["f1"] >= scores["f1"]


def test_nearby_cities_are_left_out_together(oscd, tmp_path):
    parts = folds_of(oscd, tmp_path).parts
    assert sorted(len(part) for part in parts) == [3, 3, 3, 4]
    assert any({"bercy", "paris"} <= set(part) for part in parts)
    assert parts == folds_of(oscd, tmp_path).parts


def test_the_command_takes_a_recipe(run, data, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    words = ("evaluate", data, "--cross-validate", "--recipe", "r.toml", "--folds", 2)
    done = run(*words, "-o", "runs/x", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["threshold"] == 0.5 and len(said["scenes"]) == 3 and "f1" in said["chosen"]
    assert run(*words, "--model", "cva").returncode == 2


def test_a_recipe_is_read_as_train_reads_it_and_what_it_has_not_is_refused(tmp_path):
    from s2cd.learning.recipe import Recipe, read_recipe

    path = tmp_path / "r.toml"
    path.write_text('arch = "unet"\nrate = 1\n[train]\nchange-weight = 2\nbands = "B02,B03"\n')
    assert read_recipe(path) == Recipe(rate=1.0, change_weight=2.0, bands=("B02", "B03"))
    path.write_text('data = "oscd"\ndata_sha256 = "a1"\nfreeze_encoder = true\n')  # of a run
    assert read_recipe(path) == Recipe(freeze_encoder=True)
    for text, said in (("ratte = 1", "no 'ratte'"), ('rate = "high"', "must be a float"),
                       ("epochs = true", "must be a int"), ("rate =", "as TOML")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(S2cdError, match=said):
            read_recipe(path)


def test_a_table_says_which_rows_were_not_run(data, tmp_path):
    rows = tmp_path / "rows.toml"
    rows.write_text(f'[budget]\n{RECIPE}\n[rows.cva]\nmodel = "cva"\n[rows.fc]\n[rows.later]\n')
    line = [sys.executable, str(EXAMPLE), str(data), str(tmp_path / "w"), "--rows", str(rows)]

    def table(only):
        done = subprocess.run([*line, "--only", only], check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    assert [one.count("|") for one in table("-")] == [13] * 5
    assert sum("not run" in one for one in table("cva")) == 2
    assert sum("not run" in one for one in table("-")) == 2
