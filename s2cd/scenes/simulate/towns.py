"""Built-up blocks: streets, lots with their buildings, gardens and yards.

Towns stand on a lattice; a town's blocks within its radius stand before, those within a larger
radius are built between the dates. Estates are small towns that did not stand before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.scenes.simulate.lattice import Frame, uniform
from s2cd.scenes.simulate.spectra import LABELS, LEVELS

Numbers = NDArray[np.floating[Any]]
Lot = tuple[Any, ...]  # the town's name, the block's row and column, the lot's: integers

STANDING, GROWN = 1, 2
"""What stands on both dates, and what only on the second."""

_TOWN_EVERY, _ESTATE_EVERY = 3800.0, 1900.0
_DENSE, _SHOPS = 0, 2  # kinds of blocks: dense, houses, shops, works
_KIND_SHARES = np.cumsum([0.30, 0.45, 0.15, 0.10])
_LOTS = np.array([5, 4, 2, 1])  # lots along a block of each kind
_ROOF_SHARES = np.cumsum(  # concrete, metal, bitumen, red tile, for each kind
    [[0.50, 0.10, 0.25, 0.15], [0.35, 0.08, 0.17, 0.40], [0.4, 0.3, 0.3, 0], [0.2, 0.55, 0.25, 0]],
    axis=1,
)
_SHADOW = 7.0  # metres, to the north-west: the sun of a morning pass
_LOWEST_URBAN = LABELS["street"]


@dataclass(frozen=True)
class Town:
    """A town: where, how turned, and how far its blocks reach on the two dates (metres)."""

    name: tuple[int, int, int]
    y: float
    x: float
    angle: float
    block: float
    before: float
    after: float


def is_urban(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Where cells show a part of a town."""
    return (labels >= _LOWEST_URBAN) & (labels < len(LABELS))


def towns_near(seed: int, frame: Frame) -> list[Town]:
    """The towns and estates that may reach into a frame."""
    towns = _on_lattice(seed, frame, False) + _on_lattice(seed, frame, True)
    return [town for town in towns if all(map(_length, _reached(frame, town)))]


def _on_lattice(seed: int, frame: Frame, estates: bool) -> list[Town]:
    pitch = _ESTATE_EVERY if estates else _TOWN_EVERY
    row, column = frame.lattice(pitch, 1)
    held = uniform(seed, "town", int(estates), row, column) < (0.40 if estates else 0.72)
    name = int(estates), row[held], column[held]
    y, x, angle, block, size, growth = (
        uniform(seed, part, *name)
        for part in ("town y", "town x", "turn", "block", "town size", "growth")
    )
    before = np.zeros_like(size) if estates else 260 + 800 * size**2
    after = 90 + 170 * size if estates else before + 40 + 80 * growth
    y, x = (name[1] + 0.2 + 0.6 * y) * pitch, (name[2] + 0.2 + 0.6 * x) * pitch
    columns = y, x, 2 * np.pi * angle, 90 + 50 * block, before, after
    return [
        Town((int(estates), int(i), int(j)), *map(float, numbers))
        for i, j, *numbers in zip(*name[1:], *columns, strict=True)
    ]


def _reached(frame: Frame, town: Town) -> tuple[slice, slice]:
    return frame.around(town.y, town.x, 1.35 * town.after + 1.5 * town.block)


def _length(span: slice) -> int:
    return int(span.stop - span.start)


def draw_town(seed: int, frame: Frame, town: Town, state: int, labels: NDArray[np.int32]) -> None:
    """Draws the blocks of a town that are in a state; what grows does so on open land only."""
    window = _reached(frame, town)
    u, v = frame.turned(window, town.y, town.x, town.angle)
    i, j = (np.floor(axis / town.block).astype(np.int32) for axis in (u, v))
    half = int(max(i.max(), j.max(), -i.min(), -j.min())) + 1
    drawn = _states(seed, town, half)[i + half, j + half] == state
    if state == GROWN:
        open_land = (labels[window] >= len(LABELS)) | (labels[window] < LABELS["wood"])
        drawn &= open_land
    if drawn.any():
        cells = tuple(axis[drawn] for axis in (u, v, i, j))
        labels[window][drawn] = _block_cells(seed, town, state, *cells)


