"""Training on labelled places, into a folder from which it goes on."""

import hashlib
import json
import logging
import time
import tomllib
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
from s2cd.learning.pictures import draw, windows
from s2cd.learning.places import Place, find_places, with_splits
from s2cd.learning.prepared import Sample, prepare
from s2cd.learning.recipe import Recipe
from s2cd.learning.run import Report, Row, Training, kept_network, kept_spec
from s2cd.learning.runfolder import to_toml, write_card, write_curves
from s2cd.learning.scenes import Live, best_threshold, confusion_at, counts_of, scene_map
from s2cd.learning.state import restore_state, save_state, write_metrics
from s2cd.networks.build import build, freeze_encoder
from s2cd.networks.checkpoint import save_checkpoint
from s2cd.networks.pretrained import load_encoder
from s2cd.networks.runtime import check_precision, choose_device
from s2cd.output import completed, write_errors
from s2cd.scenes.mask import UNLABELLED

logger = logging.getLogger(__name__)

_PICTURED = 3
"""Windows that are drawn after each epoch."""
_SCORES = ("f1", "iou", "dice", "precision", "recall", "kappa")


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
    claim_run(folder, recipe, ground, resume)
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
    fit(run, _chips(run, sides["train"]), keep, report or (lambda done, of: None), loggers)
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
    return sides


def _chips(run: Training, samples: tuple[Sample, ...]) -> Chips:
    """What draws the windows of a run."""
    recipe, how = run.recipe, find_augmentation(run.recipe.augment)
    if run.spec.classes > 1:  # a class says what became of what: not so the other way
        how = replace(how, swapped=False)
    return Chips(samples, recipe.size, recipe.batch, recipe.seed, True, how)


def claim_run(folder: Path, recipe: Recipe, ground: Ground, resume: bool) -> None:
    """Take the run folder, or go on in it; another run's folder is refused."""
    facts = {"data": ground.name, "data_sha256": ground.fingerprint(), **asdict(recipe)}
    config = folder / "config.toml"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not config.exists():
        with completed(config) as temporary:
            temporary.write_text(to_toml(facts))
        return
    if not resume:
        raise S2cdError(f"{folder} holds a run already. Give --resume to go on, or another -o")
    if _settings(config.read_text()) != _settings(to_toml(facts)):
        raise S2cdError(
            f"{folder} holds a run of another recipe or DATA (config.toml). Name another"
        )


def _settings(text: str) -> dict[str, Any]:
    """All settings of a run; what its version did not know yet was as is usual now."""
    try:
        return {**tomllib.loads(to_toml(asdict(Recipe()))), **tomllib.loads(text)}
    except tomllib.TOMLDecodeError:
        return {}


def _classes(label: NDArray[np.uint8]) -> int:
    """Classes of change of a mask; 1 where none is labelled."""
    return max(1, int(np.max(label, where=label != UNLABELLED, initial=0)))


def _start(recipe: Recipe, samples: tuple[Sample, ...], ground: Ground, classes: int) -> Training:
    device = choose_device(recipe.device)
    check_precision(recipe.precision, device)
    names = ", ".join(s.place.name for s in samples[:40])
    spec = replace(
        recipe.spec(samples[0].pair.bands, classes), trained_on=f"{ground.name}: {names}"
    )
    torch.manual_seed(recipe.seed)
    network: Any = build(spec)
    load_encoder(network, spec, recipe.weights)
    if recipe.frozen:
        freeze_encoder(network)
    network = network.to(device, memory_format=torch.channels_last)
    weights = [w for w in network.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=1e-4, fused=True)
    pixels = sum(sample.label.size for sample in samples)
    steps = recipe.steps or max(1, round(pixels / recipe.size**2 / recipe.batch))
    return Training(recipe, spec, network, optimizer, steps)


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
        row |= self._judged(network) if self.held else {}
        row["seconds"] = round(row["seconds"] + time.monotonic() - began, 2)
        run.history.append(row)
        if run.best is row and (self.held or run.is_over):
            spec = kept_spec(run, row)
            save_checkpoint(self.folder / "best.safetensors", spec, network, overwrite=True)
        save_state(run, self.folder / "last.ckpt")
        write_metrics(run.history, self.folder / "metrics.csv")
        (self.folder / "predictions").mkdir(exist_ok=True)
        path = self.folder / f"predictions/{row['epoch']:03.0f}.png"
        frozen = Live(network, self.shown.statistics)
        shown = windows(self.shown, frozen, run.recipe.size, _PICTURED)
        track(self.loggers, row, draw(shown, path))
        said = [f"{name} {row[name]:.4f}" for name in ("loss", "f1", "threshold") if name in row]
        logger.info("epoch %d: %s", row["epoch"], ", ".join(said))

    def _judged(self, network: nn.Module) -> Row:
        """Scores over all pixels of the places held apart, at the best threshold or that given."""
        counts: Any = 0
        for sample in self.held:
            stored = scene_map(self.run.spec, network, sample)
            counts = counts + counts_of(stored, np.asarray(sample.label))
        threshold = self.run.recipe.threshold or best_threshold(counts)
        scores = confusion_at(counts, threshold).scores()
        return {"threshold": threshold, **{name: scores[name] or 0.0 for name in _SCORES}}
