"""The stack: one date on one grid, as reflectance; `open_stack` reads it, `write_stack` writes it.

On disk it is what the interface promises: uint16 = reflectance x 10000, 0 = no data, bands by
name, then a QA band of bit flags. Any other raster whose bands can be told is read as well.
"""

import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from s2cd.errors import S2cdError
from s2cd.output import completed
from s2cd.remote import path_of
from s2cd.scenes.header import Header, read_header
from s2cd.scenes.raster import gdal
from s2cd.scenes.reader import RasterReader

logger = logging.getLogger(__name__)

SCALE = 1e-4
"""Reflectance of one step of a stored value."""
CHUNK = 1024
"""Height and width of the chunks of an open stack, in pixels: a whole number of file tiles."""
_PIECE = 1 << 16
"""Pixels that are encoded at once: they stay in the processor's cache."""
_MOST_THREADS = 16
"""Of a chunk of ten bands each holds some 90 MB."""
QA_FLAGS = {
    "observed": 1,
    "cloud": 2,
    "cirrus": 4,
    "shadow": 8,
    "saturated": 16,
    "defective": 32,
}
"""Bits of the QA band."""
MASKED = ("cloud", "shadow", "defective")
"""The flags that `open_stack` masks by default."""


def open_stack(
    path: str | Path, bands: Sequence[str] | None = None, mask: Sequence[str] = MASKED
) -> xr.DataArray:
    """Reflectance of one date, lazy: (band, y, x), float32, NaN where there is no data.

    Args:
        path: A stack, or any raster whose bands have names or can be told from ``bands``; of this
            machine, or behind s3:// or https://.
        bands: Which bands to take of a raster with named bands; or, for one without names,
            what its bands are, in their order.
        mask: Flags of the QA band whose pixels become NaN; without effect where there is no QA.

    Raises:
        S2cdError: where the file is no raster, or its bands cannot be told.
    """
    header = read_header(path_of(path), bands)
    for note in header.notes:
        logger.info("%s: %s", header.path.name, note)
    return _lazy(RasterReader(header, flag_bits(mask)), header)


def open_qa(path: str | Path, bands: Sequence[str] | None = None) -> xr.DataArray | None:
    """The QA band of a stack, lazy: (y, x), uint16 bit flags (`QA_FLAGS`); None without one.

    ``bands`` is as for `open_stack`, which tells the bands of a raster that does not name them.
    """
    header = read_header(path_of(path), bands)
    if header.qa_index is None:
        return None
    reader = RasterReader(header.only_qa(), 0, np.dtype("uint16"))
    return _lazy(reader, header)[0].drop_vars("band")


def write_stack(
    stack: xr.DataArray,
    path: str | Path,
    qa: xr.DataArray | None = None,
    tags: Mapping[str, str] | None = None,
    overwrite: bool = False,
    later: Callable[[], xr.DataArray] | None = None,
) -> None:
    """Write one date as a stack: complete under its name, or not at all.

    Args:
        stack: Reflectance (band, y, x), NaN = no data, with ``.odc.geobox``; computed by
            chunks, several at once, and compressed meanwhile.
        path: The GeoTIFF to write.
        qa: Bit flags (y, x), uint16; by default 1 (observed) where any band has data.
        tags: What the file shall say of itself.
        overwrite: Whether to replace a file of that name.
        later: Asked when all bands are written for more flags (y, x), such as
            `CloudWatch.flags`; its attributes become tags. No data stays 0.

    Raises:
        S2cdError: where it cannot be written.
    """
    import rasterio

    profile = _profile(stack)
    with completed(Path(path), overwrite) as temporary, gdal():
        with rasterio.open(temporary, "w+", **profile) as target:
            _describe(target, [str(b) for b in stack.band.values], tags or {})
            for window, values in encoded(stack, qa):
                target.write(values, window=window)
            if later is not None:
                _add_flags(target, later())
        _check_blocks(temporary)


def _add_flags(target: Any, flags: xr.DataArray) -> None:
    """Set flags in the QA band, which is the last, where there is data; add their attributes."""
    target.update_tags(**{str(key): str(value) for key, value in flags.attrs.items()})
    for _, window in target.block_windows(target.count):
        rows, columns = window.toslices()
        more = np.asarray(flags.data[rows, columns], np.uint16)
        if more.any():
            qa = target.read(target.count, window=window)
            target.write(np.where(qa, qa | more, qa), target.count, window=window)


