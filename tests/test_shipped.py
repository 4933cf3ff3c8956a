"""What ships: which network serves a pair, what it says of itself, and how it is made."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import refused

import s2cd
from s2cd.detection.blocks import STEPS
from s2cd.errors import S2cdError
from s2cd.learning.calibrate import (
    fit_scaling,
    scaled_by_others,
    scaled_counts,
    scaled_threshold,
)
from s2cd.learning.curves import calibration
from s2cd.learning.scenes import confusion_at
from s2cd.networks.scaling import Scaling
from s2cd.networks.spec import Spec

torch = pytest.importorskip("torch")
RGB = ("B04", "B03", "B02")
FOUR = ("B02", "B03", "B04", "B08")
EXAMPLE = Path(__file__).parents[1] / "examples" / "ship_model.py"


def spec(bands=FOUR, **changed) -> Spec:
    facts = {"window": 128, "halo": 32, "stride": 16, **changed}
    return Spec("fc-ef", "", "concat", bands, **facts)


def saved(path, one=None, half=False):
    """A seeded random network as a checkpoint."""
    from s2cd.networks.build import build
    from s2cd.networks.checkpoint import save_checkpoint

    torch.manual_seed(0)
    one = one or spec()
    save_checkpoint(path, one, build(one), half=half)
    return path


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with a tiny network of four bands and one of three in place of those that ship."""
    folder = tmp_path / "weights"
    folder.mkdir()
    saved(folder / "oscd10.safetensors", spec(licence="non-commercial use"))
    saved(folder / "oscdrgb.safetensors", spec(RGB))
    (folder / "oscd10.md").write_text("# oscd10\n\nWhat it can do.\n")
    monkeypatch.setenv("S2CD_WEIGHTS", str(folder))
    return folder


def test_detect_takes_the_network_for_the_bands_at_hand_and_says_why(weights, make_place, run):
    place = make_place((96, 100), bands=FOUR)
    words = ("detect", place.before, place.after, "-o")
    done = run(*words, "four.tif", "--no-align", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "oscd10"
    assert "model oscd10: both dates have its 4 bands" in done.stderr
    assert done.stderr.count("non-commercial use") == 1


@pytest.mark.parametrize(
    ("bands", "model"),
    [(FOUR, "oscd10"), (RGB, "oscdrgb"), (("B02", "B08"), "cva"), (("B08", *RGB), "oscd10")],
)
def test_the_library_goes_by_the_bands_too(weights, make_place, bands, model):
    place = make_place((64, 64), bands=bands)
    change = s2cd.detect(s2cd.open_stack(place.before), s2cd.open_stack(place.after))
    assert change.attrs["MODEL"] == model


def test_without_weights_the_default_is_cva_and_the_names_are_unknown(place, run, caplog):
    from s2cd.networks.registry import find_detector

    with caplog.at_level("INFO", "s2cd"):
        assert find_detector("default", bands=FOUR).name == "cva"
    assert "no network is installed" in caplog.text
    words = ("detect", place.before, place.after, "-o", "c.tif", "--model", "oscd10")
    assert "no model" in refused(run(*words))
    assert "oscd10" not in run("models", "list").stdout


def test_a_damaged_network_that_ships_is_named(weights, place, run):
    (weights / "oscd10.safetensors").write_bytes(b"x" * 100)
    said = refused(run("detect", place.before, place.after, "-o", "c.tif"))
    assert "oscd10.safetensors" in said


def test_models_list_what_ships_and_show_its_card(weights, run):
    assert "oscd10" in run("models").stdout
    assert "What it can do." in run("models", "info", "oscd10").stdout
    facts = json.loads(run("models", "info", "oscd10", "--json").stdout)
    assert facts["bands"] == list(FOUR) and facts["card"].startswith("# oscd10")


def test_what_ships_is_small_has_a_card_and_is_what_it_says():
    from s2cd.networks.checkpoint import load_network, read_spec

    folder = Path(s2cd.__file__).parent / "weights"
    paths = list(folder.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 30e6
    for path in paths:
        one = read_spec(path)
        assert one.calibrated and one.licence and one.ranges and one.trained_on
        assert path.with_suffix(".md").is_file() and load_network(path) is not None


def test_a_scaled_network_says_the_same_in_training_and_detection(tmp_path, make_place):
    from s2cd.learning.scenes import Live
    from s2cd.networks.checkpoint import load_network
    from s2cd.networks.learned import open_network
    from s2cd.scenes.pair import make_pair
    from s2cd.scenes.stack import open_stack

    place = make_place((64, 64), bands=FOUR)
    pair = make_pair(open_stack(place.before), open_stack(place.after))
    window = pair.window(slice(0, 64), slice(0, 64))
    dates = window.before[None], window.after[None]
    plain = open_network(saved(tmp_path / "plain.safetensors"), "cpu").fit(pair)
    one = spec(temperature=2.0, bias=-1.0)
    scaled = open_network(saved(tmp_path / "scaled.safetensors", one), "cpu").fit(pair)
    odds = np.log(plain.predict(*dates)) - np.log1p(-plain.predict(*dates))
    found = scaled.predict(*dates)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(1 - odds / 2)), atol=1e-5)
    live = Live(load_network(tmp_path / "scaled.safetensors"), scaled.statistics, one.scaling)
    np.testing.assert_allclose(live.predict(*dates), found, atol=1e-6)


