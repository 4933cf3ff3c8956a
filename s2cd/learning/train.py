"""Training on labelled places, into a folder from which it goes on."""

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from s2cd.errors import S2cdError
from s2cd.learning.augment import find_augmentation
from s2cd.learning.chips import Chips
from s2cd.learning.claim import claim_run, release_run
from s2cd.learning.metrics import SCORES
from s2cd.learning.optimizers import decay_of, make_optimizer
from s2cd.learning.pictures import draw, windows
from s2cd.learning.places import Place, find_places, with_splits
from s2cd.learning.prepared import Sample, prepare
from s2cd.learning.recipe import Recipe
from s2cd.learning.run import Report, Row, Training, kept_network, kept_spec, loss_of
from s2cd.learning.runfolder import write_card, write_curves
from s2cd.learning.scenes import Live, best_threshold, confusion_at, counts_of, scene_map
from s2cd.learning.state import restore_state, save_state, write_metrics
from s2cd.networks.build import build, freeze_encoder
from s2cd.networks.checkpoint import save_checkpoint
from s2cd.networks.familiar import ranges_of
from s2cd.networks.pretrained import load_encoder
from s2cd.networks.runtime import check_precision, choose_device
from s2cd.scenes.mask import UNLABELLED

logger = logging.getLogger(__name__)

_PICTURED = 3
"""Windows that are drawn after each epoch."""
_FIXED = 0
"""Seed of the windows that the loss is told of, of places held apart."""
_MOST_HELD = 8
"""Batches of them."""


