"""IR-MAD: differences of canonical variates, estimated where nothing changed, again and again.

Source: A. A. Nielsen, "The regularized iteratively reweighted MAD method for change detection in
multi- and hyperspectral data", IEEE TIP 16 (2007), 463-478, 10.1109/TIP.2006.888195. It is
invariant to linear differences between the dates, so nothing is normalised first. Here the variates
are smoothed before their length is taken, and outliers are change, not the tail of a chi-square
distribution: on real scenes hardly a pixel follows that.
"""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import chdtrc

from s2cd.networks.classical.limits import noise_limit, outlying
from s2cd.networks.classical.normalize import NOISE, learnable, observed
from s2cd.networks.classical.smooth import REACH, smooth, smooth_weight
from s2cd.scenes.pair import Pair, Window, sampled_pixels

logger = logging.getLogger(__name__)

_DOUBT = 1e-2
"""Spread in reflectance between dates that is of no meaning in any band: L1C is radiometrically
true to 3 to 5 % (Sentinel-2 mission requirements), 0.01 at a reflectance of 0.2. It regularises
the covariances. Chosen on the 13 labelled OSCD scenes from 0.001, 0.003 and 0.01: with 0.001 the
iterations of some scenes close in on a single homogeneous surface such as water."""
_SAMPLE = 300_000
"""Pixels that covariances are estimated from."""
_ROUNDS = 50
"""Most iterations; scenes take 4 to 15."""
_SETTLED = 1e-3
"""Change of the canonical correlations from which on they are taken as settled."""

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class FrozenIrMad:
    """IR-MAD with what it learned from a pair.

    Attributes:
        mean_before: Mean reflectance of each band of ``before`` where nothing changed.
        mean_after: The same of ``after``.
        of_before: Weights of the bands of ``before`` in each variate, such that the difference of
            the variates has variance 1 where nothing changed: (variate, band).
        of_after: The same of ``after``.
        correlation: The canonical correlations.
        limit: The length of the smoothed variates' difference that is change.
    """

    mean_before: tuple[float, ...]
    mean_after: tuple[float, ...]
    of_before: Rows
    of_after: Rows
    correlation: tuple[float, ...]
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
        """Length of the smoothed differences of variates (height, width).

        By einsum, not by BLAS: its sums do not depend on threads.
        """
        valid = observed(before, after)
        dates = np.concatenate([before, after])
        mean, weights = (a.astype(np.float32) for a in _whole(self))
        dates -= mean[:, None, None]
        dates[:, ~valid] = 0
        weight = smooth_weight(valid)
        total = np.zeros(valid.shape, np.float32)
        for variate in np.einsum("ij,jhw->ihw", weights, dates):
            total += np.square(smooth(variate) / weight)
        return np.sqrt(total)

    def numbers(self) -> dict[str, Any]:
        """What was learned, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class IrMad:
    """Iteratively reweighted multivariate alteration detection."""

    name = "irmad"
    sha256 = None
    bands = None
    window = 256 + 2 * REACH
    halo = REACH
    threshold = 0.5
    calibrated = False
    normalization = "none"
    classes = 1

    def fit(self, pair: Pair) -> FrozenIrMad:
        """Learn means, variates and the threshold from a sample of the pair.

        Raises:
            S2cdError: where no pixel is valid in both dates.
        """
        return self.learned(learnable(pair, self.halo))

    def learned(self, windows: list[Window]) -> FrozenIrMad:
        """What `fit` learns, from windows that have a margin of ``halo``, some pixel valid."""
        frozen = _estimated(sampled_pixels(windows, _SAMPLE))
        lengths = np.concatenate([frozen.length(w.before, w.after)[w.valid] for w in windows])
        limit = max(outlying(lengths), noise_limit(len(windows[0].before)))
        return replace(frozen, limit=limit)

    def restore(self, numbers: dict[str, Any]) -> FrozenIrMad:
        """The frozen detector that gave these numbers."""
        before, after, correlation = (
            _numbers(np.array(numbers[key])) for key in ("mean_before", "mean_after", "correlation")
        )
        of_before, of_after = (_rows(np.array(numbers[key])) for key in ("of_before", "of_after"))
        limit = float(numbers["limit"])
        return FrozenIrMad(before, after, of_before, of_after, correlation, limit)


class _Variates(NamedTuple):
    """Canonical variates of standardised dates.

    Attributes:
        mean: Of ``before`` and ``after``, one after the other.
        before: Weights of the bands of ``before``: (band, variate).
        after: The same of ``after``.
        correlation: Between them: (variate,).
    """

    mean: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    correlation: NDArray[np.float64]

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of each difference of variates."""
        return np.sqrt(2 * (1 - self.correlation))


