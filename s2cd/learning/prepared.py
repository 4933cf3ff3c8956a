"""Places made ready: registered once, kept on disk so that only what is asked for is read.

The cache may be deleted at any time: what is missing is made again.
"""

import hashlib
import json
import logging
import os
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.prepare import registered
from s2cd.errors import S2cdError
from s2cd.learning.places import Place, open_date
from s2cd.learning.store import TILE, Area, Store, StoredPair
from s2cd.networks.inputs import Statistics, statistics_of
from s2cd.output import completed, sweep, sync, write_errors
from s2cd.scenes.align import shift_between
from s2cd.scenes.grid import whole_offset
from s2cd.scenes.mask import read_label
from s2cd.scenes.pair import Pair, make_pair

_VERSION = 3
_ROWS, _COLUMNS = 8 * TILE, 32 * TILE
"""Of a pair that are in memory at a time."""
_SMALL = 1 << 18
"""Pixels of a mask that is held in memory; a larger one is mapped."""
_OPEN_FILES = 1 << 16
REGISTERED = "REGISTERED_TO"
"""Tag of a date that `s2cd tile` has moved already."""
STATISTICS = "SCENE_STATISTICS"
"""Tag with the mean and standard deviation of each band of the scene of which a date is a part."""


@dataclass(frozen=True)
class Sample:
    """A prepared place.

    Attributes:
        place: Where it comes from.
        pair: Both dates on one grid, registered, read from disk; of the place's area only.
        label: 0, 1..n = change, 255 = unknown: (y, x).
        statistics: Of both dates of the whole scene, as `detect` would learn them.
    """

    place: Place
    pair: Pair
    label: NDArray[np.uint8]
    statistics: Statistics


def prepare(place: Place, bands: tuple[str, ...] | None, cache: Path) -> Sample:
    """A place from the cache, where its scene is put first if need be.

    A scene is complete in the cache or absent from it, so an interruption does no harm; its key
    is made of what it is made from: files, sizes, times, bands. Masks have keys of their own: a
    scene that is labelled anew is not registered anew.

    Raises:
        S2cdError: where a date or the mask cannot be used, or the cache cannot be written.
    """
    with _said_once():
        return _prepared(place, bands, cache)


def _prepared(place: Place, bands: tuple[str, ...] | None, cache: Path) -> Sample:
    folder = _folder(place, bands, cache)
    mask = f"label-{_hash(identity(place.label))}.npy"
    if not _is_whole(folder):
        _fill(place, bands, folder, mask)
    meta = json.loads((folder / "meta.json").read_text())
    box = GeoBox(tuple(meta["shape"]), Affine(*meta["affine"]), meta["crs"])
    if not (folder / mask).is_file():
        _write_mask(read_label(place.label, box, classes=True), folder / mask)
    area = place.area or Area(0, 0, *meta["shape"])
    names = tuple(meta["bands"])
    pair = StoredPair(_store(folder, meta), names, box, area, place.reach)
    mean, std = (tuple(map(tuple, meta["statistics"][key])) for key in ("mean", "std"))
    return Sample(place, pair, _mask(folder / mask)[area.slices], Statistics(mean, std))


class _Once(logging.Filter):
    """Lets what is said of many places pass once; their names come first in what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[Any] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args[1:] if isinstance(record.args, tuple) else ()
        assumed = "assumed" in record.getMessage() or "could not be measured" in record.msg
        key = (record.msg, args)
        known = assumed and key in self.said
        self.said.add(key)
        return not known


_TOLD: WeakKeyDictionary[logging.Handler, _Once] = WeakKeyDictionary()
"""What each listener has been told."""


@contextmanager
def _said_once() -> Iterator[None]:
    """Have what is assumed of places said of the first: a data set has hundreds of them."""
    filters = {h: _TOLD.setdefault(h, _Once()) for h in logging.getLogger("s2cd").handlers}
    for handler, once in filters.items():
        handler.addFilter(once)
    try:
        yield
    finally:
        for handler, once in filters.items():
            handler.removeFilter(once)


def key_of(place: Place, bands: tuple[str, ...] | None) -> str:
    """What a prepared place is known by: its files, their sizes and times, its area, the bands."""
    files = [identity(path) for path in (place.before, place.after, place.label)]
    return _hash([_VERSION, bands, *files, place.area])


def _folder(place: Place, bands: tuple[str, ...] | None, cache: Path) -> Path:
    """Where a scene is kept; bands that are named may be those that are usual for it."""
    dates = [identity(place.before), identity(place.after)]
    usual, named = (
        cache / f"{_plain(place.scene)}-{_hash([_VERSION, asked, *dates])}"
        for asked in (None, bands)
    )
    return usual if bands is not None and _held_bands(usual) == bands else named


def _held_bands(folder: Path) -> tuple[str, ...]:
    if not _is_whole(folder):
        return ()
    return tuple(json.loads((folder / "meta.json").read_text())["bands"])


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def identity(path: Path) -> list[list[Any]]:
    """Name, size and time of a file, or of the files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [(str(file.resolve()), file.stat()) for file in files]
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]


