"""A simulated pair as a lazy function: any window of either date, and the truth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS
from s2cd.scenes.simulate.crops import field_spectra, season_of_the_wild
from s2cd.scenes.simulate.landscape import Landscape, draw_landscape
from s2cd.scenes.simulate.lattice import Floats, Frame, grain, smooth
from s2cd.scenes.simulate.sensor import (
    LARGEST_SHIFT,
    MARGIN,
    OF_RESOLUTION,
    TILE,
    Nuisance,
    noised,
    sampled,
    through_air,
)
from s2cd.scenes.simulate.spectra import MATERIALS

Observation = dict[int, Floats]
"""What the sensor sees of a tile: (bands, side, side) by the size of the pixels in metres."""

_NO_SHIFT = (0.0, 0.0)
_CORNER = (0.14, 0.18)  # legs of the triangle without data, as shares of the side, by date


@dataclass(frozen=True)
class Simulation:
    """A pair of Sentinel-2 scenes of a made-up landscape, with the truth about what was built.

    A score on it tells that software works. It is no evidence of accuracy on real scenes.

    Every pixel is a function of the seed and of its position: windows agree with the whole,
    a smaller scene is a corner of a larger one, and memory is bounded by a tile.

    Attributes:
        size: side in 10 m pixels; a full scene has 10980.
        seed: another one gives another landscape.
        shift: rows and columns of 10 m by which the second date's features are moved (at most 4).
        dates: of the first and the second scene; crops and the sun's height follow from them.
        nodata_corner: whether an upper left triangle is without data, another one on each date.
        nuisance: how strongly the dates differ where nothing was built.
    """

    size: int = 1024
    seed: int = 0
    shift: tuple[float, float] = (0.4, -0.3)
    dates: tuple[date, date] = (date(2015, 11, 20), date(2020, 11, 28))
    nodata_corner: bool = False
    nuisance: Nuisance = field(default_factory=Nuisance)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise S2cdError(f"A scene of {self.size} pixels a side is empty. Ask for 1 or more")
        if max(map(abs, self.shift)) > LARGEST_SHIFT:
            raise S2cdError(
                f"A shift of {self.shift} pixels is too large. Stay within {LARGEST_SHIFT:g}"
            )

    def window(self, date_index: int, ys: slice, xs: slice) -> Floats:
        """Reflectance (13, h, w) on the 10 m grid, bands as in ``BANDS``, NaN as no data.

        Pixels of 20 m and 60 m are repeated on the 10 m pixels that they cover.

        Args:
            date_index: 0 for the first date, 1 for the second.
            ys: rows of 10 m pixels.
            xs: columns of 10 m pixels.

        Raises:
            S2cdError: where the window is empty or leaves the scene.
        """
        rows, columns = self._within(ys), self._within(xs)
        out = np.empty((len(BANDS), rows.stop - rows.start, columns.stop - columns.start), "f4")
        for tile, part, place in _tiles(rows, columns):
            seen = observe(self, date_index, tile)
            for metres, bands in OF_RESOLUTION.items():
                step = metres // 10
                y, x = (np.arange(axis.start, axis.stop) // step for axis in part)
                out[:, *place][bands] = seen[metres][:, y[:, None], x[None, :]]
        return out

    def truth(self, ys: slice, xs: slice) -> NDArray[np.uint8]:
        """1 (h, w) where at least half of a 10 m pixel was built on between the dates, else 0."""
        rows, columns = self._within(ys), self._within(xs)
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        for tile, part, place in _tiles(rows, columns):
            out[place] = changes(self, tile)[part]
        return out

    def _within(self, span: slice) -> slice:
        start, stop, step = span.indices(self.size)
        if step != 1 or not start < stop or (span.stop or 0) > self.size:
            raise S2cdError(f"{span} is no window of a scene of {self.size} pixels")
        return slice(start, stop)


def tiles_of(size: int) -> list[tuple[int, int]]:
    """Row and column of all tiles that a scene of ``size`` pixels touches, row by row."""
    return [tile for tile, _, _ in _tiles(slice(0, size), slice(0, size))]


@lru_cache(maxsize=16)
def observe(simulation: Simulation, date_index: int, tile: tuple[int, int]) -> Observation:
    """What the sensor sees of a tile on a date: reflectance, NaN as no data, not to be changed."""
    seed, day, nuisance = simulation.seed, simulation.dates[date_index], simulation.nuisance
    surface = _surface(simulation, date_index, tile)
    seen = noised(seed, day, tile, through_air(seed, day, tile, surface, nuisance), nuisance.noise)
    for metres, values in seen.items():
        if simulation.nodata_corner:
            values[:, _unseen(simulation.size, date_index, tile, metres)] = np.nan
        values.setflags(write=False)
    return seen


def changes(simulation: Simulation, tile: tuple[int, int]) -> NDArray[np.uint8]:
    """1 (TILE, TILE) where at least two of a pixel's four cells were built on, else 0."""
    drawn = _drawn(simulation.seed, tile)
    built = (drawn.before != drawn.after)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.asarray(built.reshape(TILE, 2, TILE, 2).sum(axis=(1, 3)) >= 2, np.uint8)


