"""How `after` is brought to the radiometry of `before`, over pixels that did not change."""

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.networks.classical.irmad import chances
from s2cd.networks.classical.normalize import learnable, match
from s2cd.scenes.pair import Pair, sampled_pixels
from s2cd.scenes.radiometry import METHODS, Radiometry

_SAMPLE = 300_000
"""Pixels that gains and offsets are learned from."""
_UNCHANGED = 0.95
"""Probability of no change from which on ``ir-mad`` takes a pixel; as in Canty and Nielsen."""
_FEWEST = 100
_GAINS = (0.5, 2.0)
"""Gains beyond these are no difference of light: only the level of a band is matched then."""


def radiometry_of(pair: Pair, method: str) -> Radiometry | None:
    """Gain and offset of each band of ``after``; None for the method ``none``.

    Args:
        pair: Both dates, registered.
        method: One of `METHODS`. ``linear``: the line that gives ``after`` the median and the
            interquartile range of ``before``, which a few percent of change hardly move;
            ``ir-mad``: orthogonal regression where IR-MAD finds no change (M. J. Canty, A. A.
            Nielsen, RSE 112 (2008), 1025-1036, 10.1016/j.rse.2007.07.013).

    Raises:
        S2cdError: where there is no such method, or no pixel is valid in both dates.
    """
    if method not in METHODS:
        raise S2cdError(f"There is no normalisation {method!r}. Name one of {', '.join(METHODS)}")
    if method == "none":
        return None
    before, after = np.split(sampled_pixels(learnable(pair, 0), _SAMPLE), 2)
    if method == "linear":
        return _matched(before, after)
    chosen = chances(np.concatenate([before, after])) >= _UNCHANGED
    if chosen.sum() < _FEWEST:
        return _matched(before, after)
    return _regressed(before[:, chosen], after[:, chosen])


def _matched(before: NDArray[np.float64], after: NDArray[np.float64]) -> Radiometry:
    pairs = [_bounded(one, other) for one, other in zip(before, after, strict=True)]
    gain, offset = zip(*pairs, strict=True)
    return Radiometry(gain, offset)


def _bounded(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """As `match`; where the gain is no light's, as of a calm and a rough sea, the median alone."""
    gain, offset = match(before, after)
    if _GAINS[0] <= gain <= _GAINS[1]:
        return gain, offset
    return 1.0, float(np.median(before) - np.median(after))


def _regressed(before: NDArray[np.float64], after: NDArray[np.float64]) -> Radiometry:
    pairs = [_orthogonal(one, other) for one, other in zip(before, after, strict=True)]
    gain, offset = zip(*pairs, strict=True)
    return Radiometry(gain, offset)


def _orthogonal(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Gain and offset of the line from which the points lie least far in both directions.

    R. J. Adcock, "A problem in least squares", The Analyst 5 (1878), 53-54.
    """
    (xx, xy), (_, yy) = np.cov(after, before)
    if xy <= 0:
        gain = 1.0
    else:
        gain = float((yy - xx + np.hypot(yy - xx, 2 * xy)) / (2 * xy))
    gain = gain if _GAINS[0] <= gain <= _GAINS[1] else 1.0
    return gain, float(before.mean() - gain * after.mean())
