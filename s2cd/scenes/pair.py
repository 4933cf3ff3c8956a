"""The pair: two dates on the grid of the first, with the same bands, and where both are valid."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import NoOverlapError, S2cdError
from s2cd.scenes.bands import DEFAULT_BANDS, band_names
from s2cd.scenes.grid import ground_extent, meet, paste, tiles, whole_offset
from s2cd.scenes.motion import Motion, translation
from s2cd.scenes.radiometry import Radiometry
from s2cd.scenes.stack import stack_array
from s2cd.scenes.warp import moved

logger = logging.getLogger(__name__)

RESAMPLING = "lanczos"
"""How `after` is brought to the grid: it keeps the phase of fine detail better than cubic, which
draws it towards whole pixels (by 0.1 pixel where a shift is measured by it)."""
SAMPLE_PIXELS = 2_000_000
"""Most valid pixels that a detector learns from."""
_SAMPLE_TILE = 128
_SEED = 20_151_120


@dataclass(frozen=True)
class Window:
    """A part of a pair.

    ``before`` and ``after`` are reflectance (band, height, width), float32, NaN = no data;
    ``valid`` (height, width) is true where every band of both dates has data.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """Two dates on one grid, read window by window; made by `make_pair`.

    Attributes:
        before: Reflectance (band, y, x).
        after: The other date with the same bands, on a grid of its own.
        geobox: The grid of the pair, which is that of ``before``.
        motion: How the content of ``after`` moves on its way to the grid.
        radiometry: What brings ``after`` to the radiometry of ``before``; None: it stays.
    """

    before: xr.DataArray
    after: xr.DataArray
    geobox: GeoBox
    motion: Motion
    radiometry: Radiometry | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without coordinates, which the grids hold: 700 kB less a block on a cluster."""
        dates = [
            (date.data, date.odc.geobox, [str(b) for b in date.band.values], dict(date.attrs))
            for date in (self.before, self.after)
        ]
        return _unpickled, (*dates, self.geobox, self.motion, self.radiometry)

    @property
    def bands(self) -> tuple[str, ...]:
        """ESA's names of the bands of both dates."""
        return tuple(str(b) for b in self.before.band.values)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.geobox.shape[0], self.geobox.shape[1]

    @cached_property
    def offset(self) -> tuple[int, int] | None:
        """Rows and columns from after's origin to the pair's; None where pixels do not coincide."""
        if not self.motion.is_linear:
            return None
        return whole_offset(self.after_geobox, self.motion.view(self.geobox))

    @cached_property
    def after_geobox(self) -> GeoBox:
        """The grid of ``after`` itself."""
        return self.after.odc.geobox

    def window(self, ys: slice, xs: slice) -> Window:
        """The pair's pixels in a window, which may reach beyond its edges (NaN there)."""
        before, after = read_date(self.before, ys, xs), self.lit(self._after(ys, xs))
        valid = np.ones(before.shape[1:], np.bool_)
        for band in (*before, *after):
            valid &= np.isfinite(band)
        return Window(before, after, valid)

    def lit(self, after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels of `after` in the radiometry of `before`."""
        return after if self.radiometry is None else self.radiometry.applied(after)

    def under(self, radiometry: Radiometry | None) -> "Pair":
        """The same pair with another radiometry of `after`."""
        return replace(self, radiometry=radiometry)

    def _after(self, ys: slice, xs: slice) -> NDArray[np.float32]:
        if self.offset is not None:
            row, column = self.offset
            return read_date(
                self.after,
                slice(ys.start + row, ys.stop + row),
                slice(xs.start + column, xs.stop + column),
            )
        grids = (self.after_geobox, self.geobox)
        return moved(partial(read_date, self.after), grids, self.motion, (ys, xs), RESAMPLING)

    def sample(self, margin: int) -> Iterator[Window]:
        """Windows to learn from: at most `SAMPLE_PIXELS` valid pixels, chosen by position.

        Args:
            margin: Pixels around each window's core of 128 x 128 that come with it; they are
                not counted and lie in ``valid`` as false.
        """
        height, width = self.shape
        cores = list(tiles(slice(0, height), slice(0, width), _SAMPLE_TILE))
        around = partial(self._around, margin)
        windows: Iterator[Window] = map(around, cores)
        if height * width > SAMPLE_PIXELS:
            np.random.default_rng(_SEED).shuffle(cores)
            windows = _side_by_side(around, cores)
        left = SAMPLE_PIXELS
        for window in windows:
            if count := int(window.valid.sum()):
                yield window
                left -= count
            if left <= 0:
                return

    def _around(self, margin: int, core: tuple[slice, slice]) -> Window:
        """A core with what lies around it; only the core's pixels are valid."""
        ys, xs = core
        window = self.window(_grown(ys, margin), _grown(xs, margin))
        inside = np.zeros_like(window.valid)
        inside[margin : margin + _SAMPLE_TILE, margin : margin + _SAMPLE_TILE] = True
        return Window(window.before, window.after, window.valid & inside)


def _side_by_side(
    around: Callable[[tuple[slice, slice]], Window], cores: list[tuple[slice, slice]]
) -> Iterator[Window]:
    """Windows far apart, which hardly share tiles of a file: each processor reads some."""
    many = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(many, "sample") as pool:
        for first in range(0, len(cores), many):
            yield from pool.map(around, cores[first : first + many])


def _unpickled(before: Any, after: Any, *rest: Any) -> Pair:
    one, other = (stack_array(*parts) for *parts, _ in (before, after))
    one.attrs, other.attrs = before[-1], after[-1]
    return Pair(one, other, *rest)


def make_pair(
    before: xr.DataArray, after: xr.DataArray, bands: Sequence[str] | None = None
) -> Pair:
    """Put two dates on the grid of the first.

    Args:
        before: Reflectance (band, y, x) as `open_stack` gives it.
        after: The other date, on any grid that meets the first's.
        bands: The bands to use; by default those of the ten at 10 m and 20 m that both have, or
            all that both have where none of these is among them.

    Raises:
        NoOverlapError: where the dates do not meet on the ground.
        S2cdError: where they share no band, or one has a place on the ground and one has not.
    """
    chosen = list(_common_bands(before, after, bands))
    _check_meeting(before, after)
    grid = before.odc.geobox
    still = translation(0.0, 0.0, (grid.shape[0], grid.shape[1]))
    return Pair(only(before, chosen), only(after, chosen), grid, still)


def shared_bands(before: xr.DataArray, after: xr.DataArray) -> tuple[str, ...]:
    """The bands that both dates have, in the order of the first."""
    others = {str(b) for b in after.band.values}
    return tuple(str(b) for b in before.band.values if str(b) in others)


def sampled_pixels(windows: Sequence[Window], most: int) -> NDArray[np.float64]:
    """Valid pixels of windows, evenly chosen, about ``most``: (bands of both dates, pixel)."""
    step = -(-sum(int(w.valid.sum()) for w in windows) // most)
    parts, first = [], 0
    for window in windows:
        rows, columns = np.nonzero(window.valid)
        chosen = rows[first::step], columns[first::step]
        parts.append(np.concatenate([date[:, *chosen] for date in (window.before, window.after)]))
        first = (first - len(rows)) % step
    return np.concatenate(parts, axis=1).astype(np.float64)


def only(date: xr.DataArray, bands: list[str]) -> xr.DataArray:
    """Some bands of a date, of which windows can still be read.

    A list of bands as an index would keep dask from reading less than a chunk; slices do not.
    """
    held = [str(b) for b in date.band.values]
    if held == bands:
        return date
    parts = [date.isel(band=slice(held.index(b), held.index(b) + 1)) for b in bands]
    return parts[0] if len(parts) == 1 else xr.concat(parts, "band")


def _common_bands(
    before: xr.DataArray, after: xr.DataArray, bands: Sequence[str] | None
) -> tuple[str, ...]:
    first, second = ([str(b) for b in date.band.values] for date in (before, after))
    if bands is not None:
        for date, held in (("before", first), ("after", second)):
            if missing := [b for b in band_names(bands) if b not in held]:
                raise S2cdError(
                    f"The {date} image has no band {', '.join(missing)}. It holds {', '.join(held)}"
                )
        return band_names(bands)
    common = shared_bands(before, after)
    if not common:
        raise S2cdError(
            f"The two dates share no band: before holds {', '.join(first)}, after holds "
            f"{', '.join(second)}. Make both with the same --bands"
        )
    usual = tuple(b for b in DEFAULT_BANDS if b in common)
    chosen = usual or common
    if len(first) != len(second):
        logger.info("bands in both dates: %s", " ".join(chosen))
    return chosen


def _check_meeting(before: xr.DataArray, after: xr.DataArray) -> None:
    one, other = before.odc.geobox, after.odc.geobox
    if (one.crs is None) != (other.crs is None):
        which = "before" if one.crs is None else "after"
        raise S2cdError(f"The {which} image has no CRS and the other has. Georeference it in a GIS")
    if one.crs is None:
        if one.shape != other.shape or one.affine != other.affine:
            raise NoOverlapError(
                f"Without a CRS both dates must have one size: before has {ground_extent(one)}, "
                f"after {ground_extent(other)}. Cut them to one size, or georeference both"
            )
        return
    if not meet(other, one, ("after", "before")):
        raise NoOverlapError(
            f"The two dates do not meet: before covers {ground_extent(one)}, after covers "
            f"{ground_extent(other)}. Choose images of one place"
        )


def _grown(pixels: slice, margin: int) -> slice:
    return slice(pixels.start - margin, pixels.stop + margin)


def read_date(date: xr.DataArray, ys: slice, xs: slice) -> NDArray[np.float32]:
    """Pixels of one date in a window; NaN beyond its edges."""
    import dask

    height, width = date.shape[1:]
    rows = slice(min(max(ys.start, 0), height), max(min(ys.stop, height), 0))
    columns = slice(min(max(xs.start, 0), width), max(min(xs.stop, width), 0))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return np.full((len(date), ys.stop - ys.start, xs.stop - xs.start), np.nan, np.float32)
    result = np.full((len(date), ys.stop - ys.start, xs.stop - xs.start), np.nan, np.float32)
    for part_ys, part_xs in product(_in_chunks(date, 1, rows), _in_chunks(date, 2, columns)):
        part = date.data[:, part_ys, part_xs]
        if hasattr(part, "compute"):
            part = part.compute(scheduler=dask.get)
        paste(np.asarray(part, np.float32), (part_ys, part_xs), result, (ys, xs))
    return result


def _in_chunks(date: xr.DataArray, axis: int, pixels: slice) -> Iterator[slice]:
    """Pixels along an axis, chunk by chunk: of several at once dask would make one more copy."""
    start = 0
    for size in date.chunks[axis] if date.chunks else (date.shape[axis],):
        if start < pixels.stop and start + size > pixels.start:
            yield slice(max(start, pixels.start), min(start + size, pixels.stop))
        start += size
