"""Randomness that belongs to a place: hashed numbers and smooth noise on absolute lattices."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

CELL = 5.0
"""Side in metres of the cells on which the ground is drawn: four of them make a 10 m pixel."""

Floats = NDArray[np.float32]
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_STD_OF_SPLINE = 151 / 315  # sum of a cubic B-spline's squared weights, mean over its phase


@dataclass(frozen=True)
class Frame:
    """A square piece of ground of ``side`` cells, its first cell at (``top``, ``left``)."""

    top: int
    left: int
    side: int

    @property
    def ys(self) -> NDArray[np.float64]:
        """Centres of the rows (side,) in metres southward from the scene's upper left corner."""
        return np.arange(self.top + 0.5, self.top + self.side, dtype=np.float64) * CELL

    @property
    def xs(self) -> NDArray[np.float64]:
        """Centres of the columns (side,) in metres eastward from that corner."""
        return np.arange(self.left + 0.5, self.left + self.side, dtype=np.float64) * CELL

    def grown(self, margin: int) -> "Frame":
        """The frame with ``margin`` more cells on each side."""
        return Frame(self.top - margin, self.left - margin, self.side + 2 * margin)

    def around(self, y: float, x: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns that lie within ``reach`` metres of a point; they may be empty."""
        return self._span(y - self.top * CELL, reach), self._span(x - self.left * CELL, reach)

    def turned(self, window: tuple[slice, slice], y: float, x: float, by: float) -> list[Floats]:
        """Metres (h, w) of a window's cells along two axes turned ``by`` radians about a point."""
        down = (self.ys[window[0]] - y).astype(np.float32)[:, None]
        across = (self.xs[window[1]] - x).astype(np.float32)[None, :]
        cos, sin = np.float32(np.cos(by)), np.float32(np.sin(by))
        return [cos * across + sin * down, cos * down - sin * across]

    def lattice(self, pitch: float, margin: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column (n,) of the lattice's squares that touch the frame, and some around."""
        rows = self._steps(self.top, pitch, margin)
        columns = self._steps(self.left, pitch, margin)
        row, column = np.meshgrid(rows, columns, indexing="ij")
        return row.ravel(), column.ravel()

    def _span(self, at: float, reach: float) -> slice:
        start, stop = np.floor((at - reach) / CELL), np.ceil((at + reach) / CELL)
        return slice(int(np.clip(start, 0, self.side)), int(np.clip(stop, 0, self.side)))

    def _steps(self, start: int, pitch: float, margin: int) -> NDArray[np.int64]:
        first = int(start * CELL // pitch) - margin
        return np.arange(first, int((start + self.side) * CELL // pitch) + margin + 1)


def hashed(seed: int, stream: str, *at: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for each integer position in ``at`` (broadcast together).

    The finaliser is SplitMix64's (Steele, Lea and Flood 2014), applied once a coordinate.
    """
    state = np.asarray([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) ^ np.uint64(
        zlib.crc32(stream.encode()) * _GOLDEN & 0xFFFFFFFFFFFFFFFF
    )
    state = _mixed(state)
    for coordinate in at:
        state = _mixed(state + np.asarray(coordinate).astype(np.int64).astype(np.uint64))
    return state


def uniform(seed: int, stream: str, *at: ArrayLike) -> NDArray[np.float64]:
    """A number in [0, 1) for each integer position in ``at``, independent between streams."""
    return (hashed(seed, stream, *at) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def smooth(seed: int, stream: str, ys: ArrayLike, xs: ArrayLike, scale: float) -> Floats:
    """Smooth noise (len(ys), len(xs)), mean 0, standard deviation about 1, at any positions.

    Cubic B-splines over hashed values on a lattice of ``scale`` metres: two continuous
    derivatives, so no lattice shows.
    """
    row, down = _spline(np.asarray(ys, np.float64) / scale)
    column, across = _spline(np.asarray(xs, np.float64) / scale)
    values = uniform(seed, stream, row[:, None], column[None, :]) - 0.5
    lines = down @ (values * (12**0.5 / _STD_OF_SPLINE)).astype(np.float32)
    field = across @ np.ascontiguousarray(lines.T)
    return np.ascontiguousarray(field.T)


def grain(seed: int, stream: str, frame: Frame) -> Floats:
    """Noise without neighbours (side, side), mean 0, standard deviation 1, one value a cell."""
    row = hashed(seed, stream, np.arange(frame.top, frame.top + frame.side))
    column = hashed(seed, stream + "'", np.arange(frame.left, frame.left + frame.side))
    bits = _mixed(row[:, None] ^ column[None, :])
    signed = (bits >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return signed.astype(np.float32) * np.float32(12**0.5 * 2.0**-32)


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = bits + np.uint64(_GOLDEN)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(_MIX_1)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(_MIX_2)
    return bits ^ (bits >> np.uint64(31))


def _spline(at: NDArray[np.float64]) -> tuple[NDArray[np.int64], csr_array]:
    """The lattice points that positions need (k,), and their weights (len(at), k)."""
    first = np.floor(at).astype(np.int64) - 1
    t = at - first - 1
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t**2 + t - t**3) + 1, t**3], axis=1
    )
    points = np.arange(first.min(), first.max() + 4)
    columns = first[:, None] - points[0] + np.arange(4)
    ends = np.arange(0, 4 * at.size + 1, 4)
    shape = (at.size, points.size)
    flat = (weights / 6).astype(np.float32).ravel()
    return points, csr_array((flat, columns.ravel(), ends), shape=shape)
