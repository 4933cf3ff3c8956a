"""Training: an epoch is a function of its number and of the state, so a killed run goes on."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s2cd.detection.blocks import Lattice
from s2cd.errors import S2cdError
from s2cd.learning.chips import Chips
from s2cd.learning.losses import make_loss
from s2cd.learning.places import find_places, with_splits
from s2cd.learning.prepared import Sample, prepare
from s2cd.learning.scenes import (
    Live,
    best_threshold,
    confusion_at,
    counts_of,
    stored_map,
)
from s2cd.networks.build import build, freeze_encoder
from s2cd.networks.checkpoint import save_checkpoint
from s2cd.networks.runtime import check_precision, choose_device
from s2cd.networks.spec import ENCODERS_OF, FUSIONS_OF, STRIDES, Spec
from s2cd.output import completed, one_line, write_errors

logger = logging.getLogger(__name__)

Report = Callable[[int, int], None]
_KEY = "s2cd-training"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; `config.toml` holds it.

    Attributes:
        arch: One of `s2cd.networks.spec.ARCHITECTURES`.
        encoder: Its encoder; the usual one where empty.
        fusion: How dates are fused; the usual way where empty.
        bands: Bands to use; those that all dates have by default.
        loss: See `make_loss`.
        change_weight: How much more a changed pixel weighs.
        epochs: Most epochs.
        steps: Batches in an epoch; 0: as many as cover the places once.
        batch: Windows in a batch.
        rate: Highest learning rate.
        size: Height and width of training windows, in pixels.
        window: The same at inference.
        halo: Pixels at each side of it that are not used.
        share: Share of the places kept for validation, where DATA does not say.
        patience: Epochs without a better F1 before it stops.
        ema: Weight of the past in the averaged weights, which are what is kept; 0: none.
        clip: Largest norm of the gradient.
        freeze: Whether the encoder is kept as it is.
        augment: Whether windows are altered.
        seed: Another seed, other weights and windows.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``fp32``, or ``bf16`` where it is native.
    """

    arch: str = "unet"
    encoder: str = ""
    fusion: str = ""
    bands: tuple[str, ...] = ()
    loss: str = "bce+iou"
    change_weight: float = 1.0
    epochs: int = 50
    steps: int = 0
    batch: int = 16
    rate: float = 1e-3
    size: int = 128
    window: int = 512
    halo: int = 64
    share: float = 0.2
    patience: int = 15
    ema: float = 0.0
    clip: float = 1.0
    freeze: bool = False
    augment: bool = True
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"

    def spec(self, bands: tuple[str, ...]) -> Spec:
        """What the network will be.

        Raises:
            S2cdError: where the parts do not go together.
        """
        if self.arch not in FUSIONS_OF:
            raise S2cdError(f"There is no {self.arch!r}. Name one of {', '.join(FUSIONS_OF)}")
        return Spec(
            self.arch,
            self.encoder or ENCODERS_OF.get(self.arch, ""),
            self.fusion or FUSIONS_OF[self.arch][0],
            bands,
            stride=STRIDES.get(self.arch, 16),
            window=self.window,
            halo=self.halo,
        )


@dataclass
class Training:
    """The state of a run, and what does not change in it."""

    recipe: Recipe
    spec: Spec
    network: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int
    averaged: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The highest validation F1 so far."""
        return max((row["f1"] for row in self.history), default=-1.0)


def train(
    data: Path, folder: Path, recipe: Recipe, resume: bool = False, report: Report | None = None
) -> dict[str, Any]:
    """Train a network on DATA; the run folder then holds all that came of it.

    Returns:
        The row of the best epoch, and where its checkpoint is.

    Raises:
        S2cdError: where DATA, the recipe or the folder cannot be used.
    """
    places = with_splits(find_places(data), recipe.share, recipe.seed)
    claim_run(folder, recipe, data, resume)
    cache = folder.parent / ".prepared"
    bands = recipe.bands or None
    samples = [prepare(p, bands, cache) for p in places if p.split in ("train", "val")]
    sides = {s: tuple(x for x in samples if x.place.split == s) for s in ("train", "val")}
    if len(held := {sample.pair.bands for sample in samples}) > 1:
        raise S2cdError(f"The places hold different bands ({sorted(held)[:2]}). Give --bands")
    run = _start(recipe, sides["train"], data)
    if (folder / "last.ckpt").exists():
        _restore(run, folder / "last.ckpt")
    chips = Chips(sides["train"], recipe.size, recipe.batch, recipe.seed, True, recipe.augment)
    while len(run.history) < recipe.epochs and not _is_stale(run):
        _one_epoch(run, chips, sides["val"], folder, report or (lambda done, of: None))
    from s2cd.learning.runfolder import write_card, write_curves

    write_curves(run.history, folder / "curves.png")
    write_card(run, places, folder / "card.md")
    best = max(run.history, key=lambda row: row["f1"])
    return {"checkpoint": str(folder / "best.safetensors"), **best}


def claim_run(folder: Path, recipe: Recipe, data: Path, resume: bool) -> None:
    """Take the run folder, or go on in it; another run's folder is refused."""
    from s2cd.learning.runfolder import to_toml

    text = to_toml({"data": str(data.resolve()), **asdict(recipe)})
    config = folder / "config.toml"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not config.exists():
        with completed(config) as temporary:
            temporary.write_text(text)
        return
    if not resume:
        raise S2cdError(f"{folder} holds a run already. Give --resume to go on, or another -o")
    if config.read_text() != text:
        raise S2cdError(
            f"{folder} holds a run of another recipe or DATA (config.toml). Name another"
        )


