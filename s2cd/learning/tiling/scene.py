"""The pair that is cut, and what each of its windows holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.prepare import registered
from s2cd.errors import S2cdError, UsageError
from s2cd.learning.areas import WINDOW
from s2cd.learning.places import open_date
from s2cd.learning.store import Area
from s2cd.networks.inputs import Statistics, statistics_of
from s2cd.scenes.align import Shift, shift_between
from s2cd.scenes.mask import UNLABELLED, read_label
from s2cd.scenes.motion import Motion, translation
from s2cd.scenes.pair import Pair, make_pair, read_date
from s2cd.scenes.stack import MASKED, QA_FLAGS, open_qa, open_stack
from s2cd.scenes.warp import moved

FORMATS = ("geotiff", "zarr")
_TOGETHER = 1024
"""About as many rows and columns are read at a time."""


@dataclass(frozen=True)
class Tiling:
    """What is cut, and how.

    Attributes:
        before: The earlier stack, raster, or folder of band files.
        after: The later one; it is brought to the grid of ``before``, and registered.
        label: A mask of change.
        size: Height and width of a window, in pixels.
        stride: From one window to the next; ``size`` by default.
        bands: Bands to take; by default all that both dates have.
        align: Whether to measure how the dates lie to each other, and to correct it.
        format: One of `FORMATS`.
        share: Of the scene, for validation.
    """

    before: Path
    after: Path
    label: Path | None = None
    size: int = WINDOW
    stride: int | None = None
    bands: tuple[str, ...] | None = None
    align: bool = True
    format: str = FORMATS[0]
    share: float = 0.2

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"--format is one of {', '.join(FORMATS)}")

    @property
    def step(self) -> int:
        """Pixels from one window to the next."""
        return self.stride or self.size


@dataclass(frozen=True)
class Chip:
    """A window of a scene, as it is stored.

    Attributes:
        area: Where it lies in the scene.
        before: Reflectance (band, y, x), NaN = no data, clouds and all.
        after: The same of the later date.
        flags: Bits of the QA band of both dates: (2, y, x).
        label: 0, 1..n, 255; None without a mask.
        valid: Share of the pixels that have data, and no cloud or shadow, in both dates.
        change: Share of the labelled valid pixels that changed; None without such.
    """

    area: Area
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    flags: NDArray[np.uint16]
    label: NDArray[np.uint8] | None
    valid: float
    change: float | None


@dataclass(frozen=True)
class Scene:
    """Both dates on one grid, as they are and with what hides the ground flagged.

    Attributes:
        pair: Both dates, registered, nothing masked.
        qa: QA bands of both dates (1, y, x) on their own grids, as far as they have one.
        label: The mask on the grid of the pair.
        shift: How `after` was moved, where that was measured.
        statistics: Of both dates, as `detect` would learn them.
    """

    pair: Pair
    qa: tuple[xr.DataArray | None, xr.DataArray | None]
    label: NDArray[np.uint8] | None
    shift: Shift | None
    statistics: Statistics

    def chips(self, areas: Sequence[Area]) -> Iterator[Chip]:
        """The windows of some areas that lie close together, read at once."""
        top, left = min(a.top for a in areas), min(a.left for a in areas)
        whole = Area(top, left, max(a.bottom for a in areas), max(a.right for a in areas))
        window = self.pair.window(*whole.slices)
        flags = self._flags(whole, window.before, window.after)
        for area in areas:
            at = area.moved(-top, -left).slices
            label = None if self.label is None else self.label[area.slices]
            dates = window.before[:, *at], window.after[:, *at]
            hidden = (flags[:, *at] & sum(QA_FLAGS[name] for name in MASKED)).any(axis=0)
            valid = window.valid[at] & ~hidden
            yield Chip(
                area, *dates, flags[:, *at], label, float(valid.mean()), _share(label, valid)
            )

    def _flags(self, area: Area, *dates: NDArray[np.float32]) -> NDArray[np.uint16]:
        """QA bits of both dates; "observed" exactly where a band has data."""
        still = translation(0.0, 0.0, self.pair.shape)
        motions = (still, self.pair.motion)
        flags = np.zeros((2, *area.shape), np.uint16)
        for number, (date, qa, motion) in enumerate(zip(dates, self.qa, motions, strict=True)):
            if qa is not None:
                flags[number] = _nearest(qa, self.pair.geobox, motion, area)
            seen = np.isfinite(date).any(axis=0)
            flags[number] = np.where(seen, flags[number] | QA_FLAGS["observed"], 0)
        return flags


def open_scene(tiling: Tiling) -> Scene:
    """Open both dates and the mask, and register the dates as `detect` does.

    Raises:
        S2cdError: where a file cannot be used, or the files do not go together.
    """
    paths = (tiling.before, tiling.after)
    dates = [_open(path, tiling.bands) for path in paths]
    qa = [_qa(path, tiling.bands) for path in paths]
    bands = tiling.bands or _all_bands(*dates)
    pair = make_pair(dates[0], dates[1], bands)
    label = None if tiling.label is None else read_label(tiling.label, pair.geobox, classes=True)
    clear = [
        date if flags is None else open_stack(path, tiling.bands)
        for path, date, flags in zip(paths, dates, qa, strict=True)
    ]
    masked = make_pair(clear[0], clear[1], bands)
    shift = shift_between(masked) if tiling.align else None
    masked = registered(masked, shift) if tiling.align else masked
    statistics = statistics_of(masked.sample(0), len(masked.bands))
    if statistics is None:
        raise S2cdError(f"No pixel has data in both {tiling.before} and {tiling.after}")
    pair = replace(pair, motion=masked.motion)
    return Scene(pair, (qa[0], qa[1]), label, shift, statistics)


def _open(path: Path, bands: tuple[str, ...] | None) -> xr.DataArray:
    """A date as it is: clouds and all."""
    return open_date(path, bands) if path.is_dir() else open_stack(path, bands, mask=())


def _qa(path: Path, bands: tuple[str, ...] | None) -> xr.DataArray | None:
    """The QA band of a raster as a date of one band; None without one."""
    qa = None if path.is_dir() else open_qa(path, bands)
    return None if qa is None else qa.astype(np.float32).expand_dims({"band": ["QA"]})


def lattice(shape: tuple[int, int], size: int, step: int) -> Iterator[list[Area]]:
    """The windows of a scene, in groups that are read at once; the last ones end at its edge."""
    if min(shape) < size:
        raise S2cdError(
            f"The pair has {shape[1]} x {shape[0]} pixels, less than a window of {size}. Give a "
            "smaller --size"
        )
    rows, columns = (_starts(length, size, step) for length in shape)
    many = max(1, _TOGETHER // step)
    for row in range(0, len(rows), many):
        for column in range(0, len(columns), many):
            yield [
                Area(top, left, top + size, left + size)
                for top in rows[row : row + many]
                for left in columns[column : column + many]
            ]


def _starts(length: int, size: int, step: int) -> list[int]:
    return sorted({*range(0, length - size + 1, step), length - size})


def _all_bands(before: xr.DataArray, after: xr.DataArray) -> tuple[str, ...] | None:
    """The bands that both dates have; None where they share none, which `make_pair` tells."""
    held = [str(b) for b in after.band.values]
    return tuple(str(b) for b in before.band.values if str(b) in held) or None


def _nearest(qa: xr.DataArray, grid: GeoBox, motion: Motion, area: Area) -> NDArray[np.uint16]:
    """Flags of the nearest pixels in an area of another grid; 0 where there are none."""
    grids = (qa.odc.geobox, grid)
    flags = moved(partial(read_date, qa), grids, motion, area.slices, "nearest")[0]
    return np.nan_to_num(flags, nan=0).astype(np.uint16)


def _share(label: NDArray[np.uint8] | None, valid: NDArray[np.bool_]) -> float | None:
    """Share of the labelled valid pixels that changed."""
    if label is None:
        return None
    known = valid & (label != UNLABELLED)
    return float((label[known] > 0).mean()) if known.any() else None
