"""The change map on disk: a Cloud Optimized GeoTIFF that is complete or absent."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.blocks import BLOCK, NOT_OBSERVED, STEPS, Block, blocks
from s2cd.errors import S2cdError
from s2cd.output import completed, publish, temporary_for, write_errors
from s2cd.remote import path_of
from s2cd.scenes.header import grid_of
from s2cd.scenes.raster import gdal, reading

CHANGED = 1
_GROUND = {0: (238, 238, 232, 255), NOT_OBSERVED: (0, 0, 0, 0)}
_COLOURS = (
    (214, 24, 32, 255),
    (31, 120, 180, 255),
    (51, 160, 44, 255),
    (255, 127, 0, 255),
    (106, 61, 154, 255),
    (177, 89, 40, 255),
)
"""Of the classes from 1 on, again and again."""
_TILE = 512

Layer = tuple[Block, NDArray[np.uint8]]


@dataclass(frozen=True)
class Raster:
    """One band of uint8 to be written: where it lies, what it says of itself, how it is seen."""

    path: Path
    geobox: GeoBox
    tags: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    overviews: str = "mode"
    scale: float = 1.0


def change_raster(path: Path, geobox: GeoBox, tags: Mapping[str, str], classes: int = 1) -> Raster:
    """A map of classes: 0, 1..n, 255 = not observed."""
    return Raster(path, geobox, tags, class_colours(classes))


def class_colours(classes: int) -> dict[int, tuple[int, int, int, int]]:
    """How 0, the classes 1..n and 255 are seen."""
    return _GROUND | {c: _COLOURS[(c - 1) % len(_COLOURS)] for c in range(1, classes + 1)}


def probability_raster(path: Path, geobox: GeoBox, tags: Mapping[str, str]) -> Raster:
    """A map of probabilities in steps of 0.5 %: 0..200, 255 = not observed."""
    return Raster(path, geobox, tags, None, "average", 1 / STEPS)


def write_map(change: xr.DataArray, path: str | Path, overwrite: bool = False) -> None:
    """Write a map (y, x) of uint8 classes with ``.odc.geobox`` as a Cloud Optimized GeoTIFF.

    Lazy maps are computed in blocks. The map's attributes become tags.

    Raises:
        S2cdError: where it cannot be written.
    """
    target = path_of(path)
    shape = (change.shape[0], change.shape[1])
    tags = {str(key): str(value) for key, value in change.attrs.items()}
    raster = change_raster(target, change.odc.geobox, tags)
    layers = ((b, np.asarray(change[b.ys, b.xs].values)) for b in blocks(shape, BLOCK))
    with completed(target, overwrite) as temporary, plain_raster(raster, temporary) as write:
        for block, values in layers:
            write(block, values)


@contextmanager
def plain_raster(
    raster: Raster, temporary: Path
) -> Iterator[Callable[[Block, NDArray[np.uint8]], None]]:
    """Give a function that takes blocks; when all are in, ``temporary`` is a COG of them."""
    import rasterio
    from rasterio.shutil import copy
    from rasterio.windows import Window

    plain = temporary.with_name(f"{temporary.name}.tif")
    profile = _profile(raster.geobox)
    try:
        with write_errors(raster.path), gdal():  # within, so that a full disk still is full
            with rasterio.open(plain, "w", **profile) as target:
                _describe(target, raster)

                def write(block: Block, values: NDArray[np.uint8]) -> None:
                    place = Window.from_slices(block.ys, block.xs)
                    target.write(values, 1, window=place)

                yield write
            copy(plain, temporary, driver="COG", **_cog_options(raster))
            _check_written(plain, temporary)
    finally:
        with suppress(FileNotFoundError):
            plain.unlink()


def _check_written(plain: Path, copied: Path) -> None:
    """Compare a COG with what it was made of: GDAL may lose the error of a write on a full disk.

    Raises:
        rasterio.errors.RasterioError: where a block differs or cannot be read, or an overview.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    with rasterio.open(plain) as source, rasterio.open(copied) as result:
        for _, window in source.block_windows(1):
            if not np.array_equal(source.read(1, window=window), result.read(1, window=window)):
                raise RasterioIOError("what was written reads back otherwise")
        levels = range(len(result.overviews(1)))
    for level in levels:
        with rasterio.open(copied, overview_level=level) as result:
            for _, window in result.block_windows(1):
                result.read(1, window=window)


