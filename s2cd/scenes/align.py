"""Registration: how far `after` lies from `before`, measured and removed to a fraction of a pixel.

Shifts are measured on many windows by phase correlation, their median is added up, and the image
is resampled once from the original with the sum; that is repeated until nothing is left. One
measurement alone is not enough: it is drawn towards whole pixels where the image is aliased.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import fft

from s2cd.scenes.grid import resample_from, source_window, tiles
from s2cd.scenes.pair import RESAMPLING, Pair, only, read_date

WINDOW = 128
"""Height and width of a window, in pixels."""
_MARGIN = 16
"""Source pixels read around a window, so that it can be resampled with any shift up to 8."""
FARTHEST = 8.0
"""Pixels; a shift beyond it is taken for a failure."""
LEAST_SHIFT = 0.2
"""Pixels; a smaller shift is left alone by detection, since resampling costs sharpness too."""
_MOST_WINDOWS = 144
_REST = 0.005
_ITERATIONS = 12
_SPREAD = 1.4826
_BANDS = ("B04", "B03", "B02", "B08")
_SEED = 20_201_128
_FLAT = 1e-4
"""Standard deviation, in reflectance, below which a window shows nothing."""
_PASS = 0.35
"""Standard deviation of the weights of spatial frequencies, in cycles a pixel. The highest ones
count less: there aliasing and interpolation falsify the phase. Chosen on simulated shifts."""


@dataclass(frozen=True)
class Shift:
    """How far the content of `after` must move to lie on `before`.

    Attributes:
        rows: Pixels of before's grid, downwards.
        columns: Pixels of before's grid, to the right.
        windows: How many windows agree on it.
        error: Standard error of the median over windows, in pixels.
        rest: Median length of the windows' own shifts once it is applied, in pixels.
    """

    rows: float
    columns: float
    windows: int
    error: float
    rest: float

    @property
    def length(self) -> float:
        """Length of the shift, in pixels."""
        return float(np.hypot(self.rows, self.columns))

    @property
    def is_sure(self) -> bool:
        """Whether the windows agree well enough to move an image by it."""
        return self.windows >= 2 and self.error < 0.1 and self.length <= FARTHEST


@dataclass(frozen=True)
class _Patch:
    """A window of both dates: before as it is, after as a piece of its own original."""

    before: NDArray[np.float64]
    after: NDArray[np.float32]
    origin: tuple[slice, slice]
    tile: tuple[slice, slice]


def shift_between(pair: Pair) -> Shift | None:
    """Measure how far `after` must move to lie on `before`; None where nothing can be measured.

    Raises:
        S2cdError: where a date cannot be read.
    """
    patches = _patches(pair)
    if not patches:
        return None
    total = np.zeros(2)
    found = _measure(patches, pair, total)
    for _ in range(_ITERATIONS):
        step = np.median(found, axis=0)
        if not np.isfinite(step).all() or np.hypot(*(total + step)) > FARTHEST:
            return Shift(float(total[0]), float(total[1]), 0, np.inf, np.inf)
        total += step
        found = _measure(patches, pair, total)
        if np.hypot(*step) < _REST:
            break
    return _summary(total, found)


def aligned(pair: Pair, shift: Shift) -> Pair:
    """The pair with `after` moved by ``shift``; it is resampled once, from the original."""
    return replace(pair, after_geobox=_moved(pair, np.array([shift.rows, shift.columns])))


def moved(own: GeoBox, grid: GeoBox, shift: Shift) -> GeoBox:
    """A grid as it would be if its content were moved by a shift in pixels of another grid."""
    return _moved_by(own, grid, (shift.rows, shift.columns))


def _moved(pair: Pair, shift: NDArray[np.float64]) -> GeoBox:
    """The grid of `after` as it would be if its content were moved by ``shift`` (rows, columns)."""
    return _moved_by(pair.after_geobox, pair.geobox, (shift[0], shift[1]))


def _moved_by(own: GeoBox, grid: GeoBox, shift: tuple[float, float]) -> GeoBox:
    move = grid.affine * Affine.translation(shift[1], shift[0]) * ~grid.affine
    return GeoBox(own.shape, move * own.affine, own.crs)


def _patches(pair: Pair) -> list[_Patch]:
    """Windows with data in both dates, spread over the scene by a fixed seeded choice."""
    band = next((b for b in _BANDS if b in pair.bands), pair.bands[0])
    before, after = only(pair.before, [band]), only(pair.after, [band])
    height, width = pair.shape
    size = min(WINDOW, height, width)
    cores = [
        (ys, xs)
        for ys, xs in tiles(slice(0, height), slice(0, width), size)
        if ys.stop <= height and xs.stop <= width
    ]
    np.random.default_rng(_SEED).shuffle(cores)
    patches: list[_Patch] = []
    for ys, xs in cores:
        patch = _patch(before, after, pair, (ys, xs))
        if patch is not None:
            patches.append(patch)
        if len(patches) == _MOST_WINDOWS:
            break
    return patches


def _patch(before: Any, after: Any, pair: Pair, tile: tuple[slice, slice]) -> _Patch | None:
    first = read_date(before, *tile)[0]
    if np.isnan(first).mean() > 0.1 or np.nanstd(first) < _FLAT:
        return None
    origin = source_window(pair.after_geobox, pair.geobox, *tile, around=_MARGIN)
    second = read_date(after, *origin)
    if 0 in second.shape or np.isnan(second).mean() > 0.2:
        return None
    return _Patch(_contrast(first), second, origin, tile)


def _measure(patches: list[_Patch], pair: Pair, total: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of the shift of each window (window, 2), once ``total`` is applied."""
    grids = (_moved(pair, total), pair.geobox)
    shifts = []
    for patch in patches:
        after = resample_from(patch.after, patch.origin, grids, patch.tile, RESAMPLING)[0]
        shifts.append(_phase_shift(patch.before, _contrast(after)))
    return np.array(shifts)


def _contrast(reflectance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithm of the values as stored, without data at the mean: shade and sun weigh less."""
    values = np.log1p(np.maximum(reflectance, 0).astype(np.float64) * 1e4)
    return np.nan_to_num(values, nan=float(np.nanmean(values)) if np.isfinite(values).any() else 0)


def _phase_shift(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Rows and columns by which ``after`` must move to lie on ``before``, to 0.01 pixel.

    Source: M. Guizar-Sicairos et al., "Efficient subpixel image registration algorithms", Optics
    Letters 33 (2008), 156-158: the peak of the phase correlation, refined by a matrix transform
    of its neighbourhood.
    """
    product = fft.fft2(before) * fft.fft2(after).conj()
    product *= _weights(before.shape) / np.maximum(np.abs(product), 1e-300)
    peak = np.abs(fft.ifft2(product))
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


def _summary(total: NDArray[np.float64], found: NDArray[np.float64]) -> Shift:
    """The shift with how well the windows agree on it; outliers are left out of the count."""
    left = np.hypot(*(found - np.median(found, axis=0)).T)
    spread = max(_SPREAD * float(np.median(left)), 0.01)
    inliers = int((left <= 3 * spread).sum())
    error = 1.2533 * spread / np.sqrt(max(1, inliers))
    rest = float(np.median(np.hypot(*found.T)))
    return Shift(float(total[0]), float(total[1]), inliers, float(error), rest)
