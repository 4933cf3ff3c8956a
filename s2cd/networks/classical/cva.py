"""Change vector analysis: the length of the spectral difference, smoothed, under Otsu's threshold.

Source: W. A. Malila, "Change vector analysis: an approach for detecting forest changes with
Landsat", LARS Symposia (1980), 385. The differences are made comparable by robust statistics.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.networks.classical.limits import noise_limit
from s2cd.networks.classical.normalize import learnable, observed, spreads
from s2cd.networks.classical.otsu import otsu
from s2cd.networks.classical.smooth import REACH, smooth, smooth_weight
from s2cd.scenes.pair import Pair


@dataclass(frozen=True)
class FrozenCva:
    """Change vector analysis with what it learned from a pair.

    Attributes:
        spread: Standard deviation of each band's difference where nothing changed.
        limit: The length of a change vector, in standard deviations, that is change.
    """

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
        valid = observed(before, after)
        weight = smooth_weight(valid)
        total = np.zeros(valid.shape, np.float32)
        for one, other, spread in zip(before, after, self.spread, strict=True):
            difference = other - one
            difference[~valid] = 0
            total += np.square(smooth(difference) / weight / np.float32(spread))
        return np.sqrt(total)

    def numbers(self) -> dict[str, Any]:
        """What was learned, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Cva:
    """Change vector analysis."""

    name = "cva"
    sha256 = None
    bands = None
    window = 256 + 2 * REACH
    halo = REACH
    threshold = 0.5
    calibrated = False
    normalization = "linear"
    classes = 1

    def fit(self, pair: Pair) -> FrozenCva:
        """Learn spreads and the threshold from a sample of the pair.

        Raises:
            S2cdError: where no pixel is valid in both dates.
        """
        windows = learnable(pair, self.halo)
        spread = spreads(windows)
        frozen = FrozenCva(spread, limit=1.0)
        lengths = [frozen.length(w.before, w.after)[w.valid] for w in windows]
        return FrozenCva(spread, self._limit(np.concatenate(lengths), len(pair.bands)))

    def restore(self, numbers: dict[str, Any]) -> FrozenCva:
        """The frozen detector that gave these numbers."""
        return FrozenCva(tuple(numbers["spread"]), float(numbers["limit"]))

    def _limit(self, lengths: NDArray[np.float32], bands: int) -> float:
        """Otsu's threshold, but never one that noise alone would pass."""
        noise = noise_limit(bands)
        found = otsu(lengths)
        return max(found, noise) if np.isfinite(found) else noise
