"""Rasters opened: only where what a file says of its own size can be believed."""

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import NotGeoreferencedWarning

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.remote import Remote, gdal_name, gdal_options, opened, state, unreadable

# Rasters without a place are told and handled here. A filter for the whole process, since those
# of `warnings.catch_warnings` are not safe among threads (rasterio's own leaks this warning).
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

# GDAL's block cache, in MiB; its own default is a twentieth of the machine's memory. GDAL asks the
# environment once, when it first reads; rasterio's Env would take the number for bytes.
os.environ.setdefault("GDAL_CACHEMAX", "256")

MAX_PIXELS = 100_000 * 100_000
"""A header that claims more pixels than this in one band is taken for damage."""
_MAX_RATIO = 33_000
"""Most bytes of pixels for a byte of a file. Zstandard holds 128 KiB of one value in four bytes;
other compressions of GeoTIFF, and sparse tiles, do not come near that."""
_A_SCENE = 11_000 * 11_000
"""As many pixels are believed of any file: a Sentinel-2 tile without data is small in JPEG 2000."""
_MAX_BLOCK = 2 << 30
"""Most bytes that GDAL may have to hold for one block of a file."""
_CONTAINERS = (b"\x89HDF", b"CDF")
"""How HDF5 and netCDF files begin: they hold no band themselves, and the HDF5 library writes to
standard error what it finds wrong with them."""
_BLOCK_LISTS = {273, 279, 324, 325}
"""TIFF's StripOffsets, StripByteCounts, TileOffsets and TileByteCounts."""
_TIFF_BYTES = {3: 2, 4: 4, 16: 8}
"""Bytes of TIFF's types SHORT, LONG and LONG8."""


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """An open raster whose header can be believed; what GDAL says of it meanwhile is an S2cdError.

    Raises:
        S2cdError: where there is no such file, or GDAL cannot read it.
    """
    from rasterio.errors import RasterioError

    with gdal(path), open_raster(path) as source:
        try:
            _check_size(source, path)
            yield source
        except UnicodeDecodeError as e:
            raise S2cdError(f"{path} holds names that are not text. Is it damaged?") from e
        except (RasterioError, MemoryError) as e:
            raise unreadable(path, one_line(e)) from e


def gdal(path: Path | None = None) -> Any:
    """A context in which GDAL raises what it has to say, and takes half a picture for an error.

    ``path`` is what will be read, where that may be a `Remote`.
    """
    import rasterio
    from rasterio.session import DummySession

    return rasterio.Env(
        DummySession(),  # GDAL reads AWS's variables itself; boto3, where it is there, takes 15 ms
        GDAL_ERROR_ON_LIBJPEG_WARNING=True,  # else what is missing of a JPEG is grey
        GDAL_PNG_WHOLE_IMAGE_OPTIM=False,  # its short way takes what is missing for black
        RAW_CHECK_FILE_SIZE=True,  # else what is missing of ENVI and its kin is 0
        **gdal_options(path),
    )


