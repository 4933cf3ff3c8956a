"""Honest scores: whole scenes, all pixels, by the map that `detect` wrote."""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import classify, lattice_of
from s2cd.detection.changemap import classes_said, read_classes, read_map
from s2cd.errors import S2cdError
from s2cd.learning.curves import average_precision, calibration, write_score_curves
from s2cd.learning.metrics import SCORES, Confusion, Nearness, confusion, nearness
from s2cd.learning.places import Place, find_places, with_splits
from s2cd.learning.prepared import prepare
from s2cd.learning.recipe import Recipe, read_recipe
from s2cd.learning.scenes import Counts, confusion_at, counts_of, lit_for, stored_map
from s2cd.networks.detector import Detector
from s2cd.networks.registry import DEFAULT, Compute, find_detector
from s2cd.output import check_writable
from s2cd.scenes.mask import read_label

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How DATA is evaluated: on what, which places, and where they are made ready.

    ``split``: ``train``, ``val``, ``test``, ``all``; empty: test where there is one, else val.
    ``curves``: a PNG to be written, see `s2cd.learning.curves`.
    """

    split: str = ""
    compute: Compute = field(default_factory=Compute)
    cache: Path = Path("runs/.prepared")
    curves: Path | None = None


def evaluate_map(prediction: Path, label: Path) -> dict[str, Any]:
    """Scores of a change map against a mask: what `s2cd evaluate --json` prints.

    Pixels that the map did not observe, or nobody labelled, are left out; ``evaluated_fraction``
    says how many remain, and ``missed_change_fraction`` how much labelled change was left out.

    Raises:
        S2cdError: where either cannot be read, or they do not go together.
    """
    predicted, geobox, tags = read_map(prediction)
    truth = read_label(label, geobox)
    counts = confusion(predicted, truth)
    if counts.pixels == 0:
        raise S2cdError(f"No pixel is both observed in {prediction} and labelled in {label}")
    labelled = truth == 1
    left_out = int((labelled & (predicted == 255)).sum())
    scores: dict[str, Any] = {
        **counts.scores(),
        "f1_one_pixel": nearness(predicted, truth).f1,
    }
    scores["threshold"] = float(tags["THRESHOLD"]) if "THRESHOLD" in tags else None
    scores["model"] = tags.get("MODEL")
    if classes_said(tags) > 1:
        scores["classes"] = _by_class(prediction, label)
    scores["evaluated_fraction"] = counts.pixels / predicted.size
    scores["missed_change_fraction"] = left_out / max(1, int(labelled.sum()))
    return {**scores, "scenes": {prediction.stem: dict(scores)}}


def _by_class(prediction: Path, label: Path) -> dict[str, Any]:
    """Scores of each class of change against all else."""
    predicted, geobox, tags = read_classes(prediction)
    truth = read_label(label, geobox, classes=True)

    def only(values: NDArray[np.uint8], one: int) -> NDArray[np.uint8]:
        return np.where(values == 255, values, values == one).astype(np.uint8)

    classes = range(1, classes_said(tags) + 1)
    return {str(c): confusion(only(predicted, c), only(truth, c)).scores() for c in classes}


def evaluate_data(data: Path, model: str, options: "Options") -> dict[str, Any]:
    """Scores of a model on whole places of DATA, by the blocks of `detect`.

    The threshold is the model's own, which was chosen on the validation places of its training.
    Each score stands for all pixels together (micro); ``intervals`` are 95 % bootstrap intervals
    of them over places (B. Efron, 1979; 1000 draws, seeded), ``f1_one_pixel`` forgives one pixel
    of distance.

    Raises:
        S2cdError: where DATA, the model or a place cannot be used.
    """
    if options.curves is not None:
        check_writable(options.curves, overwrite=True)  # before the work of an hour
    chosen = places_of(data, options.split, model)
    detector = detector_for(model, chosen, options)
    counts, scenes, near = [], {}, Nearness()
    for place in chosen:
        _warn_of(detector, place)
        sample = prepare(place, detector.bands, options.cache)
        sample = lit_for(detector, sample)
        stored = stored_map(sample, detector.fit(sample.pair), lattice_of(detector))
        label = np.asarray(sample.label)
        counts.append(counts_of(stored, label))
        near += nearness(classify(stored, detector.threshold), label)
        scenes[place.name] = confusion_at(counts[-1], detector.threshold)
    whole = sum(counts, np.zeros_like(counts[0]))
    if not whole.any():
        raise S2cdError(f"No pixel is both observed and labelled in the places of {data}")
    if options.curves is not None:
        write_score_curves(whole, options.curves, detector.threshold)
    facts = {"threshold": detector.threshold, "model": detector.name}
    scores = summary(scenes, whole, near)
    return {**scores, **facts, "scenes": {name: one.scores() for name, one in scenes.items()}}


def places_of(data: Path, split: str, model: str) -> list[Place]:
    """The places of a split: of ``""`` those of test where there are any, else of validation.

    Where DATA does not say which they are, they are those of the run that made the model.

    Raises:
        S2cdError: where there are none.
    """
    if split == "all":
        return find_places(data)
    places = _split_as_trained(find_places(data), model)
    asked = ("test", "val") if not split else (split,)
    sides = [[place for place in places if place.split == one] for one in asked]
    if not any(sides):
        raise S2cdError(f"{data} has no places of split {split!r}. Give --split all")
    return next(side for side in sides if side)


def _split_as_trained(places: list[Place], model: str) -> list[Place]:
    """Places with a split each, as a checkpoint's run folder says that it was trained."""
    config = Path(model).with_name("config.toml")
    recipe = read_recipe(config) if Path(model).is_file() and config.is_file() else Recipe()
    share = recipe.validation or Recipe().validation
    return with_splits(places, share, recipe.seed, recipe.size)