def test_scaling_of_several_classes_is_of_any_change():
    logits = torch.randn(2, 4, 5, 5)
    expected = 1 - torch.softmax(logits, dim=1)[:, 0]
    torch.testing.assert_close(Scaling().probabilities(logits), expected)


def test_half_precision_computes_in_full_and_is_half_as_large(tmp_path):
    from s2cd.networks.checkpoint import load_network

    whole = saved(tmp_path / "whole.safetensors")
    half = saved(tmp_path / "half.safetensors", half=True)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    one, other = load_network(whole).state_dict(), load_network(half).state_dict()
    for name, value in one.items():
        assert other[name].dtype == value.dtype
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def histogram(temperature, bias, seed, pixels=200_000):
    """Pixels whose change is as likely as a scaling of what a map says."""
    random = np.random.default_rng(seed)
    odds = random.normal(-1, 1.5, pixels)
    change = random.random(pixels) < 1 / (1 + np.exp(-(odds / temperature + bias)))
    stored = np.rint(STEPS / (1 + np.exp(-odds))).astype(int)
    codes = stored + (STEPS + 1) * change
    return np.bincount(codes, minlength=2 * (STEPS + 1)).reshape(2, STEPS + 1)


def test_calibration_finds_the_scaling_and_makes_probabilities_true():
    counts = {f"place{n}": histogram(2.0, -1.0, n) for n in range(4)}
    parts = [["place0", "place1"], ["place2"], ["place3"]]
    whole = sum(counts.values())
    found = fit_scaling(whole)
    assert abs(found.temperature - 2) < 0.15 and abs(found.bias + 1) < 0.1
    honest = scaled_by_others(counts, parts)
    assert honest.sum() == whole.sum()
    assert calibration(honest).error < 0.02 < calibration(whole).error


def test_a_fold_is_scaled_by_the_others_alone():
    counts = {"a": histogram(1.0, 0.0, 0), "b": histogram(4.0, 2.0, 1)}
    both = scaled_by_others(counts, [["a"], ["b"]])
    expected = scaled_counts(counts["a"], fit_scaling(counts["b"]))
    expected = expected + scaled_counts(counts["b"], fit_scaling(counts["a"]))
    np.testing.assert_array_equal(both, expected)


def test_a_scaled_threshold_leaves_the_map_as_it_was():
    counts, scaling = histogram(1.0, 0.0, 0), Scaling(1.5, -1.0)
    for threshold in (0.1, 0.38, 0.5, 0.9):
        moved = scaled_threshold(threshold, scaling)
        one, other = confusion_at(counts, threshold), confusion_at(
            scaled_counts(counts, scaling), moved
        )  # fmt: skip
        assert abs(one.f1 - other.f1) < 0.01


def test_calibration_without_change_is_refused():
    with pytest.raises(S2cdError, match="without"):
        fit_scaling(np.array([np.ones(STEPS + 1), np.zeros(STEPS + 1)]))


