"""Bringing a raster to another grid, window by window, by georeference.

Each pixel of the result is computed within the same tile of a lattice anchored at the grid's
origin, so that its value does not depend on the window that asked for it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.scenes.kernels import Axis, axis, interpolate

TILE = 256
"""Height and width of a lattice tile, in pixels."""
_MARGIN = 8
"""Source pixels read around what a tile covers: cubic needs two, more where the source is finer."""
_MOST_FINER = 100
"""Most pixels of a raster within one of the grid it is brought to; 36 lead from 10 m to 60 m."""
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


def meet(source: GeoBox, target: GeoBox, names: tuple[str, str]) -> bool:
    """Whether a raster lies, in part at least, on the grid that it is to be brought to.

    Args:
        source: The raster's own grid.
        target: The grid to bring it to.
        names: What to call the two.

    Raises:
        S2cdError: where nothing leads from one CRS to the other, or the raster is so much finer
            that its pixels under one tile of the grid would fill the memory.
    """
    from pyproj.exceptions import ProjError

    try:
        ys, xs = source_window(
            source, target, slice(0, target.shape[0]), slice(0, target.shape[1]), around=0
        )
        finer = _pixels_within_one(source, target)
    except ProjError as e:
        raise S2cdError(
            f"Nothing leads from the CRS of {names[0]} to that of {names[1]}: {one_line(e)}. "
            "Bring both to one CRS, such as by gdalwarp -t_srs"
        ) from e
    if finer > _MOST_FINER and source.shape[0] * source.shape[1] > _MOST_FINER * TILE**2:
        raise S2cdError(
            f"A pixel of {names[1]} covers {finer:.0f} of {names[0]}. Bring both to about the same "
            "pixel size, such as by gdalwarp -tr"
        )
    return ys.stop > ys.start and xs.stop > xs.start


def _pixels_within_one(source: GeoBox, target: GeoBox) -> float:
    """The most pixels of ``source`` that a pixel of ``target`` covers, at 25 places."""
    height, width = target.shape
    at_y, at_x = (a.ravel() for a in np.mgrid[0 : height - 1 : 5j, 0 : width - 1 : 5j])
    corners = [pixels_in(source, target, at_x + x, at_y + y) for x, y in ((0, 0), (1, 0), (0, 1))]
    with np.errstate(invalid="ignore", over="ignore"):
        (ax, ay), (bx, by) = (
            (corner[0] - corners[0][0], corner[1] - corners[0][1]) for corner in corners[1:]
        )
        areas = np.abs(ax * by - ay * bx)
    seen = areas[np.isfinite(areas)]
    return float(seen.max()) if seen.size else 0.0


def source_window(
    source: GeoBox, target: GeoBox, ys: slice, xs: slice, around: int = _MARGIN
) -> tuple[slice, slice]:
    """Rows and columns of ``source`` under a window of ``target`` and around it; may be empty."""
    columns = np.linspace(xs.start, xs.stop, 9)
    rows = np.linspace(ys.start, ys.stop, 9)
    at_x, at_y = (a.ravel() for a in np.meshgrid(columns, rows))
    column, row = pixels_in(source, target, at_x, at_y)
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
        resampling: cubic, lanczos, bilinear or nearest.
    """
    if (axes := parallel_axes(grids, window, resampling)) is not None:
        shape = grids[0].shape
        origin = axes[0].span(shape[0]), axes[1].span(shape[1])
        return interpolate(read(*origin), origin, axes)
    parts = []
    for tile in tiles(*window):
        origin = source_window(*grids, *tile)
        parts.append((_warped(read(*origin), origin, grids, tile, resampling), tile))
    height, width = (side.stop - side.start for side in window)
    result = np.full((len(parts[0][0]), height, width), np.nan, np.float32)
    for values, tile in parts:
        paste(values, tile, result, window)
    return result


def reader_of(
    values: NDArray[np.float32], origin: tuple[slice, slice]
) -> Callable[[slice, slice], NDArray[np.float32]]:
    """What `regrid` reads from, of pixels in hand that lie at ``origin``; beyond is no data."""

    def cut(ys: slice, xs: slice) -> NDArray[np.float32]:
        shape = (len(values), ys.stop - ys.start, xs.stop - xs.start)
        result = np.full(shape, np.nan, np.float32)
        paste(values, origin, result, (ys, xs))
        return result

    return cut


def parallel_axes(
    grids: tuple[GeoBox, GeoBox], window: tuple[slice, slice], resampling: str
) -> tuple[Axis, Axis] | None:
    """How rows and columns are resampled, each by itself; None where the grids are not parallel."""
    source, target = grids
    if source.crs != target.crs:
        return None
    relative = ~source.affine * target.affine
    if max(abs(relative.b), abs(relative.d)) * max(*target.shape, *source.shape) > _SAME:
        return None
    rows = axis(window[0], relative.e, relative.f, resampling)
    return rows, axis(window[1], relative.a, relative.c, resampling)


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


def _warped(
    values: NDArray[np.float32],
    origin: tuple[slice, slice],
    grids: tuple[GeoBox, GeoBox],
    tile: tuple[slice, slice],
    resampling: str,
) -> NDArray[np.float32]:
    """Values (band, rows, columns) on one tile of the target, from ``values`` at ``origin``."""
    from rasterio.errors import RasterioError

    try:
        return _reprojected(values, origin, grids, tile, resampling)
    except RasterioError as e:
        raise S2cdError(
            f"Pixels cannot be brought from {grids[0].crs} to {grids[1].crs}: {one_line(e)}. "
            "Bring the images to one CRS first, such as by gdalwarp -t_srs"
        ) from e


def _reprojected(
    values: NDArray[np.float32],
    origin: tuple[slice, slice],
    grids: tuple[GeoBox, GeoBox],
    tile: tuple[slice, slice],
    resampling: str,
) -> NDArray[np.float32]:
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
        src_crs=_rasterio_crs(source.crs),
        dst_crs=_rasterio_crs(target.crs),
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling[resampling],
        tolerance=0.01,
    )
    return result


@lru_cache(maxsize=16)
def _rasterio_crs(crs: Any) -> Any:
    """A CRS as rasterio has it; parsing its text takes longer than resampling a tile.

    Pictures without a CRS are resampled in the plane of their pixels: any projected one will do.
    """
    from rasterio.crs import CRS

    return CRS.from_epsg(3857) if crs is None else CRS.from_wkt(crs.to_wkt())


def ground_extent(geobox: GeoBox) -> str:
    """Where a grid lies, in words: degrees where it has a CRS, else pixels."""
    if geobox.crs is None:
        return f"{geobox.shape[1]} x {geobox.shape[0]} pixels without a CRS"
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(
        geobox.crs.to_wkt(), "EPSG:4326", *geobox.boundingbox.bbox
    )
    return f"W {west:.4f} S {south:.4f} E {east:.4f} N {north:.4f}"


def pixels_in(
    source: GeoBox, target: GeoBox, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[Any, Any]:
    """Pixel coordinates (x, y) in ``source`` of pixel coordinates in ``target``."""
    east, north = target.affine * (x, y)
    if source.crs != target.crs:
        east, north = target.crs.transformer_to_crs(source.crs)(east, north)
    with np.errstate(invalid="ignore"):  # PROJ gives infinity for what it cannot place
        return ~source.affine * (np.asarray(east), np.asarray(north))


def _clip(at: NDArray[np.float64], margin: int, size: int) -> slice:
    start = int(np.clip(np.floor(at.min() + _SAME) - margin, 0, size))
    stop = int(np.clip(np.ceil(at.max() - _SAME) + margin, start, size))
    return slice(start, stop)
