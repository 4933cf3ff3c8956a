"""One scene cut into parts to learn from and parts to validate on, with a gap between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.learning.store import Area
from s2cd.scenes.mask import UNLABELLED

WINDOW = 128
"""Height and width of the windows that networks learn from, unless told."""
_LEAST = 4 * WINDOW
"""Pixels along a side of a block, at least."""
_BLOCKS = 8
"""Most blocks along the longer side: more of them would lose more of the scene to gaps."""
_FEWEST = 10
"""Blocks; with fewer, the scene is cut once, across its longer side."""
GAP = "gap"
"""The split of what lies between: it is neither learned from nor validated on."""
_DRAWS = 300
_SEED = 20_200_607


@dataclass(frozen=True)
class Cut:
    """Areas of a scene that do not touch: between the two kinds lies the gap.

    Attributes:
        val: To validate on.
        train: To learn from; together all that is neither ``val`` nor gap, but for slivers.
        gap: Its width, in pixels.
    """

    val: tuple[Area, ...]
    train: tuple[Area, ...]
    gap: int

    def side_of(self, window: Area) -> str:
        """``val`` or ``train`` where a window lies within their areas, else ``gap``."""
        pixels = window.shape[0] * window.shape[1]
        for side, areas in (("val", self.val), ("train", self.train)):
            if sum(_shared_pixels(area, window) for area in areas) == pixels:  # they are disjoint
                return side
        return GAP


def cut(label: NDArray[np.uint8], window: int = WINDOW, share: float = 0.2) -> Cut:
    """Cut a scene into blocks of at least 512 pixels, of which about ``share`` are validated on.

    Blocks are drawn 300 times, always the same, and those are taken whose shares of the labelled
    pixels and of the change come nearest to ``share``, and whose gaps lose least. A small scene is
    cut once, across its longer side. What is validated on depends on the mask and the share alone,
    so that an evaluation finds it again; the windows to learn from only widen the gap.

    Args:
        label: 0, 1..n = change, 255 = unknown: (y, x).
        window: Height and width of the windows to learn from, and width of the gap, in pixels.
        share: Of the blocks, for validation.

    Raises:
        S2cdError: where the scene is too small for both, with a gap between them.
    """
    shape = (label.shape[0], label.shape[1])
    side = max(_LEAST, -(-max(shape) // _BLOCKS))
    edges = [_edges(length, side) for length in shape]
    if (len(edges[0]) - 1) * (len(edges[1]) - 1) < _FEWEST:
        val = _strip(label, window, share)
    else:
        val = _drawn(label, edges, share)
    train = _rest(shape, val, window)
    if not train or min(shape) < window:
        raise S2cdError(
            f"One scene of {shape[1]} x {shape[0]} pixels is too small to be cut into windows of "
            f"{window} to learn from, a gap, and a part for validation. Add a place, or give a "
            f"smaller --size (its longer side must be {3 * window} pixels)"
        )
    return Cut(val, train, window)


def _drawn(label: NDArray[np.uint8], edges: list[list[int]], share: float) -> tuple[Area, ...]:
    """The blocks to validate on."""
    blocks = [
        Area(top, left, bottom, right)
        for top, bottom in zip(edges[0], edges[0][1:], strict=False)
        for left, right in zip(edges[1], edges[1][1:], strict=False)
    ]
    counts = np.array([_counts(label, block) for block in blocks], float)
    count = max(1, round(share * len(blocks)))
    random = np.random.default_rng(_SEED)
    draws = [np.sort(random.permutation(len(blocks))[:count]) for _ in range(_DRAWS)]
    best = min(draws, key=lambda draw: _badness(counts, blocks, draw, share))
    return tuple(blocks[i] for i in best)


def _edges(length: int, side: int) -> list[int]:
    """Where blocks of at least ``side`` begin and end along an axis; nearly equal ones."""
    parts = max(1, length // side)
    return [round(length * i / parts) for i in range(parts + 1)]


def _counts(label: NDArray[np.uint8], area: Area) -> tuple[int, int]:
    """Labelled and changed pixels of an area."""
    part = label[area.slices]
    known = part != UNLABELLED
    return int(known.sum()), int((known & (part > 0)).sum())


def _badness(
    counts: NDArray[np.float64],
    blocks: list[Area],
    draw: NDArray[np.int64],
    share: float,
) -> float:
    """How far a choice of blocks is from the wanted share, and how much it loses to gaps."""
    off = np.abs(counts[draw].sum(axis=0) / np.maximum(1, counts.sum(axis=0)) - share)
    grown = [blocks[i].grown(WINDOW, (blocks[-1].bottom, blocks[-1].right)) for i in draw]
    whole = blocks[-1].bottom * blocks[-1].right
    lost = sum(g.shape[0] * g.shape[1] for g in grown) / whole
    return float(off.sum() + 0.5 * lost)


def _strip(label: NDArray[np.uint8], window: int, share: float) -> tuple[Area, ...]:
    """A strip for validation at that end whose share of the change is nearer to ``share``."""
    long = int(label.shape[1] >= label.shape[0])
    length = label.shape[long]
    usual = length >= 3 * WINDOW and min(label.shape) >= WINDOW
    strip = max(WINDOW if usual else window, round(share * length))
    total = max(1, _counts(label, Area(0, 0, *label.shape))[1])
    ends = [_across(s, label.shape, long) for s in ((0, strip), (length - strip, length))]
    return (min(ends, key=lambda end: abs(_counts(label, end)[1] / total - share)),)


def _across(span: tuple[int, int], shape: tuple[int, ...], axis: int) -> Area:
    if axis == 1:
        return Area(0, span[0], shape[0], span[1])
    return Area(span[0], 0, span[1], shape[1])


def _rest(shape: tuple[int, int], val: tuple[Area, ...], gap: int) -> tuple[Area, ...]:
    """What is neither validated on nor gap, as rectangles that hold a window: largest first."""
    taken = [area.grown(gap, shape) for area in val]
    rows = sorted({0, shape[0], *(a.top for a in taken), *(a.bottom for a in taken)})
    columns = sorted({0, shape[1], *(a.left for a in taken), *(a.right for a in taken)})
    free = np.ones((len(rows) - 1, len(columns) - 1), bool)
    for area in taken:
        free[
            rows.index(area.top) : rows.index(area.bottom),
            columns.index(area.left) : columns.index(area.right),
        ] = False
    areas = []
    while (found := _largest(free, (rows, columns), gap)) is not None:
        (top, bottom), (left, right) = found
        free[top:bottom, left:right] = False
        areas.append(Area(rows[top], columns[left], rows[bottom], columns[right]))
    return tuple(areas)


def _largest(
    free: NDArray[np.bool_], edges: tuple[list[int], list[int]], least: int
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The free cells that make the largest rectangle with sides of at least ``least`` pixels."""
    rows, columns = edges
    best, found = 0, None
    for top in range(free.shape[0]):
        open_below = np.ones(free.shape[1], bool)
        for bottom in range(top + 1, free.shape[0] + 1):
            open_below &= free[bottom - 1]
            height = rows[bottom] - rows[top]
            for left, right in _runs(open_below):
                width = columns[right] - columns[left]
                if min(height, width) >= least and height * width > best:
                    best, found = height * width, ((top, bottom), (left, right))
    return found


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where runs of true begin and end."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in steps.reshape(-1, 2)]


def _shared_pixels(area: Area, window: Area) -> int:
    part = area.common(window)
    return max(0, part.shape[0]) * max(0, part.shape[1])
