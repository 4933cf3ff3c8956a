"""Limits between change and no change that detectors without weights share."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from s2cd.networks.classical.normalize import CONSISTENCY

_SURE = 0.99
"""Share of unchanged pixels that must stay under the limit if differences were all noise."""
_DEVIATIONS = 5.0
"""Robust standard deviations above the median that are no chance: the five sigma of physics. On
the 13 labelled OSCD scenes 4, 5 and 6 differ by less than 0.04 in F1 of IR-MAD."""


def noise_limit(bands: int) -> float:
    """The length that 1 % of vectors of standard normal numbers pass: a quantile of chi."""
    return float(np.sqrt(chdtri(bands, 1 - _SURE)))


def outlying(values: NDArray[np.float32]) -> float:
    """The value from which on values are outliers: the median and five robust deviations.

    It asks nothing of the changed pixels, but that they are less than about a third; where few
    or none changed, Otsu's threshold parts the unchanged in two and this one does not. Source:
    F. R. Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974),
    383-393 (median absolute deviation).
    """
    middle = float(np.median(values))
    return middle + _DEVIATIONS * CONSISTENCY * float(np.median(np.abs(values - middle)))
