"""Every place judged by a network that never saw it: leave-places-out in folds, resumable."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from s2cd.detection.blocks import classify
from s2cd.errors import S2cdError
from s2cd.learning.claim import claim_run
from s2cd.learning.curves import write_score_curves
from s2cd.learning.evaluate import summary
from s2cd.learning.metrics import Nearness, nearness
from s2cd.learning.places import NEARBY, Place, find_places
from s2cd.learning.prepared import Sample, prepare
from s2cd.learning.recipe import Recipe
from s2cd.learning.run import Report
from s2cd.learning.scenes import Counts, best_threshold, confusion_at, counts_of, scene_map
from s2cd.learning.train import Ground, split_for, train_on
from s2cd.networks.checkpoint import load_network, read_spec
from s2cd.output import completed, write_errors

logger = logging.getLogger(__name__)

Parts = tuple[tuple[str, ...], ...]
Near = Callable[[str, float], Nearness]
"""Of a place, by its name, at a threshold."""
_SEED = 0
"""Of the folds: the same for every recipe, so that rows can be compared."""


@dataclass(frozen=True)
class Folds:
    """DATA in folds.

    Attributes:
        name: What DATA is called.
        places: All labelled places.
        parts: Their names by fold.
        cache: Where places are made ready.
    """

    name: str
    places: tuple[Place, ...]
    parts: Parts
    cache: Path


def folds_of(data: Path, cache: Path, count: int = 4) -> Folds:
    """The labelled places of DATA in ``count`` folds, neighbours together, always the same.

    Raises:
        S2cdError: where there are fewer groups of places than folds.
    """
    places = find_places(data)
    groups: dict[str, list[str]] = {}
    for place in places:
        near = next((min(cities) for cities in NEARBY if place.scene in cities), place.scene)
        groups.setdefault(near, []).append(place.name)
    if len(groups) < count:
        raise S2cdError(f"{data} has {len(groups)} places apart, too few for {count} folds")
    order = sorted(groups)
    np.random.default_rng(_SEED).shuffle(order)
    parts: list[list[str]] = [[] for _ in range(count)]
    for index, group in enumerate(order):
        parts[index % count] += groups[group]
    return Folds(data.name, tuple(places), tuple(tuple(sorted(part)) for part in parts), cache)


def cross_validate(
    folds: Folds, folder: Path, recipe: Recipe, report: Report | None = None
) -> dict[str, Any]:
    """Train a network for each fold, and score the places that it never saw.

    A fold that is done is not done again; one that was stopped goes on. The folder then holds
    a run for each fold, its maps of the places left out, and `scores.json`.

    Raises:
        S2cdError: where the recipe or the folder cannot be used, or is of another recipe.
    """
    counts: dict[str, Counts] = {}
    for number in range(len(folds.parts)):
        logger.info("fold %d of %d: %s", number + 1, len(folds.parts), folds.parts[number])
        counts |= _fold(folds, number, folder / f"fold{number}", recipe, report)
    whole: Counts = sum(counts.values(), np.zeros_like(next(iter(counts.values()))))
    write_score_curves(whole, folder / "curves.png")
    scores = scores_of(counts, folds.parts, _nearness(folds, folder, recipe))
    with completed(folder / "scores.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(scores))
    return scores


def _nearness(folds: Folds, folder: Path, recipe: Recipe) -> Near:
    """How near the maps that were kept come to the labels, at any threshold."""
    samples = {p.name: prepare(p, recipe.bands or None, folds.cache) for p in folds.places}
    maps = {
        name: np.load(folder / f"fold{number}" / "maps" / f"{name}.npy", mmap_mode="r")
        for number, part in enumerate(folds.parts)
        for name in part
    }

    def near(name: str, threshold: float) -> Nearness:
        predicted = classify(np.asarray(maps[name]), threshold)
        return nearness(predicted, np.asarray(samples[name].label))

    return near


def _fold(
    folds: Folds, number: int, folder: Path, recipe: Recipe, report: Report | None
) -> dict[str, Counts]:
    """Histograms of the places of a fold, by a network trained on the others."""
    held = folds.parts[number]
    free = [replace(p, split="") for p in folds.places if p.name not in held]
    away = [replace(p, split="test") for p in folds.places if p.name in held]
    ground = Ground(folds.name, (*split_for(recipe, free), *away), folds.cache)
    done = folder / "counts.json"
    claim_run(folder, recipe, ground, resume=True)
    if not done.exists():
        train_on(ground, folder, recipe, resume=True, report=report)
        samples = [prepare(place, recipe.bands or None, folds.cache) for place in away]
        counts = {sample.place.name: _mapped(sample, folder) for sample in samples}
        with completed(done) as temporary:
            temporary.write_text(json.dumps({k: v.tolist() for k, v in counts.items()}))
    return {k: np.array(v, np.int64) for k, v in json.loads(done.read_text()).items()}


def _mapped(sample: Sample, folder: Path) -> Counts:
    """The histogram of a place; its map of stored probabilities is kept beside the run."""
    checkpoint = folder / "best.safetensors"
    stored = scene_map(read_spec(checkpoint), load_network(checkpoint), sample)
    path = folder / "maps" / f"{sample.place.name}.npy"
    with write_errors(path):
        path.parent.mkdir(exist_ok=True)
    with completed(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.save(file, stored)
    return counts_of(stored, np.asarray(sample.label))


def scores_of(counts: dict[str, Counts], parts: Parts, near: Near) -> dict[str, Any]:
    """Scores over all pixels of all places, each predicted by a network that never saw it.

    At the threshold 0.5; at one that is chosen, for each fold, by the highest F1 on the places
    of the other folds (``chosen``: nothing of the fold's own labels); and at the best of all,
    which is known only afterwards (``best``: no score, an upper bound).
    """
    nothing = np.zeros_like(next(iter(counts.values())))
    whole = sum(counts.values(), nothing)
    thresholds = []
    for part in parts:
        others = [one for name, one in counts.items() if name not in part]
        thresholds.append(best_threshold(sum(others, nothing)))
    each = {n: t for part, t in zip(parts, thresholds, strict=True) for n in part}
    best = best_threshold(whole)

    def at(thresholds: dict[str, float]) -> dict[str, Any]:
        scenes = {name: confusion_at(one, thresholds[name]) for name, one in counts.items()}
        return summary(scenes, whole, sum((near(n, thresholds[n]) for n in counts), Nearness()))

    return {
        **at(dict.fromkeys(counts, 0.5)),
        "threshold": 0.5,
        "chosen": {**at(each), "threshold": thresholds},
        "best": {**at(dict.fromkeys(counts, best)), "threshold": best},
        "scenes": {name: confusion_at(one, 0.5).scores() for name, one in counts.items()},
        "counts": {name: one.tolist() for name, one in counts.items()},
    }
