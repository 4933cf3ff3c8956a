"""The ground before and after: which material or field each 5 m cell shows.

Everything is a pure function of the seed and of the position: the squares of absolute lattices
are hashed, and what a square holds (a farm, a lake, a way between two villages) is drawn
wherever it reaches. Fields, tracks and roads are bent by smooth noise; towns are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import Voronoi

from s2cd.scenes.simulate.lattice import CELL, Floats, Frame, hashed, smooth, uniform
from s2cd.scenes.simulate.spectra import LABELS
from s2cd.scenes.simulate.towns import GROWN, STANDING, draw_town, is_urban, towns_near

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]

_FARM, _VILLAGE, _JITTER = 760.0, 2700.0, 0.8
_ROWS = 64  # the fields of a farm are numbered in a square of this side
_BEND, _BEND_LENGTH = 55.0, 420.0  # metres at most, metres between turns
_BEND_CELLS = int(_BEND / CELL) + 1
_RIVER_EVERY, _LAKE_EVERY = 9000.0, 4000.0
_OLD_ROAD, _NEW_ROAD = 0.55, 0.69  # shares of the ways between villages, summed up


@dataclass(frozen=True)
class Landscape:
    """What cells show on two dates.

    Attributes:
        before: numbers (side, side) of materials, then of fields in the order of ``fields``.
        after: the same for the second date; it differs exactly where something was built.
        fields: (4, n) integers that name each field.
    """

    before: Labels
    after: Labels
    fields: NDArray[np.int64]


def draw_landscape(seed: int, frame: Frame) -> Landscape:
    """What the cells of a frame show before and after."""
    big = frame.grown(_BEND_CELLS)
    bent = _bent(seed, frame)
    labels, fields = _country(seed, big)
    before, roads = labels.ravel()[bent], _roads(seed, big).ravel()[bent]
    before[_wooded(seed, frame)] = LABELS["wood"]
    towns = towns_near(seed, frame)
    for town in towns:
        draw_town(seed, frame, town, STANDING, before)
    _flood(seed, frame, before)
    before[roads == STANDING] = LABELS["road"]

    after = before.copy()
    for town in towns:
        draw_town(seed, frame, town, GROWN, after)
    after[(roads == GROWN) & ~is_urban(before) & (before != LABELS["road"])] = LABELS["road"]
    return Landscape(before, after, fields)


def _bent(seed: int, frame: Frame) -> NDArray[np.int64]:
    """For each cell, the flat place in the grown frame from which it shows the country."""
    side = frame.side + 2 * _BEND_CELLS
    across, down = (
        np.rint(np.clip(smooth(seed, name, frame.ys, frame.xs, _BEND_LENGTH), -2, 2) * _BEND / 10)
        for name in ("bend x", "bend y")
    )
    inside = np.arange(frame.side) + _BEND_CELLS
    flat = (inside[:, None] + down) * side + inside[None, :] + across
    return flat.astype(np.int64)


def _country(seed: int, frame: Frame) -> tuple[Labels, NDArray[np.int64]]:
    """Fields with their margins and tracks, and the names (4, n) of the fields."""
    row, column = frame.lattice(_FARM, 2)
    farm = _nearest(frame, *_sites(seed, "farm", row, column, _FARM), 1.3 * _FARM)
    code = np.zeros_like(farm)
    for number, window in enumerate(find_objects(farm + 1)):
        if window is not None:
            at = (int(row[number]), int(column[number]))
            here = farm[window] == number
            np.copyto(
                code[window], number * _ROWS**2 + _fields(seed, frame, window, at), where=here
            )
    seen = np.flatnonzero(np.bincount(code.ravel()))
    renumbered = np.zeros(seen[-1] + 1, np.int32)
    renumbered[seen] = len(LABELS) + np.arange(seen.size)
    labels = renumbered[code]
    hedged = uniform(seed, "hedge", row, column) < 0.6
    labels[_borders(code) & hedged[farm]] = LABELS["margin"]
    tracks = _borders(farm)
    tracks[1:] |= tracks[:-1]
    labels[tracks] = LABELS["track"]
    of, place = np.divmod(seen, _ROWS**2)
    return labels, np.stack([row[of], column[of], *np.divmod(place, _ROWS)])


def _fields(seed: int, frame: Frame, window: tuple[slice, slice], at: tuple[int, int]) -> Labels:
    """Numbers of a farm's fields: columns of rows, each column begun elsewhere, some joined."""
    (y,), (x,) = _sites(seed, "farm", *at, _FARM)
    width = 60 + 90 * uniform(seed, "width", *at).item()
    length = 110 + 230 * uniform(seed, "length", *at).item()
    u, v = frame.turned(window, y, x, 2 * np.pi * uniform(seed, "angle", *at).item())
    columns = np.arange(_ROWS, dtype=np.int32)
    columns -= (columns % 2) * (uniform(seed, "join", *at, columns) < 0.35)
    begun = uniform(seed, "begun", *at, columns).astype(np.float32)
    column = columns[_numbered(u * np.float32(1 / width))]
    row = _numbered(v * np.float32(1 / length) + begun[column])
    return np.asarray(column * _ROWS + row, np.int32)


