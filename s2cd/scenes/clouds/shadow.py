"""Shadows: each cloud laid along the sun's azimuth to where the ground is darkest.

After the object matching of Zhu and Woodcock 2012 (10.1016/j.rse.2011.10.028), with the darkness
of the near and short-wave infrared in place of the similarity of shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, label, uniform_filter

from s2cd.scenes.clouds.lattice import COARSE, Array, Lattice
from s2cd.scenes.clouds.parallax import SPEED_OF_HEIGHT
from s2cd.scenes.clouds.sun import SunAngles

_AROUND = 25  # coarse cells, 3 km: what a shadow is darker than
_LEAST_DARK = 0.10
_EDGE_DARK = 0.04
_LOWEST, _HIGHEST = 150.0, 12_000.0
_WIND = 1500.0  # metres of height that an unknown wind of 14 m/s may feign
_PENALTY = 0.01  # of darkness, a kilometre: the nearer of two equal matches
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Cloud:
    """One cloud: its cells, their window, and the greatest height its drift allows."""

    cells: Mask
    window: tuple[slice, slice]
    highest: float


def shadows(
    cloud: Mask,
    coarse: Mapping[str, Array],
    speed: Array,
    lattice: Lattice,
    suns: Sequence[SunAngles],
) -> Mask:
    """Coarse cells (y, x) in the shadow of clouds.

    Args:
        cloud: Cells that are cloud.
        coarse: Means of B8A and B11 over coarse cells.
        speed: Apparent speed of cells, m/s: its size bounds the height of the cloud.
        lattice: The cells.
        suns: Where the sun stands; of several guesses the one that explains most darkness.
    """
    dark = _darkness(cloud, coarse)
    clouds = _clouds(cloud, speed)
    best, found = 0.0, np.zeros_like(cloud)
    for sun in suns:
        darkness, mask = _cast(clouds, dark, lattice, sun)
        if darkness > best:
            best, found = darkness, mask
    return found & ~cloud


def _darkness(cloud: Mask, coarse: Mapping[str, Array]) -> Array:
    """How much darker than its surroundings a cell is, 0..1, in the lesser of both bands."""
    parts = []
    for name in ("B8A", "B11"):
        seen = np.isfinite(coarse[name]) & ~cloud
        share = uniform_filter(seen.astype(np.float32), _AROUND, mode="nearest")
        total = uniform_filter(np.where(seen, coarse[name], 0), _AROUND, mode="nearest")
        usual = total / np.maximum(share, np.float32(1e-3))
        parts.append(np.where(seen, 1 - coarse[name] / np.maximum(usual, 0.02), np.nan))
    return np.asarray(np.minimum(*parts), np.float32)


def _clouds(cloud: Mask, speed: Array) -> list[_Cloud]:
    labels, _ = label(cloud, np.ones((3, 3)))
    result = []
    for number, window in enumerate(find_objects(labels), 1):
        cells = labels[window] == number
        fastest = float(np.abs(np.percentile(np.abs(speed[window][cells]), 80)))
        highest = min(_HIGHEST, 1.5 * fastest / SPEED_OF_HEIGHT + _WIND)
        result.append(_Cloud(cells, window, highest))
    return result


def _cast(
    clouds: list[_Cloud], dark: Array, lattice: Lattice, sun: SunAngles
) -> tuple[float, Mask]:
    """What darkness a position of the sun explains, in cells, and where."""
    explained, mask = 0.0, np.zeros(dark.shape, bool)
    for cloud in clouds:
        steps = _steps(cloud, lattice, sun)
        scores = [_score(cloud, step, dark) - _PENALTY * height / 1000 for height, step in steps]
        if not scores or max(scores) < _LEAST_DARK:
            continue
        place = _placed(cloud, steps[int(np.argmax(scores))][1], dark.shape)
        explained += max(scores) * int(place.sum())
        mask |= binary_dilation(place, np.ones((3, 3))) & (np.nan_to_num(dark) > _EDGE_DARK)
    return explained, mask


def _steps(cloud: _Cloud, lattice: Lattice, sun: SunAngles) -> list[tuple[float, tuple[int, int]]]:
    """Heights, and the rows and columns by which a shadow lies from its cloud."""
    size = COARSE * np.array(lattice.metres)
    reach = np.tan(np.radians(min(sun.zenith, 80)))
    way = np.array([np.cos(np.radians(sun.azimuth)), -np.sin(np.radians(sun.azimuth))])
    way[0] *= 1 if lattice.north_is_up else -1
    pace = max(float(size.min()) / max(reach, 0.1) / 2, 25.0)
    steps: dict[tuple[int, int], float] = {}
    for height in np.arange(_LOWEST, cloud.highest, pace):
        row, column = np.rint(height * reach * way / size).astype(int)
        if (row, column) != (0, 0):
            steps.setdefault((int(row), int(column)), float(height))
    return [(height, step) for step, height in steps.items()]


def _score(cloud: _Cloud, step: tuple[int, int], dark: Array) -> float:
    """Mean darkness where the shadow would lie; -1 where less than half of it can be seen."""
    here, cut = _shifted(cloud, step, dark.shape)
    if here is None or cut is None:
        return -1.0
    values = dark[here][cloud.cells[cut]]
    seen = values[np.isfinite(values)]
    if seen.size == 0 or seen.size < 0.5 * cloud.cells.sum():
        return -1.0
    return float(seen.mean())


def _placed(cloud: _Cloud, step: tuple[int, int], shape: tuple[int, ...]) -> Mask:
    result = np.zeros(shape, bool)
    here, cut = _shifted(cloud, step, shape)
    if here is not None and cut is not None:
        result[here] = cloud.cells[cut]
    return result


def _shifted(
    cloud: _Cloud, step: tuple[int, int], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice] | None, tuple[slice, slice] | None]:
    """The cloud's window moved, inside the image, and what of the cloud that is."""
    here, cut = [], []
    for span, by, size in zip(cloud.window, step, shape, strict=True):
        start, stop = max(0, span.start + by), min(size, span.stop + by)
        if stop <= start:
            return None, None
        here.append(slice(start, stop))
        cut.append(slice(start - span.start - by, stop - span.start - by))
    return (here[0], here[1]), (cut[0], cut[1])
