"""Separable resampling between grids whose axes are parallel: shifted, scaled or flipped.

The value of a pixel depends on its place alone, never on the window that asked for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_STRIP = 64
"""Target rows made at once: what they need of one band stays in the processor's cache."""
_PART = (64, 256)
"""Rows and columns made at once where some data are missing: few pixels without need for it then
take the slower way."""


@dataclass(frozen=True)
class Kernel:
    """An interpolation kernel and how far it reaches, in source pixels."""

    reach: int
    weight: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _cubic(t: NDArray[np.float64]) -> NDArray[np.float64]:
    t = np.abs(t)
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _lanczos(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)


def _bilinear(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1 - np.abs(t), 0)


KERNELS = {
    "cubic": Kernel(2, _cubic),
    "lanczos": Kernel(3, _lanczos),
    "bilinear": Kernel(1, _bilinear),
}
"""Cubic convolution with a = -0.5 (R. G. Keys, IEEE Trans. ASSP 29 (1981), 1153-1160), Lanczos
with three lobes (C. E. Duchon, J. Applied Meteorology 18 (1979), 1016-1022), and bilinear."""


@dataclass(frozen=True)
class Axis:
    """One axis of a resampling: which source pixels each target pixel takes, with what weight.

    Attributes:
        taps: Source pixels (target, tap); they may lie outside the source.
        weights: Of these (target, tap); they add up to 1.
        nearest: The source pixel in which each target pixel's centre lies (target,).
    """

    taps: NDArray[np.int64]
    weights: Array
    nearest: NDArray[np.int64]

    def part(self, chosen: slice) -> "Axis":
        """Some of the target pixels."""
        return Axis(self.taps[chosen], self.weights[chosen], self.nearest[chosen])

    def span(self, size: int) -> slice:
        """The source pixels within 0..size that are needed; it may be empty."""
        start = int(np.clip(self.taps.min(), 0, size))
        return slice(start, int(np.clip(self.taps.max() + 1, start, size)))