def _numbered(at: Floats) -> Labels:
    return np.clip(np.floor(at).astype(np.int32) + _ROWS // 2, 0, _ROWS - 1)


def _sites(
    seed: int,
    stream: str,
    row: NDArray[np.int64] | int,
    column: NDArray[np.int64] | int,
    pitch: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One point in each square of a lattice: y and x in metres."""
    y = row + 0.5 + _JITTER * (uniform(seed, stream + " y", row, column) - 0.5)
    x = column + 0.5 + _JITTER * (uniform(seed, stream + " x", row, column) - 0.5)
    return y * pitch, x * pitch


def _nearest(frame: Frame, y: NDArray[np.float64], x: NDArray[np.float64], reach: float) -> Labels:
    """For each cell the nearest of the points, none of which is farther than ``reach``."""
    nearest = np.full((frame.side, frame.side), np.inf, np.float32)
    owner = np.zeros((frame.side, frame.side), np.int32)
    for number, (site_y, site_x) in enumerate(zip(y, x, strict=True)):
        window = frame.around(site_y, site_x, reach)
        dy = (frame.ys[window[0]] - site_y).astype(np.float32)[:, None]
        dx = (frame.xs[window[1]] - site_x).astype(np.float32)[None, :]
        distance = dy * dy + dx * dx
        closer = distance < nearest[window]
        np.copyto(nearest[window], distance, where=closer)
        np.copyto(owner[window], number, where=closer)
    return owner


def _borders(regions: Labels) -> Mask:
    border = np.zeros(regions.shape, bool)
    border[:-1] = regions[:-1] != regions[1:]
    border[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    return border


def _roads(seed: int, frame: Frame) -> NDArray[np.uint8]:
    """Where a road stands already, where one is built between the dates, 0 elsewhere."""
    roads = np.zeros((frame.side, frame.side), np.uint8)
    for (y0, x0), (y1, x1), half, state in _ways(seed, frame):
        reach = 0.5 * max(abs(y1 - y0), abs(x1 - x0)) + half
        window = frame.around((y0 + y1) / 2, (x0 + x1) / 2, reach)
        dy = (frame.ys[window[0]] - y0)[:, None]
        dx = (frame.xs[window[1]] - x0)[None, :]
        length = np.hypot(y1 - y0, x1 - x0)
        along = (dy * (y1 - y0) + dx * (x1 - x0)) / length
        off = np.abs(dy * (x1 - x0) - dx * (y1 - y0)) / length
        on = (off < half) & (along > -half) & (along < length + half)
        roads[window][on] = state
    return roads


def _ways(
    seed: int, frame: Frame
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], float, int]]:
    """Ends (y, x), half width and state of the roads that may touch a frame.

    Roads run along the edges of the villages' Voronoi cells; an edge is known by its villages.
    """
    row, column = frame.lattice(_VILLAGE, 3)
    diagram = Voronoi(np.stack(_sites(seed, "village", row, column, _VILLAGE), axis=1))
    edges = np.array(diagram.ridge_vertices)
    one, other = diagram.ridge_points.T
    either = np.stack([hashed(seed, "village", row[n], column[n]) for n in (one, other)])
    name = either.min(axis=0), either.max(axis=0)
    chance, wide = uniform(seed, "way", *name), uniform(seed, "wide", *name)
    for number in np.flatnonzero((chance < _NEW_ROAD) & (edges.min(axis=1) >= 0)):
        start, stop = diagram.vertices[edges[number]]
        state = STANDING if chance[number] < _OLD_ROAD else GROWN
        yield start, stop, 8 + 5 * wide[number], state


def _wooded(seed: int, frame: Frame) -> Mask:
    density = smooth(seed, "wood", frame.ys, frame.xs, 800)
    density += 0.35 * smooth(seed, "wood edge", frame.ys, frame.xs, 110)
    return density > 1.45


def _flood(seed: int, frame: Frame, labels: Labels) -> None:
    """Draws rivers with their banks, which run southward, and lakes."""
    _, numbers = frame.lattice(_RIVER_EVERY, 1)
    for number in np.unique(numbers):
        _draw_river(seed, frame, int(number), labels)
    _draw_lakes(seed, frame, labels)


def _draw_river(seed: int, frame: Frame, number: int, labels: Labels) -> None:
    ys = frame.ys
    at = (number + 0.15 + 0.7 * uniform(seed, "river", number)) * _RIVER_EVERY
    for scale, reach in ((2400, 520), (900, 170), (330, 24)):
        at = at + reach * smooth(seed, "meander", ys, [8.0 * number * scale], scale)[:, 0]
    half = 48 + 16 * smooth(seed, "breadth", ys, [8000.0 * number], 1000)[:, 0]
    half = np.maximum(half, 20)
    window = frame.around(float(ys.mean()), (at.min() + at.max()) / 2, np.ptp(at) / 2 + 260)
    xs = frame.xs[window[1]]
    if xs.size:
        off = np.abs(xs[None, :] - at[:, None]) - half[:, None]
        off += 9 * smooth(seed, "waterline", ys, xs, 90)
        sand = 26 + 22 * smooth(seed, "sand", ys, xs, 300)
        labels[:, window[1]][off < np.minimum(sand, 90)] = LABELS["bank"]
        labels[:, window[1]][off < 0] = LABELS["river"]


def _draw_lakes(seed: int, frame: Frame, labels: Labels) -> None:
    row, column = frame.lattice(_LAKE_EVERY, 1)
    held = uniform(seed, "has a lake", row, column) < 0.6
    row, column = row[held], column[held]
    radii = 110 + 340 * uniform(seed, "lake", row, column) ** 2
    for y, x, radius in zip(*_sites(seed, "lake", row, column, _LAKE_EVERY), radii, strict=True):
        window = frame.around(y, x, 1.7 * radius + 15)
        ys, xs = frame.ys[window[0]], frame.xs[window[1]]
        if ys.size and xs.size:
            shore = np.clip(smooth(seed, "shore", ys, xs, 260), -2, 2)
            off = np.hypot((ys - y)[:, None], (xs - x)[None, :]) + 0.35 * radius * shore - radius
            labels[window][off < 12] = LABELS["margin"]
            labels[window][off < 0] = LABELS["lake"]
