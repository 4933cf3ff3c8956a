"""Area of change with its confidence interval, from a stratified random sample.

After Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of land
change", Remote Sensing of Environment 148, 42-57; the numbers of formulas are those of the paper.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError

Z = 1.96
"""Half width of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Estimate:
    """Accuracies and areas by class, each with half the width of its 95 % interval.

    Attributes:
        overall: Overall accuracy and its half width (2,).
        users: User's accuracies and half widths (2, class); NaN where a class is not in the map.
        producers: Producer's accuracies and half widths (2, class).
        areas: Areas of the classes and half widths (2, class), in the unit of the mapped areas.
    """

    overall: NDArray[np.float64]
    users: NDArray[np.float64]
    producers: NDArray[np.float64]
    areas: NDArray[np.float64]


def sample_size(weights: NDArray[np.float64], users: NDArray[np.float64], error: float) -> int:
    """How many pixels to interpret for a standard error of the overall accuracy (formula 13).

    Args:
        weights: Share of each class in the map (class,).
        users: User's accuracy to be expected of each class, 0..1 (class,).
        error: The standard error wanted, such as 0.01.

    Raises:
        S2cdError: where the error is not positive.
    """
    if not error > 0:
        raise S2cdError(f"A standard error of {error} cannot be reached. Give one such as 0.01")
    return int(np.rint((weights @ np.sqrt(users * (1 - users)) / error) ** 2))


def estimate(matrix: NDArray[np.int64], areas: NDArray[np.float64]) -> Estimate:
    """Accuracies and areas from a sample, with 95 % intervals (formulas 1 to 11).

    Args:
        matrix: Counts of interpreted pixels (class in the map, class in truth).
        areas: Mapped area of each class (class,), in any unit.

    Raises:
        S2cdError: where a class of the map has fewer than two interpreted pixels.
    """
    counts = matrix.sum(axis=1).astype(np.float64)
    if (short := np.flatnonzero((counts < 2) & (areas > 0))).size:
        raise S2cdError(
            f"Class {short[0]} of the map has {int(counts[short[0]])} interpreted pixels, and two "
            "are the least. Interpret more"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.nan_to_num(matrix / counts[:, None])
        spread = np.nan_to_num(shares * (1 - shares) / (counts - 1)[:, None])
        weights = areas / areas.sum()
        truth = weights @ shares
        users = np.where(counts > 0, np.diag(shares), np.nan)
        producers = weights * np.diag(shares) / truth
    overall = float(weights @ np.diag(shares))
    errors = (
        np.sqrt(weights**2 @ np.diag(spread)),
        np.sqrt(np.diag(spread)),
        _producers_error(producers, areas, (shares, spread)),
        np.sqrt(weights**2 @ spread) * areas.sum(),
    )
    values = overall, users, producers, truth * areas.sum()
    return Estimate(*(np.stack([v, Z * e]) for v, e in zip(values, errors, strict=True)))


def _producers_error(
    producers: NDArray[np.float64],
    areas: NDArray[np.float64],
    sample: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Standard errors of the producer's accuracies (formula 7)."""
    shares, spread = sample
    total = areas @ shares
    others = areas**2 @ spread - areas**2 * np.diag(spread)
    own = areas**2 * (1 - producers) ** 2 * np.diag(spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        error: NDArray[np.float64] = np.sqrt((own + producers**2 * others) / total**2)
    return error
