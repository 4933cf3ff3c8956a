"""Outlines of numbered pixels as valid polygons, the same whatever the blocks they come in.

A vertex of the pixel lattice is a corner of a change where its outline turns there. Along each row
and column the corners of one change are ends of straight edges in turn; following edges by turns
along rows and columns gives the rings. Where two pixels of one change meet at a corner only, the
ring turns such that each part of the background has a ring of its own: so rings never touch
themselves, and a polygon is valid (OGC Simple Features 1.2.1, 6.1.11).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import Block

_BATCH = 1_000_000
"""About as many corners are turned into polygons at a time."""
_BITS = 17
"""Bits of a row or a column in a key: scenes of up to 131071 pixels at a side."""
_TURN = {1: 0, 14: 0, 2: 1, 13: 1, 4: 2, 11: 2, 8: 3, 7: 3}
"""Where a corner's edges lead, by the pixels around it that belong to the change (1, 2, 4, 8 for
those above left, above right, below left, below right): 0 left and up, 1 right and up, 2 left and
down, 3 right and down."""


@dataclass(frozen=True)
class Corners:
    """Corners of outlines: number of the change, row, column, turn, and whether it may be cut.

    A corner may be cut where only two things meet (a change and the background, or two changes):
    elsewhere, neighbours would come apart.
    """

    key: NDArray[np.int64]
    turn: NDArray[np.uint8]
    cuttable: NDArray[np.bool_]


def find_corners(
    shape: tuple[int, int], numbered: Iterable[tuple[Block, NDArray[np.int32]]]
) -> Corners:
    """All corners of the outlines, sorted by change, row and column.

    Args:
        shape: Height and width of the map.
        numbered: Blocks, row by row, with the number of the change of each pixel (0 for none).
    """
    height, width = shape
    above, below = np.zeros(width + 2, np.int32), np.zeros(width + 2, np.int32)
    left = np.zeros(0, np.int32)
    found: list[Corners] = []
    for block, numbers in numbered:
        if block.column == 0:
            above, below = below, np.zeros(width + 2, np.int32)
            left = np.zeros(len(numbers), np.int32)
        edges = int(block.ys.stop == height), int(block.xs.stop == width)
        padded = np.pad(numbers, ((1, edges[0]), (1, edges[1])))
        padded[0] = above[block.xs.start : block.xs.stop + 1 + edges[1]]
        padded[1 : 1 + len(left), 0] = left
        found.append(_corners(padded, block.ys.start, block.xs.start))
        left = numbers[:, -1]
        below[block.xs.start + 1 : block.xs.stop + 1] = numbers[-1]
    return _sorted(found)


def _corners(padded: NDArray[np.int32], top: int, left: int) -> Corners:
    around = (padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:])
    mixed = (around[0] != around[1]) | (around[0] != around[2]) | (around[0] != around[3])
    ys, xs = np.nonzero(mixed)
    q = np.stack([part[ys, xs] for part in around])
    ordered = np.sort(q, axis=0)
    cuttable = (np.diff(ordered, axis=0) != 0).sum(axis=0) == 1
    place = (ys.astype(np.int64) + top) << _BITS | (xs.astype(np.int64) + left)
    keys, turns, cuts = [], [], []
    for slot in range(4):
        new = (q[slot] > 0) & ~(q[:slot] == q[slot]).any(axis=0)
        pattern = ((q == q[slot]) * np.array([[1], [2], [4], [8]])).sum(axis=0)
        for known, ends in _PATTERNS.items():
            at = new & (pattern == known)
            for turn in ends:
                keys.append(q[slot][at].astype(np.int64) << 2 * _BITS | place[at])
                turns.append(np.full(len(keys[-1]), turn, np.uint8))
                cuts.append(cuttable[at])
    return Corners(np.concatenate(keys), np.concatenate(turns), np.concatenate(cuts))


_PATTERNS = {**{pattern: (turn,) for pattern, turn in _TURN.items()}, 9: (1, 2), 6: (0, 3)}
"""The turns at a vertex by the pixels around it; two where pixels meet at a corner only."""


def _sorted(found: list[Corners]) -> Corners:
    key = np.concatenate([c.key for c in found])
    turn = np.concatenate([c.turn for c in found])
    # at one vertex, the end of the edge from the left comes before that of the edge to the right
    order = np.argsort(key << 1 | (turn & 1), kind="stable")
    return Corners(key[order], turn[order], np.concatenate([c.cuttable for c in found])[order])


def polygons_of(corners: Corners, smooth: bool = False) -> NDArray[Any]:
    """One valid shapely polygon for each change, by number, in columns and rows of pixels.

    Args:
        corners: All corners of all changes, numbered from 1 without a gap.
        smooth: Whether to cut corners half a pixel from their tips, so that stairs become
            slopes. What meets still meets, and nothing new does.
    """
    number = corners.key >> 2 * _BITS
    first = np.flatnonzero(np.diff(number, prepend=0))
    polygons = []
    start = 0
    while start < len(number):
        at = np.searchsorted(first, start + _BATCH)
        stop = int(first[at]) if at < len(first) else len(number)
        part = slice(start, stop)
        batch = Corners(corners.key[part], corners.turn[part], corners.cuttable[part])
        polygons.append(_batch_polygons(batch, smooth))
        start = stop
    return np.concatenate(polygons) if polygons else np.empty(0, object)


def _batch_polygons(corners: Corners, smooth: bool) -> NDArray[Any]:
    import shapely

    mask = (1 << _BITS) - 1
    number, ys, xs = corners.key >> 2 * _BITS, corners.key >> _BITS & mask, corners.key & mask
    down = (corners.turn >> 1).astype(np.int64)
    by_column = np.argsort((number << _BITS | xs) << _BITS + 1 | ys << 1 | down, kind="stable")
    along_column = np.empty(len(ys), np.int64)
    along_column[by_column[0::2]], along_column[by_column[1::2]] = by_column[1::2], by_column[0::2]
    order, lengths = _rings(along_column)
    owner = number[order[np.cumsum(lengths) - lengths]]
    points = np.stack([xs[order], ys[order]], axis=1).astype(np.float64)
    if smooth:
        points, lengths = _cut(points, corners.cuttable[order], lengths)
    points, offsets = _closed(points, lengths)
    ring_starts = np.flatnonzero(np.diff(owner, prepend=0))
    holders = np.append(ring_starts, len(lengths))
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (offsets, holders))


def _rings(along_column: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners in the order of their rings, and how many each ring has.

    Corners 2 i and 2 i + 1 are the ends of an edge along a row. A ring begins at its upper left
    corner; the first ring of a change is its outer one.
    """
    partner = along_column.tolist()
    done = bytearray(len(partner))
    order: list[int] = []
    lengths: list[int] = []
    for start in range(0, len(partner), 2):
        if done[start]:
            continue
        at, before = start, len(order)
        while True:
            other = at ^ 1
            done[at] = done[other] = 1
            order += (at, other)
            at = partner[other]
            if at == start:
                break
        lengths.append(len(order) - before)
    return np.array(order, np.int64), np.array(lengths, np.int64)