def _surface(simulation: Simulation, date_index: int, tile: tuple[int, int]) -> Observation:
    """Reflectance of a tile's ground as the sensor's pixels average it."""
    drawn, frame = _drawn(simulation.seed, tile), _frame(tile)
    mean, uneven = _palette(simulation, date_index, drawn.fields)
    labels = (drawn.after if date_index else drawn.before).astype(np.intp)
    texture = 0.6 * grain(simulation.seed, "grain", frame)
    for scale, strength in ((35, 0.5), (150, 0.6)):
        texture += strength * smooth(simulation.seed, "texture", frame.ys, frame.xs, scale)
    shift = simulation.shift if date_index else _NO_SHIFT
    return {
        metres: np.stack(
            [
                sampled(mean[band][labels] + uneven[band][labels] * texture, metres, shift)
                for band in bands
            ]
        )
        for metres, bands in OF_RESOLUTION.items()
    }


def _palette(
    simulation: Simulation, date_index: int, fields: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Reflectance (13, n) of each label on a date, and how much it varies inside (13, n)."""
    day = simulation.dates[date_index]
    materials = MATERIALS.values()
    kinds = np.array([material.seen(season_of_the_wild(day)) for material in materials])
    rough = kinds * np.array([material.texture for material in materials])[:, None]
    crops, uneven = field_spectra(simulation.seed, fields, day, simulation.nuisance.rotation)
    stacked = np.concatenate([kinds, crops]).T, np.concatenate([rough, uneven]).T
    return stacked[0].astype(np.float32, order="C"), stacked[1].astype(np.float32, order="C")


@lru_cache(maxsize=16)
def _drawn(seed: int, tile: tuple[int, int]) -> Landscape:
    return draw_landscape(seed, _frame(tile))


def _frame(tile: tuple[int, int]) -> Frame:
    return Frame(2 * TILE * tile[0], 2 * TILE * tile[1], 2 * TILE).grown(MARGIN)


def _unseen(size: int, date_index: int, tile: tuple[int, int], metres: int) -> NDArray[np.bool_]:
    """Where pixels of a tile reach into the corner that the date's swath leaves out."""
    step = metres // 10
    y, x = (TILE * at + step * np.arange(TILE // step) for at in tile)
    return np.asarray(y[:, None] + x[None, :] < _CORNER[date_index] * size)


def _tiles(
    rows: slice, columns: slice
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
    """The tiles that a window touches: which, what part of them, and its place in the window."""
    for (i, part_y, place_y), (j, part_x, place_x) in product(_cut(rows), _cut(columns)):
        yield (i, j), (part_y, part_x), (place_y, place_x)


def _cut(span: slice) -> list[tuple[int, slice, slice]]:
    pieces = []
    for tile in range(span.start // TILE, (span.stop - 1) // TILE + 1):
        start, stop = max(span.start, tile * TILE), min(span.stop, (tile + 1) * TILE)
        part = slice(start - tile * TILE, stop - tile * TILE)
        pieces.append((tile, part, slice(start - span.start, stop - span.start)))
    return pieces
