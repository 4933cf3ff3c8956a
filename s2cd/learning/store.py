"""Pairs on disk in square tiles: a window is a few long reads, and costs no more than itself.

Mapped row by row, a window of 128 x 128 pixels of ten bands of two dates would be 2560 pieces far
apart, for each of which the system reads ahead; and what is mapped counts as memory.
"""

import os
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.scenes.motion import translation
from s2cd.scenes.pair import Pair, Window
from s2cd.scenes.radiometry import Radiometry
from s2cd.scenes.stack import stack_array

TILE = 64
"""Height and width of a tile, in pixels: half a usual window."""


class Area(NamedTuple):
    """A part of a scene, in its rows and columns."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns as an index."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, margin: int, shape: tuple[int, int]) -> "Area":
        """With a margin, as far as a scene reaches."""
        return Area(
            max(0, self.top - margin),
            max(0, self.left - margin),
            min(shape[0], self.bottom + margin),
            min(shape[1], self.right + margin),
        )

    def moved(self, down: int, right: int) -> "Area":
        """The same elsewhere."""
        return Area(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def common(self, other: "Area") -> "Area":
        """What it shares with another; of a size below 0 where they do not meet."""
        return Area(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )


@dataclass(frozen=True)
class Store:
    """Layers (layer, y, x) of float32 in a file.

    Attributes:
        path: The file.
        shape: Layers, height and width.
    """

    path: Path
    shape: tuple[int, int, int]

    @property
    def _columns(self) -> int:
        return -(-self.shape[2] // TILE)

    @property
    def _tile(self) -> int:
        """Bytes of a tile."""
        return self.shape[0] * TILE * TILE * 4

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return -(-self.shape[1] // TILE) * self._columns * self._tile

    def write(self, file: Any, ys: slice, xs: slice, values: NDArray[np.float32]) -> None:
        """Put a window into the open file; it begins on a tile, and ends on one or at the edge."""
        layers, height, width = values.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        padded = np.zeros((layers, rows * TILE, columns * TILE), np.float32)
        padded[:, :height, :width] = values
        tiles = padded.reshape(layers, rows, TILE, columns, TILE).transpose(1, 3, 0, 2, 4)
        for number, row in enumerate(tiles, start=ys.start // TILE):
            file.seek((number * self._columns + xs.start // TILE) * self._tile)
            file.write(np.ascontiguousarray(row).data)

    def read(self, ys: slice, xs: slice) -> NDArray[np.float32]:
        """A window inside the layers: (layer, rows, columns).

        Raises:
            S2cdError: where the file is gone or cut short.
        """
        result = np.empty((self.shape[0], ys.stop - ys.start, xs.stop - xs.start), np.float32)
        first, last = xs.start // TILE, (xs.stop - 1) // TILE
        try:
            with self.path.open("rb", buffering=0) as file:
                for number in range(ys.start // TILE, (ys.stop - 1) // TILE + 1):
                    tiles = self._row_of_tiles(file, number, first, last + 1 - first)
                    rows = _common(ys, number * TILE)
                    for index, tile in enumerate(tiles, start=first):
                        columns = _common(xs, index * TILE)
                        result[:, rows[0], columns[0]] = tile[:, rows[1], columns[1]]
        except OSError as e:
            raise S2cdError(f"{self.path} cannot be read ({e}). Delete its folder") from e
        return result

    def _row_of_tiles(self, file: Any, row: int, first: int, count: int) -> NDArray[np.float32]:
        tiles = np.empty((count, self.shape[0], TILE, TILE), np.float32)
        place, done = tiles.reshape(-1).view(np.uint8), 0
        while done < len(place):  # Linux reads at most 2 GiB at once
            offset = (row * self._columns + first) * self._tile + done
            read = os.preadv(file.fileno(), [place[done:].data], offset)
            if read == 0:
                raise OSError("it is cut short")
            done += read
        return tiles


def _common(window: slice, start: int) -> tuple[slice, slice]:
    """What a window shares with a tile that begins at ``start``: in the window, and in the tile."""
    low, high = max(window.start, start), min(window.stop, start + TILE)
    return slice(low - window.start, high - window.start), slice(low - start, high - start)


class StoredPair(Pair):
    """A registered pair in a store, or an area of it.

    Beyond the area, and ``reach`` pixels around it, there is nothing (NaN): a window of one area
    cannot show what belongs to another. What a detector learns first it learns of the whole
    scene, as in `detect`.
    """

    def __init__(
        self, store: Store, bands: tuple[str, ...], geobox: GeoBox, area: Area, reach: int = 0
    ) -> None:
        own = geobox[area.slices]
        limits = area.grown(reach, store.shape[1:])
        facts = {"store": store, "scene": geobox, "area": area, "limits": limits, "names": bands}
        still = translation(0.0, 0.0, area.shape)
        facts |= {"geobox": own, "motion": still, "radiometry": None}
        for name, value in facts.items():
            object.__setattr__(self, name, value)  # a pair is frozen

    store: Store
    scene: GeoBox
    area: Area
    limits: Area
    names: tuple[str, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """ESA's names of the bands of both dates."""
        return self.names

    @property
    def before(self) -> xr.DataArray:
        """The earlier date, read whole."""
        return self._date(0)

    @property
    def after(self) -> xr.DataArray:
        """The later date, read whole."""
        return self._date(1)

    def __repr__(self) -> str:
        return f"StoredPair({self.store.path}, {self.area})"

    def _date(self, which: int) -> xr.DataArray:
        count = len(self.names)
        values = self.store.read(*self.area.slices)[which * count : (which + 1) * count]
        return stack_array(values, self.geobox, self.names)

    def window(self, ys: slice, xs: slice) -> Window:
        """The pair's pixels in a window, which may reach beyond its edges (NaN there)."""
        own = Area(ys.start, xs.start, ys.stop, xs.stop)
        asked = own.moved(self.area.top, self.area.left)
        seen = asked.common(self.limits)
        if seen == asked:
            values = self.store.read(*asked.slices)
        else:
            values = np.full((self.store.shape[0], *asked.shape), np.nan, np.float32)
            if min(seen.shape) > 0:
                part = seen.moved(-asked.top, -asked.left)
                values[:, *part.slices] = self.store.read(*seen.slices)
        valid = np.ones(asked.shape, np.bool_)
        for band in values:
            valid &= np.isfinite(band)
        before, after = values[: len(self.names)], values[len(self.names) :]
        return Window(before, self.lit(after), valid)

    def under(self, radiometry: Radiometry | None) -> Pair:
        """The same pair with another radiometry of `after`."""
        other = copy(self)
        object.__setattr__(other, "radiometry", radiometry)
        return other

    def sample(self, margin: int) -> Iterator[Window]:
        """Windows of the whole scene to learn from, as `Pair.sample` gives them."""
        whole = Area(0, 0, *self.store.shape[1:])
        if self.area == whole:
            return super().sample(margin)
        scene = StoredPair(self.store, self.names, self.scene, whole)
        return scene.under(self.radiometry).sample(margin)
