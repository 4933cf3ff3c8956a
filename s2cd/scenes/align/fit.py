"""A motion of a whole grid from the shifts of its windows, of which some are wrong."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from s2cd.scenes.motion import Motion, motion_of, node_places, translation

Array = NDArray[np.float64]
LEAST = {"translation": 2, "affine": 6, "local": 12}
"""Windows that a motion of each kind needs, at least: twice its numbers, or a grid of them."""
PARAMETERS = {"translation": 1, "affine": 3, "local": 6}
"""Numbers that each coordinate of a motion takes; of a field, as many as it takes here at most."""
SPREAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_TOGETHER = {"translation": 1.0, "affine": 4.0, "local": 4.0}
"""Pixels within which the shifts of windows agree, before the motion across them is known."""
_LEAST_SHARE = 0.1
"""Of the windows must agree; over water and under cloud the others show anything."""
_NODE = 256
"""Pixels between nodes of a field, at most."""
_UNIT = 128.0
"""Pixels that are one in the splines' arithmetic."""
_SMOOTHINGS = np.logspace(-1, 5, 13)
_LEAST_SPREAD = 0.45
"""Standard deviation of windows across the line on which they lie best, in windows."""
_ROUNDS = 10
_TUKEY = 4.685
"""Of J. W. Tukey's biweight: beyond so many standard deviations a window does not count."""


def fitted(kind: str, centres: Array, shifts: Array, shape: tuple[int, int]) -> Motion:
    """The motion of a kind that agrees best with most windows.

    Args:
        kind: One of `KINDS`: the median; an affine map by iteratively reweighted least squares
            with Tukey's biweight (P. J. Huber, "Robust Statistics", 1981); or a thin-plate spline,
            smoothed as leave-one-out says (G. Wahba, "Spline Models for Observational Data",
            1990), over the windows that do not lie far from it.
        centres: Of the windows: (window, 2), rows and columns.
        shifts: Of the windows: (window, 2).
        shape: Of the grid, in pixels.
    """
    if kind == "translation":
        rows, columns = np.median(shifts, axis=0)
        return translation(float(rows), float(columns), shape)
    if kind == "affine":
        return _motion(_affine(centres, shifts), shape, (2, 2))
    nodes = tuple(max(4, -(-side // _NODE) + 1) for side in shape)
    return _motion(_field(centres, shifts), shape, (nodes[0], nodes[1]))


def agreeing(kind: str, shifts: Array) -> NDArray[np.bool_]:
    """Of shifts (window, 2), those in their densest place, which may be the smaller part of them.

    Windows on moving water give shifts that lie anywhere, so that hardly two of them agree; a
    median of all is lost where they are more than half.
    """
    if not len(shifts):
        return np.zeros(0, np.bool_)
    near = cdist(shifts, shifts) <= _TOGETHER[kind]
    most = near[near.sum(axis=1).argmax()]
    centre = np.median(shifts[most], axis=0)
    return np.asarray(np.hypot(*(shifts - centre).T) <= 2 * _TOGETHER[kind])


def enough(kind: str, agree: int, windows: int) -> bool:
    """Whether so many windows of all agree on a motion that it is no coincidence."""
    return agree >= max(LEAST[kind], min(windows, 3), _LEAST_SHARE * windows)


def inliers(misses: Array) -> NDArray[np.bool_]:
    """Of misses (window, 2), those that are no outliers: within three robust deviations."""
    lengths = np.hypot(*misses.T)
    return np.asarray(lengths <= 3 * spread_of(lengths))


def spread_of(lengths: Array) -> float:
    """Robust spread of lengths; what is below a hundredth of a pixel is taken for as much."""
    return max(SPREAD * float(np.median(lengths)), 0.01)


def spread_enough(kind: str, centres: Array) -> bool:
    """Whether windows lie so that a motion of a kind can be told from them: not all in a line."""
    if kind == "translation":
        return len(centres) > 0
    away = (centres - centres.mean(axis=0)) / _UNIT
    least = float(np.linalg.svd(away, compute_uv=False)[-1]) / np.sqrt(max(1, len(centres)))
    return len(centres) >= LEAST[kind] and least >= _LEAST_SPREAD


def _motion(at: Callable[[Array], Array], shape: tuple[int, int], nodes: tuple[int, int]) -> Motion:
    """A function of places (n, 2) at the nodes of a grid."""
    rows, columns = np.meshgrid(*node_places(shape, nodes), indexing="ij")
    values = at(np.stack([rows.ravel(), columns.ravel()], axis=1)).T.reshape(2, *nodes)
    return motion_of(np.round(values, 6), shape)  # beyond, sums depend on threads


def _design(places: Array) -> Array:
    return np.column_stack([np.ones(len(places)), places / _UNIT])


def _affine(centres: Array, shifts: Array) -> Callable[[Array], Array]:
    design, weights = _design(centres), np.ones(len(centres))
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)[:, None]
        found = np.linalg.lstsq(design * root, shifts * root, rcond=None)[0]
        lengths = np.hypot(*(shifts - design @ found).T)
        scaled = lengths / (_TUKEY * spread_of(lengths))
        weights = np.where(scaled < 1, np.square(1 - np.square(scaled)), 0.0)
    return lambda places: np.asarray(_design(places) @ found)


def _field(centres: Array, shifts: Array) -> Callable[[Array], Array]:
    """A smoothing spline; windows far from the affine map, and then from it, do not count."""
    kept = inliers(shifts - _affine(centres, shifts)(centres))
    spline = _affine(centres, shifts)
    for _ in range(3):
        if not spread_enough("local", centres[kept]):
            return spline
        spline = _spline(centres[kept], shifts[kept])
        kept = inliers(shifts - spline(centres))
    return spline


def _spline(centres: Array, shifts: Array) -> Callable[[Array], Array]:
    """A thin-plate spline as smooth as leaves the least error where a window is left out.

    For each smoothing the error without window i is (Q y)_i / Q_ii, with Q the part of the
    inverse of the bordered kernel matrix that belongs to the windows (Wahba 1990, 4.2).
    """
    design, count = _design(centres), len(centres)
    whole = np.zeros((count + 3, count + 3))
    whole[:count, :count] = _kernel(centres, centres)
    whole[:count, count:], whole[count:, :count] = design, design.T
    values = np.vstack([shifts, np.zeros((3, 2))])
    best, coefficients = np.inf, values
    for smoothing in _SMOOTHINGS:
        inverse = np.linalg.inv(whole + np.diag([smoothing] * count + [0.0] * 3))
        part = inverse[:count, :count]
        error = float(np.square(part @ shifts / np.diag(part)[:, None]).sum())
        if error < best:
            best, coefficients = error, inverse @ values

    def at(places: Array) -> Array:
        bent = _kernel(places, centres) @ coefficients[:count]
        return np.asarray(bent + _design(places) @ coefficients[count:])

    return at


def _kernel(places: Array, centres: Array) -> Array:
    """r^2 log r (J. Duchon, 1977)."""
    squares = cdist(places / _UNIT, centres / _UNIT, "sqeuclidean")
    return 0.5 * squares * np.log(np.maximum(squares, 1e-300))
