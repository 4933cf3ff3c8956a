"""Windows of labelled places as pictures: before, after, truth and prediction side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.learning.evaluate import Options, detector_for, places_of
from s2cd.learning.figures import figure_of
from s2cd.learning.prepared import Sample, prepare
from s2cd.learning.scenes import lit_for
from s2cd.networks.detector import Frozen
from s2cd.output import check_writable, completed
from s2cd.scenes.bands import RGB
from s2cd.scenes.mask import UNLABELLED
from s2cd.scenes.pair import Window

_TITLES = ("before", "after", "truth", "prediction")
_SIZE = 128


@dataclass(frozen=True)
class Shown:
    """What is shown of a window: (y, x, 3) of both dates, (y, x) of truth and probability."""

    panels: tuple[NDArray[Any], ...]


def windows(sample: Sample, frozen: Frozen, size: int, count: int) -> list[Shown]:
    """Windows of a place, always the same: around change that is spread over it, if there is."""
    label = np.asarray(sample.label)
    changed = np.argwhere((label > 0) & (label != UNLABELLED))
    picks = changed[len(changed) // (2 * count) :: max(1, len(changed) // count)][:count]
    centres = picks if len(picks) else np.array([[n // 2 for n in label.shape]])
    return [_window(sample, frozen, size, centre) for centre in centres]


def _window(sample: Sample, frozen: Frozen, size: int, centre: NDArray[np.int64]) -> Shown:
    top, left = (
        int(min(max(c - size // 2, 0), max(0, n - size)))
        for c, n in zip(centre, sample.label.shape, strict=True)
    )
    area = slice(top, top + size), slice(left, left + size)
    window = sample.pair.window(*area)
    score = frozen.predict(window.before[None], window.after[None])[0]
    return shown(sample, window, area, np.where(window.valid, score, 0))


def shown(sample: Sample, window: Window, area: tuple[slice, slice], score: NDArray[Any]) -> Shown:
    """A window of a place, which lies at ``area``, with any prediction of it within 0..1."""
    dates = [_colours(date, sample.pair.bands) for date in (window.before, window.after)]
    truth = np.asarray(sample.label[area])
    return Shown((*dates, (truth > 0) & (truth != UNLABELLED), score))


def draw(rows: Sequence[Shown], path: Path, overwrite: bool = True) -> NDArray[np.uint8]:
    """Write a PNG with a row for each window, and give it as (y, x, 3)."""
    figure = figure_of((8, 2.1 * len(rows)))
    for axes, row in zip(
        figure.subplots(len(rows), len(_TITLES), squeeze=False), rows, strict=True
    ):
        for axis, title, panel in zip(axes, _TITLES, row.panels, strict=True):
            axis.imshow(panel, vmin=0, vmax=1, cmap="magma", interpolation="nearest")
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
    with completed(path, overwrite) as temporary:
        figure.savefig(temporary, format="png")
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def draw_samples(
    data: Path, model: str, count: int, path: Path, overwrite: bool, options: Options
) -> int:
    """Draw ``count`` windows of the places that a model is evaluated on, a few of each.

    Returns:
        How many were drawn: places without labelled change give one each.

    Raises:
        S2cdError: where DATA or the model cannot be used, or the picture is there.
    """
    check_writable(path, overwrite)
    places = places_of(data, options.split, model)[:count]
    detector = detector_for(model, places, options)
    rows: list[Shown] = []
    for number, place in enumerate(places):
        sample = prepare(place, detector.bands, options.cache)
        share = (count - len(rows)) // (len(places) - number)
        sample = lit_for(detector, sample)
        rows += windows(sample, detector.fit(sample.pair), _SIZE, max(1, share))
    draw(rows, path, overwrite)
    return len(rows)


def _colours(date: NDArray[np.float32], bands: tuple[str, ...]) -> NDArray[np.float32]:
    names = RGB if set(RGB) <= set(bands) else (bands[0],) * 3
    image = np.moveaxis(date[[bands.index(b) for b in names]], 0, -1)
    low, high = np.nanpercentile(image, [2, 98]) if np.isfinite(image).any() else (0, 1)
    return np.clip((np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-6), 0, 1)