def _states(seed: int, town: Town, half: int) -> NDArray[np.uint8]:
    """For each block (2 half, 2 half) of a town when it stands; 0 where it is left open."""
    steps = np.arange(-half, half)
    i, j = steps[:, None], steps[None, :]
    uneven = 0.75 + 0.5 * uniform(seed, "uneven", *town.name, i, j)
    away = np.hypot(i + 0.5, j + 0.5) * town.block * uneven
    gaps = uniform(seed, "gap", *town.name, i, j) < 0.08
    states = np.where(away < town.before, STANDING, np.where(away < town.after, GROWN, 0))
    return np.where(gaps, 0, states).astype(np.uint8)


def _block_cells(
    seed: int,
    town: Town,
    state: int,
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    i: NDArray[np.int32],
    j: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Labels (n,) of cells at (u, v) metres in the town's axes, in its blocks (i, j)."""
    kind = np.searchsorted(_KIND_SHARES, uniform(seed, "kind", *town.name, i, j))
    street = np.where(kind == _DENSE, 8.0, 12.0)
    side = (town.block - street) / _LOTS[kind]
    u, v = u - i * town.block - street, v - j * town.block - street
    lot = (*town.name, i, j, np.floor(u / side), np.floor(v / side))
    place = (u - (lot[-2] + 0.5) * side, v - (lot[-1] + 0.5) * side)
    built = uniform(seed, "built", *lot) > (0.25 if state == GROWN else 0.08)
    roof, shadow = _building(seed, town, lot, side, place)
    labels = _ground(seed, town, state, kind, lot)
    labels = np.where(built & shadow, LABELS["shadow"], labels)
    labels = np.where(built & roof, _roofs(seed, lot, kind), labels)
    return np.where((u < 0) | (v < 0), LABELS["street"], labels).astype(np.int32)


def _building(
    seed: int, town: Town, lot: Lot, side: Numbers, place: tuple[Numbers, Numbers]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where places, in metres from the middle of their lot, are under a roof or in its shadow."""
    half_u = np.minimum(side * (0.28 + 0.18 * uniform(seed, "wide", *lot)), 30)
    half_v = np.minimum(side * (0.28 + 0.18 * uniform(seed, "deep", *lot)), 30)
    turn = town.angle - 5 * np.pi / 4
    du, dv = _SHADOW * np.cos(turn), -_SHADOW * np.sin(turn)
    u, v = place
    roof = (np.abs(u) < half_u) & (np.abs(v) < half_v)
    return roof, (np.abs(u - du) < half_u) & (np.abs(v - dv) < half_v)


def _ground(
    seed: int, town: Town, state: int, kind: NDArray[np.int64], lot: Lot
) -> NDArray[np.int64]:
    """What lies between the buildings: gardens, yards, and bare sites in some new blocks."""
    block = (*town.name, *lot[3:5])
    green = (len(LEVELS) * uniform(seed, "garden", *block)).astype(np.int64)
    labels = np.where(kind >= _SHOPS, LABELS["yard"], LABELS["garden0"] + green)
    if state == GROWN:
        labels = np.where(uniform(seed, "site", *block) < 0.45, LABELS["site"], labels)
    return labels


def _roofs(seed: int, lot: Lot, kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """The roof of each lot: its kind is drawn by the block's, its brightness at random."""
    roof = (uniform(seed, "roof", *lot)[:, None] > _ROOF_SHARES[kind, :-1]).sum(axis=1)
    level = (len(LEVELS) * uniform(seed, "level", *lot)).astype(np.int64)
    return np.asarray(LABELS["roof0"] + len(LEVELS) * roof + level, np.int64)
