"""Windows of both dates, their shifts, and the motion that is in them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.scenes.align.fit import (
    PARAMETERS,
    agreeing,
    enough,
    fitted,
    inliers,
    spread_enough,
    spread_of,
)
from s2cd.scenes.align.phase import contrast, phase_shift
from s2cd.scenes.grid import reader_of, source_window, tiles
from s2cd.scenes.motion import KINDS, Motion, restored, translation
from s2cd.scenes.pair import RESAMPLING, Pair, only, read_date
from s2cd.scenes.warp import moved

WINDOW = 128
"""Height and width of a window, in pixels."""
_MARGIN = 16
"""Source pixels read around a window, so that it can be resampled with any shift up to 8."""
FARTHEST = 8.0
"""Pixels; a shift beyond it is taken for a failure."""
LEAST_SHIFT = 0.2
"""Pixels; a smaller shift is left alone by detection, since resampling costs sharpness too."""
_MOST_WINDOWS = {"translation": 144, "affine": 144, "local": 400}
_REST = 0.005
_ITERATIONS = 12
_BANDS = ("B04", "B03", "B02", "B08")
_SEED = 20_201_128
_MOST_HIDDEN = 0.2
"""Share of a window that may lack data, in either date."""
_FLAT = 1e-4
"""Standard deviation, in reflectance, below which a window shows nothing."""


@dataclass(frozen=True)
class Shift:
    """How far the content of `after` must move to lie on `before`.

    Attributes:
        motion: Over before's grid, in its pixels.
        windows: How many windows agree on it.
        seen: Of how many that show anything.
        error: Standard error of it, in pixels.
        rest: Median length of the windows' own shifts once it is applied, in pixels.
    """

    motion: Motion
    windows: int
    seen: int
    error: float
    rest: float

    @property
    def rows(self) -> float:
        """Pixels downwards, at the middle of the grid."""
        return self.motion.centre[0]

    @property
    def columns(self) -> float:
        """Pixels to the right, at the middle of the grid."""
        return self.motion.centre[1]

    @property
    def length(self) -> float:
        """Length of the shift, in pixels: its mean over the grid."""
        return self.motion.length

    @property
    def is_sure(self) -> bool:
        """Whether the windows agree well enough to move an image by it."""
        many = enough(self.motion.kind, self.windows, self.seen)
        return many and self.error < 0.1 and self.motion.farthest <= FARTHEST

    def numbers(self) -> dict[str, Any]:
        """Fit for JSON; `Shift.restore` takes it back."""
        return asdict(self)

    @classmethod
    def restore(cls, numbers: Mapping[str, Any]) -> "Shift":
        """The shift that gave these `numbers`."""
        return cls(**{**numbers, "motion": restored(numbers["motion"])})


@dataclass(frozen=True)
class _Patch:
    """A window of both dates: before as it is, after as a piece of its own original."""

    before: NDArray[np.float64]
    after: NDArray[np.float32]
    origin: tuple[slice, slice]
    tile: tuple[slice, slice]


def shift_between(pair: Pair, kind: str = "translation") -> Shift | None:
    """Measure how `after` must move to lie on `before`; None where nothing can be measured.

    Args:
        pair: Both dates, as its motion so far brings them together.
        kind: ``translation``; ``affine``, where scale or rotation differ; or ``local``, a smooth
            field, where terrain or the sensor bends one date against the other.

    Raises:
        S2cdError: where a date cannot be read, or there is no such kind.
    """
    if kind not in KINDS:
        raise S2cdError(f"There is no registration {kind!r}. Name one of {', '.join(KINDS)}")
    patches = _patches(pair, _MOST_WINDOWS[kind])
    if not patches:
        return None
    return _found(patches, pair, kind)


def aligned(pair: Pair, shift: Shift) -> Pair:
    """The pair with `after` moved by a shift measured on it; resampled once, from the original."""
    return replace(pair, motion=pair.motion.plus(shift.motion))


def _patches(pair: Pair, most: int) -> list[_Patch]:
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
        if len(patches) == most:
            break
    return patches


def _patch(before: Any, after: Any, pair: Pair, tile: tuple[slice, slice]) -> _Patch | None:
    first = read_date(before, *tile)[0]
    if np.isnan(first).mean() > 0.1 or np.nanstd(first) < _FLAT:
        return None
    origin = source_window(pair.after_geobox, pair.geobox, *tile, around=_MARGIN)
    second = read_date(after, *origin)
    if 0 in second.shape or np.isnan(second).mean() > 0.2 or np.nanstd(second) < _FLAT:
        return None
    return _Patch(contrast(first), second, origin, tile)


def _found(patches: list[_Patch], pair: Pair, kind: str) -> Shift:
    """The motion in the windows, measured again and again with what was found applied."""
    centres = np.array([[(s.start + s.stop) / 2 for s in patch.tile] for patch in patches])
    motion = translation(0.0, 0.0, pair.shape)
    nothing = Shift(motion, 0, len(patches), np.inf, np.inf)
    for turn in range(_ITERATIONS + 1):
        found = _measure(patches, pair, motion)
        kept = np.flatnonzero(np.isfinite(found).all(axis=1))
        kept = kept[agreeing("translation" if turn > 1 else kind, found[kept])]
        if not len(kept) or not spread_enough(kind, centres[kept]):
            return nothing
        step = kind if turn else "translation"  # which brings the windows close to one another
        seen = motion.at(*centres[kept].T).T + found[kept]
        better = fitted(step, centres[kept], seen, pair.shape)
        if not np.isfinite(better.nodes).all() or better.farthest > FARTHEST:
            return nothing
        changed = np.hypot(*(better.at(*centres.T) - motion.at(*centres.T))).max()
        if turn == _ITERATIONS or (turn and changed < _REST):
            break
        motion = better
    return _summary(motion, found[kept], len(patches))


def _measure(patches: list[_Patch], pair: Pair, motion: Motion) -> NDArray[np.float64]:
    """What is left of the shift of each window (window, 2) with the motion applied; or NaN."""
    grids = (pair.after_geobox, pair.geobox)
    seen = partial(moved, grids=grids, motion=pair.motion.plus(motion), resampling=RESAMPLING)
    shifts = []
    for patch in patches:
        after = seen(reader_of(patch.after, patch.origin), window=patch.tile)[0]
        hidden = np.isnan(after).mean() > _MOST_HIDDEN
        shifts.append((np.nan, np.nan) if hidden else phase_shift(patch.before, contrast(after)))
    return np.array(shifts)


def _summary(motion: Motion, found: NDArray[np.float64], seen: int) -> Shift:
    """The shift with how well the windows agree on it; outliers are left out of the count."""
    misses = found - np.median(found, axis=0)
    lengths = np.hypot(*misses.T)
    agree = int(inliers(misses).sum())
    error = 1.2533 * spread_of(lengths) * np.sqrt(PARAMETERS[motion.kind] / max(1, agree))
    rest = float(np.median(np.hypot(*found.T)))
    return Shift(motion, agree, seen, float(error), rest)
