"""Training: a run repeats, goes on where it was killed, and leaves what `detect` takes."""

import csv
import json
import logging
import pickle
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import rasterio
from conftest import refused

from s2cd.errors import S2cdError
from s2cd.learning.chips import Chips
from s2cd.learning.places import Place, find_places, with_splits
from s2cd.learning.prepared import prepare
from s2cd.learning.scenes import best_threshold, confusion_at, counts_of

torch = pytest.importorskip("torch")
BANDS = ("B02", "B03", "B04", "B08")
TINY = ("--arch", "fc-ef", "--batch", 4, "--steps", 4, "--size", 64, "--window", 128, "--halo", 32)


@pytest.fixture
def data(make_place, tmp_path):
    """A CSV of two simulated places."""
    lines = ["before,after,label,split"]
    for seed, split in ((0, "train"), (5, "val")):
        place = make_place((160, 176), bands=BANDS, seed=seed)
        folder = tmp_path / f"place{seed}"
        folder.mkdir()
        for path in (place.before, place.after):
            path.rename(folder / path.name)
        profile = {"width": 176, "height": 160, "count": 1, "dtype": "uint8"}
        with rasterio.open(folder / "label.png", "w", driver="PNG", **profile) as file:
            file.write(place.truth[None] * 255)
        lines.append(",".join([*(f"{folder.name}/{n}" for n in
                                 ("before.tif", "after.tif", "label.png")), split]))  # fmt: skip
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines))
    return path


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in r.items() if k not in ("waited", "seconds")}
                for r in csv.DictReader(file)]  # fmt: skip


def watched(folder):
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = EventAccumulator(str(folder), {"images": 0})
    told.Reload()
    return told


def test_a_run_learns_and_detect_and_evaluate_take_its_checkpoint(run, data, tmp_path):
    done = run("train", data, "-o", "runs/a", "--epochs", 4, "--augment", "none", *TINY, "--json",
               "--rate", 0.01)  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    folder = tmp_path / "runs" / "a"
    losses = [float(row["loss"]) for row in rows(folder)]
    assert losses[-1] < 0.8 * losses[0]
    assert not [word for word in ("Warning", "Lightning", "GPU", "TPU") if word in done.stderr]
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name[0] != "."] == ["a"]
    for name in ("best.safetensors", "last.ckpt", "config.toml", "card.md", "curves.png"):
        assert (folder / name).stat().st_size > 100
    assert len(list((folder / "predictions").glob("*.png"))) == 4
    scored = run("evaluate", data, "--model", folder / "best.safetensors", "--json")
    assert scored.returncode == 0, scored.stderr
    # the same code scored it in training, with the same threshold
    assert json.loads(scored.stdout)["f1"] == pytest.approx(summary["f1"], abs=1e-6)
    before, after = (tmp_path / "place5" / n for n in ("before.tif", "after.tif"))
    change = tmp_path / "c.tif"
    assert run("detect", before, after, "-o", change,
               "--model", folder / "best.safetensors").returncode == 0  # fmt: skip
    label = tmp_path / "place5" / "label.png"
    mapped = run("evaluate", "--prediction", change, "--label", label, "--json")
    assert json.loads(mapped.stdout)["f1"] == pytest.approx(summary["f1"], abs=1e-6)