def write_layers(
    rasters: tuple[Raster, ...],
    layers: Iterable[tuple[Block, tuple[NDArray[np.uint8], ...]]],
    overwrite: bool = True,
) -> None:
    """Write several rasters in one pass over their blocks; all are complete before one is named.

    The last one is named last: where it is there, so are the others.
    """
    with ExitStack() as held, write_errors(rasters[-1].path):
        temporaries = [held.enter_context(temporary_for(raster.path)) for raster in rasters]
        with ExitStack() as stack:
            pairs = zip(rasters, temporaries, strict=True)
            writers = [stack.enter_context(plain_raster(*pair)) for pair in pairs]
            for block, values in layers:
                for write, value in zip(writers, values, strict=True):
                    write(block, value)
        for raster, temporary in zip(rasters, temporaries, strict=True):
            publish(temporary, raster.path, overwrite)


def read_map(path: Path) -> tuple[NDArray[np.uint8], GeoBox, dict[str, str]]:
    """A change map: (height, width), 0, 1 = change of any class, 255 = not observed; grid; tags.

    Raises:
        S2cdError: where the file is no map of classes.
    """
    values, geobox, tags = read_classes(path)
    values[(values > CHANGED) & (values != NOT_OBSERVED)] = CHANGED
    return values, geobox, tags


def read_classes(path: Path) -> tuple[NDArray[np.uint8], GeoBox, dict[str, str]]:
    """A change map as it is: 0, 1..n = class of change, 255 = not observed; grid; tags.

    Raises:
        S2cdError: where the file is no map of classes.
    """
    with reading(path) as source:
        values, tags = source.read(1), dict(source.tags())
        known = {*range(classes_said(tags) + 1), NOT_OBSERVED}
        if not set(np.unique(values).tolist()) <= known:
            raise S2cdError(
                f"{path} is not a change map of 0, 1 and 255. Name one of `s2cd detect`"
            )
        return values.astype(np.uint8), grid_of(source, path), tags


def classes_said(tags: Mapping[str, str]) -> int:
    """How many classes of change a map tells apart, by its tags; 1: change from no change."""
    said = tags.get("CHANGE_CLASSES", "")
    return int(said) if re.fullmatch("[0-9]{1,2}", said) else CHANGED


def pixel_areas(geobox: GeoBox) -> NDArray[np.float64] | None:
    """Area of a pixel of each row, in m2: (height,); None without a CRS.

    In degrees it is the area between two parallels on the WGS84 ellipsoid (Snyder, "Map
    projections: a working manual", USGS 1395, 1987, formula 3-12); in a projection it is that of
    the plane.
    """
    if geobox.crs is None:
        return None
    affine = geobox.affine
    if not geobox.crs.geographic:
        metres = _metres(geobox)
        return np.full(geobox.shape[0], abs(affine.determinant) * metres**2)
    edges = affine.f + affine.e * np.arange(geobox.shape[0] + 1)
    return np.abs(np.diff(_zone(np.radians(edges)))) * np.radians(abs(affine.a))


def _metres(geobox: GeoBox) -> float:
    """Metres in a unit of the grid's projection."""
    axes = geobox.crs.proj.axis_info
    return float(axes[0].unit_conversion_factor) if axes else 1.0


def _zone(latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area between the equator and a latitude, in m2 a radian of longitude, on WGS84."""
    semi_major, flattening = 6378137.0, 1 / 298.257223563
    e2 = flattening * (2 - flattening)
    e, sine = np.sqrt(e2), np.sin(latitude)
    q = sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e
    return semi_major**2 * (1 - e2) * q / 2


def _profile(geobox: GeoBox) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 1,
        "height": geobox.shape[0],
        "width": geobox.shape[1],
        "crs": None if geobox.crs is None else geobox.crs.to_wkt(),
        "transform": geobox.affine,
        "nodata": NOT_OBSERVED,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "compress": "ZSTD",
        "zstd_level": 1,
        "sparse_ok": False,
        "bigtiff": "IF_SAFER",
    }


def _cog_options(raster: Raster) -> dict[str, Any]:
    return {
        "compress": "DEFLATE",
        "blocksize": _TILE,
        "overview_resampling": raster.overviews,
        "bigtiff": "IF_SAFER",
    }


def _describe(target: Any, raster: Raster) -> None:
    target.update_tags(**raster.tags)
    if raster.scale != 1.0:
        target.scales = (raster.scale,)
    if raster.colours is not None:
        target.write_colormap(1, dict(raster.colours))
