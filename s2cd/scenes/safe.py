"""Folders of band files, as products hold them, to one lazy stack on the grid of a 10 m band."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import NoOverlapError, S2cdError
from s2cd.scenes.aoi import NEAR, Aoi
from s2cd.scenes.bands import BANDS, DEFAULT_BANDS, band_names, band_of_file
from s2cd.scenes.grid import ground_extent, meet, regrid, whole_offset
from s2cd.scenes.header import Header, grid_of
from s2cd.scenes.metadata import offset_by_name
from s2cd.scenes.raster import reading
from s2cd.scenes.reader import RasterReader, span
from s2cd.scenes.stack import CHUNK, SCALE, stack_array

logger = logging.getLogger(__name__)

RESAMPLING = ("cubic", "bilinear", "nearest")
"""How a coarser band may be brought to the 10 m grid; the first is the default."""
_SUFFIXES = (".tif", ".tiff", ".jp2")
_SENSED = re.compile(r"^(?:L1C_)?T\d{2}[A-Z]{3}_(\d{8}T\d{6})_")


@dataclass(frozen=True)
class BandReader:
    """One band of one date seen as an array (1, y, x) of reflectance on a given grid."""

    reader: RasterReader
    geobox: GeoBox
    resampling: str

    ndim = 3
    dtype = np.dtype("float32")

    @property
    def shape(self) -> tuple[int, int, int]:
        """One band, and the height and width of the grid."""
        return (1, self.geobox.shape[0], self.geobox.shape[1])

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[np.float32]:
        """Reflectance of a window, indexed as numpy does by whole numbers and slices."""
        (ys, pick_ys), (xs, pick_xs) = span(key[1], self.shape[1]), span(key[2], self.shape[2])
        picked = self._window(ys, xs)[:, pick_ys][..., pick_xs]
        return picked[key[0]]

    def _window(self, ys: slice, xs: slice) -> NDArray[np.float32]:
        own = self.reader.header.geobox
        if own.shape == self.geobox.shape and whole_offset(own, self.geobox) == (0, 0):
            return self._read(ys, xs)
        return regrid(self._read, (own, self.geobox), (ys, xs), self.resampling)

    def _read(self, ys: slice, xs: slice) -> NDArray[np.float32]:
        return self.reader[:, ys, xs]


def open_folder(
    folder: Path,
    bands: Sequence[str] | None = None,
    offset: float | None = None,
    resampling: str = RESAMPLING[0],
    aoi: Aoi | None = None,
) -> xr.DataArray:
    """Reflectance of the band files in a folder, lazy: (band, y, x), float32, NaN = no data.

    Each band is brought by georeference to the grid of the finest band asked for. Reflectance is
    (DN + offset) / 10000, and DN 0 is no data, before the offset (Sentinel-2 product definition).

    Args:
        folder: Holds single-band rasters whose names end in the band: ``*_B02.tif``, ``.jp2``.
        bands: Bands in the order wanted; the ten at 10 m and 20 m by default.
        offset: RADIO_ADD_OFFSET, in DN; where it is None, by the baseline in the name of the
            folder or of one above it, else 0; what is assumed is said.
        resampling: How coarser bands are brought to the fine grid.
        aoi: The area to cut to.

    Raises:
        S2cdError: where bands are missing or twice there, or a file is no single-band raster.
    """
    wanted = DEFAULT_BANDS if bands is None else band_names(bands)
    files = band_files(folder)
    if missing := [name for name in wanted if name not in files]:
        raise S2cdError(
            f"{folder} has no file of band {', '.join(missing)}. It holds "
            f"{', '.join(sorted(files)) or 'no band file (such as *_B02.tif or *_B02.jp2)'}"
        )
    if offset is None:
        offset = _assumed_offset(folder)
    readers = [_reader(files[name], name, offset) for name in wanted]
    finest = min(wanted, key=lambda name: (BANDS[name].resolution, wanted.index(name)))
    geobox = readers[wanted.index(finest)].header.geobox
    layers, window = _join(readers, geobox, resampling), _window(folder, geobox, aoi)
    stack = stack_array(layers[:, *window], geobox[window], wanted)
    stack.attrs = _said_by_name(folder, files[finest], offset)
    return stack


def band_files(folder: Path) -> dict[str, Path]:
    """The file of each band in a folder.

    Raises:
        S2cdError: where the folder is none, or two files claim one band.
    """
    if not folder.is_dir():
        raise S2cdError(f"{folder} is not a folder. Name the folder that holds the band files")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = band_of_file(path.stem) if path.suffix.lower() in _SUFFIXES else None
        if name is None:
            continue
        if name in files:
            raise S2cdError(
                f"{folder} holds band {name} twice: {files[name].name} and {path.name}. "
                "Leave the files of one date in it"
            )
        files[name] = path
    return files


def _window(folder: Path, geobox: GeoBox, aoi: Aoi | None) -> tuple[slice, slice]:
    """Rows and columns of a grid in which an area lies; all of them without one."""
    if aoi is None:
        return slice(0, geobox.shape[0]), slice(0, geobox.shape[1])
    if geobox.crs is None:
        raise S2cdError(f"{folder} has no CRS to find the AOI {aoi.name} in. Georeference it")
    if aoi.area_in(geobox) <= 0:
        raise NoOverlapError(
            f"The AOI {aoi.name} ({aoi.extent}) lies outside {folder} ({ground_extent(geobox)}). "
            "Name the folder of its place"
        )
    box = aoi.box_in(geobox.crs, [geobox])
    x, y = ~geobox.affine * (
        np.array([box.west, box.east, box.west, box.east]),
        np.array([box.south, box.south, box.north, box.north]),
    )
    spans = []
    for at, length in zip((y, x), geobox.shape, strict=True):
        low, high = np.floor(at.min() + NEAR), np.ceil(at.max() - NEAR)
        spans.append(slice(int(max(low, 0)), int(min(high, length))))
    return spans[0], spans[1]


def _assumed_offset(folder: Path) -> float:
    for name in reversed(folder.resolve().parts):
        if (told := offset_by_name(name)) is not None:
            logger.info("%s: no metadata, assumed by the name %s: offset %g", folder, name, told)
            return told
    logger.info("%s: no metadata, assumed: offset 0 (--offset -1000 says otherwise)", folder)
    return 0.0


def _reader(path: Path, name: str, offset: float) -> RasterReader:
    """A single-band raster of DN as reflectance."""
    with reading(path) as source:
        if source.count != 1:
            raise S2cdError(f"{path} has {source.count} bands, not one. Name a file of one band")
        if not re.fullmatch(r"u?int\d+", source.dtypes[0]):
            raise S2cdError(
                f"{path} holds {source.dtypes[0]}, not whole DN. Use it as a stack instead"
            )
        geobox = grid_of(source, path)
        dtype = source.dtypes[0]
    header = Header(
        path, geobox, (name,), (1,), dtype, scale=SCALE, shift=offset * SCALE, nodata=0.0
    )
    return RasterReader(header, 0)


def _join(readers: list[RasterReader], geobox: GeoBox, resampling: str) -> Any:
    import dask.array as da

    if resampling not in RESAMPLING:
        raise S2cdError(f"{resampling!r} is no resampling. Name one of {', '.join(RESAMPLING)}")
    layers = []
    for reader in readers:
        _check_place(reader.header, geobox)
        band = BandReader(reader, geobox, resampling)
        layers.append(
            da.from_array(
                band,
                chunks=(1, CHUNK, CHUNK),
                name=f"band-{reader.token()}-{resampling}-{geobox.shape}",
                asarray=False,
                inline_array=True,
                meta=reader.meta,
            )
        )
    return da.concatenate(layers)


def _check_place(header: Header, geobox: GeoBox) -> None:
    own = header.geobox
    if own.crs is None and (geobox.crs is not None or own.shape != geobox.shape):
        raise S2cdError(f"{header.path} has no CRS. Georeference it in a GIS")
    if own.crs is not None and geobox.crs is None:
        raise S2cdError(f"{header.path} has a CRS and the 10 m bands have none. Georeference them")
    if own.crs is not None and not meet(own, geobox, (str(header.path), "the other bands")):
        raise S2cdError(
            f"{header.path} lies elsewhere ({ground_extent(own)}) than the other bands "
            f"({ground_extent(geobox)}). Leave the files of one place in the folder"
        )


def _said_by_name(folder: Path, path: Path, offset: float) -> dict[str, str]:
    """Tags of a stack: only what names tell. ESA's old long names hold no sensing time."""
    tags = {"PRODUCT": folder.resolve().name, "RADIO_ADD_OFFSET": f"{offset:g}"}
    if match := _SENSED.match(path.name):
        day, clock = match[1].split("T")
        tags["SENSING_TIME"] = (
            f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}Z"
        )
    return tags
