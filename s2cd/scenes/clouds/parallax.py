"""What stands above the ground: how fast it seems to move between two bands of one date.

Sentinel-2's bands look at a place one after the other, 1.8 s between B08 and B8A, 1.0 s between
B02 and B04 (Sentinel-2 MSI technical guide, inter-band delays; used for clouds by Frantz et al.
2018, 10.1016/j.rse.2018.04.046, as a ratio of variances). The ground is registered; what is
higher is shifted along the track, by 9.5 m a second and kilometre of height (the satellite flies
7.44 km/s, 786 km up), and clouds drift with the wind. The shift is measured here by least squares
on the gradient (Lucas and Kanade 1981) with its standard error, since the displacement index
itself breaks down on images resampled by nearest neighbour (OSCD: every roof is a cloud to it).
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, uniform_filter

from s2cd.scenes.clouds.lattice import COARSE, Array, Lattice

PAIRS = (("B08", "B8A", 1.79, 1.5), ("B02", "B04", 1.005, 1.0))
"""Pairs of bands with similar pictures of a cloud, the seconds between them, and the error in m/s
that no measuring removes: bands are registered to 0.1 pixels as a rule and to 0.3 at worst
(Sentinel-2 data quality reports), of 20 m in the first pair and of 10 m in the second."""
SPEED_OF_HEIGHT = 7.44 / 786
"""Speed that a height seems to have, in m/s a metre: that of the satellite over its distance."""
INCLINATION = 98.62
"""Degrees, of Sentinel-2's orbit."""
_SMOOTH = np.array([1, 2, 1]) / 4
_WINDOW = 5  # coarse cells: 600 m
_STRIP = 64
_HALO = 4  # coarse cells: half a window, and the smoothing
_ALIKE = 7.0  # fine cells that vary as one after smoothing: (16 / 6)^2
_LEAST_GAIN = 0.1
Floats = NDArray[np.float64]


def drift(
    fine: Mapping[str, Array], lattice: Lattice, wanted: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Speed along the track (y, x) of coarse cells, in m/s, and its standard error.

    Args:
        fine: Reflectance of B02, B04, B08 and B8A over fine cells.
        lattice: The cells.
        wanted: Coarse cells to measure (y, x).

    Returns:
        Speed and error; the error is infinite where nothing can be told.
    """
    speeds, errors = [], []
    for first, second, lag, least in PAIRS:
        shift, error = _pair_drift((fine[first], fine[second]), lattice, wanted)
        speeds.append(shift / lag)
        errors.append(np.hypot(error / lag, least))
    return _together(np.stack(speeds), np.stack(errors))


def _together(speeds: Floats, errors: Floats) -> tuple[Array, Array]:
    """Weighted mean of speeds (pair, y, x) and its error, widened where the pairs disagree.

    The scale factor is that of the Particle Data Group: sqrt(chi2 / (n - 1)) where above 1.
    """
    weight = 1 / errors**2
    total = weight.sum(axis=0)
    mean = (weight * speeds).sum(axis=0) / np.maximum(total, 1e-12)
    chi2 = (weight * (speeds - mean) ** 2).sum(axis=0) / (len(speeds) - 1)
    with np.errstate(divide="ignore"):
        error = np.sqrt(np.maximum(chi2, 1) / total)
    return mean.astype(np.float32), error.astype(np.float32)


def along_track(latitude: float | None) -> tuple[float, float]:
    """Unit vector (down, right) of the descending track on a map with north up."""
    cosine = np.cos(np.radians(latitude or 0.0))
    sine = np.cos(np.radians(INCLINATION)) / max(cosine, 0.2)
    return float(np.sqrt(1 - sine**2)), float(sine)


def _pair_drift(
    pair: tuple[Array, Array], lattice: Lattice, measured: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Metres along the track from one band to the other, and the standard error."""
    shift = np.zeros(measured.shape)
    error = np.full(measured.shape, np.inf)
    for rows, grown in _strips(measured.shape[0]):
        wanted = measured[rows]
        if wanted.any():
            fine = slice(COARSE * grown.start, COARSE * grown.stop)
            sums = _sums(pair[0][fine], pair[1][fine])
            inner = slice(rows.start - grown.start, rows.stop - grown.start)
            found = _solve(sums[:, inner][:, wanted].T, lattice)
            shift[rows][wanted], error[rows][wanted] = found
    return shift, error


def _strips(height: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        yield slice(top, bottom), slice(max(0, top - _HALO), min(height, bottom + _HALO))


def _sums(first: Array, second: Array) -> Floats:
    """Products of (1, A, dA/dy, dA/dx, B), summed over windows: (15, y, x) of coarse cells."""
    seen = np.isfinite(first) & np.isfinite(second)
    a, b = (_smooth(np.where(seen, band, 0), seen) for band in (first, second))
    down, right = np.gradient(a)
    whole = _eroded(seen)
    terms = [whole.astype(np.float64)]
    terms += [np.where(whole, term, 0) for term in (a, down, right, b)]
    shape = a.shape[0] // COARSE, COARSE, a.shape[1] // COARSE, COARSE
    return np.stack(
        [
            uniform_filter(
                (terms[i] * terms[j]).reshape(shape).sum(axis=(1, 3)), _WINDOW, mode="constant"
            )
            * _WINDOW**2
            for i in range(5)
            for j in range(i, 5)
        ]
    )


def _smooth(values: Array, seen: NDArray[np.bool_]) -> Floats:
    """Values smoothed over what is seen."""
    total, share = values.astype(np.float64), seen.astype(np.float64)
    for axis in (0, 1):
        total = convolve1d(total, _SMOOTH, axis=axis, mode="nearest")
        share = convolve1d(share, _SMOOTH, axis=axis, mode="nearest")
    return np.where(share > 0, total / np.maximum(share, 1e-9), 0)


def _eroded(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return np.asarray(binary_erosion(seen, np.ones((5, 5)), border_value=1))


def _solve(sums: Floats, lattice: Lattice) -> tuple[Floats, Floats]:
    """Shift along the track of windows (n, 15), in metres, and its standard error."""
    products = np.zeros((len(sums), 5, 5))
    upper = np.triu_indices(5)
    products[:, upper[0], upper[1]] = products[:, upper[1], upper[0]] = sums
    normal, right, square = products[:, :4, :4], products[:, :4, 4], products[:, 4, 4]
    count = np.maximum(products[:, 0, 0], 1)
    scale = 1e-9 * np.maximum(np.einsum("nii->ni", normal), 1e-9)
    inverse = np.linalg.inv(normal + scale[:, None, :] * np.eye(4))
    fit = np.einsum("nij,nj->ni", inverse, right)
    left_over = np.maximum(square - np.einsum("ni,ni->n", fit, right), 1e-9 * count)
    variance = left_over / np.maximum(count / _ALIKE - 4, 1)
    gain = fit[:, 1]
    down, across = along_track(lattice.latitude)
    way = np.array([down * lattice.metres[0], across * lattice.metres[1]])
    way[0] *= 1 if lattice.north_is_up else -1
    spread = np.einsum("i,nij,j->n", way, inverse[:, 2:, 2:], way) * variance
    told = (gain > _LEAST_GAIN) & (products[:, 0, 0] > 0.4 * (_WINDOW * COARSE) ** 2)
    gain = np.where(told, gain, 1.0)
    shift = np.where(told, -(fit[:, 2:] @ way) / gain, 0.0)
    return shift, np.where(told, np.sqrt(np.maximum(spread, 0)) / gain, np.inf)
