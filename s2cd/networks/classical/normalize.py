"""What detectors without weights learn first: where there is data, and comparable differences.

The differences are made comparable by robust statistics: ``after`` gets the median and the
interquartile range of ``before``, band by band, and each band's difference is measured in standard
deviations of what did not change.
"""

from collections.abc import Iterator
from typing import NamedTuple

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


class Normals(NamedTuple):
    """What makes the difference of each band comparable.

    Attributes:
        gain: By which each band of ``after`` is multiplied to be comparable to ``before``.
        offset: What is added to it then, in reflectance.
        spread: Standard deviation of each band's difference where nothing changed.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    spread: tuple[float, ...]


def learnable(pair: Pair, margin: int) -> list[Window]:
    """The sample of a pair, at least one window.

    Raises:
        S2cdError: where no pixel is valid in both dates.
    """
    if windows := list(pair.sample(margin)):
        return windows
    raise S2cdError(NOTHING_VALID)


def fit_normals(windows: list[Window], normalize: bool) -> Normals:
    """Gains, offsets and spreads of all bands; gain 1 and offset 0 without ``normalize``."""
    bands = [_fit_band(windows, band, normalize) for band in range(len(windows[0].before))]
    gain, offset, spread = zip(*bands, strict=True)
    return Normals(gain, offset, spread)


def observed(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where every band of both dates has data: (height, width), from (band, height, width)."""
    return np.asarray(np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0))


def differences(
    before: NDArray[np.float32], after: NDArray[np.float32], normals: Normals
) -> Iterator[NDArray[np.float32]]:
    """Normalised ``after`` less ``before``, (height, width) in reflectance, band by band."""
    for one, other, gain, offset in zip(before, after, normals.gain, normals.offset, strict=True):
        yield other * np.float32(gain) + np.float32(offset) - one


def match(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Gain and offset that give ``after`` the median and interquartile range of ``before``."""
    low, middle, high = np.quantile(before, [0.25, 0.5, 0.75])
    from_low, from_middle, from_high = np.quantile(after, [0.25, 0.5, 0.75])
    width, from_width = high - low, from_high - from_low
    gain = float(width / from_width) if min(width, from_width) > 0 else 1.0
    return gain, float(middle - gain * from_middle)


def _fit_band(windows: list[Window], band: int, normalize: bool) -> tuple[float, float, float]:
    before = np.concatenate([w.before[band][w.valid] for w in windows]).astype(np.float64)
    after = np.concatenate([w.after[band][w.valid] for w in windows]).astype(np.float64)
    gain, offset = match(before, after) if normalize else (1.0, 0.0)
    difference = after * gain + offset - before
    deviation = np.median(np.abs(difference - np.median(difference)))
    return gain, offset, max(CONSISTENCY * float(deviation), NOISE)
