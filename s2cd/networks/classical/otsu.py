"""Otsu's threshold."""

import numpy as np
from numpy.typing import NDArray

_BINS = 1024


def otsu(values: NDArray[np.floating]) -> float:
    """The threshold that best parts values into two classes; values from it on are the upper.

    Maximises the variance between the classes over a histogram of 1024 bins up to the 99.99th
    percentile, so that a few extremes do not coarsen the bins. Source: N. Otsu, "A threshold
    selection method from gray-level histograms", IEEE Trans. SMC 9 (1979), 62-66.

    Returns:
        The threshold, or infinity where all values are the same.
    """
    top = float(np.quantile(values, 0.9999))
    low = float(values.min())
    if not top > low:
        return float("inf")
    counts, edges = np.histogram(values, _BINS, (low, top))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts).astype(np.float64)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.nan_to_num(below * above * apart**2)
    return float(edges[1:-1][between.argmax()])
