"""Bringing a raster to another grid, window by window, by georeference.

Each pixel of the result is computed within the same tile of a lattice anchored at the grid's
origin, so that its value does not depend on the window that asked for it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

TILE = 256
"""Height and width of a lattice tile, in pixels."""
_MARGIN = 8
"""Source pixels read around what a tile covers: cubic needs two, more where the source is finer."""
_SAME = 1e-3
"""Grids that are nowhere further apart than this, in pixels, are one."""


def whole_offset(source: GeoBox, target: GeoBox) -> tuple[int, int] | None:
    """Rows and columns from ``source``'s origin to ``target``'s, where both lie on one lattice.

    None where the pixels of the two do not coincide.
    """
    if source.crs != target.crs:
        return None
    relative = ~source.affine * target.affine
    drift = np.array([relative.a - 1, relative.b, relative.d, relative.e - 1])
    if np.abs(drift).max() * max(target.shape) > _SAME:
        return None
    row, column = round(relative.f), round(relative.c)
    if max(abs(relative.f - row), abs(relative.c - column)) > _SAME:
        return None
    return row, column


def tiles(ys: slice, xs: slice, size: int = TILE) -> Iterator[tuple[slice, slice]]:
    """The lattice tiles (rows, columns) that a window touches."""
    for top in range(ys.start // size * size, ys.stop, size):
        for left in range(xs.start // size * size, xs.stop, size):
            yield slice(top, top + size), slice(left, left + size)


def source_window(
    source: GeoBox, target: GeoBox, ys: slice, xs: slice, around: int = _MARGIN
) -> tuple[slice, slice]:
    """Rows and columns of ``source`` under a window of ``target`` and around it; may be empty."""
    columns = np.linspace(xs.start, xs.stop, 9)
    rows = np.linspace(ys.start, ys.stop, 9)
    at_x, at_y = (a.ravel() for a in np.meshgrid(columns, rows))
    column, row = _pixels(source, target, at_x, at_y)
    seen = np.isfinite(column) & np.isfinite(row)
    if not seen.any():
        return slice(0, 0), slice(0, 0)
    scale = max(1.0, float(np.ptp(column[seen]) / max(1, xs.stop - xs.start)))
    margin = int(around * np.ceil(scale))
    height, width = source.shape
    return _clip(row[seen], margin, height), _clip(column[seen], margin, width)


def regrid(
    read: Callable[[slice, slice], NDArray[np.float32]],
    grids: tuple[GeoBox, GeoBox],
    window: tuple[slice, slice],
    resampling: str = "cubic",
) -> NDArray[np.float32]:
    """Values in a window of the target grid: (band, rows, columns), float32, NaN where none.

    Args:
        read: Gives the source's pixels (band, rows, columns) for rows and columns inside it.
        grids: The source's and the target's grid.
        window: Rows and columns of the target; it may reach beyond its edges.
        resampling: A method of rasterio's, by name.
    """
    parts = []
    for tile in tiles(*window):
        origin = source_window(*grids, *tile)
        parts.append((_resample(read(*origin), origin, grids, tile, resampling), tile))
    height, width = (side.stop - side.start for side in window)
    result = np.full((len(parts[0][0]), height, width), np.nan, np.float32)
    for values, tile in parts:
        paste(values, tile, result, window)
    return result


def paste(
    values: NDArray[Any],
    place: tuple[slice, slice],
    target: NDArray[Any],
    frame: tuple[slice, slice],
) -> None:
    """Copy ``values``, which lie at ``place``, into ``target``, which covers ``frame``."""
    take, put = [], []
    for at, within in zip(place, frame, strict=True):
        start, stop = max(at.start, within.start), min(at.stop, within.stop)
        take.append(slice(start - at.start, stop - at.start))
        put.append(slice(start - within.start, stop - within.start))
    target[..., put[0], put[1]] = values[..., take[0], take[1]]


def _resample(
    values: NDArray[np.float32],
    origin: tuple[slice, slice],
    grids: tuple[GeoBox, GeoBox],
    tile: tuple[slice, slice],
    resampling: str,
) -> NDArray[np.float32]:
    """Values on one lattice tile of the target, from ``values``, which lie at ``origin``."""
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    source, target = grids
    shape = (len(values), tile[0].stop - tile[0].start, tile[1].stop - tile[1].start)
    result = np.full(shape, np.nan, np.float32)
    if 0 in values.shape:
        return result
    reproject(
        values,
        result,
        src_transform=source.affine * Affine.translation(origin[1].start, origin[0].start),
        dst_transform=target.affine * Affine.translation(tile[1].start, tile[0].start),
        src_crs=source.crs.to_wkt(),
        dst_crs=target.crs.to_wkt(),
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling[resampling],
        tolerance=0.01,
    )
    return result


def ground_extent(geobox: GeoBox) -> str:
    """Where a grid lies, in words: degrees where it has a CRS, else pixels."""
    if geobox.crs is None:
        return f"{geobox.shape[1]} x {geobox.shape[0]} pixels without a CRS"
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(
        geobox.crs.to_wkt(), "EPSG:4326", *geobox.boundingbox.bbox
    )
    return f"W {west:.4f} S {south:.4f} E {east:.4f} N {north:.4f}"


def _pixels(
    source: GeoBox, target: GeoBox, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[Any, Any]:
    """Pixel coordinates in ``source`` of pixel coordinates in ``target``."""
    east, north = target.affine * (x, y)
    if source.crs != target.crs:
        east, north = target.crs.transformer_to_crs(source.crs)(east, north)
    return ~source.affine * (np.asarray(east), np.asarray(north))


def _clip(at: NDArray[np.float64], margin: int, size: int) -> slice:
    start = int(np.clip(np.floor(at.min() + _SAME) - margin, 0, size))
    stop = int(np.clip(np.ceil(at.max() - _SAME) + margin, start, size))
    return slice(start, stop)
