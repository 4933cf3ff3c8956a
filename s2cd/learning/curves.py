"""How scores depend on the threshold, and whether a probability means what it says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import STEPS
from s2cd.learning.figures import figure_of
from s2cd.learning.scenes import Counts
from s2cd.output import completed

_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Mean probability and share of change of the pixels in each of ten bins of probability.

    ``error``: expected calibration error, the mean of their distance weighted by pixels
    (C. Guo et al., "On calibration of modern neural networks", ICML 2017).
    """

    said: NDArray[np.float64]
    true: NDArray[np.float64]
    error: float


def precision_recall(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at each threshold from 0 to 1 that a map can hold."""
    fp, tp = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    found = tp + fp
    precision = np.where(found, tp / np.maximum(found, 1), 1.0)
    return precision, tp / max(1, int(tp[0]))


def average_precision(counts: Counts) -> float | None:
    """Area under the curve of precision over recall, by steps; None without labelled change."""
    if not counts[1].sum():
        return None
    precision, recall = precision_recall(counts)
    steps = recall - np.append(recall[1:], 0)
    return float((precision * steps).sum())


def calibration(counts: Counts) -> Calibration:
    """Calibration over all pixels."""
    values = np.arange(STEPS + 1) / STEPS
    bins = np.minimum((values * _BINS).astype(int), _BINS - 1)
    pixels = counts.sum(axis=0)
    n, change, summed = (
        np.bincount(bins, weights.astype(float), _BINS)
        for weights in (pixels, counts[1], pixels * values)
    )
    some = n > 0
    said, true = summed[some] / n[some], change[some] / n[some]
    error = float((n[some] * np.abs(said - true)).sum() / max(1, n.sum()))
    return Calibration(said, true, error)


def write_score_curves(counts: Counts, path: Path, threshold: float = 0.5) -> None:
    """Precision over recall, a threshold marked, and share of change over probability, as a PNG."""
    figure: Any = figure_of((8, 3.8))
    left, right = figure.subplots(1, 2)
    precision, recall = precision_recall(counts)
    left.plot(recall, precision)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    at = int(np.ceil(threshold * STEPS - 1e-9))
    left.plot(recall[at], precision[at], "o", label=f"threshold {threshold:.3g}")
    left.legend()
    found = calibration(counts)
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    right.plot(found.said, found.true, "o-")
    right.set(xlabel="probability", ylabel="share of change", xlim=(0, 1), ylim=(0, 1))
    right.set_title(f"expected calibration error {found.error:.3f}", fontsize=9)
    with completed(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png")