def axis(pixels: slice, scale: float, origin: float, resampling: str) -> Axis:
    """How target ``pixels`` are made where source = scale * target + origin, in pixel edges.

    Where the source is finer the kernel is widened, so that nothing is skipped.
    """
    centres = scale * (np.arange(pixels.start, pixels.stop) + 0.5) + origin
    nearest = np.floor(centres).astype(np.int64)
    if resampling == "nearest":
        return Axis(nearest[:, None], np.ones((len(nearest), 1), np.float32), nearest)
    kernel, width = KERNELS[resampling], max(1.0, abs(scale))
    reach = int(np.ceil(kernel.reach * width))
    taps = np.floor(centres - 0.5).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weights = kernel.weight((taps + 0.5 - centres[:, None]) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    return Axis(taps, weights.astype(np.float32), nearest)


def interpolate(values: Array, origin: tuple[slice, slice], axes: tuple[Axis, Axis]) -> Array:
    """Values (band, rows, columns) by both axes; NaN where the nearest source pixel has none.

    Args:
        values: The source's pixels at ``origin``, NaN = no data.
        origin: Rows and columns of the source; pixels beyond have no data.
        axes: Rows, then columns.
    """
    rows, columns = axes
    result = np.empty((len(values), len(rows.taps), len(columns.taps)), np.float32)
    for ys, part, strip in _parts(rows, origin[0], _STRIP):
        held = slice(strip.start - origin[0].start, strip.stop - origin[0].start)
        for band in range(len(values)):
            result[band, ys] = _band(values[band, held], (strip, origin[1]), (part, columns))
    return result


def _band(values: Array, origin: tuple[slice, slice], axes: tuple[Axis, Axis]) -> Array:
    """One band: at once where there are data everywhere, else in parts."""
    inside = all(_inside(a, o) for a, o in zip(axes, origin, strict=True))
    if inside and np.isfinite(values).all():
        return _along(_along(values, axes[0], origin[0], -2), axes[1], origin[1], -1)
    result = np.empty((len(axes[0].taps), len(axes[1].taps)), np.float32)
    for ys, row_part, rows in _parts(axes[0], origin[0], _PART[0]):
        for xs, column_part, columns in _parts(axes[1], origin[1], _PART[1]):
            held = tuple(
                slice(side.start - at.start, side.stop - at.start)
                for side, at in zip((rows, columns), origin, strict=True)
            )
            source = values[None, held[0], held[1]]
            result[ys, xs] = _strip(source, (rows, columns), (row_part, column_part))[0]
    return result


def _parts(a: Axis, origin: slice, size: int) -> Iterator[tuple[slice, Axis, slice]]:
    """An axis in parts of some target pixels, each with the source pixels that it needs."""
    for start in range(0, len(a.taps), size):
        some = slice(start, start + size)
        part = a.part(some)
        first = int(np.clip(part.taps.min(), origin.start, origin.stop))
        yield some, part, slice(first, int(np.clip(part.taps.max() + 1, first, origin.stop)))


def _strip(values: Array, origin: tuple[slice, slice], axes: tuple[Axis, Axis]) -> Array:
    """A few rows of `interpolate`."""
    valid = np.isfinite(values)
    inside = all(_inside(a, o) for a, o in zip(axes, origin, strict=True))
    if inside and valid.all():
        return _along(_along(values, axes[0], origin[0], -2), axes[1], origin[1], -1)
    if not valid.any():
        return np.full((len(values), *(len(a.nearest) for a in axes)), np.nan, np.float32)
    known = _both(np.where(valid, values, np.float32(0)), origin, axes)
    share = _both(valid.astype(np.float32), origin, axes)
    missing = _both((~valid).astype(np.float32), origin, axes, outside=1.0)
    whole = np.where(missing == 0, known, known / np.maximum(share, np.float32(0.25)))
    whole[~_taken(valid, origin, axes) | (share < 0.25)] = np.nan
    return whole


def _inside(a: Axis, origin: slice) -> bool:
    return bool(a.taps.min() >= origin.start and a.taps.max() < origin.stop)


def _both(
    values: Array, origin: tuple[slice, slice], axes: tuple[Axis, Axis], outside: float = 0.0
) -> Array:
    """Both axes in turn; with ``outside`` 1, the sum of absolute weights, of pixels beyond too."""
    for number, (given, o) in enumerate(zip(axes, origin, strict=True)):
        a = Axis(given.taps, np.abs(given.weights), given.nearest) if outside else given
        values = _along(_padded(values, a, o, number - 2, outside), a, _reach(a, o), number - 2)
    return values


def _reach(a: Axis, origin: slice) -> slice:
    return slice(min(origin.start, int(a.taps.min())), max(origin.stop, int(a.taps.max()) + 1))


def _padded(values: Array, a: Axis, origin: slice, dimension: int, fill: float) -> Array:
    """``values`` with ``fill`` at both ends of a dimension, as far as the taps reach."""
    wide, pads = _reach(a, origin), [(0, 0)] * values.ndim
    pads[dimension] = (origin.start - wide.start, wide.stop - origin.stop)
    return np.pad(values, pads, constant_values=fill)


def _along(values: Array, a: Axis, origin: slice, dimension: int) -> Array:
    """One axis: the weighted sum of its taps."""
    first = a.taps[:, 0] - origin.start
    if _is_doubling(first, a.weights):
        return _doubled(values, first, a.weights, dimension)
    shape = [1] * values.ndim
    shape[dimension] = -1
    total = _take(values, first, dimension) * a.weights[:, 0].reshape(shape)
    share = np.empty_like(total)
    for tap in range(1, a.taps.shape[1]):
        weight = a.weights[:, tap].reshape(shape)
        total += np.multiply(_take(values, first + tap, dimension), weight, out=share)
    return total


def _is_doubling(first: NDArray[np.int64], weights: Array) -> bool:
    """Whether an axis doubles pixels: even and odd ones have each the same weights throughout."""
    return bool(
        len(first) > 3
        and (first[2:] - first[:-2] == 1).all()
        and (weights[2:] == weights[:-2]).all()
    )


def _doubled(values: Array, first: NDArray[np.int64], weights: Array, dimension: int) -> Array:
    """As `_along`, to the same bits, without gathering pixels one by one."""
    shape = list(values.shape)
    shape[dimension] = len(first)
    result = np.empty(shape, np.float32)
    for phase in (0, 1):
        at = first[phase::2]
        total = _take(values, at, dimension) * weights[phase, 0]
        part = np.empty_like(total)
        for tap in range(1, weights.shape[1]):
            np.multiply(_take(values, at + tap, dimension), weights[phase, tap], out=part)
            total += part
        put: list[slice] = [slice(None)] * values.ndim
        put[dimension] = slice(phase, None, 2)
        result[tuple(put)] = total
    return result


def _take(values: Array, at: NDArray[np.int64], dimension: int) -> Array:
    """Pixels of one dimension; a view where they are neighbours."""
    if len(at) > 1 and (np.diff(at) == 1).all():
        cut: list[slice] = [slice(None)] * values.ndim
        cut[dimension] = slice(int(at[0]), int(at[-1]) + 1)
        return values[tuple(cut)]
    return values.take(at, axis=dimension)


def _taken(
    valid: NDArray[np.bool_], origin: tuple[slice, slice], axes: tuple[Axis, Axis]
) -> NDArray[np.bool_]:
    """Whether the nearest source pixel of each target pixel has data."""
    for number, (a, o) in enumerate(zip(axes, origin, strict=True)):
        at = a.nearest - o.start
        size = valid.shape[number - 2]
        if size == 0:
            return np.zeros((len(valid), len(axes[0].nearest), len(axes[1].nearest)), np.bool_)
        within = (at >= 0) & (at < size)
        taken = valid.take(np.clip(at, 0, size - 1), axis=number - 2)
        valid = taken & (within[:, None] if number == 0 else within)
    return valid