def _plain(name: str) -> str:
    """A name from outside as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]


def _store(folder: Path, meta: dict[str, Any]) -> Store:
    return Store(folder / "dates.bin", (2 * len(meta["bands"]), *meta["shape"]))


def _is_whole(folder: Path) -> bool:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        store = _store(folder, meta)
        return store.path.stat().st_size == store.size
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _mask(path: Path) -> NDArray[np.uint8]:
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    if mapped.size <= _SMALL:
        return np.array(mapped)
    _allow_open_files()
    return mapped


def _allow_open_files() -> None:
    """Let this process hold a file for each of very many large masks, as the Go runtime does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES:
        most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
        with suppress(OSError, ValueError):  # then opening too many says so itself
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _fill(place: Place, bands: tuple[str, ...] | None, folder: Path, mask: str) -> None:
    pair = make_pair(open_date(place.before, bands), open_date(place.after, bands), bands)
    label = read_label(place.label, pair.geobox, classes=True)  # first: it is soon refused
    if not _is_registered(pair):
        pair = registered(pair, shift_between(pair))
    statistics = _told_statistics(pair) or statistics_of(pair.sample(0), len(pair.bands))
    if statistics is None:
        raise S2cdError(f"{place.name}: no pixel has data in both dates. Leave it out")
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        with write_errors(folder):
            temporary.mkdir(exist_ok=True)
            meta = _meta(pair, statistics)
            _write_dates(pair, _store(temporary, meta))
            _write_mask(label, temporary / mask)
            (temporary / "meta.json").write_text(json.dumps(meta))
            sync(temporary / "meta.json")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_registered(pair: Pair) -> bool:
    """Whether `s2cd tile` has brought `after` to the very grid of `before`."""
    said = REGISTERED in pair.after.attrs
    return said and whole_offset(pair.after_geobox, pair.geobox) == (0, 0)


def said_statistics(statistics: Statistics, which: int, bands: tuple[str, ...]) -> str:
    """Statistics of one date as a tag."""
    mean, std = statistics.mean[which], statistics.std[which]
    return json.dumps({b: [m, s] for b, m, s in zip(bands, mean, std, strict=True)})


def _told_statistics(pair: Pair) -> Statistics | None:
    """Statistics of the scene of which both dates are a part, where they say so."""
    dates = (pair.before, pair.after)
    if not all(STATISTICS in date.attrs for date in dates):
        return None
    try:
        told = [json.loads(date.attrs[STATISTICS]) for date in dates]
        mean, std = (
            tuple(tuple(float(one[band][which]) for band in pair.bands) for one in told)
            for which in (0, 1)
        )
    except (ValueError, KeyError, TypeError, IndexError) as e:
        raise S2cdError(
            f"{pair.before.attrs['source']}: its tag {STATISTICS} is damaged. Tile the scene anew"
        ) from e
    return Statistics(mean, std)


def _write_dates(pair: Pair, store: Store) -> None:
    with store.path.open("wb") as file:
        file.truncate(store.size)
        for ys, xs in _windows(pair.shape):
            window = pair.window(ys, xs)
            store.write(file, ys, xs, np.concatenate([window.before, window.after]))
        file.flush()
        os.fsync(file.fileno())


def _windows(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], _ROWS):
        for left in range(0, shape[1], _COLUMNS):
            yield (
                slice(top, min(top + _ROWS, shape[0])),
                slice(left, min(left + _COLUMNS, shape[1])),
            )


def _write_mask(label: NDArray[np.uint8], path: Path) -> None:
    with completed(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.save(file, label)


def _meta(pair: Pair, statistics: Statistics) -> dict[str, Any]:
    crs = pair.geobox.crs
    return {
        "shape": list(pair.shape),
        "affine": list(pair.geobox.affine)[:6],
        "crs": None if crs is None else crs.to_wkt(),
        "bands": list(pair.bands),
        "statistics": asdict(statistics),
    }
