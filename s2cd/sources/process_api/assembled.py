"""Pieces seen as one lazy stack: each pixel is of the one piece that holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from s2cd.scenes.product import SATURATED
from s2cd.scenes.raster import reading
from s2cd.scenes.reader import span
from s2cd.scenes.stack import CHUNK, QA_FLAGS, SCALE, stack_array
from s2cd.sources.process_api.pieces import Layer, Piece

_SATURATED_FROM = SATURATED - 1000
"""A saturated DN from which the server took the offset of 1000; reflectance does not reach it."""


@dataclass(frozen=True)
class Pieces:
    """The files of a layer's pieces, which cover it once."""

    layer: Layer
    files: tuple[tuple[Piece, Path], ...]

    def read(self, ys: slice, xs: slice) -> NDArray[np.uint16]:
        """DN of a window and where there is data, 1 or 0, as its last band: (band, rows, columns).

        Raises:
            S2cdError: where a file is missing or damaged.
        """
        shape = len(self.layer.bands) + 1, ys.stop - ys.start, xs.stop - xs.start
        values = np.zeros(shape, np.uint16)
        for piece, path in self.files:
            top, bottom = max(ys.start, piece.rows.start), min(ys.stop, piece.rows.stop)
            left, right = max(xs.start, piece.columns.start), min(xs.stop, piece.columns.stop)
            if top >= bottom or left >= right:
                continue
            rows, columns = piece.rows.start, piece.columns.start
            window = (top - rows, bottom - rows), (left - columns, right - columns)
            with reading(path) as source:
                part = source.read(window=window)
            values[:, top - ys.start : bottom - ys.start, left - xs.start : right - xs.start] = part
        return values


@dataclass(frozen=True)
class _Reflectance:
    """Pieces seen as an array (band, y, x)."""

    pieces: Pieces

    ndim = 3
    dtype = np.dtype("float32")

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width = self.pieces.layer.geobox.shape
        return len(self.pieces.layer.bands), height, width

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[np.float32]:
        (ys, pick_ys), (xs, pick_xs) = span(key[1], self.shape[1]), span(key[2], self.shape[2])
        dn = self.pieces.read(ys, xs)
        values = dn[:-1].astype(np.float32) * np.float32(SCALE)
        values[dn[:-1] >= _SATURATED_FROM] = SATURATED * SCALE
        values[:, dn[-1] == 0] = np.nan
        picked: NDArray[np.float32] = values[:, pick_ys][..., pick_xs]
        return picked[key[0]]


@dataclass(frozen=True)
class _Flags:
    """The QA of pieces seen as an array (y, x)."""

    pieces: Pieces

    ndim = 2
    dtype = np.dtype("uint16")

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.pieces.layer.geobox.shape
        return height, width

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.uint16]:
        (ys, pick_ys), (xs, pick_xs) = span(key[0], self.shape[0]), span(key[1], self.shape[1])
        dn = self.pieces.read(ys, xs)
        saturated = (dn[:-1] >= _SATURATED_FROM).any(axis=0)
        observed = QA_FLAGS["observed"]
        flags = np.where(saturated, observed | QA_FLAGS["saturated"], observed)
        flags[dn[-1] == 0] = 0
        picked: NDArray[np.uint16] = flags.astype(np.uint16)[pick_ys][..., pick_xs]
        return picked


def stack_and_flags(pieces: Pieces) -> tuple[xr.DataArray, xr.DataArray]:
    """Reflectance (band, y, x), NaN = no data, and bit flags (y, x), both lazy."""
    grid = pieces.layer.geobox
    values = _lazy(_Reflectance(pieces), (-1, CHUNK, CHUNK))
    flags = _lazy(_Flags(pieces), (CHUNK, CHUNK))
    qa = stack_array(flags[None], grid, ["QA"])[0].drop_vars("band")
    return stack_array(values, grid, pieces.layer.bands), qa


def by_band(layers: Sequence[Pieces]) -> dict[str, xr.DataArray]:
    """Reflectance (y, x) of each band of some layers, each on the grid of its layer."""
    stacks = [stack_and_flags(pieces)[0] for pieces in layers]
    return {str(name): stack.sel(band=name) for stack in stacks for name in stack.band.values}


def _lazy(array: Any, chunks: tuple[int, ...]) -> Any:
    import dask.array as da

    meta = np.empty((0,) * len(chunks), array.dtype)
    return da.from_array(
        array, chunks=chunks, name=False, asarray=False, inline_array=True, meta=meta
    )
