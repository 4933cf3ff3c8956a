"""Windows to learn from: chosen and altered by seed, epoch and number, so that they repeat."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.learning.prepared import Sample
from s2cd.networks.inputs import network_input
from s2cd.scenes.mask import UNLABELLED
from s2cd.scenes.pair import Window

Batch = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""What a network sees (n, 2, band, y, x), and the masks (n, y, x)."""
_ON_CHANGE = 0.5
"""Share of the windows that are drawn around a changed pixel."""
_SCALES = (0.8, 1.25)
_GAIN, _OFFSET, _HAZE = 0.1, 0.01, 0.15
"""Deviation of a date's gain by band, of its offset in reflectance, and the densest haze."""


@dataclass(frozen=True)
class Chips:
    """Draws batches from samples.

    Attributes:
        samples: The places to learn from.
        size: Height and width of a window, in pixels.
        batch: Windows in a batch.
        seed: Another seed, other windows.
        normalized: Whether each date and band is brought to zero mean and unit variance.
        augmented: Whether windows are altered.
    """

    samples: tuple[Sample, ...]
    size: int = 128
    batch: int = 16
    seed: int = 0
    normalized: bool = True
    augmented: bool = True

    def epoch(self, epoch: int, steps: int) -> Iterator[Batch]:
        """The batches of an epoch, made ahead of their use by one thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(self.draw, epoch, step) for step in range(min(3, steps))]
            for step in range(steps):
                if step + 3 < steps:
                    ahead.append(pool.submit(self.draw, epoch, step + 3))
                yield ahead.pop(0).result()

    def draw(self, epoch: int, step: int) -> Batch:
        """The batch of that epoch and step: always the same."""
        dates, masks = [], []
        for number in range(self.batch):
            random = np.random.default_rng([self.seed, epoch, step, number])
            sample, window, label = self._window(random)
            statistics = sample.statistics if self.normalized else None
            dates.append(network_input(window.before[None], window.after[None], statistics)[0])
            masks.append(np.where(window.valid, label, UNLABELLED).astype(np.uint8))
        return np.stack(dates), np.stack(masks)

    def _window(self, random: np.random.Generator) -> tuple[Sample, Window, NDArray[np.uint8]]:
        areas = np.array([sample.label.size for sample in self.samples], float)
        sample = self.samples[random.choice(len(areas), p=areas / areas.sum())]
        scales = random.uniform(*_SCALES, 2) if self.augmented else np.ones(2)
        height, width = (max(1, round(self.size * scale)) for scale in scales)
        top, left = _corner(sample.label, (height, width), random)
        ys, xs = slice(top, top + height), slice(left, left + width)
        window, label = sample.pair.window(ys, xs), _cut(sample.label, ys, xs)
        if self.augmented:
            window, label = altered(window, label, self.size, random)
        return sample, window, label


def _corner(
    label: NDArray[np.uint8], size: tuple[int, int], random: np.random.Generator
) -> tuple[int, int]:
    """Where a window begins: around a changed pixel or anywhere, inside the scene if it fits."""
    centre = [int(random.integers(0, n)) for n in label.shape]
    if random.random() < _ON_CHANGE:
        changed = np.flatnonzero(label == 1)
        if changed.size:
            at = int(changed[random.integers(changed.size)])
            centre = [at // label.shape[1], at % label.shape[1]]
    jitter = [int(random.integers(-n // 3, n // 3 + 1)) for n in size]
    corner = [
        min(max(c + j - n // 2, 0), max(0, whole - n))
        for c, j, n, whole in zip(centre, jitter, size, label.shape, strict=True)
    ]
    return corner[0], corner[1]


def _cut(label: NDArray[np.uint8], ys: slice, xs: slice) -> NDArray[np.uint8]:
    inside = label[ys, xs]
    result = np.full((ys.stop - ys.start, xs.stop - xs.start), UNLABELLED, np.uint8)
    result[: inside.shape[0], : inside.shape[1]] = inside
    return result


def altered(
    window: Window, label: NDArray[np.uint8], size: int, random: np.random.Generator
) -> tuple[Window, NDArray[np.uint8]]:
    """A window of any size brought to ``size`` (anisotropic scale), turned, and lit otherwise.

    Both dates are scaled and turned together; gain, offset and haze are drawn for each date.
    `after` is moved by up to half a pixel; the dates may be swapped.
    """
    rows, columns = (np.linspace(0, n - 1, size) for n in label.shape)
    shift = random.uniform(-0.5, 0.5, 2)
    before = _resampled(window.before, rows, columns)
    after = _resampled(window.after, rows + shift[0], columns + shift[1])
    label = label[np.rint(rows).astype(int)][:, np.rint(columns).astype(int)]
    dates = [_lit(date, random) for date in (before, after)]
    if random.random() < 0.5:
        dates.reverse()
    turns, flip = int(random.integers(4)), bool(random.random() < 0.5)
    turned: list[Any] = [np.rot90(a, turns, (-2, -1)) for a in (*dates, label)]  # type: ignore[call-overload]
    first, second, mask = (np.ascontiguousarray(a[..., ::-1] if flip else a) for a in turned)
    valid = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    return Window(first, second, valid), mask


def _resampled(
    date: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Bilinear, one axis after the other."""
    for axis, asked in ((1, rows), (2, columns)):
        at = np.clip(asked, 0, date.shape[axis] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, date.shape[axis] - 1)
        part = (at - low).astype(np.float32)
        part = part[:, None] if axis == 1 else part
        date = date.take(low, axis) * (1 - part) + date.take(high, axis) * part
    return date


def _lit(date: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    gain = random.normal(1, _GAIN, (len(date), 1, 1)).astype(np.float32)
    offset = random.normal(0, _OFFSET, (len(date), 1, 1)).astype(np.float32)
    date = date * gain + offset
    if random.random() < 0.2:
        veil = np.float32(random.uniform(0, _HAZE))
        date = date * (1 - veil) + veil * np.float32(0.4)
    return date
