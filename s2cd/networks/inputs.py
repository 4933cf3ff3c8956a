"""The one way from a pair's window to what a network sees; training and detection both use it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2cd.scenes.pair import Window

_LEAST = 1e-3
"""Least standard deviation, in reflectance: a band without contrast is not blown up to noise."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each date and band: (2, band), in reflectance."""

    mean: tuple[tuple[float, ...], ...]
    std: tuple[tuple[float, ...], ...]


def statistics_of(windows: Iterable[Window], bands: int) -> Statistics | None:
    """Statistics over the valid pixels of windows, in one pass; None where none is valid."""
    count, total, square = 0, np.zeros((2, bands)), np.zeros((2, bands))
    for window in windows:
        both = np.stack([window.before, window.after])[:, :, window.valid].astype(np.float64)
        count += both.shape[2]
        total += both.sum(axis=2)
        square += np.square(both).sum(axis=2)
    if count == 0:
        return None
    mean = total / count
    std = np.maximum(np.sqrt(np.maximum(square / count - mean**2, 0)), _LEAST)
    return Statistics(tuple(map(tuple, mean.tolist())), tuple(map(tuple, std.tolist())))


def network_input(
    before: NDArray[np.float32], after: NDArray[np.float32], statistics: Statistics | None
) -> NDArray[np.float32]:
    """What a network sees: (n, 2, band, height, width), float32, finite.

    Args:
        before: Reflectance (n, band, height, width), NaN = no data.
        after: The other date.
        statistics: Each date and band is brought to zero mean and unit variance by these; as it
            is where None. Pixels without data become 0, which is the mean.
    """
    dates = np.stack([before, after], axis=1)
    if statistics is not None:
        mean, std = (np.array(v, np.float32)[None, :, :, None, None] for v in _pair(statistics))
        dates -= mean
        dates /= std
    np.copyto(dates, np.float32(0), where=~np.isfinite(dates))
    return dates


def _pair(statistics: Statistics) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return statistics.mean, statistics.std