@dataclass(frozen=True)
class Ground:
    """What is learned from: places with a split each, and where they are made ready.

    Places of another split than ``train`` and ``val`` are left alone.
    """

    name: str
    places: tuple[Place, ...]
    cache: Path

    def fingerprint(self) -> str:
        """Of the places, their splits, and the names and sizes of their files."""
        facts = []
        for place in self.places:
            paths = [place.before, place.after, place.label]
            files = [f for p in paths for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
            sizes = [[file.name, file.stat().st_size] for file in files]
            facts.append([place.name, place.split, place.area, sizes])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def train(
    data: Path, folder: Path, recipe: Recipe, resume: bool = False, report: Report | None = None
) -> dict[str, Any]:
    """Train a network on DATA; the run folder then holds all that came of it.

    Returns:
        The row of the epoch that was kept, and where its checkpoint is.

    Raises:
        S2cdError: where DATA, the recipe or the folder cannot be used.
    """
    places = split_for(recipe, find_places(data))
    ground = Ground(data.name, tuple(places), folder.parent / ".prepared")
    return train_on(ground, folder, recipe, resume, report)


def split_for(recipe: Recipe, places: list[Place]) -> list[Place]:
    """The places with a split each; without validation all but those of a test are trained on."""
    if recipe.validation:
        return with_splits(places, recipe.validation, recipe.seed, recipe.size)
    return [p if p.split == "test" else replace(p, split="train") for p in places]


def train_on(
    ground: Ground, folder: Path, recipe: Recipe, resume: bool = False, report: Report | None = None
) -> dict[str, Any]:
    """Train a network on places that were chosen already; see `train`."""
    find_augmentation(recipe.augment)  # refused before anything is made
    decay_of(recipe.optimizer)
    loss_of(recipe)
    claim_run(folder, recipe, ground, resume)
    try:
        return _trained(ground, folder, recipe, report or (lambda done, of: None))
    except S2cdError:
        release_run(folder)
        raise


def _trained(ground: Ground, folder: Path, recipe: Recipe, report: Report) -> dict[str, Any]:
    """The row of the epoch that was kept, of a run whose folder is taken."""
    sides = _sides(ground, recipe)
    samples = (*sides["train"], *sides["val"])
    classes = max(_classes(sample.label) for sample in samples)
    run = _start(recipe, sides["train"], ground, classes)
    if (folder / "last.ckpt").exists():
        restore_state(run, folder / "last.ckpt")
    from s2cd.learning.loop import fit  # Lightning takes seconds to import
    from s2cd.learning.tracking import track_settings, trackers

    loggers = trackers(folder, recipe.mlflow)
    shown = (sides["val"] or sides["train"])[0]
    keep = Keeper(run, sides["val"], shown, folder, loggers)
    if not run.history:
        track_settings(loggers, asdict(recipe))
    fit(run, _chips(run, sides["train"]), keep, report, loggers)
    write_metrics(run.history, folder / "metrics.csv")  # also of an epoch after which it was killed
    write_curves(run.history, folder / "curves.png")
    write_card(run, [s.place for s in samples], ground.fingerprint(), folder / "card.md")
    return {"checkpoint": str(folder / "best.safetensors"), **run.best}


def _sides(ground: Ground, recipe: Recipe) -> dict[str, tuple[Sample, ...]]:
    """The places to train and to validate on, made ready."""
    chosen = [place for place in ground.places if place.split in ("train", "val")]
    samples = [prepare(place, recipe.bands or None, ground.cache) for place in chosen]
    if len(held := {sample.pair.bands for sample in samples}) > 1:
        raise S2cdError(f"The places hold different bands ({sorted(held)[:2]}). Give --bands")
    sides = {s: tuple(x for x in samples if x.place.split == s) for s in ("train", "val")}
    if not sides["train"]:
        raise S2cdError(f"{ground.name} has no places to train on. Mark some with split train")
    _check_labels(sides)
    return sides


def _check_labels(sides: dict[str, tuple[Sample, ...]]) -> None:
    """Refuse what nothing could be learned from; say where no epoch is told by its F1."""
    names = {side: ", ".join(s.place.name for s in some[:3]) for side, some in sides.items()}
    if not any(_labelled_change(sample.label) for sample in sides["train"]):
        raise S2cdError(
            f"No change is labelled in the places to train on ({names['train']}, …). Label some"
        )
    if not sides["val"]:
        return
    if all((sample.label == UNLABELLED).all() for sample in sides["val"]):
        raise S2cdError(
            f"Nothing is labelled in the places to validate on ({names['val']}, …). Mark others "
            "with split val, or give --validation 0"
        )
    if not any(_labelled_change(sample.label) for sample in sides["val"]):
        logger.warning(
            "no change is labelled in the places to validate on (%s, …): their loss alone says "
            "which epoch is the best, and the threshold is 0.5",
            names["val"],
        )


def _labelled_change(label: NDArray[np.uint8]) -> bool:
    return bool(((label > 0) & (label != UNLABELLED)).any())


def _chips(run: Training, samples: tuple[Sample, ...]) -> Chips:
    """What draws the windows of a run."""
    recipe, how = run.recipe, find_augmentation(run.recipe.augment)
    if run.spec.classes > 1:  # a class says what became of what: not so the other way
        how = replace(how, swapped=False)
    return Chips(samples, recipe.size, recipe.batch, recipe.seed, True, how)


def _classes(label: NDArray[np.uint8]) -> int:
    """Classes of change of a mask; 1 where none is labelled."""
    return max(1, int(np.max(label, where=label != UNLABELLED, initial=0)))


def _start(recipe: Recipe, samples: tuple[Sample, ...], ground: Ground, classes: int) -> Training:
    if recipe.class_weights and len(recipe.class_weights) != classes:
        raise S2cdError(
            f"{len(recipe.class_weights)} class weights are given, and the masks hold {classes} "
            "classes of change. Give one for each"
        )
    device = choose_device(recipe.device)
    check_precision(recipe.precision, device)
    names = ", ".join(s.place.name for s in samples[:40])
    spec = replace(
        recipe.spec(samples[0].pair.bands, classes),
        trained_on=f"{ground.name}: {names}",
        ranges=ranges_of(sample.statistics for sample in samples),
    )
    torch.manual_seed(recipe.seed)
    network: Any = build(spec)
    load_encoder(network, spec, recipe.weights)
    if recipe.frozen:
        freeze_encoder(network)
    network = network.to(device, memory_format=torch.channels_last)
    weights = [w for w in network.parameters() if w.requires_grad]
    optimizer = make_optimizer(recipe.optimizer, weights, recipe.rate)
    pixels = sum(sample.label.size for sample in samples)
    steps = recipe.steps or max(1, round(pixels / recipe.size**2 / recipe.batch))
    return Training(recipe, spec, network, optimizer, steps)


def held_loss(run: Training, network: nn.Module, held: tuple[Sample, ...]) -> float:
    """The loss on windows of the places held apart, as they are: the same ones in each epoch."""
    recipe, device = run.recipe, next(network.parameters()).device
    chips = Chips(held, recipe.size, recipe.batch, _FIXED, True, find_augmentation("none"))
    pixels = sum(sample.label.size for sample in held)
    steps = min(_MOST_HELD, max(1, round(pixels / recipe.size**2 / recipe.batch)))
    loss, total = loss_of(recipe), 0.0
    with torch.inference_mode():
        for dates, masks in chips.epoch(0, steps):
            logits = network(torch.from_numpy(dates).to(device))
            total += float(loss(logits, torch.from_numpy(masks).to(device)))
    return total / steps


@dataclass(frozen=True)
class Keeper:
    """Judges each epoch, and leaves all that tells of it and all that is needed to go on."""

    run: Training
    held: tuple[Sample, ...]
    shown: Sample
    folder: Path
    loggers: list[Any]

    def __call__(self, row: Row) -> None:
        """Complete the row of an epoch that was just learned, and write it."""
        from s2cd.learning.tracking import track

        run, began = self.run, time.monotonic()
        network = kept_network(run)
        if self.held:
            row |= {"val_loss": held_loss(run, network, self.held), **self._judged(network)}
        row["seconds"] = round(row["seconds"] + time.monotonic() - began, 2)
        run.history.append(row)
        if run.best is row and (self.held or run.is_over):
            spec = kept_spec(run, row)
            save_checkpoint(self.folder / "best.safetensors", spec, network, overwrite=True)
        save_state(run, self.folder / "last.ckpt")
        write_metrics(run.history, self.folder / "metrics.csv")
        (self.folder / "predictions").mkdir(exist_ok=True)
        path = self.folder / f"predictions/{row['epoch']:03.0f}.png"
        frozen = Live(network, self.shown.statistics, run.spec.scaling)
        shown = windows(self.shown, frozen, run.recipe.size, _PICTURED)
        track(self.loggers, row, draw(shown, path))
        said = [
            f"{name} {row[name]:.4f}"
            for name in ("loss", "val_loss", "f1", "threshold")
            if name in row
        ]
        logger.info("epoch %d: %s", row["epoch"], ", ".join(said))

    def _judged(self, network: nn.Module) -> Row:
        """Scores over all pixels of the places held apart, at the best threshold or that given."""
        counts: Any = 0
        for sample in self.held:
            stored = scene_map(self.run.spec, network, sample)
            counts = counts + counts_of(stored, np.asarray(sample.label))
        threshold = self.run.recipe.threshold or best_threshold(counts)
        scores = confusion_at(counts, threshold).scores()
        return {"threshold": threshold, **{name: scores[name] or 0.0 for name in SCORES}}