def test_a_resumed_run_is_the_run_that_was_never_stopped(data, tmp_path):
    from s2cd.learning import train as module

    recipe = module.Recipe(
        arch="fc-ef", batch=2, steps=2, size=64, window=128, halo=32, epochs=3, ema=0.5
    )
    module.train(data, tmp_path / "whole", recipe)

    def killed(done, of):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.train(data, tmp_path / "cut", recipe, report=killed)
    assert len(rows(tmp_path / "cut")) == 1
    with pytest.raises(S2cdError, match="holds a run already"):
        module.train(data, tmp_path / "cut", recipe)
    module.train(data, tmp_path / "cut", recipe, resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    last = [(tmp_path / n / "best.safetensors").read_bytes() for n in ("cut", "whole")]
    assert last[0] == last[1]
    told = watched(tmp_path / "whole")
    scalars = {event.step: event.value for event in told.Scalars("f1")}
    assert scalars == pytest.approx(
        {int(r["epoch"]): float(r["f1"]) for r in rows(tmp_path / "cut")}
    )
    assert {"loss", "val_loss", "iou", "dice", "precision", "recall", "rate"} <= set(
        told.Tags()["scalars"]
    )
    assert [event.step for event in told.Images("windows")] == [1, 2, 3]


def test_a_run_that_is_killed_loses_the_epoch_it_was_in_and_no_other(data, tmp_path, caplog):
    from s2cd.learning import train as module

    recipe = module.Recipe(
        arch="fc-ef", batch=4, steps=8, size=64, window=128, halo=32, epochs=3, augment="none"
    )
    module.train(data, tmp_path / "whole", recipe)
    words = ("train", data, "-o", "cut", "--epochs", 3, "--augment", "none", *TINY, "--steps", 8)
    line = [sys.executable, "-m", "s2cd", *map(str, words)]
    cut = tmp_path / "cut"
    child = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (cut / "last.ckpt").exists() and child.poll() is None:
        time.sleep(0.01)
    child.kill()
    child.wait()
    caplog.clear()
    caplog.set_level(logging.INFO, "s2cd")
    module.train(data, cut, recipe, resume=True)
    assert "epoch 1:" not in caplog.text and "epoch 3:" in caplog.text
    assert rows(cut) == rows(tmp_path / "whole")
    for name in ("best.safetensors", "curves.png", "card.md"):
        same = [(tmp_path / n / name).read_bytes() for n in ("cut", "whole")]
        assert same[0] == same[1]


def test_a_pickle_in_place_of_the_state_is_never_opened(data, tmp_path):
    from s2cd.learning import train as module

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    recipe = module.Recipe(arch="fc-ef", batch=2, steps=1, size=64, window=128, halo=32, epochs=1)
    module.train(data, tmp_path / "run", recipe)
    (tmp_path / "run" / "last.ckpt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(S2cdError, match="no state of this run"):
        module.train(data, tmp_path / "run", recipe, resume=True)
    assert not (tmp_path / "boom").exists()


def test_windows_repeat_and_fit_their_masks(data, tmp_path):
    place = find_places(data)[0]
    sample = prepare(place, None, tmp_path / "cache")
    chips = Chips((sample,), size=64, batch=4)
    one, other = chips.draw(3, 1), chips.draw(3, 1)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0], chips.draw(3, 2)[0])
    dates, masks = one
    assert dates.shape == (4, 2, 4, 64, 64) and masks.shape == (4, 64, 64)
    assert np.isfinite(dates).all() and (masks == 1).any()
    apart = np.abs(dates[:, 1] - dates[:, 0]).mean(axis=1)
    assert apart[masks == 1].mean() > 3 * apart[masks == 0].mean()


def test_a_prepared_place_is_used_again_until_a_file_changes(data, tmp_path):
    place = find_places(data)[0]
    cache = tmp_path / "cache"
    prepare(place, None, cache)
    (made,) = cache.iterdir()
    stamps = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    prepare(place, None, cache)
    assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == stamps
    place.label.touch()
    prepare(place, None, cache)
    (again,) = cache.iterdir()  # a place that is labelled anew is not registered anew
    assert (made / "dates.bin").stat().st_mtime_ns == stamps["dates.bin"]
    assert len(list(again.glob("label-*.npy"))) == 2
    place.after.touch()
    prepare(place, None, cache)
    assert len(list(cache.iterdir())) == 2


def test_nearby_cities_stay_on_one_side():
    names = ("bercy", "paris", "nantes", "pisa", "rennes", "saclay_e", "saclay_w")
    places = [Place(n, *[None] * 3) for n in names]
    for seed in range(20):
        sides = {p.name: p.split for p in with_splits(places, 0.3, seed)}
        assert sides["bercy"] == sides["paris"] and sides["saclay_e"] == sides["saclay_w"]
        assert set(sides.values()) == {"train", "val"}