def open_raster(path: Path) -> Any:
    """Open a raster with rasterio, or say in one line why that cannot be.

    Raises:
        S2cdError: where there is no such file, or GDAL cannot read it.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if not path.exists():
        raise S2cdError(f"{path} does not exist. Check the name")
    if path.is_dir():
        raise S2cdError(
            f"{path} is a folder, not a raster. For a product: `s2cd stack {path} -o …`"
        )
    try:
        with opened(path) as file:
            begin = file.read(4)
        if not begin:
            raise S2cdError(f"{path} is empty. Fetch or make it again")
        if begin.startswith(_CONTAINERS):
            raise S2cdError(f"{path} is HDF5 or netCDF. Make a GeoTIFF of it: gdal_translate")
        with gdal(path):
            only = "GTiff" if isinstance(path, Remote) else None  # others are not made for ranges
            return rasterio.open(gdal_name(path), driver=only)
    except (RasterioError, OSError, ValueError, MemoryError) as e:
        if isinstance(path, Remote):
            raise unreadable(path, f"it is no GeoTIFF, or {one_line(e)}") from e
        raise S2cdError(f"{path} cannot be read as a raster: {one_line(e)}. Is it damaged?") from e


def _check_size(source: Any, path: Path) -> None:
    from rasterio.enums import Interleaving

    if source.count == 0:
        raise S2cdError(f"{path} holds no raster band. Name one of its subdatasets")
    _check_end(source, path)
    pixels = source.height * source.width
    depth = max(4 if name == "complex_int16" else np.dtype(name).itemsize for name in source.dtypes)
    there = _bytes_behind(source, path) if pixels > _A_SCENE else None
    if pixels > MAX_PIXELS or (there and pixels * source.count * depth > _MAX_RATIO * there):
        raise S2cdError(
            f"{path} claims {source.width} x {source.height} pixels, more than "
            f"{'s2cd reads' if pixels > MAX_PIXELS else 'it can hold'}. Is its header damaged?"
        )
    together = source.count if source.interleaving == Interleaving.pixel else 1
    height, width = max(source.block_shapes, key=lambda shape: shape[0] * shape[1])
    if height * width * depth * together > _MAX_BLOCK:
        raise S2cdError(
            f"{path} stores {width} x {height} pixels as one block, more than can be held. "
            "Store it in tiles: gdal_translate -co TILED=YES"
        )


def _check_end(source: Any, path: Path) -> None:
    """Refuse a file that ends before its pixels do, where GDAL would take the rest for 0."""
    missing = False
    if source.driver in ("GTiff", "COG"):
        missing = not _lists_blocks(path)
    elif source.driver == "ENVI" and "file_compression" not in source.tags(ns="ENVI"):
        depth = np.dtype(source.dtypes[0]).itemsize
        missing = path.stat().st_size < source.width * source.height * source.count * depth
    if missing:
        raise S2cdError(f"{path} is cut short: pixels are missing. Fetch or make it again")


def _lists_blocks(path: Path) -> bool:
    """Whether a TIFF holds all of its lists of where its blocks are; in its first directory.

    libtiff takes blocks whose place it cannot read for empty ones. Source: TIFF 6.0, section 2,
    and the BigTIFF design (libtiff.gitlab.io/libtiff/specification/bigtiff.html).
    """
    size = state(path)[0]
    try:
        order, start, directory = _tiff_directory(path)
    except struct.error:
        return False
    inside = struct.calcsize(start)
    for tag, kind, n, place in struct.iter_unpack(order, directory):
        length = n * _TIFF_BYTES.get(kind, 1)
        if tag in _BLOCK_LISTS and length > inside and place + length > size:
            return False
    return True


def _tiff_directory(path: Path) -> tuple[str, str, bytes]:
    """The layout of an entry, the format of an offset, and the entries of the first directory."""
    with opened(path) as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", head, 2) == (43,)
        start, entry, count = ("Q", "HHQQ", "Q") if big else ("I", "HHII", "H")
        file.seek(*struct.unpack_from(order + start, head, 8 if big else 4))
        (entries,) = struct.unpack(order + count, file.read(struct.calcsize(order + count)))
        length = min(entries, 65535) * struct.calcsize(order + entry)
        directory = file.read(length)
    if len(directory) < length:
        raise struct.error("the directory is cut short")
    return order + entry, order + start, directory


def _bytes_behind(source: Any, path: Path) -> int | None:
    """Bytes of the files of a raster; None where they cannot be told, as with nested VRT."""
    if isinstance(path, Remote):
        return int(state(path)[0])
    own, *others = (Path(name) for name in source.files)
    if not all(p.is_file() for p in others) or any(p.suffix.lower() == ".vrt" for p in others):
        return None
    return sum(p.stat().st_size for p in (own, *others) if p.is_file()) or None
