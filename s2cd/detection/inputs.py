"""The dates that change is detected in: stacks and rasters, or Level-1C products."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from s2cd.detection.schedule import Workers
from s2cd.errors import S2cdError
from s2cd.remote import Remote, opened, state
from s2cd.scenes.bands import DEFAULT_BANDS, band_names
from s2cd.scenes.memory import free_memory
from s2cd.scenes.pair import Pair, only
from s2cd.scenes.product import product_at
from s2cd.scenes.stack import open_stack

if TYPE_CHECKING:
    from s2cd.scenes.date import Date

logger = logging.getLogger(__name__)

_USED = 0.9
"""Share of the free memory that products may take."""


@dataclass(frozen=True)
class Input:
    """A date that has been opened.

    Attributes:
        path: As the user named it.
        array: Reflectance (band, y, x), lazy.
        product: Of a Level-1C product what is to be read of it, once; None of a raster.
    """

    path: Path
    array: xr.DataArray
    product: "Date | None" = None


def open_input(path: Path, bands: Sequence[str] | None) -> Input:
    """A stack or raster, or a Level-1C product (``.SAFE`` or its zip); no pixel is read.

    A product is read as `s2cd stack` reads it without options: ten bands and those of ``bands``,
    clouds where the bands for that are there, and what `open_stack` masks.

    Raises:
        S2cdError: where it is none of these.
    """
    found = product_at(path)
    if found is None:
        return Input(path, open_stack(path, bands))
    from s2cd.scenes.date import open_products  # heavy: clouds
    from s2cd.scenes.mosaic import Wanted

    asked = None if bands is None else band_names(bands)
    every = tuple(dict.fromkeys((*DEFAULT_BANDS, *(asked or ()))))
    date = open_products((found,), Wanted(bands=every))
    array = date.stack if asked is None else only(date.stack, list(asked))
    array.attrs = {**date.stack.attrs, "source": found.name}
    return Input(path, array, date)


def check_memory(inputs: Sequence[Input], pair: Pair, workers: Workers) -> None:
    """Refuse products that would not fit into memory, or are not in that of those who compute.

    Raises:
        S2cdError: saying what to do instead, before a pixel is read.
    """
    products = [date for date in inputs if date.product is not None]
    if products and workers.scheduler is not None:
        raise S2cdError(
            f"{products[0].path} is a product, which is read into the memory of one machine. For "
            "--scheduler make stacks: s2cd stack"
        )
    needed = sum(date.product.bytes_to_hold(pair.bands) for date in products if date.product)
    free = free_memory()
    if needed > _USED * free:
        raise S2cdError(
            f"The pixels of {products[0].path} need {needed / 1e9:.1f} GB of memory with the "
            f"other date, and {free / 1e9:.1f} GB are free. Make stacks of them: s2cd stack"
        )


def in_memory(pair: Pair, inputs: Sequence[Input]) -> Pair:
    """The pair with its products read into memory: all that follows reads them many times.

    Raises:
        S2cdError: where a product cannot be read.
    """
    before, after = (
        old if date.product is None else _held(date.product, old, pair.bands)
        for old, date in zip((pair.before, pair.after), inputs, strict=True)
    )
    return replace(pair, before=before, after=after)


def _held(product: "Date", old: xr.DataArray, bands: Sequence[str]) -> xr.DataArray:
    result = product.held(bands)
    result.attrs = dict(old.attrs)
    return result


def identity(path: Path) -> list[Any]:
    """What tells whether an input is still the same: its place, size, time, and first 64 KiB.

    Of a product's folder it is the place, and size and time of each file.

    Raises:
        OSError: where it cannot be read.
    """
    if isinstance(path, Remote):
        with opened(path) as source:
            return [str(path), *state(path), hashlib.sha256(source.read(65536)).hexdigest()]
    folder = product_at(path) if path.is_dir() else None
    if folder is not None:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return [str(folder.resolve()), *(_state(file, folder) for file in files)]
    status = path.stat()
    with path.open("rb") as source:
        head = hashlib.sha256(source.read(65536)).hexdigest()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, head]


def check_unchanged(paths: Sequence[Path], known: Sequence[list[Any]]) -> None:
    """Refuse what was read of a `Remote` that has changed since it had the `identity` known of it.

    A file of this machine is held open while it is read; ranges are asked for one after another.

    Raises:
        S2cdError: where one has changed.
    """
    for path, before in zip(paths, known, strict=True):
        if isinstance(path, Remote) and identity(path) != before:
            raise S2cdError(f"{path} changed while it was read. Start again")


def _state(file: Path, folder: Path) -> list[Any]:
    status = file.stat()
    return [str(file.relative_to(folder)), status.st_size, status.st_mtime_ns]