def _cut(
    points: NDArray[np.float64], cuttable: NDArray[np.bool_], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rings without the tips of their corners, and without points on a straight line."""
    before, after = _neighbours(lengths)
    leg = 0.5 * cuttable[:, None]
    ends = np.empty((2 * len(points), 2))
    ends[0::2] = points + leg * np.sign(points[before] - points)
    ends[1::2] = points + leg * np.sign(points[after] - points)
    ring = np.repeat(np.arange(len(lengths)), 2 * lengths)
    before, after = _neighbours(2 * lengths)
    fresh = (ends != ends[before]).any(axis=1)
    ends, ring = ends[fresh], ring[fresh]
    lengths = np.bincount(ring, minlength=len(lengths))
    before, after = _neighbours(lengths)
    one, other = ends - ends[before], ends[after] - ends
    turns = one[:, 0] * other[:, 1] != one[:, 1] * other[:, 0]
    return ends[turns], np.bincount(ring[turns], minlength=len(lengths))


def _neighbours(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the points before and after each point of its ring."""
    stops = np.cumsum(lengths)
    starts = stops - lengths
    at = np.arange(int(stops[-1]) if len(stops) else 0)
    before, after = at - 1, at + 1
    before[starts], after[stops - 1] = stops - 1, starts
    return before, after


def _closed(
    points: NDArray[np.float64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rings that end where they begin, one after another, and where each begins."""
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    starts = offsets[:-1] - np.arange(len(lengths))
    closed = np.insert(points, starts + lengths, points[starts], axis=0)
    return closed, offsets
