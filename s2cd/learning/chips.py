"""Windows to learn from: chosen and altered by seed, epoch and number, so that they repeat."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from s2cd.learning.augment import AUGMENTATIONS, Augmentation, altered
from s2cd.learning.prepared import Sample
from s2cd.networks.inputs import network_input
from s2cd.scenes.mask import UNLABELLED
from s2cd.scenes.pair import Window

Batch = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""What a network sees (n, 2, band, y, x), and the masks (n, y, x)."""
_ON_CHANGE = 0.5
"""Share of the windows that are drawn around a changed pixel."""


@dataclass(frozen=True)
class Chips:
    """Draws batches from samples.

    Attributes:
        samples: The places to learn from.
        size: Height and width of a window, in pixels.
        batch: Windows in a batch.
        seed: Another seed, other windows.
        normalized: Whether each date and band is brought to zero mean and unit variance.
        augmentation: How windows are altered.
    """

    samples: tuple[Sample, ...]
    size: int = 128
    batch: int = 16
    seed: int = 0
    normalized: bool = True
    augmentation: Augmentation = AUGMENTATIONS["strong"]

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
            seen = network_input(window.before[None], window.after[None], statistics)[0]
            swapped = self.augmentation.swapped and random.random() < 0.5
            dates.append(seen[::-1] if swapped else seen)
            masks.append(np.where(window.valid, label, UNLABELLED).astype(np.uint8))
        return np.stack(dates), np.stack(masks)

    def _window(self, random: np.random.Generator) -> tuple[Sample, Window, NDArray[np.uint8]]:
        areas = np.array([sample.label.size for sample in self.samples], float)
        index = int(random.choice(len(areas), p=areas / areas.sum()))
        sample = self.samples[index]
        scales = random.uniform(*self.augmentation.scales, 2)
        height, width = (max(1, round(self.size * scale)) for scale in scales)
        top, left = self._corner(index, (height, width), random)
        ys, xs = slice(top, top + height), slice(left, left + width)
        window, label = sample.pair.window(ys, xs), _cut(sample.label, ys, xs)
        window, label = altered(window, label, self.size, self.augmentation, random)
        return sample, window, label

    def _corner(
        self, index: int, size: tuple[int, int], random: np.random.Generator
    ) -> tuple[int, int]:
        """Where a window begins: around change or anywhere, inside the scene if it fits."""
        shape = self.samples[index].label.shape
        centre = [int(random.integers(0, n)) for n in shape]
        changed = self._changed[index]
        if random.random() < _ON_CHANGE and changed.size:
            at = int(changed[random.integers(changed.size)])
            centre = [at // shape[1], at % shape[1]]
        jitter = [int(random.integers(-n // 3, n // 3 + 1)) for n in size]
        corner = [
            min(max(c + j - n // 2, 0), max(0, whole - n))
            for c, j, n, whole in zip(centre, jitter, size, shape, strict=True)
        ]
        return corner[0], corner[1]

    @cached_property
    def _changed(self) -> list[NDArray[np.int64]]:
        """Where each place changed: found once, since each window asks."""
        labels = [np.asarray(sample.label) for sample in self.samples]
        return [np.flatnonzero((label > 0) & (label != UNLABELLED)) for label in labels]


def _cut(label: NDArray[np.uint8], ys: slice, xs: slice) -> NDArray[np.uint8]:
    inside = label[ys, xs]
    result = np.full((ys.stop - ys.start, xs.stop - xs.start), UNLABELLED, np.uint8)
    result[: inside.shape[0], : inside.shape[1]] = inside
    return result
