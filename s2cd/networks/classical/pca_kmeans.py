"""PCA and k-means: blocks of the difference, in principal components, parted into two clusters.

Source: T. Celik, "Unsupervised change detection in satellite images using principal component
analysis and k-means clustering", IEEE GRSL 6 (2009), 772-776, 10.1109/LGRS.2009.2025059. There the
difference image has one band; here it is the length of the normalised change vector. Nearer to one
of two centres is one side of a plane, so that all of a prediction is one convolution.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import correlate

from s2cd.networks.classical.limits import noise_limit
from s2cd.networks.classical.normalize import learnable, observed, spreads
from s2cd.scenes.pair import Pair, Window

_BLOCK = 5
"""Height and width of a block, in pixels (h). 4 to 9 in the paper; of 5 and 9, measured on the 13
labelled OSCD scenes, 5 does as well and keeps small changes."""
_COMPONENTS = 3
"""Principal components kept (S); 3 in the paper's experiments."""
_SAMPLE = 100_000
"""Blocks that components and centres are learned from."""
_ROUNDS = 300
"""Most rounds of k-means; scenes take 10 to 40."""

Kernel = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class FrozenPcaKmeans:
    """PCA-k-means with what it learned from a pair.

    Attributes:
        spread: Standard deviation of each band's difference where nothing changed.
        kernel: What a block of change lengths is multiplied by and summed; with ``bias`` added it
            is 0 at the centre of no change, 0.5 at equal distance, 1 at the centre of change.
        bias: See ``kernel``.
    """

    spread: tuple[float, ...]
    kernel: Kernel
    bias: float

    def predict(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores (n, height, width): 0 at the centre of no change or beyond, 0.5 at equal distance.

        With t, how far a block is from the one centre to the other, they are t / (t + 0.5).
        """
        kernel = np.array(self.kernel)
        lengths = (self.length(b, a) for b, a in zip(before, after, strict=True))
        ways: list[NDArray[np.float32]] = [correlate(x, kernel, mode="constant") for x in lengths]
        way = np.maximum(np.stack(ways) + np.float32(self.bias), np.float32(0))
        return way / (way + np.float32(0.5))

    def length(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Length of the change vector (height, width), in standard deviations.

        Pixels without data have the mean of the observed ones in the block around them, or 0.
        """
        valid = observed(before, after)
        total = np.zeros(valid.shape, np.float32)
        for one, other, spread in zip(before, after, self.spread, strict=True):
            difference = other - one
            total += np.square(difference / np.float32(spread))
        length = np.sqrt(total)
        if not valid.all():
            length[~valid] = 0
            length[~valid] = _mean_around(length, valid)[~valid]
        return length

    def numbers(self) -> dict[str, Any]:
        """What was learned, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PcaKmeans:
    """PCA-k-means."""

    name = "pca-kmeans"
    sha256 = None
    bands = None
    window = 256 + 4 * (_BLOCK // 2)
    halo = 2 * (_BLOCK // 2)
    threshold = 0.5
    calibrated = False
    normalization = "linear"
    classes = 1

    def fit(self, pair: Pair) -> FrozenPcaKmeans:
        """Learn spreads, components and centres from a sample of the pair.

        Where a block of noise alone could be nearer to the centre of change, or all blocks are
        the same, the centres tell nothing: the mean length at which noise ends decides instead.

        Raises:
            S2cdError: where no pixel is valid in both dates.
        """
        windows = learnable(pair, self.halo)
        spread = spreads(windows)
        noise = noise_limit(len(pair.bands))
        plain = np.full((_BLOCK, _BLOCK), 0.5 / noise / _BLOCK**2)
        frozen = FrozenPcaKmeans(spread, _rows(plain), 0.0)
        kernel, bias = _way(_sample_blocks(frozen, windows))
        if kernel.sum() > 0 and (0.5 - bias) / kernel.sum() >= noise:
            return FrozenPcaKmeans(spread, _rows(kernel.reshape(_BLOCK, _BLOCK)), bias)
        return frozen

    def restore(self, numbers: dict[str, Any]) -> FrozenPcaKmeans:
        """The frozen detector that gave these numbers."""
        kernel = _rows(np.array(numbers["kernel"]))
        return FrozenPcaKmeans(tuple(numbers["spread"]), kernel, float(numbers["bias"]))


def _sample_blocks(frozen: FrozenPcaKmeans, windows: list[Window]) -> NDArray[np.float64]:
    """Blocks around pixels of the sample, evenly chosen: (pixel of the block, block)."""
    step = -(-sum(int(w.valid.sum()) for w in windows) // _SAMPLE)
    around = _BLOCK // 2
    parts, first = [], 0
    for window in windows:
        length = frozen.length(window.before, window.after)
        blocks = sliding_window_view(length, (_BLOCK, _BLOCK))
        rows, columns = np.nonzero(window.valid[around:-around, around:-around])
        parts.append(blocks[rows[first::step], columns[first::step]].reshape(-1, _BLOCK**2))
        first = (first - len(rows)) % step
    return np.concatenate(parts).T.astype(np.float64)


def _way(blocks: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Kernel and bias that give 0 at the centre of no change and 1 at that of change.

    With basis V, mean block m, centres c0 and c1 and d = c1 - c0 it is
    (V'(block - m) - c0) . d / |d|^2: above 0.5 where c1 is nearer. No products of large matrices
    by BLAS here, whose sums would depend on the number of threads.
    """
    mean = blocks.mean(axis=1)
    centred = blocks - mean[:, None]
    covariance = np.einsum("in,jn->ij", centred, centred) / centred.shape[1]
    basis = np.linalg.eigh(covariance)[1][:, -_COMPONENTS:]
    features = np.einsum("ik,in->kn", basis, centred)
    unchanged, changed = _two_means(features, centred.mean(axis=0) > 0)
    apart = changed - unchanged
    if not (apart @ apart) > 0:
        return np.zeros_like(mean), 0.0
    kernel = basis @ apart / (apart @ apart)
    return kernel, float(-(kernel @ mean) - unchanged @ apart / (apart @ apart))


def _two_means(
    features: NDArray[np.float64], upper: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of two clusters of (component, block), by k-means from a first parting."""
    if upper.all() or not upper.any():
        return features.mean(axis=1), features.mean(axis=1)
    for _ in range(_ROUNDS):
        low, high = features[:, ~upper].mean(axis=1), features[:, upper].mean(axis=1)
        far, near = (np.square(features - c[:, None]).sum(axis=0) for c in (low, high))
        now = near < far
        if (now == upper).all():
            break
        upper = now
    return low, high


def _mean_around(length: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of the valid pixels in the block around each; 0 where there is none."""
    box = np.ones((_BLOCK, _BLOCK), np.float32)
    total, count = (
        correlate(values, box, mode="constant") for values in (length, valid.astype(np.float32))
    )
    return total / np.maximum(count, np.float32(1))


def _rows(kernel: NDArray[np.float64]) -> Kernel:
    return tuple(tuple(float(value) for value in row) for row in kernel)
