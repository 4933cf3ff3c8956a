"""What detectors without weights learn first: where there is data, and how much noise.

Each band's difference is measured in standard deviations of what did not change.
"""

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.networks.detector import NOTHING_VALID
from s2cd.scenes.pair import Pair, Window

NOISE = 1e-3
"""Least spread of a band's difference, in reflectance: the noise of the instrument (SNR of about
100 at a reflectance of 0.1; Sentinel-2 MSI technical guide)."""
CONSISTENCY = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def learnable(pair: Pair, margin: int) -> list[Window]:
    """The sample of a pair, at least one window.

    Raises:
        S2cdError: where no pixel is valid in both dates.
    """
    if windows := list(pair.sample(margin)):
        return windows
    raise S2cdError(NOTHING_VALID)


def spreads(windows: list[Window]) -> tuple[float, ...]:
    """Standard deviation of each band's difference where nothing changed, by its median."""
    return tuple(_spread(windows, band) for band in range(len(windows[0].before)))


def observed(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where every band of both dates has data: (height, width), from (band, height, width)."""
    return np.asarray(np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0))


def match(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Gain and offset that give ``after`` the median and interquartile range of ``before``."""
    low, middle, high = np.quantile(before, [0.25, 0.5, 0.75])
    from_low, from_middle, from_high = np.quantile(after, [0.25, 0.5, 0.75])
    width, from_width = high - low, from_high - from_low
    gain = float(width / from_width) if min(width, from_width) > 0 else 1.0
    return gain, float(middle - gain * from_middle)


def _spread(windows: list[Window], band: int) -> float:
    difference = np.concatenate([(w.after[band] - w.before[band])[w.valid] for w in windows])
    deviation = np.median(np.abs(difference - np.median(difference)))
    return max(CONSISTENCY * float(deviation), NOISE)
