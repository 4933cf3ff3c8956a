"""Pictures of a scene that are small enough for a page."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s2cd.detection.blocks import NOT_OBSERVED
from s2cd.detection.changemap import CHANGED
from s2cd.detection.ground import ground_of
from s2cd.results.views import Limits, date_views, means, step_to, strips, window_views
from s2cd.scenes.header import grid_of
from s2cd.scenes.pair import Pair
from s2cd.scenes.raster import reading

LONGEST = 2200
"""Most pixels at a side of a picture of a date."""
_LONGEST_CLASS = 1600
"""Most pixels at a side of the picture of the map, which compresses badly where it is noisy."""
BUDGETS = {"date": 900_000, "details": 500_000, "class": 350_000, "unseen": 150_000}
"""Most bytes of a picture of a date, of all details together, and of the pictures of the map.

All of them, in base64, with the changes, stay below 5 MB.
"""
_DETAIL = 160
"""Most pixels at a side of a detail."""
_AROUND = 12
"""Pixels around a change in its detail."""
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


def date_pictures(pair: Pair, boxes: NDArray[np.float64]) -> tuple[Picture, ...]:
    """Both dates; where they are thinned, also details of changes in all their pixels.

    Args:
        pair: The bands of a picture.
        boxes: Columns and rows of the changes, the most telling first: left, top, right, bottom
            (n, 4).
    """
    step = step_to(pair.shape, LONGEST)
    before, after, limits = date_views(pair, step)
    box = _box(before.shape, step)
    whole = [
        Picture(layer, _webp(view, BUDGETS["date"]), "image/webp", box)
        for layer, view in (("before", before), ("after", after))
    ]
    return (*whole, *(_details(pair, boxes, limits) if step > 1 else ()))


def _details(pair: Pair, boxes: NDArray[np.float64], limits: Limits) -> Iterator[Picture]:
    """Changes in all their pixels, as long as the budget lasts; none twice."""
    left, shown = BUDGETS["details"], np.zeros((0, 4))
    for box in boxes:
        west, north, east, south = _detail_box(box, pair.shape)
        within = (shown[:, :2] <= box[:2]).all(axis=1) & (shown[:, 2:] >= box[2:]).all(axis=1)
        if within.any():
            continue
        views = window_views(pair, (slice(north, south), slice(west, east)), limits)
        data = [_saved(Image.fromarray(v), format="WEBP", quality=70, method=4) for v in views]
        left -= sum(map(len, data))
        if left < 0:
            return
        shown = np.vstack([shown, [west, north, east, south]])
        for layer, bytes_ in zip(("before", "after"), data, strict=True):
            yield Picture(layer, bytes_, "image/webp", (west, north, east, south))


def _detail_box(box: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Columns and rows around a change: not beyond the map, nor larger than a detail may be."""
    sides = []
    for low, high, size in ((box[0], box[2], shape[1]), (box[1], box[3], shape[0])):
        half = min((high - low) / 2 + _AROUND, _DETAIL / 2)
        middle = (low + high) / 2
        sides.append((max(0, int(middle - half)), min(size, int(np.ceil(middle + half)))))
    (west, east), (north, south) = sides
    return west, north, east, south


def look_at_map(path: Path) -> Seen:
    """Pictures of the changed pixels and of those not observed, and the areas of a map.

    Raises:
        S2cdError: where it cannot be read.
    """
    with reading(path) as source:
        geobox = grid_of(source, path)
        step = step_to(source.shape, _LONGEST_CLASS)
        ground, parts = ground_of(geobox), []
        sums = np.zeros(3)
        for ys in strips(source.height, step):
            window = ((ys.start, ys.stop), (0, source.width))
            values = source.read(1, window=window)
            unseen = values == NOT_OBSERVED
            changed = (values >= CHANGED) & ~unseen
            layers = np.stack([changed, unseen, ~unseen])
            if ground is not None:
                sums += [ground.area(layer, ys) for layer in layers]
            parts.append(means(layers[:2].astype(np.float32), step))
    share_changed, share_unseen = np.concatenate(parts, axis=1)
    box = _box(share_changed.shape, step)
    grades = np.ceil(share_changed * _SHARES).astype(np.uint8)
    pictures = [Picture("class", _png(grades, _RED, BUDGETS["class"]), "image/png", box)]
    hidden = (share_unseen > 0.5).astype(np.uint8)
    if hidden.any():
        pictures.append(Picture("unseen", _png(hidden, _GREY, BUDGETS["unseen"]), "image/png", box))
    return Seen(tuple(pictures), float(sums[2]), float(sums[0]), float(sums[1]))


def _box(shape: tuple[int, ...], step: int) -> tuple[int, int, int, int]:
    """What a picture covers; at its right and lower edge, that may be beyond the map."""
    return 0, 0, shape[1] * step, shape[0] * step


def _webp(colours: NDArray[np.uint8], budget: int) -> bytes:
    """A WebP as good as the budget allows."""
    image = Image.fromarray(colours)
    for quality in _QUALITIES:
        data = _saved(image, format="WEBP", quality=quality, method=4)
        if len(data) <= budget:
            return data
    return _webp(np.asarray(image.reduce(2)), budget)


def _png(grades: NDArray[np.uint8], colour: tuple[int, int, int], budget: int) -> bytes:
    """A PNG of one colour in grades of transparency; 0 is not seen at all."""
    most = int(grades.max(initial=1))
    image = Image.fromarray(grades)
    image.putpalette([0, 0, 0, *colour * most])
    alpha = bytes([0, *(round(70 + 165 * grade / most) for grade in range(1, most + 1))])
    data = _saved(image, format="PNG", optimize=True, transparency=alpha)
    return data if len(data) <= budget else _png(grades[::2, ::2], colour, budget)


def _saved(image: Any, **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, **options)
    return held.getvalue()
