"""How well a map of change agrees with a mask of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCORES = ("f1", "iou", "dice", "precision", "recall", "kappa")
"""Those of `Confusion`, as they are told."""


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels by prediction and label; scores are of the change class.

    Scores without a denominator (no change labelled and none found, say) are None.
    Formulas: precision = tp / (tp + fp), recall = tp / (tp + fn), F1 = Dice =
    2 tp / (2 tp + fp + fn), IoU = tp / (tp + fp + fn); kappa after J. Cohen, "A coefficient of
    agreement for nominal scales", Educational and Psychological Measurement 20 (1960), 37-46.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )

    @property
    def pixels(self) -> int:
        """All pixels that were counted."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float | None:
        """Share of the found change that is labelled."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Share of the labelled change that is found."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; for two classes it is Dice."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float | None:
        """Intersection over union."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def kappa(self) -> float | None:
        """Agreement beyond chance."""
        n = self.pixels
        if n == 0:
            return None
        found, labelled = self.tp + self.fp, self.tp + self.fn
        chance = (found * labelled + (n - found) * (n - labelled)) / n
        return _ratio(self.tp + self.tn - chance, n - chance)

    def scores(self) -> dict[str, float | int | None]:
        """All scores and counts by name."""
        return {
            "f1": self.f1,
            "iou": self.iou,
            "dice": self.f1,
            "precision": self.precision,
            "recall": self.recall,
            "kappa": self.kappa,
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "tn": self.tn,
        }


@dataclass(frozen=True)
class Nearness:
    """Pixels of change that were found or labelled, and how many have the other within a pixel.

    A third of labelled change lies on an object's border, where a pixel of 10 m is half changed.
    """

    found: int = 0
    found_near: int = 0
    labelled: int = 0
    labelled_near: int = 0

    def __add__(self, other: "Nearness") -> "Nearness":
        return Nearness(
            self.found + other.found,
            self.found_near + other.found_near,
            self.labelled + other.labelled,
            self.labelled_near + other.labelled_near,
        )

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two shares."""
        if not self.found and not self.labelled:
            return None
        precision = self.found_near / max(1, self.found)
        recall = self.labelled_near / max(1, self.labelled)
        return _ratio(2 * precision * recall, precision + recall) or 0.0


def nearness(predicted: NDArray[np.uint8], label: NDArray[np.uint8]) -> Nearness:
    """Agreement with one pixel of tolerance, in all eight directions."""
    known = (predicted != 255) & (label != 255)
    found, true = (predicted > 0) & known, (label > 0) & known
    return Nearness(
        int(found.sum()),
        int((found & _grown(true)).sum()),
        int(true.sum()),
        int((true & _grown(found)).sum()),
    )


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With all neighbours of its pixels."""
    for axis in (0, 1):
        padded = np.pad(mask, [(1, 1) if a == axis else (0, 0) for a in (0, 1)])
        n = mask.shape[axis]
        mask = padded.take(range(n), axis) | mask | padded.take(range(2, n + 2), axis)
    return mask


def confusion(predicted: NDArray[np.uint8], label: NDArray[np.uint8]) -> Confusion:
    """Count pixels; those that are 255 in either (not observed, not labelled) are left out."""
    known = (predicted != 255) & (label != 255)
    found, true = predicted[known] > 0, label[known] > 0
    tp = int((found & true).sum())
    fp, fn = int(found.sum()) - tp, int(true.sum()) - tp
    return Confusion(tp, fp, fn, int(known.sum()) - tp - fp - fn)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
