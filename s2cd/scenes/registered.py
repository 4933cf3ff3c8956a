"""A date moved onto another: what `s2cd align` writes."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.scenes.motion import Motion
from s2cd.scenes.pair import RESAMPLING, read_date
from s2cd.scenes.reader import span
from s2cd.scenes.stack import CHUNK, stack_array
from s2cd.scenes.warp import moved


@dataclass(frozen=True)
class _Moved:
    """A date (band, y, x) seen on another grid; each pixel is resampled once, from the original."""

    date: xr.DataArray
    grids: tuple[GeoBox, GeoBox]
    motion: Motion
    resampling: str

    ndim = 3
    dtype = np.dtype("float32")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, and the height and width of the grid."""
        return (len(self.date), self.grids[1].shape[0], self.grids[1].shape[1])

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[np.float32]:
        """A window, indexed as numpy does by whole numbers and slices."""
        (ys, pick_ys), (xs, pick_xs) = (
            span(k, n) for k, n in zip(key[1:], self.shape[1:], strict=True)
        )
        read = partial(read_date, self.date)
        picked = moved(read, self.grids, self.motion, (ys, xs), self.resampling)
        chosen: NDArray[np.float32] = picked[:, pick_ys][..., pick_xs][key[0]]
        return chosen


def registered(
    after: xr.DataArray, before: GeoBox, motion: Motion, resampling: str = RESAMPLING
) -> xr.DataArray:
    """A date on the grid of another, moved: lazy, (band, y, x), float32, NaN = no data.

    Args:
        after: Values (band, y, x) with ``.odc.geobox``.
        before: The grid to bring it to.
        motion: Over that grid, as `shift_between` measured it.
        resampling: Of `regrid`; ``nearest`` for flags.
    """
    import dask.array as da

    view = _Moved(after, (after.odc.geobox, before), motion, resampling)
    data: Any = da.from_array(
        view,
        chunks=(-1, CHUNK, CHUNK),
        name=False,
        asarray=False,
        inline_array=True,
        meta=np.empty((0, 0, 0), np.float32),
    )
    result = stack_array(data, before, [str(b) for b in after.band.values])
    result.attrs = dict(after.attrs)
    return result


def registered_qa(qa: xr.DataArray, before: GeoBox, motion: Motion) -> xr.DataArray:
    """Bit flags (y, x), uint16, moved as `registered` does: of the nearest pixel; 0 beyond."""
    date = qa.astype(np.float32).expand_dims({"band": ["QA"]})
    flags = registered(date, before, motion, "nearest")[0].drop_vars("band")
    return flags.fillna(0).astype(np.uint16)
