"""Views of a pair: few enough pixels to show, in colours that compare."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from s2cd.scenes.bands import RGB
from s2cd.scenes.pair import Pair

_ROWS = 256
"""About as many rows of a scene are read at a time."""
_STRETCH = (1.0, 99.0)
"""Percentiles, of both dates together, between which a band is shown."""


def picture_bands(held: Sequence[str]) -> tuple[str, ...]:
    """The bands of a picture: red, green and blue, or the first that there is."""
    return RGB if set(RGB) <= set(held) else (held[0],)


def step_to(shape: tuple[int, int], longest: int) -> int:
    """How many pixels become one, so that no side has more than ``longest``."""
    return -(-max(shape) // longest)


Limits = list[tuple[float, float]]
"""The least and the largest reflectance that is told apart, of each band."""


def date_views(pair: Pair, step: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Limits]:
    """Both dates as pictures (height, width, 3; 4 where some pixels have no data).

    Each band of both dates is under one stretch, so that a difference seen is a difference.
    """
    dates = _thinned_dates(pair, step)
    both = [np.concatenate([d[band].ravel() for d in dates]) for band in range(len(dates[0]))]
    limits = [_limits(values) for values in both]
    return _coloured(dates[0], limits), _coloured(dates[1], limits), limits


def window_views(
    pair: Pair, window: tuple[slice, slice], limits: Limits
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A window of both dates in all its pixels, in the colours of the whole."""
    part = pair.window(*window)
    return _coloured(part.before, limits), _coloured(part.after, limits)


def strips(height: int, step: int) -> Iterator[slice]:
    """The rows of a scene in strips of whole ``step``."""
    rows = max(1, _ROWS // step) * step
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _thinned_dates(pair: Pair, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both dates (band, height, width), each pixel the mean of ``step`` by ``step``."""
    before, after = [], []
    for ys in strips(pair.shape[0], step):
        window = pair.window(ys, slice(0, pair.shape[1]))
        before.append(means(window.before, step))
        after.append(means(window.after, step))
    return np.concatenate(before, axis=1), np.concatenate(after, axis=1)


def means(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means of squares of pixels, of those that have data; NaN where none has."""
    if step == 1:
        return values
    count, height, width = values.shape
    rest = (-height % step, -width % step)
    padded = np.pad(values, ((0, 0), (0, rest[0]), (0, rest[1])), constant_values=np.nan)
    squares = padded.reshape(count, (height + rest[0]) // step, step, -1, step)
    known = np.isfinite(squares)
    total = np.where(known, squares, 0).sum(axis=(2, 4), dtype=np.float32)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float32] = total / known.sum(axis=(2, 4)).astype(np.float32)
    return means


def _limits(values: NDArray[np.float32]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, _STRETCH)
    return float(low), max(float(high), float(low) + 1e-6)


def _coloured(values: NDArray[np.float32], limits: Limits) -> NDArray[np.uint8]:
    """Red, green, blue and, where there is no data, transparency: (height, width, 3 or 4)."""
    bands = [
        np.clip((v - low) / (high - low), 0, 1)
        for v, (low, high) in zip(values, limits, strict=True)
    ]
    bands = bands * 3 if len(bands) == 1 else bands
    colours = np.nan_to_num(np.stack(bands, axis=-1)) * 255
    known = np.isfinite(values).all(axis=0)
    if not known.all():
        colours = np.dstack([colours, known * 255])
    rounded: NDArray[np.uint8] = np.rint(colours).astype(np.uint8)
    return rounded