@pytest.mark.parametrize(
    "changed",
    [{"temperature": 0.0}, {"temperature": float("nan")}, {"bias": 1e9}, {"ranges": ((0.1,),)},
     {"ranges": ((0.1,) * 4,) * 3}, {"ranges": ((float("inf"),) * 4,) * 4}],
)  # fmt: skip
def test_a_calibration_or_range_without_sense_is_refused(changed):
    with pytest.raises(S2cdError):
        spec(**changed)


def test_a_spec_of_an_older_version_has_no_calibration():
    values = json.loads(spec(ranges=((0.1,) * 4,) * 4, licence="x", bias=1.0).to_json())
    assert Spec.from_json(json.dumps(values)).ranges == ((0.1,) * 4,) * 4
    for name in ("temperature", "bias", "ranges", "licence"):
        del values[name]
    assert Spec.from_json(json.dumps(values)) == spec()
    for wrong in (3, ["x"], [[1, "x"]]):
        with pytest.raises(S2cdError):
            Spec.from_json(json.dumps({**values, "ranges": wrong}))


def test_dates_unlike_those_of_training_are_told(tmp_path, make_place, caplog):
    from s2cd.networks.familiar import ranges_of
    from s2cd.networks.inputs import statistics_of
    from s2cd.networks.learned import open_network
    from s2cd.scenes.pair import make_pair
    from s2cd.scenes.stack import open_stack

    place = make_place((64, 64), bands=FOUR)
    before, after = open_stack(place.before), open_stack(place.after)
    pair = make_pair(before, after)
    known = ranges_of([statistics_of(pair.sample(0), 4)])
    network = open_network(saved(tmp_path / "n.safetensors", spec(ranges=known)), "cpu")
    network.fit(pair)
    assert "far from" not in caplog.text
    bright = (after * 2).assign_attrs(after.attrs)
    network.fit(make_pair(before, bright))
    assert caplog.text.count("far from what n was trained on") == 1
    assert "after lies far" in caplog.text


def shippable(tmp_path):
    """A run and its cross-validation, as `s2cd train` and `evaluate` leave them."""
    from s2cd.learning.crossvalidate import scores_of
    from s2cd.learning.metrics import Nearness
    from s2cd.learning.recipe import Recipe
    from s2cd.learning.runfolder import to_toml

    run, scores = tmp_path / "run", tmp_path / "scores"
    ranges = ((0.1,) * 4, (0.3,) * 4, (0.01,) * 4, (0.1,) * 4)
    settings = to_toml({"data": "x", "arch": Recipe(arch="fc-ef").arch})
    counts = {f"place{n}": histogram(2.0, -1.0, n) for n in range(3)}
    run.mkdir()
    saved(run / "best.safetensors", replace(spec(), ranges=ranges, trained_on="x: place0"))
    (run / "config.toml").write_text(settings + "seed = 7\n")
    (run / "card.md").write_text("# c\n- seed 7; Python 3\n")
    (run / "metrics.csv").write_text("epoch,seconds\n1,90\n")
    for number, (name, one) in enumerate(counts.items()):
        folder = scores / f"fold{number}"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(settings)
        (folder / "counts.json").write_text(json.dumps({name: one.tolist()}))
    near = Nearness(4, 3, 4, 3)
    found = scores_of(counts, tuple((n,) for n in counts), lambda name, at: near)
    (scores / "scores.json").write_text(json.dumps(found))
    return run, scores, found


def test_one_command_makes_what_ships_from_a_run_and_its_scores(tmp_path):
    from s2cd.networks.checkpoint import load_network, read_spec

    run, scores, found = shippable(tmp_path)
    out = tmp_path / "oscd10.safetensors"
    words = [sys.executable, str(EXAMPLE), str(run), str(scores), "-o", str(out)]
    done = subprocess.run([*words, "--half"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one = read_spec(out)
    assert one.calibrated and abs(one.temperature - 2) < 0.15 and "non-commercial" in one.licence
    assert next(load_network(out).parameters()).dtype == torch.float32
    card = out.with_suffix(".md").read_text()
    assert f"{found['chosen']['f1']:.3f}" in card and "CC BY-NC-SA" in card
    assert "- seed 7" in card and "trained in 2 minutes" in card
    (scores / "fold0" / "config.toml").write_text('arch = "unet"\n')
    other = subprocess.run(words, capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "differ in arch" in other.stderr