def test_the_layout_of_oscd_is_understood(oscd):
    places = find_places(oscd)
    assert len(places) == 13 and places[0].name == "abudhabi"
    assert all(p.before.name == "imgs_1" and p.label.exists() for p in places)


def test_the_layouts_of_levir_are_understood(tmp_path):
    for split in ("train", "val"):
        for side in ("A", "B", "label"):
            (tmp_path / split / side).mkdir(parents=True)
            (tmp_path / split / side / f"{split}_1.png").touch()
    assert {(p.name, p.split) for p in find_places(tmp_path)} == {
        ("train_1", "train"), ("val_1", "val")
    }  # fmt: skip
    (tmp_path / "val" / "label" / "val_1.png").unlink()
    with pytest.raises(S2cdError, match="is not there"):
        find_places(tmp_path)


def test_what_is_no_data_is_refused_with_what_data_is(run, tmp_path):
    assert "is not there. DATA is an OSCD folder" in refused(run("train"))
    (tmp_path / "data").mkdir()
    said = refused(run("train"))
    assert "no labelled pairs" in said and "`s2cd demo --train`" in said
    (tmp_path / "no.csv").touch()
    assert "no column 'before'" in refused(run("train", tmp_path / "no.csv"))
    (tmp_path / "a.csv").write_text("before,after,label,split\nx.tif,y.tif,z.tif,train\n")
    assert "line 2" in refused(run("train", tmp_path / "a.csv"))


def test_the_threshold_is_that_of_the_highest_f1():
    stored = np.array([[0, 40, 80, 120, 200, 255]], np.uint8)
    label = np.array([[0, 0, 1, 1, 1, 1]], np.uint8)
    counts = counts_of(stored, label)
    assert counts.sum() == 5
    assert 0.2 < best_threshold(counts) <= 0.4
    assert confusion_at(counts, best_threshold(counts)).f1 == 1


@pytest.mark.parametrize("name", ["bce", "dice", "iou", "focal", "bce+iou", "0.5*bce+0.5*dice"])
@pytest.mark.parametrize("classes", [1, 3])
def test_losses_fall_towards_the_truth_and_forget_the_unknown(name, classes):
    from s2cd.learning.losses import make_loss

    mask = torch.randint(0, classes + 1, (2, 16, 16), generator=torch.manual_seed(0))
    mask[0, :4] = 255
    known = torch.where(mask == 255, 0, mask)
    if classes == 1:
        right = (known.float() * 2 - 1)[:, None]
    else:
        right = torch.nn.functional.one_hot(known, 4).movedim(-1, 1).float()
    loss = make_loss(name, 2.0)
    assert loss(right * 9, mask) < loss(right, mask) < loss(-right, mask)
    other = right.clone()
    other[0, :, :4] = 50
    assert torch.equal(loss(right, mask), loss(other, mask))
    for wrong in ("hinge", "-1*bce", "nan*bce", "0*dice", "bce+", "0.5*"):
        with pytest.raises(S2cdError, match="no loss"):
            make_loss(wrong)


def test_a_network_for_keeps_learns_from_all_places_and_keeps_its_last_weights(data, tmp_path):
    from s2cd.learning import train as module
    from s2cd.networks.checkpoint import read_spec

    recipe = module.Recipe(arch="fc-ef", batch=2, steps=2, size=64, window=128, halo=32, epochs=2,
                           validation=0.0, threshold=0.3, ema=0.5)  # fmt: skip
    summary = module.train(data, tmp_path / "all", recipe)
    assert summary["epoch"] == 2 and "f1" not in summary
    spec = read_spec(tmp_path / "all" / "best.safetensors")
    assert spec.threshold == 0.3 and "0001" in spec.trained_on and "0002" in spec.trained_on
    assert "no place was held apart" in (tmp_path / "all" / "card.md").read_text()


