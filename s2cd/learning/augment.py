"""Windows altered as scenes differ: place, direction, scale, light and haze of each date."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.scenes.pair import Window

_VEIL = 0.4
"""Reflectance of dense haze, of which a share is mixed in."""


@dataclass(frozen=True)
class Augmentation:
    """How much windows are altered; the deviations are of normal draws, one for each date.

    Attributes:
        turned: Whether both dates are flipped and turned by quarters, together.
        scales: Least and largest factor of height and of width, drawn apart.
        shift: Most pixels by which one date is moved against the other.
        gain: Deviation of each band's factor.
        offset: Deviation of what is added to each band, in reflectance.
        contrast: Deviation of the factor of all bands about their mean.
        brightness: Deviation of what is added to all bands, in reflectance.
        haze: Largest share of haze, in one of five windows.
        swapped: Whether the dates change places in half of the windows; done once each is
            normalised by its own statistics.
    """

    turned: bool = True
    scales: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    haze: float = 0.0
    swapped: bool = False


AUGMENTATIONS = {
    "none": Augmentation(turned=False),
    "flips": Augmentation(),
    "mild": Augmentation(True, (0.9, 1.1), 0.25, 0.03, 0.003, 0.05, 0.003, 0.05, True),
    "strong": Augmentation(True, (0.8, 1.25), 0.5, 0.08, 0.008, 0.1, 0.008, 0.15, True),
}


def find_augmentation(name: str) -> Augmentation:
    """The augmentation of that name.

    Raises:
        S2cdError: where there is none.
    """
    if name not in AUGMENTATIONS:
        raise S2cdError(
            f"There is no augmentation {name[:40]!r}. Name one of {', '.join(AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name]


def altered(
    window: Window,
    label: NDArray[np.uint8],
    size: int,
    how: Augmentation,
    random: np.random.Generator,
) -> tuple[Window, NDArray[np.uint8]]:
    """A window of any size brought to ``size``, turned, and lit otherwise."""
    dates = [window.before, window.after]
    if label.shape != (size, size) or how.shift:
        dates, label = _placed(dates, label, size, how, random)
    if any((how.gain, how.offset, how.contrast, how.brightness, how.haze)):
        dates = [_lit(date, how, random) for date in dates]
    if how.turned:
        dates, label = _turned(dates, label, random)
    valid = np.all([np.isfinite(date).all(axis=0) for date in dates], axis=0)
    return Window(dates[0], dates[1], valid), label


def _placed(
    dates: list[NDArray[np.float32]],
    label: NDArray[np.uint8],
    size: int,
    how: Augmentation,
    random: np.random.Generator,
) -> tuple[list[NDArray[np.float32]], NDArray[np.uint8]]:
    """Both dates at another scale, `after` also moved; the mask stays with `before`."""
    rows, columns = (np.linspace(0, n - 1, size) for n in label.shape)
    down, right = random.uniform(-how.shift, how.shift, 2)
    before = _resampled(dates[0], rows, columns)
    after = _resampled(dates[1], rows + down, columns + right)
    return [before, after], label[np.rint(rows).astype(int)][:, np.rint(columns).astype(int)]


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


def _lit(
    date: NDArray[np.float32], how: Augmentation, random: np.random.Generator
) -> NDArray[np.float32]:
    bands = (len(date), 1, 1)
    gain, offset = random.normal(1, how.gain, bands), random.normal(0, how.offset, bands)
    contrast, brightness = random.normal(1, how.contrast), random.normal(0, how.brightness)
    some = date[:, ::8, ::8]
    known = np.isfinite(some)
    middle = np.where(known, some, 0).sum((1, 2)) / np.maximum(known.sum((1, 2)), 1)
    middle = middle[:, None, None] * gain + offset
    factor, added = gain * contrast, offset * contrast + middle * (1 - contrast) + brightness
    date = date * factor.astype(np.float32) + added.astype(np.float32)
    if random.random() < 0.2:
        veil = np.float32(random.uniform(0, how.haze))
        date = date * (1 - veil) + veil * np.float32(_VEIL)
    return date


def _turned(
    dates: list[NDArray[np.float32]], label: NDArray[np.uint8], random: np.random.Generator
) -> tuple[list[NDArray[np.float32]], NDArray[np.uint8]]:
    turns, flip = int(random.integers(4)), bool(random.random() < 0.5)
    turned: list[Any] = [np.rot90(a, turns, (-2, -1)) for a in (*dates, label)]  # type: ignore[call-overload]
    first, second, mask = (a[..., ::-1] if flip else a for a in turned)
    return [first, second], mask
