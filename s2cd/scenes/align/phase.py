"""The shift between two windows, by phase correlation."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

_PASS = 0.35
"""Standard deviation of the weights of spatial frequencies, in cycles a pixel. The highest ones
count less: there aliasing and interpolation falsify the phase. Chosen on simulated shifts."""


def contrast(reflectance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithm of the values as stored, without data at the mean: shade and sun weigh less."""
    values = np.log1p(np.maximum(reflectance, 0).astype(np.float64) * 1e4)
    return np.nan_to_num(values, nan=float(np.nanmean(values)) if np.isfinite(values).any() else 0)


def phase_shift(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Rows and columns by which ``after`` must move to lie on ``before``, to 0.01 pixel.

    Source: M. Guizar-Sicairos et al., "Efficient subpixel image registration algorithms", Optics
    Letters 33 (2008), 156-158: the peak of the phase correlation, refined by a matrix transform
    of its neighbourhood. NaN where there is no peak: one of the windows shows nothing.
    """
    product = fft.fft2(before) * fft.fft2(after).conj()
    product *= _weights(before.shape) / np.maximum(np.abs(product), 1e-300)
    peak = np.abs(fft.ifft2(product))
    if not peak.max() > 0:
        return np.nan, np.nan
    at = np.array(np.unravel_index(peak.argmax(), peak.shape), float)
    size = np.array(peak.shape)
    at = np.where(at > size // 2, at - size, at)
    for step, reach in ((0.1, 1.0), (0.01, 0.1)):
        at = _refined(product, at, step, reach)
    return round(float(at[0]), 2), round(float(at[1]), 2)


@cache
def _weights(shape: tuple[int, ...]) -> NDArray[np.float64]:
    squares = [np.square(fft.fftfreq(size)) for size in shape]
    return np.exp(-(squares[0][:, None] + squares[1]) / (2 * _PASS**2))


def _refined(
    product: NDArray[np.complex128], at: NDArray[np.float64], step: float, reach: float
) -> NDArray[np.float64]:
    """The highest point of the inverse transform within ``reach`` of ``at``."""
    offsets = np.arange(-reach, reach + step / 2, step)
    rows, columns = at[0] + offsets, at[1] + offsets
    left = np.exp(2j * np.pi * np.outer(rows, fft.fftfreq(product.shape[0])))
    right = np.exp(2j * np.pi * np.outer(fft.fftfreq(product.shape[1]), columns))
    height = np.abs(left @ product @ right)
    row, column = np.unravel_index(height.argmax(), height.shape)
    return np.array([rows[row], columns[column]])
