"""The loop: an epoch is a function of its number and of the state, so a killed run goes on."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s2cd.detection.blocks import Lattice
from s2cd.errors import S2cdError
from s2cd.learning.chips import Chips
from s2cd.learning.losses import make_loss
from s2cd.learning.prepared import Sample
from s2cd.learning.recipe import Recipe
from s2cd.learning.scenes import Live, best_threshold, confusion_at, counts_of, stored_map
from s2cd.networks.build import build
from s2cd.networks.spec import Spec

logger = logging.getLogger(__name__)

Report = Callable[[int, int], None]
Row = dict[str, float]
_SCORES = ("f1", "iou", "dice", "precision", "recall", "kappa")


@dataclass
class Training:
    """The state of a run, and what does not change in it."""

    recipe: Recipe
    spec: Spec
    network: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int
    averaged: dict[str, Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)

    @property
    def judged(self) -> bool:
        """Whether there are places of validation."""
        return "f1" in self.history[0]

    @property
    def best(self) -> Row:
        """The epoch whose weights are kept: the first of the highest F1; else the last."""
        if not self.judged:
            return self.history[-1]
        return max(self.history, key=lambda row: row["f1"])

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or none was better for as long as was agreed."""
        done = len(self.history)
        if done == 0 or done >= self.recipe.epochs or not self.judged:
            return done >= self.recipe.epochs
        return done - self.best["epoch"] >= self.recipe.patience


def learn(run: Training, chips: Chips, report: Report) -> Row:
    """Another epoch: its mean loss, and the share of its time that was spent waiting for data."""
    recipe, epoch = run.recipe, len(run.history)
    loss_of = make_loss(recipe.loss, recipe.change_weight)
    device = next(run.network.parameters()).device
    torch.manual_seed(recipe.seed * 100_003 + epoch + 1)  # of dropout: nothing to be kept
    run.network.train()
    total, waited, began = 0.0, 0.0, time.monotonic()
    asked = began
    for step, (dates, masks) in enumerate(chips.epoch(epoch, run.steps)):
        waited += time.monotonic() - asked
        for group in run.optimizer.param_groups:
            group["lr"] = rate_at(run, epoch * run.steps + step)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = run.network(torch.from_numpy(dates).to(device))
        loss = loss_of(logits, torch.from_numpy(masks).to(device))
        run.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip:
            nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip)
        run.optimizer.step()
        _average(run)
        total += float(loss.detach())
        report(epoch * run.steps + step + 1, recipe.epochs * run.steps)
        asked = time.monotonic()
    if not math.isfinite(total):
        raise S2cdError("The loss is no longer a number. Give a lower --rate, or check the data")
    waited = round(waited / max(1e-9, asked - began), 4)
    return {
        "epoch": epoch + 1,
        "loss": total / run.steps,
        "rate": rate_at(run, (epoch + 1) * run.steps - 1),
        "waited": waited,
    }


def judged(run: Training, network: nn.Module, held: tuple[Sample, ...]) -> Row:
    """Scores over all pixels of the places held apart, at the best threshold or the one given."""
    counts: Any = 0
    for sample in held:
        counts = counts + counts_of(scene_map(run.spec, network, sample), np.asarray(sample.label))
    threshold = run.recipe.threshold or best_threshold(counts)
    scores = confusion_at(counts, threshold).scores()
    return {"threshold": threshold, **{name: scores[name] or 0.0 for name in _SCORES}}


def scene_map(spec: Spec, network: nn.Module, sample: Sample) -> Any:
    """Stored probabilities of a whole place: (y, x)."""
    frozen = Live(network, sample.statistics)
    return stored_map(sample, frozen, Lattice(spec.window, spec.halo))


def rate_at(run: Training, step: int) -> float:
    """The learning rate of a step: a linear warm-up of 5 %, then half a cosine down to 1 %.

    I. Loshchilov, F. Hutter, "SGDR", ICLR 2017, without restarts.
    """
    whole = run.recipe.epochs * run.steps
    warm = max(1, whole // 20)
    if step < warm:
        return run.recipe.rate * (step + 1) / warm
    part = (step - warm) / max(1, whole - warm)
    return run.recipe.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))


def _average(run: Training) -> None:
    if not run.recipe.ema:
        return
    for name, value in run.network.state_dict().items():
        kept = run.averaged.get(name)
        if kept is None or not value.is_floating_point():
            run.averaged[name] = value.detach().clone()
        else:
            kept.lerp_(value, 1 - run.recipe.ema)


def kept_network(run: Training) -> nn.Module:
    """The network to be judged and kept, in evaluation mode."""
    if not run.averaged:
        return run.network.eval()
    network: Any = build(run.spec).to(next(run.network.parameters()).device)
    network.load_state_dict(run.averaged)
    return network.to(memory_format=torch.channels_last).eval()


def kept_spec(run: Training, row: Row) -> Spec:
    """The spec with the threshold of an epoch."""
    return replace(run.spec, threshold=row.get("threshold", run.spec.threshold))
