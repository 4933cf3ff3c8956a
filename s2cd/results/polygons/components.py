"""Connected changes of a map, counted block by block and joined across the blocks' borders.

Nothing here depends on the size of the blocks: sums are of whole numbers, which floats of 64 bits
hold exactly, and changes are numbered by their first pixel in reading order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import NOT_OBSERVED, STEPS, Block, blocks

INDEX_STEPS = 10_000
"""Indices are summed in whole steps of 1/10000, so that a mean does not depend on the order."""

Read = Callable[[Block], NDArray[Any]]


@dataclass(frozen=True)
class Layers:
    """A map and what is known of its pixels, read block by block.

    Attributes:
        shape: Height and width of the map.
        size: Height and width of a block.
        classes: Gives (height, width) uint8: 0, 1..n, 255 = not observed.
        probability: Gives (height, width) uint8: 0..200, 255 = not observed.
        indices: Gives indices and reflectance (index, height, width) float32, NaN = not known.
    """

    shape: tuple[int, int]
    size: int
    classes: Read
    probability: Read | None = None
    indices: Read | None = None


@dataclass(frozen=True)
class Parts:
    """Sums over the changes, or over the parts of them that lie in one block.

    Attributes:
        classes: Class of each.
        pixels: Pixels of each.
        first: Place of the first pixel of each, counted in reading order.
        probability: Sum, largest, and number of the probabilities of each: (3, n).
        indices: Sum of each index in steps, and number of pixels that have them: (index + 1, n).
    """

    classes: NDArray[np.int64]
    pixels: NDArray[np.int64]
    first: NDArray[np.int64]
    probability: NDArray[np.float64]
    indices: NDArray[np.float64]


@dataclass
class Components:
    """The changes of a map.

    Attributes:
        parts: What is known of each change, in the order of their numbers.
        number: Number (1..n) of the change to which each part belongs; 0 for the background, which
            is part 0, and for changes that are left out.
        held: Of each block, by (row, column), the part that each of its labels is.
        observed: Pixels that were observed in both dates.
        forgotten: Number and pixels of the changes that were too small to be kept at all.
    """

    parts: Parts
    number: NDArray[np.int32]
    held: dict[tuple[int, int], NDArray[np.int32]] = field(default_factory=dict)
    observed: int = 0
    forgotten: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.parts.pixels)

    def keep(self, kept: NDArray[np.bool_]) -> "Components":
        """The same without some of the changes; the others are numbered anew."""
        new = np.concatenate([[0], np.cumsum(kept) * kept]).astype(np.int32)
        return replace(self, parts=_take(self.parts, kept), number=new[self.number])

    def numbers_in(self, block: Block, classes: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Which change each pixel of a block belongs to: (height, width); 0 for none."""
        local, _ = label(classes)
        numbers: NDArray[np.int32] = self.number[self.held[block.row, block.column]][local]
        return numbers


def find_components(layers: Layers, least: int = 1) -> Components:
    """The changes of a map: pixels of one class that meet at an edge (not at a corner only).

    Args:
        layers: The map.
        least: Changes of fewer pixels may be forgotten: those that lie within one block are, since
            specks by the million would not fit into memory.
    """
    found: list[Parts] = []
    joints: list[NDArray[np.int64]] = []
    held: dict[tuple[int, int], NDArray[np.int32]] = {}
    border, total, observed = _Border(layers.shape[1]), 0, 0
    forgotten = np.zeros(2, np.int64)
    for block in blocks(layers.shape, layers.size):
        classes = layers.classes(block)
        observed += int((classes != NOT_OBSERVED).sum())
        local, kinds = label(classes)
        kept = _kept(local, len(kinds), least)
        ids = np.concatenate([[0], (np.cumsum(kept) + total) * kept]).astype(np.int32)
        held[block.row, block.column] = ids
        joints.append(border.meet(block, ids[local].astype(np.int64), classes))
        if len(kinds):
            parts = _measure(layers, block, local, kinds)
            forgotten += (~kept).sum(), parts.pixels[~kept].sum()
            found.append(_take(parts, kept))
        total += int(kept.sum())
    number, merged = _merge(_joined(found), np.concatenate(joints))
    return Components(merged, number, held, observed, (int(forgotten[0]), int(forgotten[1])))


def _kept(local: NDArray[np.int32], count: int, least: int) -> NDArray[np.bool_]:
    """Which parts of a block are large enough, or may go on beyond it."""
    kept: NDArray[np.bool_] = np.bincount(local.ravel(), minlength=count + 1) >= least
    for edge in (local[0], local[-1], local[:, 0], local[:, -1]):
        kept[edge] = True
    return kept[1:]


