"""Places made ready: registered once, kept on disk as arrays of which windows are mapped."""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.prepare import registered
from s2cd.errors import S2cdError
from s2cd.learning.places import Place
from s2cd.networks.inputs import Statistics, statistics_of
from s2cd.output import write_errors
from s2cd.scenes.align import shift_between
from s2cd.scenes.mask import read_label
from s2cd.scenes.pair import Pair, make_pair
from s2cd.scenes.safe import open_folder
from s2cd.scenes.stack import open_stack, stack_array

logger = logging.getLogger(__name__)

_VERSION = 1
_ROWS = 512
"""Rows of a pair that are in memory at a time."""


@dataclass(frozen=True)
class Sample:
    """A prepared place.

    Attributes:
        place: Where it comes from.
        pair: Both dates on one grid, registered, mapped from disk.
        label: 0, 1 = change, 255 = unknown: (y, x).
        statistics: Of both dates, as `detect` would learn them.
    """

    place: Place
    pair: Pair
    label: NDArray[np.uint8]
    statistics: Statistics


def prepare(place: Place, bands: tuple[str, ...] | None, cache: Path) -> Sample:
    """A place from the cache, where it is put first if need be.

    A place is complete in the cache or absent from it, so an interruption does no harm; its key
    is made of what it is made from: files, sizes, times, bands.

    Raises:
        S2cdError: where a date or the mask cannot be used, or the cache cannot be written.
    """
    folder = cache / f"{place.name}-{_key(place, bands)}"
    if not (folder / "meta.json").is_file():
        _fill(place, bands, folder)
    meta = json.loads((folder / "meta.json").read_text())
    box = GeoBox(tuple(meta["shape"]), Affine(*meta["affine"]), meta["crs"])
    dates = [
        stack_array(np.load(folder / f"{date}.npy", mmap_mode="r"), box, meta["bands"])
        for date in ("before", "after")
    ]
    mean, std = (tuple(map(tuple, meta["statistics"][key])) for key in ("mean", "std"))
    label = np.load(folder / "label.npy", mmap_mode="r")
    return Sample(place, make_pair(dates[0], dates[1], meta["bands"]), label, Statistics(mean, std))


def _key(place: Place, bands: tuple[str, ...] | None) -> str:
    facts: list[Any] = [_VERSION, bands]
    for path in (place.before, place.after, place.label):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            status = file.stat()
            facts.append([str(file.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def open_date(path: Path, bands: tuple[str, ...] | None) -> xr.DataArray:
    """One date of a place: a raster, or a folder of band files."""
    return open_folder(path, bands) if path.is_dir() else open_stack(path, bands)


def _fill(place: Place, bands: tuple[str, ...] | None, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    pair = make_pair(open_date(place.before, bands), open_date(place.after, bands), bands)
    pair = registered(pair, shift_between(pair))
    label = read_label(place.label, pair.geobox)
    statistics = statistics_of(pair.sample(0), len(pair.bands))
    if statistics is None:
        raise S2cdError(f"{place.name}: no pixel has data in both dates. Leave it out")
    with write_errors(folder):
        temporary.mkdir(parents=True, exist_ok=True)
        _write_dates(pair, temporary)
        np.save(temporary / "label.npy", label)
        (temporary / "meta.json").write_text(json.dumps(_meta(pair, statistics)))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)


def _write_dates(pair: Pair, folder: Path) -> None:
    height, width = pair.shape
    targets = {
        date: np.lib.format.open_memmap(
            folder / f"{date}.npy", "w+", np.float32, (len(pair.bands), height, width)
        )
        for date in ("before", "after")
    }
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height))
        window = pair.window(rows, slice(0, width))
        for date, target in targets.items():
            target[:, rows] = getattr(window, date)
    for target in targets.values():
        target.flush()


def _meta(pair: Pair, statistics: Statistics) -> dict[str, Any]:
    crs = pair.geobox.crs
    return {
        "shape": list(pair.shape),
        "affine": list(pair.geobox.affine)[:6],
        "crs": None if crs is None else crs.to_wkt(),
        "bands": list(pair.bands),
        "statistics": asdict(statistics),
    }
