"""Pictures of the places of a sample, for somebody to say what happened there."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import ResultExistsError
from s2cd.output import sweep, write_errors
from s2cd.results.dates import dates_of_map, sensed
from s2cd.results.views import date_views, picture_bands, step_to, window_views
from s2cd.scenes.header import grid_of, read_header
from s2cd.scenes.pair import Pair
from s2cd.scenes.raster import reading

_SIDE = 392
"""Pixels of a picture's square, of which there are two by two."""
_AROUND = (24, 7)
"""Pixels of the scene around the one in question: for the neighbourhood, and for a close look."""
_HEAD = 22
_GAP = 4
_LONGEST = 2000
"""A scene is thinned to this side where its brightness is measured."""


@dataclass(frozen=True)
class Dates:
    """The two dates of a map, and what their bands are, where they have no names."""

    before: Path
    after: Path
    bands: tuple[str, ...] | None = None


def folder_of(sample: Path) -> Path:
    """Where the pictures of a sample are: beside it."""
    return sample.with_name(f"{sample.stem}-chips")


@contextmanager
def pictures(change: Path, dates: Dates, sample: Path, overwrite: bool) -> Iterator["Pictures"]:
    """Give what draws the pictures of a sample; on success they are in the folder beside it.

    Raises:
        S2cdError: where the dates are not those of the map, or the folder is there already.
    """
    folder = folder_of(sample)
    if folder.exists() and not overwrite:
        raise ResultExistsError(f"{folder} exists. Give --overwrite to replace it")
    sweep(folder)
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with write_errors(folder):
            temporary.mkdir()
            yield Pictures.of(change, dates, temporary)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class Pictures:
    """Draws pictures of places into a folder."""

    pair: Pair
    limits: Any
    days: tuple[str, str]
    folder: Path

    @classmethod
    def of(cls, change: Path, dates: Dates, folder: Path) -> "Pictures":
        """Those of the dates of a map, in colours that are the same in all pictures."""
        with reading(change) as source:
            geobox, tags = grid_of(source, change), dict(source.tags())
        paths = dates.before, dates.after
        first, second = (read_header(path, dates.bands).bands for path in paths)
        bands = picture_bands([b for b in first if b in second])
        pair = dates_of_map(paths, geobox, tags, bands, dates.bands)
        limits = date_views(pair, step_to(pair.shape, _LONGEST))[2]
        days = sensed(tags, "BEFORE") or "before", sensed(tags, "AFTER") or "after"
        return cls(pair, limits, days, folder)

    def draw(self, number: int, place: tuple[int, int]) -> str:
        """Draw the picture of a pixel (row, column); give its address from the sample on.

        Both dates side by side: above the neighbourhood, below a close look, the pixel in a frame.
        It does not show what the map says, so that nobody is led.
        """
        from PIL import Image, ImageDraw

        size = 2 * _SIDE + _GAP, _HEAD + 2 * _SIDE + _GAP
        picture = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(picture)
        for row, around in enumerate(_AROUND):
            for column, view in enumerate(self._views(place, around)):
                corner = column * (_SIDE + _GAP), _HEAD + row * (_SIDE + _GAP)
                picture.paste(Image.fromarray(view).resize((_SIDE, _SIDE), 0), corner)
                pen.rectangle(_frame(corner, around), outline="#ffd400", width=2)
        for column, day in enumerate(self.days):
            pen.text((column * (_SIDE + _GAP) + 4, 4), day, fill="black")
        name = f"{number:04d}.png"
        picture.save(self.folder / name)
        return f"{self.folder.name.strip('.').removesuffix('.partial')}/{name}"

    def _views(self, place: tuple[int, int], around: int) -> Sequence[NDArray[np.uint8]]:
        """Both dates around a pixel, grey where there is no data or the scene ends."""
        side = 2 * around + 1
        cuts = [_cut(p, around, n) for p, n in zip(place, self.pair.shape, strict=True)]
        (ys, xs), outer = (tuple(cut[part] for cut in cuts) for part in (0, 1))
        views = []
        for view in window_views(self.pair, (ys, xs), self.limits):
            whole = np.full((side, side, 3), 128, np.uint8)
            seen = view[..., 3] > 0 if view.shape[-1] == 4 else np.ones(view.shape[:2], bool)
            whole[outer][seen] = view[seen][:, :3]
            views.append(whole)
        return views


def _cut(middle: int, around: int, size: int) -> tuple[slice, slice]:
    """What of a side lies in the scene: there, and in the picture."""
    start, stop = max(0, middle - around), min(size, middle + around + 1)
    begin = start - (middle - around)
    return slice(start, stop), slice(begin, begin + stop - start)


def _frame(corner: tuple[int, int], around: int) -> tuple[int, int, int, int]:
    """Around the pixel in the middle of a picture."""
    pixel = _SIDE / (2 * around + 1)
    left, top = (int(c + around * pixel) - 2 for c in corner)
    side = int(np.ceil(pixel)) + 3
    return left, top, left + side, top + side