def label(classes: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label the parts of a block, each of one class, from 1; and give the class of each."""
    from scipy import ndimage

    labels = np.zeros(classes.shape, np.int32)
    kinds: list[int] = []
    for kind in np.unique(classes):
        if kind in (0, NOT_OBSERVED):
            continue
        here, count = ndimage.label(classes == kind)
        labels[here > 0] = here[here > 0] + len(kinds)
        kinds += [int(kind)] * count
    return labels, np.array(kinds, np.int64)


class _Border:
    """The last row of labels above, and the last column to the left, of the block that is next."""

    def __init__(self, width: int) -> None:
        self.above = np.zeros((2, width), np.int64)
        self.left = np.zeros((2, 0), np.int64)

    def meet(
        self, block: Block, labels: NDArray[np.int64], classes: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        """Which labels of a block meet which of its neighbours: (n, 2)."""
        seen = np.stack([labels, classes.astype(np.int64)])
        pairs = [_touching(self.above[:, block.xs], seen[:, 0])]
        if block.column:
            pairs.append(_touching(self.left, seen[:, :, 0]))
        self.above[:, block.xs] = seen[:, -1]
        self.left = seen[:, :, -1]
        return np.concatenate(pairs)


def _touching(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    same = (one[0] > 0) & (other[0] > 0) & (one[1] == other[1])
    return np.unique(np.stack([one[0][same], other[0][same]], axis=1), axis=0)


def _measure(
    layers: Layers, block: Block, local: NDArray[np.int32], kinds: NDArray[np.int64]
) -> Parts:
    n = len(kinds)
    ys, xs = np.nonzero(local)
    which = local[ys, xs] - 1
    first = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(first, which, (ys + block.ys.start) * layers.shape[1] + xs + block.xs.start)
    probability = np.zeros((3, n))
    if layers.probability is not None:
        stored = layers.probability(block)[ys, xs]
        known: NDArray[np.bool_] = stored <= STEPS
        probability[0] = np.bincount(which[known], stored[known], n)
        np.maximum.at(probability[1], which[known], stored[known])
        probability[2] = np.bincount(which[known], minlength=n)
    indices = np.zeros((1, n))
    if layers.indices is not None:
        values = layers.indices(block)[:, ys, xs]
        known = np.asarray(np.isfinite(values).all(axis=0))
        steps = np.rint(values[:, known] * INDEX_STEPS)
        sums = [np.bincount(which[known], weights, n) for weights in steps]
        indices = np.stack([*sums, np.bincount(which[known], minlength=n)])
    return Parts(kinds, np.bincount(which, minlength=n), first, probability, indices)


def _joined(found: list[Parts]) -> Parts:
    if not found:
        none = np.empty(0, np.int64)
        return Parts(none, none, none, np.empty((3, 0)), np.empty((1, 0)))
    return Parts(
        np.concatenate([p.classes for p in found]),
        np.concatenate([p.pixels for p in found]),
        np.concatenate([p.first for p in found]),
        np.concatenate([p.probability for p in found], axis=1),
        np.concatenate([p.indices for p in found], axis=1),
    )


def _merge(parts: Parts, joints: NDArray[Any]) -> tuple[NDArray[np.int32], Parts]:
    """Number the changes of which the parts are parts, by their first pixel; and sum them up."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(parts.pixels)
    if n == 0:
        return np.zeros(1, np.int32), parts
    ends = joints.astype(np.int64) - 1
    graph = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(n, n))
    count, group = connected_components(graph, directed=False)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, group, parts.first)
    order = np.argsort(first)
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    group = rank[group]
    return np.concatenate([[0], group + 1]).astype(np.int32), _sums(parts, group, first[order])


def _sums(parts: Parts, group: NDArray[np.int64], first: NDArray[np.int64]) -> Parts:
    n = len(first)
    classes = np.zeros(n, np.int64)
    classes[group] = parts.classes
    probability = np.stack([np.bincount(group, row, n) for row in parts.probability]).astype(
        np.float64
    )
    probability[1] = 0
    np.maximum.at(probability[1], group, parts.probability[1])
    indices = np.stack([np.bincount(group, row, n) for row in parts.indices]).astype(np.float64)
    pixels = np.bincount(group, parts.pixels, n).astype(np.int64)
    return Parts(classes, pixels, first, probability, indices)


def _take(parts: Parts, kept: NDArray[np.bool_]) -> Parts:
    return Parts(
        parts.classes[kept],
        parts.pixels[kept],
        parts.first[kept],
        parts.probability[:, kept],
        parts.indices[:, kept],
    )


def numbered(layers: Layers, components: Components) -> Iterator[tuple[Block, NDArray[np.int32]]]:
    """Each block with the numbers of the changes of its pixels."""
    for block in blocks(layers.shape, layers.size):
        yield block, components.numbers_in(block, layers.classes(block))
