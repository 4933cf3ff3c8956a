"""Means of bands over cells of about 40 m and 120 m, by georeference, one band at a time."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.scenes.grid import ground_extent, meet

Array = NDArray[np.float32]

FINE = 40.0
"""Metres of a fine cell: two pixels of 20 m, so that a band resampled by nearest neighbour
(OSCD) is a mean again."""
COARSE = 3
"""Fine cells along a coarse one: 120 m, within what s2cloudless was made for (60 m to 160 m)."""
FINE_BANDS = ("B02", "B04", "B08", "B8A")
"""The bands in which movement is measured, and that are needed in fine cells."""
_ROWS, _COLUMNS = 1024, 4096  # whole blocks of the files seen
_CACHE_MB = 64
_METRES_A_DEGREE = 111_320.0
_LEAST_SEEN = 0.5


@dataclass(frozen=True)
class Lattice:
    """Cells on a 10 m grid: fine ones of about 40 m, and coarse ones of 3 x 3 fine cells.

    Attributes:
        geobox: The grid of 10 m pixels.
        step: Rows and columns of pixels in a fine cell.
        metres: Height and width of a fine cell, positive, on the ground.
        latitude: Of the middle, in degrees; None where the grid has no place on the ground.
        longitude: The same.
    """

    geobox: GeoBox
    step: tuple[int, int]
    metres: tuple[float, float]
    latitude: float | None
    longitude: float | None

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """Rows and columns of coarse cells."""
        height, width = (
            -(-size // (COARSE * step))
            for size, step in zip(self.geobox.shape, self.step, strict=True)
        )
        return height, width

    @property
    def fine_shape(self) -> tuple[int, int]:
        """Rows and columns of fine cells."""
        return COARSE * self.coarse_shape[0], COARSE * self.coarse_shape[1]

    @property
    def north_is_up(self) -> bool:
        """Whether rows run from north to south."""
        return bool(self.geobox.affine.e < 0 or self.geobox.crs is None)


def lattice_of(geobox: GeoBox) -> Lattice:
    """Cells on a grid of about 10 m; pixels of a grid without a CRS are taken to be 10 m."""
    affine = geobox.affine
    if geobox.crs is None:
        return _lattice(geobox, (10.0, 10.0), None, None)
    box = geobox.boundingbox
    east, north = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    size = np.array([abs(affine.e), abs(affine.a)])
    if geobox.crs.geographic:
        metres = size * _METRES_A_DEGREE * np.array([1.0, np.cos(np.radians(north))])
        return _lattice(geobox, (float(metres[0]), float(metres[1])), north, east)
    longitude, latitude = geobox.crs.transformer_to_crs("EPSG:4326")(east, north)
    unit = float(geobox.crs.proj.axis_info[0].unit_conversion_factor)
    height, width = (float(side) * unit for side in size)
    return _lattice(geobox, (height, width), float(latitude), float(longitude))


def _lattice(
    geobox: GeoBox, pixel: tuple[float, float], latitude: float | None, longitude: float | None
) -> Lattice:
    step = max(1, round(FINE / pixel[0])), max(1, round(FINE / pixel[1]))
    metres = step[0] * pixel[0], step[1] * pixel[1]
    return Lattice(geobox, step, metres, latitude, longitude)


class CellSums:
    """Means of one band over cells, from windows of the band in any order.

    A window that comes twice does no harm: its pixels only weigh double. Windows may be added by
    several threads.
    """

    def __init__(self, lattice: Lattice, own: GeoBox, fine: bool) -> None:
        shape = lattice.fine_shape if fine else lattice.coarse_shape
        height, width = (step if fine else COARSE * step for step in lattice.step)
        affine = lattice.geobox.affine
        relative = ~own.affine * affine * affine.scale(width, height)
        self._pixels = abs(relative.e * relative.a)
        self._least = _LEAST_SEEN if fine else _LEAST_SEEN / COARSE**2
        self._down = _overlaps(shape[0], relative.e, relative.f, own.shape[0])
        self._across = _overlaps(shape[1], relative.a, relative.c, own.shape[1])
        self._total = np.zeros(shape, np.float32)
        self._share = np.zeros(shape, np.float16)  # of a cell
        self._lock = threading.Lock()

    def add(self, ys: slice, xs: slice, values: Array) -> None:
        """Take in a window (rows, columns) of the band, NaN = no data."""
        down, across = self._down[:, ys], self._across[:, xs]
        rows, columns = _touched(down), _touched(across)
        down, across = down[rows], across[columns]
        seen = np.isfinite(values)
        if seen.all():
            share = np.outer(down.sum(axis=1), across.sum(axis=1) / self._pixels)
        else:
            share = _both(down, across, seen.astype(np.float32)) / self._pixels
            values = np.where(seen, values, np.float32(0))
        total = _both(down, across, values)
        with self._lock:
            self._total[rows, columns] += total
            self._share[rows, columns] += share.astype(np.float16)

    def means(self) -> Array:
        """Means (y, x); NaN where less than half of a fine cell is seen."""
        weight = np.maximum(self._share.astype(np.float32), np.float32(1e-3))
        weight *= np.float32(self._pixels)
        np.divide(self._total, weight, out=weight)
        weight[self._share < self._least] = np.nan
        return weight


def cell_means(bands: Mapping[str, xr.DataArray], lattice: Lattice) -> dict[str, Array]:
    """Means of each band (y, x), over fine cells for those of `FINE_BANDS`, else over coarse ones.

    Two bands are read at a time, in strips of 1024 rows, so that memory is bounded by the cells.

    Raises:
        S2cdError: where a band lies elsewhere, or is turned against the grid.
    """
    import rasterio

    for name, band in bands.items():
        _check(name, band, lattice)
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB), ThreadPoolExecutor(2) as pool:
        means = pool.map(lambda name: _mean(name, bands[name], lattice), bands)
        return dict(zip(bands, means, strict=True))


def coarse_mean(fine: Array) -> Array:
    """Means over those of 3 x 3 fine cells that are seen (y, x); NaN where none is."""
    height, width = (side // COARSE for side in fine.shape)
    seen = np.isfinite(fine)
    shape = height, COARSE, width, COARSE
    count = seen.reshape(shape).sum(axis=(1, 3))
    total = np.where(seen, fine, 0).reshape(shape).sum(axis=(1, 3))
    mean = total / np.maximum(count, 1)
    mean[count == 0] = np.nan
    return np.asarray(mean, np.float32)


def _check(name: str, band: xr.DataArray, lattice: Lattice) -> None:
    own, target = band.odc.geobox, lattice.geobox
    relative = ~own.affine * target.affine
    turned = max(abs(relative.b), abs(relative.d)) * max(*target.shape) > 1
    if own.crs != target.crs or turned:
        raise S2cdError(
            f"Band {name} lies in another projection than the 10 m grid, or is turned against it. "
            "Clouds are looked for on one grid: bring all bands to it, or say --no-clouds"
        )
    if own.crs is not None and not meet(own, target, (f"band {name}", "the 10 m grid")):
        raise S2cdError(
            f"Band {name} lies elsewhere ({ground_extent(own)}) than the 10 m grid "
            f"({ground_extent(target)}). Give the bands of one place"
        )


def _mean(name: str, band: xr.DataArray, lattice: Lattice) -> Array:
    height, width = band.odc.geobox.shape
    sums = CellSums(lattice, band.odc.geobox, name in FINE_BANDS)
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height))
        for left in range(0, width, _COLUMNS):
            columns = slice(left, min(left + _COLUMNS, width))
            sums.add(rows, columns, _read(band, rows, columns))
    return sums.means()


def _touched(overlaps: Any) -> slice:
    """The cells that any pixel of a matrix of overlaps lies in."""
    cells = np.flatnonzero(np.diff(overlaps.indptr))
    return slice(int(cells[0]), int(cells[-1]) + 1) if cells.size else slice(0, 0)


def _both(down: Any, across: Any, values: Array) -> Array:
    return np.asarray((across @ (down @ values).T).T, np.float32)


def _read(band: xr.DataArray, rows: slice, columns: slice) -> Array:
    import dask

    values = band.squeeze().data[rows, columns]
    if hasattr(values, "compute"):
        values = values.compute(scheduler=dask.get)
    return np.asarray(values, np.float32)


def _overlaps(cells: int, scale: float, origin: float, pixels: int) -> Any:
    """Sparse matrix (cells, pixels): how much of each pixel lies in each cell, along one axis."""
    from scipy.sparse import csr_array

    edges = scale * np.arange(cells + 1) + origin
    start = np.minimum(edges[:-1], edges[1:])[:, None]
    stop = np.maximum(edges[:-1], edges[1:])[:, None]
    pixel = np.floor(start).astype(np.int64) + np.arange(int(np.ceil(abs(scale))) + 2)
    weight = np.minimum(stop, pixel + 1) - np.maximum(start, pixel)
    kept = (weight > 1e-6) & (pixel >= 0) & (pixel < pixels)
    cell = np.broadcast_to(np.arange(cells)[:, None], pixel.shape)
    entries = weight[kept].astype(np.float32), (cell[kept], pixel[kept])
    return csr_array(entries, shape=(cells, pixels))