def detector_for(model: str, places: list[Place], options: Options) -> Detector:
    """A detector by name; ``default`` goes by the bands of the first place.

    Raises:
        S2cdError: where there is none, or the place cannot be used.
    """
    bands = prepare(places[0], None, options.cache).pair.bands if model == DEFAULT else ()
    return find_detector(model, options.compute, bands)


def summary(scenes: dict[str, Confusion], whole: Counts, near: Nearness) -> dict[str, Any]:
    """Scores over all pixels of all places, at one threshold and over all."""
    each = intervals(list(scenes.values()))
    return {
        **sum(scenes.values(), Confusion()).scores(),
        "f1_interval": each["f1"],
        "intervals": each,
        "f1_one_pixel": near.f1,
        "average_precision": average_precision(whole),
        "calibration_error": calibration(whole).error,
    }


def intervals(counts: list[Confusion]) -> dict[str, list[float] | None]:
    """95 % of each score of 1000 draws of the places with replacement; None for one place.

    Draws in which a score has no denominator (no change in any of its places) do not count.
    """
    if len(counts) < 2:
        return dict.fromkeys(SCORES)
    random = np.random.default_rng(0)
    draws = random.integers(len(counts), size=(1000, len(counts)))
    scores = [sum((counts[i] for i in draw), Confusion()).scores() for draw in draws]
    return {name: _middle([s[name] for s in scores if s[name] is not None]) for name in SCORES}


def _middle(values: list[Any]) -> list[float] | None:
    """Where 95 % of the values lie."""
    if not values:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def _warn_of(detector: Detector, place: Place) -> None:
    """Say where a network is judged by what it was trained on."""
    spec = getattr(detector, "spec", None)
    text = "" if spec is None else spec.trained_on.partition(": ")[2]
    itself = re.compile(re.escape(place.name) + r"(_\d+_\d+)?")  # or an area of it
    if any(itself.fullmatch(name) for name in text.split(", ")):
        logger.warning(
            "%s was trained on %s: its score there says nothing", detector.name, place.name
        )
