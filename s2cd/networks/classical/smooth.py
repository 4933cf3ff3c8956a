"""Smoothing over what was observed."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIGMA = 1.5
"""Standard deviation of the smoothing, in pixels."""
REACH = 5
"""Pixels that the smoothing reaches: it is cut off at 3 standard deviations."""


def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gaussian smoothing of (height, width); what lies outside is 0."""
    return gaussian_filter(values, SIGMA, mode="constant", radius=REACH)


def smooth_weight(valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """By what `smooth` of values that are 0 where invalid is divided to be a mean of the valid."""
    return np.maximum(smooth(valid.astype(np.float32)), np.float32(1e-6))