def test_dates_that_change_places_keep_their_own_statistics(data, tmp_path):
    from s2cd.learning.augment import Augmentation

    sample = prepare(find_places(data)[0], None, tmp_path / "cache")
    plain, swapped = (
        Chips((sample,), size=64, batch=8, augmentation=Augmentation(turned=False, swapped=s))
        for s in (False, True)
    )
    (one, mask), (other, same) = plain.draw(0, 0), swapped.draw(0, 0)
    assert np.array_equal(mask, same)
    turned = [np.array_equal(a, b[::-1]) for a, b in zip(one, other, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]
    assert any(turned) and any(kept) and all(np.logical_xor(turned, kept))


@pytest.mark.parametrize("name", ["none", "flips", "mild", "strong"])
def test_windows_are_altered_as_much_as_was_asked(data, tmp_path, name):
    from s2cd.learning.augment import AUGMENTATIONS

    sample = prepare(find_places(data)[0], None, tmp_path / "cache")
    plain = Chips((sample,), size=64, batch=16, augmentation=AUGMENTATIONS["none"]).draw(0, 0)[0]
    seen = Chips((sample,), size=64, batch=16, augmentation=AUGMENTATIONS[name]).draw(0, 0)[0]
    sums = [np.allclose(a.sum(), b.sum(), rtol=1e-4) for a, b in zip(plain, seen, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(plain, seen, strict=True)]
    assert all(same) == (name == "none") and all(sums) == (name in ("none", "flips"))


def test_an_unknown_augmentation_is_refused(run, data):
    assert "no augmentation 'wild'" in refused(run("train", data, *TINY, "--augment", "wild"))


@pytest.mark.parametrize(
    "recipe",
    [
        {"arch": "unet", "steps": 60},
        {"arch": "siamese", "encoder": "efficientnet-lite0", "fusion": "diff+sum", "depth": 4,
         "detail": True, "steps": 150, "rate": 3e-3},
    ],
)  # fmt: skip
def test_two_real_windows_are_learned_by_heart(learned_by_heart, recipe):
    assert learned_by_heart(**recipe) > 0.95


def test_classes_of_change_are_learned_and_any_change_is_scored(data, tmp_path):
    from s2cd.detection.detect import Request as Detection
    from s2cd.detection.detect import detect, detect_files
    from s2cd.learning import train as module
    from s2cd.learning.evaluate import Options, evaluate_data, evaluate_map
    from s2cd.networks.checkpoint import read_spec
    from s2cd.results.polygons import Sources, find_polygons
    from s2cd.scenes.mask import CODES_TAG
    from s2cd.scenes.stack import open_stack, write_stack

    def detect_lazily(place, checkpoint):
        dates = (open_stack(path) for path in (place.before, place.after))
        return detect(*dates, str(checkpoint)).values

    for place in find_places(data):
        with rasterio.open(place.label) as file:
            mask = file.read(1) // 255
        mask[:, 88:] *= 2
        after = open_stack(place.after).load()
        after.values[:, mask == 2] = 0.02  # the other class becomes dark
        write_stack(after, place.after, overwrite=True)
        profile = {"width": 176, "height": 160, "count": 1, "dtype": "uint8"}
        path = place.label.with_name("label.tif")
        with rasterio.open(path, "w", driver="GTiff", **profile) as file:
            file.write(mask, 1)
            file.update_tags(**{CODES_TAG: "0 = no change, 1..2 = class"})
    classes = tmp_path / "classes.csv"
    classes.write_text(data.read_text().replace("label.png", "label.tif"))
    recipe = module.Recipe(arch="fc-ef", batch=4, steps=20, size=64, window=128, halo=32, epochs=2,
                           rate=0.01)  # fmt: skip
    summary = module.train(classes, tmp_path / "run", recipe)
    checkpoint = tmp_path / "run" / "best.safetensors"
    assert read_spec(checkpoint).classes == 2
    scores = evaluate_data(classes, str(checkpoint), Options("val", cache=tmp_path / "cache"))
    assert scores["f1"] == pytest.approx(summary["f1"]) and scores["f1"] > 0.5
    place = next(place for place in find_places(classes) if place.split == "val")
    out, score = tmp_path / "c.tif", tmp_path / "p.tif"
    detect_files(Detection(place.before, place.after, out, score, str(checkpoint)))
    with rasterio.open(out) as file, rasterio.open(score) as other, rasterio.open(place.label) as m:
        found, stored, truth, colours = file.read(1), other.read(1), m.read(1), file.colormap(1)
    threshold = read_spec(checkpoint).threshold
    assert ((found > 0) & (found < 255) == (stored >= threshold * 200) & (stored < 255)).all()
    both = (found > 0) & (truth > 0) & (found < 255)
    assert (found == truth)[both].mean() > 0.9 and set(np.unique(found)) <= {0, 1, 2, 255}
    assert len({colours[c] for c in (0, 1, 2)}) == 3
    told = evaluate_map(out, place.label)
    assert told["f1"] == pytest.approx(scores["f1"], abs=0.02)
    assert min(told["classes"][c]["f1"] for c in "12") > 0.4
    table = find_polygons(Sources(out, score)).table
    assert set(table["class"]) == {1, 2}
    np.testing.assert_array_equal(detect_lazily(place, checkpoint), found)


def test_an_encoder_is_kept_as_it_is_only_where_it_knows_something():
    from s2cd.learning.recipe import Recipe

    assert not Recipe("unet-resnet50-fusion").frozen
    assert Recipe("unet-resnet50-fusion", weights="imagenet").frozen
    assert not Recipe("unet-resnet50-fusion", weights="imagenet", freeze_encoder=False).frozen
    assert not Recipe("siamese", weights="imagenet").frozen


def test_a_run_of_a_version_that_knew_fewer_options_goes_on(data, tmp_path):
    from s2cd.learning import train as module

    recipe = module.Recipe(arch="fc-ef", batch=2, steps=1, size=64, window=128, halo=32, epochs=1)
    ground = module.Ground("d", tuple(find_places(data)), tmp_path / "cache")
    module.claim_run(tmp_path / "run", recipe, ground, resume=False)
    config = tmp_path / "run" / "config.toml"
    text = config.read_text()
    assert "mlflow = false" in text
    config.write_text(text.replace("mlflow = false\n", ""))
    module.claim_run(tmp_path / "run", recipe, ground, resume=True)
    config.write_text(text.replace("batch = 2", "batch = 4"))
    with pytest.raises(S2cdError, match="another recipe"):
        module.claim_run(tmp_path / "run", recipe, ground, resume=True)


def test_a_run_that_could_not_begin_leaves_its_folder_free(data, tmp_path):
    from s2cd.learning import train as module

    usual = {"batch": 2, "steps": 1, "size": 64, "window": 128, "halo": 32, "epochs": 1}
    folder = tmp_path / "runs" / "a"
    for wrong, said in (({"encoder": "resnet19"}, "no encoder"),
                        ({"weights": "nowhere.pth"}, "no weights"),
                        ({"class_weights": (1.0, 2.0)}, "1 classes")):  # fmt: skip
        recipe = module.Recipe(**usual, arch="siamese", **wrong)
        with pytest.raises(S2cdError, match=said):
            module.train(data, folder, recipe)
        assert not folder.exists()
    module.train(data, folder, module.Recipe(**usual, arch="fc-ef"))
    with pytest.raises(S2cdError, match="another recipe"):
        module.train(data, folder, module.Recipe(**usual), resume=True)
    assert (folder / "config.toml").exists() and (folder / "best.safetensors").exists()


def test_the_config_of_a_run_repeats_it_to_the_bit(run, data, tmp_path):
    from s2cd.learning import train as module

    recipe = module.Recipe(arch="fc-ef", batch=4, steps=4, size=64, window=128, halo=32, epochs=1,
                           seed=3, class_weights=(4.0,), optimizer="adam")  # fmt: skip
    module.train(data, tmp_path / "runs" / "a", recipe)
    again = run("train", data, "-o", "runs/b", "--config", "runs/a/config.toml")
    assert again.returncode == 0, again.stderr
    one, other = (tmp_path / "runs" / n for n in "ab")
    assert (one / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()
    assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
    told = tomllib.loads((one / "config.toml").read_text())
    assert told["class_weights"] == [4.0] and told["run"]["data"] == "pairs.csv"
    assert {"python", "torch", "s2cd", "data_sha256"} < set(told["run"])


def test_losses_of_training_and_of_places_held_apart_are_told(data, tmp_path):
    from s2cd.learning import train as module
    from s2cd.learning.state import write_metrics

    usual = {"batch": 4, "steps": 4, "size": 64, "window": 128, "halo": 32, "arch": "fc-ef"}
    recipe = module.Recipe(**usual, epochs=3, rate=0.01, augment="none")
    module.train(data, tmp_path / "run", recipe)
    told = [float(row["val_loss"]) for row in rows(tmp_path / "run")]
    assert told[-1] < told[0]
    # a history of a version that did not tell it goes on
    write_metrics([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4, "val_loss": 0.6}],
                  tmp_path / "metrics.csv")  # fmt: skip
    assert [row["val_loss"] for row in rows(tmp_path)] == ["", "0.6"]


def test_adam_is_torchs_adam_and_adamw_lets_weights_decay():
    from s2cd.learning.optimizers import decay_of, make_optimizer

    def moved(make):
        weight = torch.nn.Parameter(torch.ones(4))
        optimizer = make([weight])
        for step in range(5):
            weight.grad = torch.tensor([0.0, 1.0, -1.0, 2.0]) * (step + 1)
            optimizer.step()
        return weight.detach()

    adam = moved(lambda weights: make_optimizer("adam", weights, 0.1))
    assert torch.allclose(adam, moved(lambda weights: torch.optim.Adam(weights, 0.1)))
    assert adam[0] == 1 > moved(lambda weights: make_optimizer("adamw", weights, 0.1))[0]
    with pytest.raises(S2cdError, match="no optimizer 'sgd'"):
        decay_of("sgd")


def test_each_class_weighs_as_it_was_asked():
    from s2cd.learning.losses import make_loss

    logits = torch.zeros(1, 3, 1, 3)
    logits[0, :, 0] = torch.tensor([[2.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    mask = torch.tensor([[[0, 1, 2]]])
    entropies = torch.nn.functional.cross_entropy(logits, mask, reduction="none")[0, 0]
    for weights, loss in (
        ([1, 2, 8], make_loss("bce", class_weights=(2.0, 8.0))),
        ([1, 5, 5], make_loss("bce", 5.0)),
    ):
        asked = torch.tensor(weights, dtype=torch.float)
        assert torch.isclose(loss(logits, mask), (asked * entropies).sum() / asked.sum())


@pytest.mark.parametrize(
    "wrong", [{"size": 100}, {"arch": "siamese", "size": 144}, {"window": 500}, {"halo": 20}]
)
def test_sizes_that_do_not_halve_are_refused(wrong):
    from s2cd.learning.recipe import Recipe

    with pytest.raises(S2cdError, match=r"Give (a multiple|another --window)"):
        Recipe(**wrong).spec(BANDS)


def without_change(data, side, value):
    """The CSV with a mask of one value in the place of a split."""
    label = next(place.label for place in find_places(data) if place.split == side)
    path = label.with_suffix(".tif")
    profile = {"width": 176, "height": 160, "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(np.full((1, 160, 176), value, np.uint8))
    folder = label.parent.name
    data.write_text(data.read_text().replace(f"{folder}/label.png", f"{folder}/label.tif"))


@pytest.mark.parametrize(
    ("side", "value", "said"),
    [("train", 0, "No change is labelled"), ("train", 255, "No change is labelled"),
     ("val", 255, "Nothing is labelled in the places to validate on")],
)  # fmt: skip
def test_places_that_teach_nothing_are_refused(data, tmp_path, side, value, said):
    from s2cd.learning import train as module

    without_change(data, side, value)
    recipe = module.Recipe(arch="fc-ef", batch=2, steps=1, size=64, window=128, halo=32, epochs=1)
    with pytest.raises(S2cdError, match=said):
        module.train(data, tmp_path / "run", recipe)


def test_without_change_to_validate_on_the_loss_says_which_epoch_is_kept(data, tmp_path, caplog):
    from s2cd.learning import train as module

    without_change(data, "val", 0)
    recipe = module.Recipe(arch="fc-ef", batch=2, steps=3, size=64, window=128, halo=32, epochs=3)
    summary = module.train(data, tmp_path / "run", recipe)
    assert "no change is labelled" in caplog.text and summary["threshold"] == 0.5
    losses = [float(row["val_loss"]) for row in rows(tmp_path / "run")]
    assert summary["epoch"] == 1 + losses.index(min(losses)) and losses.index(min(losses)) > 0


@pytest.mark.parametrize(
    "wrong", [{"rate": 0.0}, {"rate": float("nan")}, {"change_weight": -1.0}, {"ema": 1.0},
              {"class_weights": (0.0,)}, {"batch": 0}, {"threshold": 2.0}]
)  # fmt: skip
def test_numbers_that_nothing_is_learned_with_are_refused(wrong):
    from s2cd.learning.recipe import Recipe

    with pytest.raises(S2cdError, match=next(iter(wrong)).replace("_", "-")):
        Recipe(**wrong)


def test_mlflow_is_told_of_a_run_and_of_what_follows_when_it_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from s2cd.learning.tracking import track, track_settings, trackers

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    picture, folder = np.zeros((8, 8, 3), np.uint8), tmp_path / "run"
    folder.mkdir()
    loggers = trackers(folder, True)
    track_settings(loggers, {"arch": "unet"})
    track(loggers, {"epoch": 1, "f1": 0.25}, picture)
    track(trackers(folder, True), {"epoch": 2, "f1": 0.5}, picture)
    board = loggers[1]
    (only,) = board.experiment.search_runs([board.experiment_id])
    assert only.data.metrics == {"f1": 0.5} and only.data.params == {"arch": "unet"}
    assert (tmp_path / "mlflow.db").exists() and not (tmp_path / "mlruns").exists()
    assert len(list((tmp_path / "mlflow").rglob("00*.png"))) == 2


def test_mlflow_that_is_not_installed_is_named(tmp_path, monkeypatch):
    import importlib.util

    from s2cd.learning.tracking import trackers

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(S2cdError, match=r"s2cd\[mlflow\]"):
        trackers(tmp_path, True)


def test_the_demo_of_training_makes_places_and_trains_on_them(tmp_path, monkeypatch):
    from s2cd.cli import demo

    said = []
    monkeypatch.setattr(demo, "_run", lambda result, *words: said.append(words))
    demo._learn(tmp_path, 0)
    places = find_places(tmp_path / "pairs.csv")
    assert sorted(p.split for p in places) == ["train", "train", "val"]
    assert [words[0] for words in said] == ["train", "evaluate"]
    with rasterio.open(places[0].label) as file:
        assert 0.005 < file.read(1).mean() < 0.3


def test_windows_of_data_are_drawn(data, tmp_path):
    from s2cd.learning.evaluate import Options
    from s2cd.learning.pictures import draw_samples

    options = Options("all", cache=tmp_path / "cache")
    assert draw_samples(data, "cva", 4, tmp_path / "r.png", False, options) == 4
    with rasterio.open(tmp_path / "r.png") as file:
        assert file.shape == (840, 800)
    with pytest.raises(S2cdError, match="exists"):
        draw_samples(data, "cva", 4, tmp_path / "r.png", False, options)
