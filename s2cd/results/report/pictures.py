"""Pictures of a scene that are small enough for a page."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import NOT_OBSERVED
from s2cd.detection.changemap import CHANGED, pixel_areas
from s2cd.results.views import date_views, means, step_to, strips
from s2cd.scenes.header import grid_of
from s2cd.scenes.pair import Pair
from s2cd.scenes.raster import reading

LONGEST = 2200
"""Most pixels at a side of a picture of a date."""
_LONGEST_CLASS = 1600
"""Most pixels at a side of the picture of the map, which compresses badly where it is noisy."""
_BUDGET = 1_050_000
"""Most bytes of one picture: all of them, in base64, with the polygons must stay below 5 MB."""
_QUALITIES = (86, 78, 68, 55, 40, 25)
_SHARES = 4
"""Grades of transparency of changed pixels, by the share of a picture's pixel that changed."""
_RED, _GREY = (214, 24, 32), (128, 134, 138)


@dataclass(frozen=True)
class Picture:
    """An image, and the columns and rows of the map that it covers: left, top, right, bottom."""

    layer: str
    data: bytes
    kind: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Seen:
    """A map looked at once: pictures of it, and its areas in m2."""

    pictures: tuple[Picture, ...]
    observed: float
    changed: float
    unseen: float


def date_pictures(pair: Pair) -> tuple[Picture, Picture]:
    """Both dates under one stretch for each band, so that a difference seen is a difference."""
    step = step_to(pair.shape, LONGEST)
    views = date_views(pair, step)
    box = _box(views[0].shape, step)
    before, after = (
        Picture(layer, _webp(view), "image/webp", box)
        for layer, view in zip(("before", "after"), views, strict=True)
    )
    return before, after


def look_at_map(path: Path) -> Seen:
    """Pictures of the changed pixels and of those not observed, and the areas of a map.

    Raises:
        S2cdError: where it cannot be read.
    """
    with reading(path) as source:
        geobox = grid_of(source, path)
        step = step_to(source.shape, _LONGEST_CLASS)
        areas, parts = pixel_areas(geobox), []
        sums = np.zeros(3)
        for ys in strips(source.height, step):
            window = ((ys.start, ys.stop), (0, source.width))
            values = source.read(1, window=window)
            unseen = values == NOT_OBSERVED
            changed = (values >= CHANGED) & ~unseen
            layers = np.stack([changed, unseen, ~unseen])
            if areas is not None:
                sums += layers.sum(axis=2) @ areas[ys]
            parts.append(means(layers[:2].astype(np.float32), step))
    share_changed, share_unseen = np.concatenate(parts, axis=1)
    box = _box(share_changed.shape, step)
    grades = np.ceil(share_changed * _SHARES).astype(np.uint8)
    pictures = [Picture("class", _png(grades, _RED, _SHARES), "image/png", box)]
    hidden = (share_unseen > 0.5).astype(np.uint8)
    if hidden.any():
        pictures.append(Picture("unseen", _png(hidden, _GREY, 1), "image/png", box))
    return Seen(tuple(pictures), float(sums[2]), float(sums[0]), float(sums[1]))


def _box(shape: tuple[int, ...], step: int) -> tuple[int, int, int, int]:
    """What a picture covers; at its right and lower edge, that may be beyond the map."""
    return 0, 0, shape[1] * step, shape[0] * step


def _webp(colours: NDArray[np.uint8]) -> bytes:
    """A WebP as good as the budget allows."""
    from PIL import Image

    image = Image.fromarray(colours)
    for quality in _QUALITIES:
        data = _saved(image, format="WEBP", quality=quality, method=4)
        if len(data) <= _BUDGET:
            return data
    return _webp(np.asarray(image.reduce(2)))


def _png(grades: NDArray[np.uint8], colour: tuple[int, int, int], most: int) -> bytes:
    """A PNG of one colour in grades of transparency; 0 is not seen at all."""
    from PIL import Image

    image = Image.fromarray(grades)
    image.putpalette([0, 0, 0, *colour * most])
    alpha = bytes([0, *(round(70 + 165 * grade / most) for grade in range(1, most + 1))])
    data = _saved(image, format="PNG", optimize=True, transparency=alpha)
    return data if len(data) <= _BUDGET else _png(grades[::2, ::2], colour, most)


def _saved(image: Any, **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, **options)
    return held.getvalue()
