"""The state of a run, and what follows from it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from s2cd.learning.losses import Loss, make_loss
from s2cd.learning.recipe import Recipe
from s2cd.networks.build import build
from s2cd.networks.spec import Spec

Report = Callable[[int, int], None]
"""Told of the steps done, of how many."""
Row = dict[str, float]
"""What is told of an epoch."""


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
        """The epoch whose weights are kept: of the highest F1, then the least loss; else the last.

        Where no change is labelled in the places of validation, F1 tells no epoch from another.
        """
        if not self.judged:
            return self.history[-1]
        return max(self.history, key=lambda row: (row["f1"], -row.get("val_loss", 0.0)))

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or none was better for as long as was agreed."""
        done = len(self.history)
        if done == 0 or done >= self.recipe.epochs or not self.judged:
            return done >= self.recipe.epochs
        return done - self.best["epoch"] >= self.recipe.patience


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


def loss_of(recipe: Recipe) -> Loss:
    """What a recipe makes small."""
    return make_loss(recipe.loss, recipe.change_weight, recipe.class_weights)


def average(run: Training) -> None:
    """Take the weights of this step into the averaged ones."""
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