def _start(recipe: Recipe, samples: tuple[Sample, ...], data: Path) -> Training:
    device = choose_device(recipe.device)
    check_precision(recipe.precision, device)
    names = ", ".join(s.place.name for s in samples[:40])
    spec = replace(recipe.spec(samples[0].pair.bands), trained_on=f"{data.name}: {names}")
    torch.manual_seed(recipe.seed)
    network: Any = build(spec).to(device)
    if recipe.freeze:
        freeze_encoder(network)
    weights = [w for w in network.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=1e-4)
    pixels = sum(sample.label.size for sample in samples)
    steps = recipe.steps or max(1, round(pixels / recipe.size**2 / recipe.batch))
    return Training(recipe, spec, network, optimizer, steps)


def _one_epoch(
    run: Training, chips: Chips, held: tuple[Sample, ...], folder: Path, report: Report
) -> None:
    epoch, began = len(run.history), time.monotonic()
    loss, waited = _learn(run, chips, report)
    network = _averaged_network(run)
    counts = sum(_counts(run, network, sample) for sample in held)
    threshold = best_threshold(counts)
    scores = confusion_at(counts, threshold).scores()
    row = {"epoch": epoch + 1, "loss": loss, "threshold": threshold}
    row |= {k: scores[k] or 0.0 for k in ("f1", "iou", "dice", "precision", "recall", "kappa")}
    row |= {"rate": rate_at(run, (epoch + 1) * run.steps - 1), "waited": waited}
    row["seconds"] = round(time.monotonic() - began, 2)
    if row["f1"] > run.best:
        spec = replace(run.spec, threshold=threshold)
        save_checkpoint(folder / "best.safetensors", spec, network, overwrite=True)
    run.history.append(row)
    _save(run, folder / "last.ckpt")
    _write_metrics(run.history, folder / "metrics.csv")
    from s2cd.learning.runfolder import write_pictures

    (folder / "predictions").mkdir(exist_ok=True)
    frozen = Live(network, held[0].statistics, run.recipe.precision)
    write_pictures(held[0], frozen, run.recipe.size, folder / f"predictions/{epoch + 1:03d}.png")
    logger.info("epoch %d: loss %.4f, F1 %.4f at %.3f", epoch + 1, loss, row["f1"], threshold)


def _learn(run: Training, chips: Chips, report: Report) -> tuple[float, float]:
    """An epoch's mean loss, and the share of its time that was spent waiting for data."""
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
        nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip)
        run.optimizer.step()
        _average(run)
        total += float(loss.detach())
        report(epoch * run.steps + step + 1, recipe.epochs * run.steps)
        asked = time.monotonic()
    if not math.isfinite(total):
        raise S2cdError("The loss is no longer a number. Give a lower --rate, or check the data")
    return total / run.steps, round(waited / max(1e-9, asked - began), 4)


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


def _averaged_network(run: Training) -> nn.Module:
    """The network to be judged and kept, in evaluation mode."""
    if not run.averaged:
        return run.network.eval()
    network = build(run.spec).to(next(run.network.parameters()).device)
    network.load_state_dict(run.averaged)
    return network.eval()


def _counts(run: Training, network: nn.Module, sample: Sample) -> Any:
    frozen = Live(network, sample.statistics, run.recipe.precision)
    lattice = Lattice(run.spec.window, run.spec.halo)
    return counts_of(stored_map(sample, frozen, lattice), np.asarray(sample.label))


def _is_stale(run: Training) -> bool:
    scores = [row["f1"] for row in run.history]
    return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= run.recipe.patience


def _save(run: Training, path: Path) -> None:
    """All that goes on: weights, averages, the optimiser's moments; no pickle."""
    from safetensors.torch import save

    tensors = {f"network.{k}": v for k, v in run.network.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in run.averaged.items()}
    for index, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    content = save(tensors, metadata={_KEY: json.dumps({"history": run.history})})
    with completed(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def _restore(run: Training, path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            history = json.loads((file.metadata() or {})[_KEY])["history"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        run.network.load_state_dict(parts["network"])
        whole = run.optimizer.state_dict()
        whole["state"] = {}
        for name, value in parts["optimizer"].items():
            index, _, key = name.partition(".")
            whole["state"].setdefault(int(index), {})[key] = value
        run.optimizer.load_state_dict(whole)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as e:
        raise S2cdError(f"{path} is no state of this run ({one_line(e)[:80]}). Remove it") from e
    device = next(run.network.parameters()).device
    run.averaged = {k: v.to(device) for k, v in parts["averaged"].items()}
    run.history = history


def _write_metrics(history: list[dict[str, float]], path: Path) -> None:
    with completed(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
