"""How the sensor sees the ground: point spread, shift, atmosphere, sun, noise."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr

from s2cd.scenes.bands import BANDS
from s2cd.scenes.simulate.lattice import Floats, smooth, uniform
from s2cd.scenes.simulate.spectra import HAZE, PATH, SNR, TRANSMITTANCE

TILE = 384
"""Side in 10 m pixels of the squares in which scenes are made: whole pixels of 20 m and 60 m."""

MARGIN = 14
"""Cells drawn around a tile: the reach of the largest shift and of the point spread."""

LARGEST_SHIFT = 4.0
"""Pixels."""

RESOLUTIONS = (10, 20, 60)
OF_RESOLUTION = {
    metres: [n for n, band in enumerate(BANDS.values()) if band.resolution == metres]
    for metres in RESOLUTIONS
}
"""Which of the 13 bands have pixels of so many metres."""

_SPREAD = 0.8
_LATITUDE, _HOUR_ANGLE = np.radians(23.0), np.radians(-15.0)  # the tile T43QBF at its pass
_HAZE_BRIGHT = 0.45  # reflectance of haze so thick that nothing shows through


@dataclass(frozen=True)
class Nuisance:
    """What differs between the dates although nothing was built.

    Attributes:
        haze: mean share of the light in blue that haze replaces; it is uneven over some km.
        gain: standard deviation of each date's gain in each band; the offset's is a tenth of it.
        rotation: share of the fields that bear another crop than usual in a year.
        shading: standard deviation of the brightness of slopes under a sun at 45 degrees.
        noise: sensor noise, as a multiple of what the mission requires.
    """

    haze: float = 0.04
    gain: float = 0.02
    rotation: float = 0.015
    shading: float = 0.02
    noise: float = 1.0


@lru_cache(maxsize=64)
def sampling(metres: int, shift: float) -> csr_array:
    """Weights (pixels, cells) that make a tile's row of pixels out of a row of cells.

    A square pixel, spread by a Gaussian of 4 m: together a modulation transfer of 0.29 at the
    Nyquist frequency of 10 m pixels; the mission asks for 0.15 to 0.30.

    Args:
        metres: size of the pixels.
        shift: how far, in 10 m pixels, features move towards larger indices.
    """
    step = metres // 5
    count = 2 * TILE // step
    start = MARGIN + step * np.arange(count)[:, None] - 2 * shift
    first = np.floor(start).astype(np.int64) - 4
    cell = first + np.arange(step + 9)[None, :]
    weight = ndtr((cell + 0.5 - start) / _SPREAD) - ndtr((cell + 0.5 - start - step) / _SPREAD)
    weight /= weight.sum(axis=1, keepdims=True)
    row = np.broadcast_to(np.arange(count)[:, None], cell.shape)
    shape = (count, 2 * (TILE + MARGIN))
    return csr_array((weight.ravel().astype(np.float32), (row.ravel(), cell.ravel())), shape=shape)


def sampled(ground: Floats, metres: int, shift: tuple[float, float]) -> Floats:
    """The pixels of a tile out of its cells (side, side)."""
    rows = sampling(metres, shift[0]) @ ground
    across = sampling(metres, shift[1]) @ np.ascontiguousarray(rows.T)
    return np.ascontiguousarray(across.T)


def through_air(
    seed: int, day: date, tile: tuple[int, int], surface: dict[int, Floats], nuisance: Nuisance
) -> dict[int, Floats]:
    """Reflectance at the top of the atmosphere out of that of the ground, by pixel size."""
    ys, xs = (10 * np.arange(TILE * at + 0.5, TILE * (at + 1), dtype=np.float64) for at in tile)
    haze = nuisance.haze * np.exp(0.6 * smooth(seed, f"haze {day}", ys, xs, 3000))
    light = _sunlight(seed, day, ys, xs, nuisance.shading)
    number = np.arange(len(BANDS))
    gain = 1 + nuisance.gain * 12**0.5 * (uniform(seed, f"gain {day}", number) - 0.5)
    offset = nuisance.gain / 10 * 12**0.5 * (uniform(seed, f"offset {day}", number) - 0.5)
    seen = {}
    for metres, bands in OF_RESOLUTION.items():
        path, clear, hazy, scale, add = (
            spectrum[bands].astype(np.float32)[:, None, None]
            for spectrum in (
                PATH,
                TRANSMITTANCE,
                HAZE * TRANSMITTANCE,
                gain,
                offset * TRANSMITTANCE,
            )
        )
        veil = np.minimum(hazy * _pooled(haze, metres), 1)
        top = path + clear * surface[metres] * _pooled(light, metres)
        seen[metres] = scale * (top + veil * (np.float32(_HAZE_BRIGHT) - top)) + add
    return seen


def noised(
    seed: int, day: date, tile: tuple[int, int], clean: dict[int, Floats], strength: float
) -> dict[int, Floats]:
    """Reflectance with shot noise: the required ratio at a reflectance of 0.12."""
    key = uniform(seed, f"noise {day}", *tile)
    bits = np.random.Philox(int(key.item() * 2**53))
    generator = np.random.Generator(bits)
    noisy = {}
    for metres, bands in OF_RESOLUTION.items():
        value = clean[metres]
        relative = (strength / SNR[bands]).astype(np.float32)[:, None, None]
        noise = generator.standard_normal(value.shape, np.float32) * relative
        noisy[metres] = value + noise * np.sqrt(np.maximum(value, 0.002) * np.float32(0.12))
    return noisy


def sun_angles(day: date) -> tuple[float, float]:
    """Zenith and azimuth of the sun over the scene, in degrees, clockwise from north.

    The declination is after Cooper (1969), 10.1016/0038-092X(69)90047-4.
    """
    turn = 2 * np.pi * (284 + day.timetuple().tm_yday) / 365
    declination = np.radians(23.45) * np.sin(turn)
    high = np.sin(_LATITUDE) * np.sin(declination) + np.cos(_LATITUDE) * np.cos(
        declination
    ) * np.cos(_HOUR_ANGLE)
    zenith = np.arccos(high)
    east = (np.sin(declination) - np.sin(_LATITUDE) * high) / (np.cos(_LATITUDE) * np.sin(zenith))
    return float(np.degrees(zenith)), float(np.degrees(np.arccos(np.clip(east, -1, 1))))


def _sunlight(
    seed: int, day: date, ys: NDArray[np.float64], xs: NDArray[np.float64], shading: float
) -> Floats:
    """Brightness relative to a flat ground under a high sun: low sun darkens, slopes shade."""
    high = float(np.cos(np.radians(sun_angles(day)[0])))
    slope = smooth(seed, "relief", ys, xs, 700)
    light = (1 - 0.15 * (1 - high)) * (1 + shading * slope * (1 - high**2) ** 0.5 / high)
    return np.asarray(light, np.float32)


def _pooled(field: Floats, metres: int) -> Floats:
    """Means over the 10 m pixels that each pixel covers."""
    step, side = metres // 10, field.shape[0] * 10 // metres
    return np.asarray(field.reshape(side, step, side, step).mean(axis=(1, 3)), np.float32)