def encode(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Reflectance as stored: round(x 10000) within 1..65535, and 0 where it is NaN."""
    values = reflectance.reshape(-1)
    stored = np.empty(values.shape, np.uint16)
    for start in range(0, values.size, _PIECE):
        piece = slice(start, start + _PIECE)
        scaled = values[piece] / np.float32(SCALE)
        np.rint(scaled, out=scaled)
        np.clip(scaled, 1, 65535, out=scaled)
        np.copyto(scaled, 0, where=np.isnan(scaled))
        stored[piece] = scaled
    return stored.reshape(reflectance.shape)


def stack_array(data: Any, geobox: GeoBox, bands: Sequence[str]) -> xr.DataArray:
    """Label an array (band, y, x) with its bands and its place."""
    coords: dict[str, Any] = {"band": list(bands), **xr_coords(geobox, always_yx=True)}
    return xr.DataArray(data, dims=("band", "y", "x"), coords=coords)


def _lazy(reader: RasterReader, header: Header) -> xr.DataArray:
    import dask.array as da

    chunks = (-1, CHUNK, CHUNK)
    data = da.from_array(
        reader,
        chunks=chunks,
        name=reader.token(),
        asarray=False,
        inline_array=True,
        meta=reader.meta,
    )
    bands = header.bands if len(header.bands) == reader.shape[0] else ("QA",)
    stack = stack_array(data, header.geobox, bands)
    stack.attrs = {"source": header.path.name, **header.tags}
    return stack


def flag_bits(flags: Sequence[str]) -> int:
    """The bits of QA flags, by their names.

    Raises:
        S2cdError: where one is none.
    """
    bits = 0
    for flag in flags:
        if flag not in QA_FLAGS:
            raise S2cdError(f"{flag!r} is no QA flag. Name some of {', '.join(QA_FLAGS)}")
        bits |= QA_FLAGS[flag]
    return bits


def _profile(stack: xr.DataArray) -> dict[str, Any]:
    """How a stack is stored; in one thread, since GDAL loses the write errors of several."""
    geobox = stack.odc.geobox
    return {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": stack.shape[0] + 1,
        "height": stack.shape[1],
        "width": stack.shape[2],
        "crs": None if geobox.crs is None else geobox.crs.to_wkt(),
        "transform": geobox.affine,
        "nodata": 0,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "ZSTD",
        "zstd_level": 1,
        "predictor": 2,
        "interleave": "band",
        "bigtiff": "IF_SAFER",
    }


def _describe(target: Any, bands: list[str], tags: Mapping[str, str]) -> None:
    from s2cd import __version__

    target.descriptions = (*bands, "QA")
    target.scales = (*(SCALE for _ in bands), 1.0)
    target.update_tags(**{**tags, "S2CD_VERSION": __version__})
    flags = ", ".join(f"{bit} {name}" for name, bit in QA_FLAGS.items())
    target.update_tags(len(bands) + 1, FLAGS=flags)


def encoded(
    stack: xr.DataArray, qa: xr.DataArray | None
) -> Iterator[tuple[Any, NDArray[np.uint16]]]:
    """Windows with their values as stored, in order; a few are computed ahead, side by side."""
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    waiting = _windows(stack.shape[1], stack.shape[2])
    with ThreadPoolExecutor(threads, "stack") as pool:
        ahead = deque(
            (window, pool.submit(_values, stack, qa, window))
            for window in islice(waiting, threads + 1)
        )
        try:
            while ahead:
                (ys, xs), values = ahead.popleft()
                done = values.result()
                for window in islice(waiting, 1):
                    ahead.append((window, pool.submit(_values, stack, qa, window)))
                yield ((ys.start, ys.stop), (xs.start, xs.stop)), done
        finally:
            for _, values in ahead:
                values.cancel()


def _windows(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Windows of whole chunks, and so of whole tiles of the file, row by row."""
    for top in range(0, height, CHUNK):
        for left in range(0, width, CHUNK):
            yield slice(top, min(top + CHUNK, height)), slice(left, min(left + CHUNK, width))


def _values(
    stack: xr.DataArray, qa: xr.DataArray | None, window: tuple[slice, slice]
) -> NDArray[np.uint16]:
    """A window as stored (band, rows, columns), its flags last."""
    ys, xs = window
    reflectance = _computed(stack.data[:, ys, xs])
    stored = np.empty((stack.shape[0] + 1, *reflectance.shape[1:]), np.uint16)
    for number, band in enumerate(reflectance):
        stored[number] = encode(band)
    stored[-1] = stored[:-1].any(axis=0) if qa is None else _computed(qa.data[ys, xs])
    return stored


def _computed(part: Any) -> Any:
    """The values of a lazy array, in this thread; of one chunk not copied, as dask would do."""
    import dask
    from dask.core import flatten

    if not hasattr(part, "dask"):
        return part
    keys = list(flatten(part.__dask_keys__()))
    if len(keys) > 1:
        return part.compute(scheduler=dask.get)
    return dask.get(part.__dask_graph__(), keys)[0]


def _check_blocks(path: Path) -> None:
    """Refuse a GeoTIFF without a tile, or with one beyond its end: GDAL may lose the last error."""
    import rasterio

    size = path.stat().st_size
    with rasterio.open(path) as source:
        for index in source.indexes:
            for (row, column), _ in source.block_windows(index):
                offset, length = (
                    int(source.get_tag_item(f"{key}_{column}_{row}", "TIFF", index) or 0)
                    for key in ("BLOCK_OFFSET", "BLOCK_SIZE")
                )
                if length == 0 or offset + length > size:
                    raise OSError(errno.ENOSPC, "a tile is missing")
