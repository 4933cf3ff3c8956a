"""One date of products with its flags: written as a stack, or held in memory as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from s2cd.scenes.clouds import watch_folder, watch_products
from s2cd.scenes.mosaic import Wanted, open_date, stack_of
from s2cd.scenes.product import product_at
from s2cd.scenes.safe import open_folder
from s2cd.scenes.stack import CHUNK, MASKED, SCALE, encoded, flag_bits, stack_array

Stored = NDArray[np.uint16]


@dataclass(frozen=True)
class Date:
    """A date that has been opened, and of which no pixel has been read.

    Attributes:
        stack: Reflectance (band, y, x), to be computed once and whole.
        qa: Bit flags (y, x); None where all that has data was observed.
        later: Asked when the stack has been computed: more flags (y, x); None where no clouds
            are looked for.
    """

    stack: xr.DataArray
    qa: xr.DataArray | None
    later: Callable[[], xr.DataArray] | None

    def bytes_to_hold(self, bands: Sequence[str]) -> int:
        """Memory that `held` takes."""
        return (len(bands) + 1) * int(np.prod(self.stack.shape[1:])) * 2

    def held(self, bands: Sequence[str], mask: Sequence[str] = MASKED) -> xr.DataArray:
        """A date in memory: what `open_stack` gives of the stack that would be written, to the bit.

        It is read once, with all of its bands.

        Args:
            bands: The bands to keep.
            mask: Flags whose pixels become NaN.

        Raises:
            S2cdError: where it cannot be read.
        """
        import dask.array as da

        names = [str(name) for name in self.stack.band.values]
        rows = [names.index(name) for name in bands]
        shape = self.stack.shape[1:]
        stored, flags = np.empty((len(rows), *shape), np.uint16), np.empty(shape, np.uint16)
        for (ys, xs), values in encoded(self.stack, self.qa):
            window = slice(*ys), slice(*xs)
            stored[:, *window], flags[window] = values[rows], values[-1]
        self._hide(stored, flags, flag_bits(mask))
        options = {"name": False, "asarray": False, "inline_array": True}
        meta = np.empty((0, 0, 0), np.float32)
        data = da.from_array(_Held(stored), chunks=(-1, CHUNK, CHUNK), meta=meta, **options)
        result = stack_array(data, self.stack.odc.geobox, list(bands))
        result.attrs = dict(self.stack.attrs)
        return result

    def _hide(self, stored: Stored, flags: Stored, bits: int) -> None:
        """Set to no data what flags say is to be masked, those of clouds among them."""
        more = None if self.later is None else self.later().data
        for top in range(0, len(flags), CHUNK):
            strip = slice(top, top + CHUNK)
            hidden = flags[strip] & bits != 0
            if more is not None:
                hidden |= np.asarray(more[strip]) & bits != 0
            stored[:, strip][:, hidden] = 0


def open_products(paths: Sequence[Path], wanted: Wanted, clouds: bool | None = None) -> Date:
    """Products of one date, or one folder of band files.

    Args:
        paths: ``.SAFE`` folders, their zips, or a folder of band files.
        wanted: What to make of them.
        clouds: Whether clouds are looked for; None: where the bands that it takes are there.

    Raises:
        S2cdError: where they cannot be read, or are of several dates.
    """
    found = [product_at(path) for path in paths]
    if len(paths) == 1 and found[0] is None:
        asked = wanted.bands, wanted.offset, wanted.resampling, wanted.aoi
        lazy, qa = open_folder(paths[0], *asked), None
        watch = watch_folder(paths[0], lazy, clouds)
    else:
        names = [known or path for known, path in zip(found, paths, strict=True)]
        chosen, geobox = open_date(names, wanted)
        lazy, qa = stack_of(chosen, geobox, wanted)
        watch = watch_products(chosen, lazy, clouds)
    if watch is None:
        return Date(lazy, qa, None)
    return Date(watch.stack, qa, watch.flags)


@dataclass(frozen=True)
class _Held:
    """Stored values (band, y, x) seen as reflectance."""

    stored: Stored

    ndim = 3
    dtype = np.dtype("float32")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[np.float32]:
        raw = self.stored[key]
        values: NDArray[np.float32] = raw.astype(np.float32)
        values *= np.float32(SCALE)
        hidden = raw == 0
        if hidden.any():
            np.copyto(values, np.nan, where=hidden)
        return values
