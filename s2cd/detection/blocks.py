"""How a scene is cut: windows on a lattice, and blocks of whole windows.

Windows lie on a lattice that is anchored at the scene's origin. The core of a window (without
its halo) is the part whose scores are used; a block is a whole number of cores, so no score can
depend on the size of the blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from s2cd.networks.detector import Detector, Frozen
from s2cd.scenes.pair import Pair

NOT_OBSERVED = 255
"""Stored where a pixel was not observed in both dates."""
Stored = NDArray[np.uint8] | NDArray[np.uint16]
"""Probability of change in the low byte: 0..200, 255 = not observed. Of a detector of several
classes the likeliest one, 1..n, in the high byte."""
STEPS = 200
"""Stored value of a probability of 1: steps of 0.5 %."""
BLOCK = 1280
"""Usual height and width of a block, in pixels. Every tile of the file that it touches with its
halo is unpacked whole: of 512 pixels, as `stack` writes them, that is a third more at 1024."""


@dataclass(frozen=True)
class Block:
    """A part of the map: its place in the order of blocks, and its rows and columns."""

    row: int
    column: int
    ys: slice
    xs: slice


@dataclass(frozen=True)
class Lattice:
    """Windows and their cores, in pixels."""

    window: int
    halo: int

    @property
    def core(self) -> int:
        """Height and width of the part of a window whose scores are used."""
        return self.window - 2 * self.halo

    def block_size(self, about: int = BLOCK) -> int:
        """As many cores as ``about`` pixels hold, at least one."""
        return max(1, about // self.core) * self.core


def lattice_of(detector: Detector) -> Lattice:
    """The lattice on which a detector's windows lie."""
    return Lattice(detector.window, detector.halo)


def blocks(shape: tuple[int, int], size: int) -> Iterator[Block]:
    """The blocks that cover a scene, each pixel once, row by row."""
    for row, top in enumerate(range(0, shape[0], size)):
        for column, left in enumerate(range(0, shape[1], size)):
            yield Block(
                row,
                column,
                slice(top, min(top + size, shape[0])),
                slice(left, min(left + size, shape[1])),
            )


def predict_block(pair: Pair, frozen: Frozen, lattice: Lattice, block: Block) -> Stored:
    """What is stored of a block: (height, width).

    Windows go one by one. Four at once take a gigabyte more in a network, and are a quarter slower
    on a processor: what a layer leaves is out of its cache before the next one reads it.
    """
    core, halo = lattice.core, lattice.halo
    height, width = block.ys.stop - block.ys.start, block.xs.stop - block.xs.start
    rows, columns = -(-height // core), -(-width // core)
    seen = pair.window(
        slice(block.ys.start - halo, block.ys.start + rows * core + halo),
        slice(block.xs.start - halo, block.xs.start + columns * core + halo),
    )
    inner = slice(halo, -halo or None)
    stored: Stored = np.full((rows * core, columns * core), NOT_OBSERVED, np.uint8)
    useful = seen.valid[inner, inner]
    for y, x in product(range(0, rows * core, core), range(0, columns * core, core)):
        if not useful[y : y + core, x : x + core].any():
            continue
        window = slice(y, y + lattice.window), slice(x, x + lattice.window)
        scores = frozen.predict(seen.before[None, :, *window], seen.after[None, :, *window])[0]
        core_scores = quantize(scores[..., inner, inner])
        if core_scores.dtype == np.uint16:
            stored = stored.astype(np.uint16)
        stored[y : y + core, x : x + core] = core_scores
    stored[~useful] = NOT_OBSERVED
    return stored[:height, :width]


def quantize(scores: NDArray[np.float32]) -> Stored:
    """Probabilities 0..1 as stored, in steps of 0.5 %, rounded to the nearest.

    Args:
        scores: (height, width); or (class, height, width), of which the sum is stored.
    """
    if scores.ndim < 3:
        return np.rint(np.clip(np.nan_to_num(scores), 0, 1) * STEPS).astype(np.uint8)
    likeliest = scores.argmax(axis=0).astype(np.uint16) + np.uint16(1)
    return np.asarray(likeliest << 8 | quantize(scores.sum(axis=0)), np.uint16)


def stored_probability(stored: Stored) -> NDArray[np.uint8]:
    """The probability of any change in what is stored: 0..200, 255 = not observed."""
    return (stored & 255).astype(np.uint8, copy=False)


def classify(stored: Stored, threshold: float) -> NDArray[np.uint8]:
    """Classes of what is stored: 0 exactly where the probability is less than ``threshold``.

    Elsewhere it is 1, or the likeliest class, and 255 where nothing was observed.
    """
    probability = stored_probability(stored)
    classes = (probability >= np.ceil(threshold * STEPS - 1e-9)).astype(np.uint8)
    if stored.dtype == np.uint16:
        classes *= (stored >> 8).astype(np.uint8)
    classes[probability == NOT_OBSERVED] = NOT_OBSERVED
    return classes