def chances(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of no change of each pixel: (pixel,), from (bands of both dates, pixel)."""
    frozen = _estimated(pixels)
    mean, weights = _whole(frozen)
    variates = np.einsum("ij,jn->in", weights, pixels - mean[:, None])
    return np.asarray(chdtrc(len(pixels) // 2, np.square(variates).sum(axis=0)))


def _whole(frozen: FrozenIrMad) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of both dates' bands, and the weights of all in each difference of variates."""
    mean = np.array(frozen.mean_before + frozen.mean_after)
    return mean, np.hstack([frozen.of_before, np.negative(frozen.of_after)])


def _estimated(pixels: NDArray[np.float64]) -> FrozenIrMad:
    """Means and variates of (bands of before and of after, pixel), without a limit yet.

    Bands are standardised first, so that a gain of ``after`` changes nothing, and the doubt in
    each is taken as a share of the spread of ``before``, for both dates.
    """
    bands = len(pixels) // 2
    mean = pixels.mean(axis=1)
    scale = np.maximum(pixels.std(axis=1), NOISE)
    doubt = np.square(_DOUBT / scale[:bands])
    found = _iterated((pixels - mean[:, None]) / scale[:, None], doubt)
    mean = mean + found.mean * scale
    before = found.before / scale[:bands, None] / found.deviation
    after = found.after / scale[bands:, None] / found.deviation
    return FrozenIrMad(
        _numbers(mean[:bands]),
        _numbers(mean[bands:]),
        _rows(before.T),
        _rows(after.T),
        _numbers(found.correlation),
        limit=1.0,
    )


def _iterated(pixels: NDArray[np.float64], doubt: NDArray[np.float64]) -> _Variates:
    """Variates whose weights have settled: a pixel weighs its probability of no change."""
    bands = len(doubt)
    chance = np.ones(pixels.shape[1])
    found = _variates(pixels, chance, doubt)
    for turn in range(1, _ROUNDS):
        last, centred = found.correlation, pixels - found.mean[:, None]
        weights = np.concatenate([found.before, -found.after]) / found.deviation
        squares = np.square(np.einsum("ji,jn->in", weights, centred)).sum(axis=0)
        chance = chdtrc(bands, squares)
        found = _variates(pixels, chance, doubt)
        if np.abs(found.correlation - last).max() < _SETTLED:
            logger.debug("irmad settled after %d iterations", turn + 1)
            break
    return found


def _variates(
    pixels: NDArray[np.float64], chance: NDArray[np.float64], doubt: NDArray[np.float64]
) -> _Variates:
    """Canonical correlation analysis of weighted pixels, its covariances made regular by doubt.

    Source: H. Hotelling, "Relations between two sets of variates", Biometrika 28 (1936), 321-377;
    by the singular values of the whitened covariance between the dates. A variate and its partner
    have the sign in which they correlate positively; that of both together is of no meaning.
    """
    bands, whole = len(doubt), chance.sum()
    mean = np.einsum("in,n->i", pixels, chance) / whole
    centred = pixels - mean[:, None]
    covariance = np.einsum("in,jn->ij", centred * chance, centred) / whole
    first = cholesky(covariance[:bands, :bands] + np.diag(doubt), lower=True)
    second = cholesky(covariance[bands:, bands:] + np.diag(doubt), lower=True)
    between = solve_triangular(first, covariance[:bands, bands:], lower=True)
    left, correlation, right = np.linalg.svd(solve_triangular(second, between.T, lower=True).T)
    return _Variates(
        mean,
        solve_triangular(first.T, left, lower=False),
        solve_triangular(second.T, right.T, lower=False),
        np.minimum(correlation, 1 - 1e-9),
    )


def _rows(weights: NDArray[np.float64]) -> Rows:
    return tuple(_numbers(row) for row in weights)


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
