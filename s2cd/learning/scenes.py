"""Whole places through the frame of `detect`, counted by stored probability."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import (
    STEPS,
    Lattice,
    blocks,
    classify,
    predict_block,
    stored_probability,
)
from s2cd.detection.prepare import normalized
from s2cd.learning.metrics import Confusion
from s2cd.learning.prepared import Sample
from s2cd.networks.detector import Detector, Frozen
from s2cd.networks.inputs import Statistics, network_input
from s2cd.networks.runtime import Eager, probabilities
from s2cd.networks.scaling import Scaling

if TYPE_CHECKING:
    from torch import nn

    from s2cd.networks.spec import Spec

Counts = NDArray[np.int64]
"""Pixels by truth and stored probability: (2, 201)."""


@dataclass(frozen=True)
class Live:
    """A network in memory as a frozen detector; its input is made as detection makes it."""

    network: "nn.Module"
    statistics: Statistics | None
    scaling: Scaling
    precision: str = "fp32"

    def predict(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities of any change (n, height, width) of windows (n, band, height, width)."""
        seen = network_input(before, after, self.statistics)
        backend = Eager(self.network, self.precision)
        return probabilities(backend, seen, self.scaling).sum(axis=1)

    def numbers(self) -> dict[str, Any]:
        """Nothing: it is never written."""
        return {}


def stored_map(sample: Sample, frozen: Frozen, lattice: Lattice) -> NDArray[np.uint8]:
    """Stored probabilities of any change of a whole place, by the blocks of `detect`: (y, x)."""
    result = np.empty(sample.pair.shape, np.uint8)
    for block in blocks(sample.pair.shape, lattice.block_size()):
        stored = predict_block(sample.pair, frozen, lattice, block)
        result[block.ys, block.xs] = stored_probability(stored)
    return result


def scene_map(spec: "Spec", network: "nn.Module", sample: Sample) -> NDArray[np.uint8]:
    """Stored probabilities of a whole place, by a network in memory: (y, x)."""
    frozen = Live(network, sample.statistics, spec.scaling)
    return stored_map(sample, frozen, Lattice(spec.window, spec.halo))


def counts_of(stored: NDArray[np.uint8], label: NDArray[np.uint8]) -> Counts:
    """Pixels by truth and stored probability; what is unknown in either is left out."""
    known = (stored != 255) & (label != 255)
    codes = stored[known].astype(np.int64) + (STEPS + 1) * (label[known] > 0)
    return np.bincount(codes, minlength=2 * (STEPS + 1)).reshape(2, STEPS + 1)


def confusion_at(counts: Counts, threshold: float) -> Confusion:
    """The confusion that a threshold gives."""
    change = classify(np.arange(STEPS + 1, dtype=np.uint8), threshold) == 1
    (tn, fp), (fn, tp) = ((int(c[~change].sum()), int(c[change].sum())) for c in counts)
    return Confusion(tp, fp, fn, tn)


def best_threshold(counts: Counts) -> float:
    """The threshold of the highest F1, of those a map can hold; 0.5 where no change is labelled."""
    steps = [step / STEPS for step in range(1, STEPS + 1)]
    scores = [confusion_at(counts, step).f1 or 0.0 for step in steps]
    return steps[int(np.argmax(scores))] if max(scores) > 0 else 0.5


def lit_for(detector: Detector, sample: Sample) -> Sample:
    """A place in the radiometry in which `detect` would show it to a detector."""
    return replace(sample, pair=normalized(sample.pair, detector.normalization))
