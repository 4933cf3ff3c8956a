"""Windows of a raster as reflectance: the array behind an open stack."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.remote import drop_kept, state, turn_of, unreadable
from s2cd.scenes.header import Header
from s2cd.scenes.raster import gdal, open_raster

_OPEN = threading.local()
_MOST_OPEN = 4
_HIGHEST = 1e6
"""Values beyond this, either way, are no reflectance: fill values that the file does not declare,
such as -3.4e38, which would overflow in whatever is computed of them."""


def span(key: Any, size: int) -> tuple[slice, Any]:
    """The contiguous part of an axis that an index needs, and the index within that part."""
    if not isinstance(key, slice):
        at = int(key) % size
        return slice(at, at + 1), 0
    wanted = range(*key.indices(size))
    if not wanted:
        return slice(0, 0), slice(None)
    first = min(wanted[0], wanted[-1])
    part = slice(first, max(wanted[0], wanted[-1]) + 1)
    return part, slice(None, None, key.step)


class RasterReader:
    """A raster seen as an array (band, y, x): slicing it reads that window.

    It can be pickled, and read by several threads at once (each has its own handles, since
    GDAL's may not be shared; GDAL's block cache lives as long as the handle).
    """

    ndim = 3

    def __init__(self, header: Header, masked: int, dtype: np.dtype[Any] | None = None) -> None:
        self.header = header
        self.location = header.path.absolute()  # workers elsewhere have another current folder
        self.masked = masked if header.qa_index is not None else 0
        self.dtype = dtype or np.dtype("float32")
        self.shape = (len(header.indexes), *header.geobox.shape)
        self.version = state(header.path)

    @property
    def meta(self) -> NDArray[Any]:
        """An empty array of the same kind."""
        return np.empty((0, 0, 0), self.dtype)

    def token(self) -> str:
        """A name that is the same for the same content."""
        from dask.base import tokenize

        key = (str(self.header.path.absolute()), self.version, self.header.indexes)
        units = (self.header.scale, self.header.shift, self.header.nodata)
        return f"stack-{tokenize(key, units, self.masked, str(self.dtype))}"

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[Any]:
        """Values of a window, indexed as numpy does by whole numbers and slices."""
        bands, ys, xs = key
        chosen = np.array(self.header.indexes)[bands]
        (rows, pick_rows), (columns, pick_columns) = (
            span(ys, self.shape[1]),
            span(xs, self.shape[2]),
        )
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        values = self._reflectance(np.atleast_1d(chosen).tolist(), window)
        picked = values[:, pick_rows][..., pick_columns]
        return picked[0] if chosen.ndim == 0 else picked

    def _reflectance(self, indexes: list[int], window: Any, again: bool = False) -> NDArray[Any]:
        from rasterio.errors import RasterioError

        try:
            return self._read(indexes, window)
        except (RasterioError, MemoryError) as e:
            if again or not drop_kept(self.location):
                raise unreadable(self.header.path, one_line(e)) from e
        return self._reflectance(indexes, window, again=True)

    def _read(self, indexes: list[int], window: Any) -> NDArray[Any]:
        source = _handle(self.location, self.version)
        with gdal(self.location):
            raw = source.read(indexes, window=window)
            if self.dtype != np.float32:
                return raw.astype(self.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                values = self._scaled(raw)
            for hidden in self._hidden(source, raw, window):
                if hidden.any():
                    np.copyto(values, np.nan, where=hidden)
            return values

    def _scaled(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Reflectance, in as few passes as it takes: reading is a good part of a fast detection."""
        if self.header.scale != 1.0:
            scale = np.float32(self.header.scale)
            values = np.multiply(raw, scale, dtype=np.float32, casting="unsafe")
        else:
            values = raw.astype(np.float32)
        if self.header.shift != 0.0:
            values += np.float32(self.header.shift)
        if raw.dtype.kind == "f" or raw.dtype.itemsize > 2:
            np.copyto(values, np.nan, where=~(np.abs(values) <= _HIGHEST))
        return values

    def _hidden(self, source: Any, raw: NDArray[Any], window: Any) -> Iterator[NDArray[np.bool_]]:
        """Where there is no data, by the file's own no-data value, alpha band and QA flags."""
        nodata = self.header.nodata
        if nodata is not None and raw.dtype.kind == "f":
            yield raw == nodata
        elif nodata is not None and np.float64(nodata).is_integer():  # else no pixel can hold it
            limits = np.iinfo(raw.dtype)
            if (
                limits.min <= nodata <= limits.max
            ):  # compared as floats, it takes three times as long
                yield raw == raw.dtype.type(nodata)
        if self.header.has_alpha:
            yield source.dataset_mask(window=window) == 0
        if self.masked:
            yield (source.read(self.header.qa_index, window=window) & self.masked) != 0


def _handle(path: Path, version: tuple[Any, ...]) -> Any:
    """This thread's open handle of a raster; refused where the file has changed since."""
    handles: dict[Any, Any] = _OPEN.__dict__.setdefault("handles", {})
    key = (str(path), version, turn_of(path), os.getpid())
    if key not in handles:
        source = open_raster(path)
        key = (str(path), version, turn_of(path), os.getpid())
        if state(path) != version:
            source.close()
            raise S2cdError(f"{path} changed while it was read. Start again")
        while len(handles) >= _MOST_OPEN:
            handles.pop(next(iter(handles))).close()
        handles[key] = source
    return handles[key]
