"""Band files of products, decoded block by block, each block once.

JPEG 2000 is decoded at some 15 MB/s a core: whatever reads the same block again is slow.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.scenes.raster import gdal

_CACHE = 256 << 20
"""Bytes of decoded blocks: two rows of blocks of a tile's six 20 m bands take 90 MB."""
_MOST_OPEN = 40
_LARGEST_BLOCK = 1 << 28
"""Pixels of a file that is one block, 16384 at a side: it has to be held as a whole."""
_OPEN = threading.local()

Key = tuple[Any, ...]
Dn = NDArray[np.uint16]


class BlockCache:
    """The blocks used last, up to so many bytes; one wanted by several threads is made once."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._lock = threading.Lock()
        self._blocks: OrderedDict[Key, Future[Dn]] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Dn]) -> Dn:
        """The block of that key, made where it is not held."""
        with self._lock:
            held = self._blocks.get(key)
            block: Future[Dn] = held or Future()
            self._blocks[key] = block
            self._blocks.move_to_end(key)
        if held is None:
            self._fill(key, block, make)
        return block.result()

    def _fill(self, key: Key, block: "Future[Dn]", make: Callable[[], Dn]) -> None:
        try:
            values = make()
        except BaseException as e:
            with self._lock:
                self._blocks.pop(key, None)
            block.set_exception(e)
            return
        values.setflags(write=False)
        block.set_result(values)
        with self._lock:
            self._held += values.nbytes
            self._drop()

    def _drop(self) -> None:
        for key in [key for key, block in self._blocks.items() if block.done()]:
            if self._held <= self._limit:
                return
            self._held -= self._blocks.pop(key).result().nbytes


_BLOCKS = BlockCache(_CACHE)


@dataclass(frozen=True)
class BandFile:
    """One band of one product, as stored: whole DN on a grid of its own.

    Attributes:
        source: The name by which GDAL opens it.
        said: The name in messages.
        geobox: Its grid.
        block: Height and width of its blocks.
        version: Size and time of the file, or of the zip that holds it.
    """

    source: str
    said: str
    geobox: GeoBox
    block: tuple[int, int]
    version: tuple[int, int]

    def read(self, ys: slice, xs: slice) -> Dn:
        """DN (rows, columns) of a window inside the band; not to be changed."""
        height, width = self.block
        if ys.stop <= ys.start or xs.stop <= xs.start:
            return np.empty((max(0, ys.stop - ys.start), max(0, xs.stop - xs.start)), np.uint16)
        rows = range(ys.start // height, -(-ys.stop // height))
        columns = range(xs.start // width, -(-xs.stop // width))
        result = np.empty((ys.stop - ys.start, xs.stop - xs.start), np.uint16)
        for row in rows:
            for column in columns:
                values = self._block(row, column)
                if values.shape == result.shape and len(rows) == len(columns) == 1:
                    return values
                (take_y, put_y), (take_x, put_x) = (
                    _part(ys, row * height, values.shape[0]),
                    _part(xs, column * width, values.shape[1]),
                )
                result[put_y, put_x] = values[take_y, take_x]
        return result

    def _block(self, row: int, column: int) -> Dn:
        key = (self.source, self.version, row, column)
        return _BLOCKS.get(key, lambda: self._decode(row, column))

    def _decode(self, row: int, column: int) -> Dn:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        height, width = self.geobox.shape
        top, left = row * self.block[0], column * self.block[1]
        size = min(self.block[1], width - left), min(self.block[0], height - top)
        try:
            with decoding():
                values: Dn = _handle(self).read(1, window=Window(left, top, *size))
        except (RasterioError, MemoryError) as e:
            raise _damaged(self.said, e) from e
        return values


def open_band(source: str, said: str, container: Path, expected: GeoBox) -> BandFile:
    """A band file, once it is seen to be what the product's metadata says.

    Args:
        source: The name by which GDAL opens it.
        said: The name in messages.
        container: The file itself, or the zip that holds it.
        expected: The grid that the metadata gives it.

    Raises:
        S2cdError: where it is none, or has another size, type or place.
    """
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with decoding(), rasterio.open(source) as file:
            _check_kind(file, said, (1, "uint16"))
            _check_place(file, said, expected)
            block = file.block_shapes[0]
    except (RasterioError, OSError, ValueError) as e:
        raise _damaged(said, e) from e
    status = container.stat()
    return BandFile(source, said, expected, block, (status.st_size, status.st_mtime_ns))


def open_mask(source: str, said: str, container: Path, expected: GeoBox) -> BandFile:
    """A raster of eight layers of quality flags, once it is seen to lie on a band's grid.

    Raises:
        S2cdError: as `open_band`.
    """
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with decoding(), rasterio.open(source) as file:
            _check_kind(file, said, (8, "uint8"))
            _check_place(file, said, expected)
            block = file.block_shapes[0]
    except (RasterioError, OSError, ValueError) as e:
        raise _damaged(said, e) from e
    status = container.stat()
    return BandFile(source, said, expected, block, (status.st_size, status.st_mtime_ns))


def mask_handle(band: BandFile, layers: tuple[int, ...], window: tuple[slice, slice]) -> Any:
    """Some layers of a mask (layer, rows, columns) in a window.

    Raises:
        S2cdError: where it is damaged.
    """
    from rasterio.errors import RasterioError

    try:
        with decoding():
            return _handle(band).read(list(layers), window=window)
    except (RasterioError, MemoryError) as e:
        raise _damaged(band.said, e) from e


def decoding() -> Any:
    """GDAL as for all rasters, in the thread that calls it: blocks are what runs side by side."""
    import rasterio

    gdal_options = gdal().options
    return rasterio.Env(
        **gdal_options,
        GDAL_NUM_THREADS="1",
        GDAL_CACHEMAX=64,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
    )


def _check_kind(file: Any, said: str, kind: tuple[int, str]) -> None:
    if (file.count, file.dtypes[0]) != kind:
        raise S2cdError(
            f"{said} holds {file.count} x {file.dtypes[0]}, not "
            f"{'one band' if kind[0] == 1 else f'{kind[0]} layers'} of {kind[1]}. Fetch it again"
        )
    if file.block_shapes[0][0] * file.block_shapes[0][1] > _LARGEST_BLOCK:
        raise S2cdError(f"{said} is one block, larger than can be held. Fetch the product again")


def _check_place(file: Any, said: str, expected: GeoBox) -> None:
    height, width = expected.shape
    if (file.height, file.width) != (height, width):
        raise S2cdError(
            f"{said} has {file.width} x {file.height} pixels, and MTD_TL.xml says {width} x "
            f"{height}. Fetch the product again"
        )
    epsg = file.crs.to_epsg() if file.crs else None
    apart = max(abs(a - b) for a, b in zip(file.transform[:6], expected.affine[:6], strict=True))
    if epsg != expected.crs.epsg or apart > 0.01:
        raise S2cdError(
            f"{said} lies elsewhere (EPSG:{epsg}, corner {file.transform.c:g} "
            f"{file.transform.f:g}) than MTD_TL.xml says (EPSG:{expected.crs.epsg}, corner "
            f"{expected.affine.c:g} {expected.affine.f:g}). Fetch the product again"
        )


def _handle(band: BandFile) -> Any:
    """This thread's open handle of a band file."""
    import rasterio

    handles: dict[Any, Any] = _OPEN.__dict__.setdefault("handles", {})
    key = (band.source, band.version, os.getpid())
    if key not in handles:
        while len(handles) >= _MOST_OPEN:
            handles.pop(next(iter(handles))).close()
        handles[key] = rasterio.open(band.source)
    return handles[key]


def _damaged(said: str, error: BaseException) -> S2cdError:
    return S2cdError(
        f"{said} cannot be read: {one_line(error)}. It is cut short or damaged; fetch it again"
    )


def _part(wanted: slice, start: int, length: int) -> tuple[slice, slice]:
    """What to take of a block that begins at ``start``, and where to put it in the window."""
    first, last = max(wanted.start, start), min(wanted.stop, start + length)
    return slice(first - start, last - start), slice(first - wanted.start, last - wanted.start)
