"""A date seen on another grid, its content moved on the way: resampled once, from the original."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.scenes.grid import paste, pixels_in, regrid, tiles
from s2cd.scenes.kernels import KERNELS
from s2cd.scenes.motion import Motion

Read = Callable[[slice, slice], NDArray[np.float32]]
_LEAST_SHARE = 0.25
"""Of the kernel's weight must lie on data, as in `kernels.interpolate`."""


def moved(
    read: Read,
    grids: tuple[GeoBox, GeoBox],
    motion: Motion,
    window: tuple[slice, slice],
    resampling: str,
) -> NDArray[np.float32]:
    """Values in a window of the target grid: (band, rows, columns), float32, NaN where none.

    Args:
        read: Gives the source's pixels (band, rows, columns) for rows and columns inside it.
        grids: The source's and the target's grid.
        motion: Of the content over the target's grid.
        window: Rows and columns of the target; it may reach beyond its edges.
        resampling: cubic, lanczos, bilinear or nearest.
    """
    source, target = grids
    if motion.is_linear:
        return regrid(read, (source, motion.view(target)), window, resampling)
    parts = [_part(read, grids, motion, part, resampling) for part in _parts(window)]
    height, width = (side.stop - side.start for side in window)
    result = np.full((len(parts[0]), height, width), np.nan, np.float32)
    for values, part in zip(parts, _parts(window), strict=True):
        paste(values, part, result, window)
    return result


def _parts(window: tuple[slice, slice]) -> Iterator[tuple[slice, slice]]:
    """A window in parts that need little of the source at a time."""
    for tile in tiles(*window):
        ys, xs = (
            slice(max(one.start, other.start), min(one.stop, other.stop))
            for one, other in zip(tile, window, strict=True)
        )
        yield ys, xs


def _part(
    read: Read,
    grids: tuple[GeoBox, GeoBox],
    motion: Motion,
    part: tuple[slice, slice],
    resampling: str,
) -> NDArray[np.float32]:
    """Values on a part of the target; each pixel's depend on its place alone."""
    source, target = grids
    rows, columns = np.mgrid[part] + 0.5 - motion.over(*part)
    x, y = pixels_in(source, target, columns.ravel(), rows.ravel())
    at = np.stack([y, x]).reshape(2, *rows.shape)
    at[:, ~np.isfinite(at).all(axis=0)] = np.nan
    kernel = resampling, max(1.0, _finer(grids))
    reach = 1 if resampling == "nearest" else int(np.ceil(KERNELS[resampling].reach * kernel[1]))
    ys, xs = (_span(side, reach, size) for side, size in zip(at, source.shape, strict=True))
    values = read(ys, xs)
    if 0 in values.shape:
        return np.full((len(values), *rows.shape), np.nan, np.float32)
    at = np.nan_to_num(at, nan=-9e9)
    framed = np.pad(values, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    at -= np.array([ys.start - 1, xs.start - 1])[:, None, None]  # whole pixels: fractions stay
    nearest = _taken(framed, *np.floor(at).astype(np.int64))
    if resampling == "nearest":
        return nearest
    made = _gathered(framed, at, kernel)
    made[np.isnan(nearest)] = np.nan
    return made


def _finer(grids: tuple[GeoBox, GeoBox]) -> float:
    """Source pixels that a pixel in the middle of the target is wide."""
    middle_y, middle_x = (size / 2 for size in grids[1].shape)
    x, y = pixels_in(*grids, np.array([middle_x, middle_x + 1]), np.array([middle_y] * 2))
    return float(np.hypot(np.diff(x), np.diff(y))[0])


def _span(at: NDArray[np.float64], reach: int, size: int) -> slice:
    """The source's pixels that places on one axis need; NaN: a place that the source has not."""
    if np.isnan(at).all():
        return slice(0, 0)
    start = int(np.clip(np.floor(np.nanmin(at)) - reach, 0, size))
    return slice(start, int(np.clip(np.ceil(np.nanmax(at)) + reach, start, size)))


def _taken(
    framed: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Pixels of bands that have a frame of no data: (band, height, width)."""
    flat = _clipped(rows, framed.shape[1]) * framed.shape[2] + _clipped(columns, framed.shape[2])
    return framed.reshape(len(framed), -1)[:, flat]


def _clipped(at: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Indices along one axis; what lies beyond is in the frame."""
    return np.clip(at, 0, size - 1)


def _gathered(
    framed: NDArray[np.float32], at: NDArray[np.float64], kernel: tuple[str, float]
) -> NDArray[np.float32]:
    """Each pixel by the kernel's weights around its place; data alone count."""
    valid = np.isfinite(framed)
    known, shares = np.where(valid, framed, np.float32(0)), valid.astype(np.float32)
    whole = bool(valid[:, 1:-1, 1:-1].all())
    total = np.zeros((len(framed), *at.shape[1:]), np.float32)
    share = np.zeros_like(total[:1] if whole else total)
    (rows, row_weights), (columns, column_weights) = (_taps(side, kernel) for side in at)
    for row, row_weight in zip(rows, row_weights, strict=True):
        for column, column_weight in zip(columns, column_weights, strict=True):
            weight = row_weight * column_weight
            total += _taken(known, row, column) * weight
            share += _taken(shares[: len(share)], row, column) * weight
    total /= np.maximum(share, np.float32(_LEAST_SHARE))
    total[np.broadcast_to(share < _LEAST_SHARE, total.shape)] = np.nan
    return total


def _taps(
    at: NDArray[np.float64], kernel: tuple[str, float]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """Source pixels around places on one axis and their weights, which add up to 1."""
    name, width = kernel
    reach = int(np.ceil(KERNELS[name].reach * width))
    first = np.floor(at - 0.5).astype(np.int64)
    taps = [first + offset for offset in range(1 - reach, reach + 1)]
    weights = np.stack([KERNELS[name].weight((tap + 0.5 - at) / width) for tap in taps])
    weights /= weights.sum(axis=0)
    return taps, list(weights.astype(np.float32))
