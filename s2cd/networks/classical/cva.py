"""Change vector analysis: the length of the spectral difference, smoothed, under Otsu's threshold.

Source: W. A. Malila, "Change vector analysis: an approach for detecting forest changes with
Landsat", LARS Symposia (1980), 385. The differences are made comparable by robust statistics.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import chdtri

from s2cd.errors import S2cdError
from s2cd.networks.classical.otsu import otsu
from s2cd.networks.detector import NOTHING_VALID
from s2cd.scenes.pair import Pair, Window

_SIGMA = 1.5
"""Standard deviation of the smoothing, in pixels."""
_REACH = 5
"""Pixels that the smoothing reaches: it is cut off at 3 standard deviations."""
_NOISE = 1e-3
"""Least spread of a band's difference, in reflectance: the noise of the instrument (SNR of about
100 at a reflectance of 0.1; Sentinel-2 MSI technical guide)."""
_CONSISTENCY = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_SURE = 0.99
"""Share of unchanged pixels that must stay under the threshold if differences were all noise."""


@dataclass(frozen=True)
class FrozenCva:
    """Change vector analysis with what it learned from a pair.

    Attributes:
        gain: By which each band of ``after`` is multiplied to be comparable to ``before``.
        offset: What is added to it then, in reflectance.
        spread: Standard deviation of each band's difference where nothing changed.
        limit: The length of a change vector, in standard deviations, that is change.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    spread: tuple[float, ...]
    limit: float

    def predict(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores (n, height, width): 0 for no difference, 0.5 at the limit, towards 1 beyond."""
        length = np.stack([self.length(b, a) for b, a in zip(before, after, strict=True)])
        return length / (length + np.float32(self.limit))

    def length(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Length of the smoothed change vector (height, width), in standard deviations."""
        valid = np.asarray(np.isfinite(np.concatenate([before, after])).all(axis=0))
        weight = _smooth(valid.astype(np.float32))
        total = np.zeros(valid.shape, np.float32)
        for one, other, gain, offset, spread in zip(
            before, after, self.gain, self.offset, self.spread, strict=True
        ):
            difference = other * np.float32(gain) + np.float32(offset) - one
            difference[~valid] = 0
            smooth = _smooth(difference) / np.maximum(weight, np.float32(1e-6))
            total += np.square(smooth / np.float32(spread))
        return np.sqrt(total)

    def numbers(self) -> dict[str, Any]:
        """What was learned, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Cva:
    """Change vector analysis.

    Attributes:
        normalize: Whether ``after`` is brought to the radiometry of ``before``: median and
            interquartile range of each band.
    """

    normalize: bool = True

    name = "cva"
    sha256 = None
    bands = None
    window = 256 + 2 * _REACH
    halo = _REACH
    threshold = 0.5
    calibrated = False

    def fit(self, pair: Pair) -> FrozenCva:
        """Learn gains, offsets, spreads and the threshold from a sample of the pair.

        Raises:
            S2cdError: where no pixel is valid in both dates.
        """
        windows = list(pair.sample(self.halo))
        if not windows:
            raise S2cdError(NOTHING_VALID)
        bands = [self._fit_band(windows, band) for band in range(len(pair.bands))]
        gain, offset, spread = zip(*bands, strict=True)
        frozen = FrozenCva(gain, offset, spread, limit=1.0)
        lengths = [frozen.length(w.before, w.after)[w.valid] for w in windows]
        return FrozenCva(gain, offset, spread, self._limit(np.concatenate(lengths), len(bands)))

    def restore(self, numbers: dict[str, Any]) -> FrozenCva:
        """The frozen detector that gave these numbers."""
        gain, offset, spread = (tuple(numbers[key]) for key in ("gain", "offset", "spread"))
        return FrozenCva(gain, offset, spread, float(numbers["limit"]))

    def _fit_band(self, windows: list[Window], band: int) -> tuple[float, float, float]:
        before = np.concatenate([w.before[band][w.valid] for w in windows]).astype(np.float64)
        after = np.concatenate([w.after[band][w.valid] for w in windows]).astype(np.float64)
        gain, offset = _match(before, after) if self.normalize else (1.0, 0.0)
        difference = after * gain + offset - before
        deviation = np.median(np.abs(difference - np.median(difference)))
        return gain, offset, max(_CONSISTENCY * float(deviation), _NOISE)

    def _limit(self, lengths: NDArray[np.float32], bands: int) -> float:
        """Otsu's threshold, but never one that noise alone would pass."""
        noise = float(np.sqrt(chdtri(bands, 1 - _SURE)))
        found = otsu(lengths)
        return max(found, noise) if np.isfinite(found) else noise


def _match(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Gain and offset that give ``after`` the median and interquartile range of ``before``."""
    low, middle, high = np.quantile(before, [0.25, 0.5, 0.75])
    from_low, from_middle, from_high = np.quantile(after, [0.25, 0.5, 0.75])
    width, from_width = high - low, from_high - from_low
    gain = float(width / from_width) if min(width, from_width) > 0 else 1.0
    return gain, float(middle - gain * from_middle)


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return gaussian_filter(values, _SIGMA, mode="constant", radius=_REACH)
