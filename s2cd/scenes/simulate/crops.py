"""The crop calendar: what covers a field on a day.

Sowing and harvest follow the usual seasons of central Gujarat (kharif sown with the monsoon in
June and July, rabi in November), rounded.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from s2cd.scenes.simulate.lattice import uniform
from s2cd.scenes.simulate.spectra import DARK_SOIL, GREEN, LIGHT_SOIL, STRAW, Spectrum


@dataclass(frozen=True)
class Crop:
    """Days of the year at which half the cover is reached and lost, the cover, how common."""

    name: str
    rises: float
    falls: float
    cover: float
    share: float


CROPS = (
    Crop("cotton", 205, 365, 0.75, 0.28),
    Crop("rice", 215, 305, 0.85, 0.14),
    Crop("castor", 230, 395, 0.65, 0.18),
    Crop("wheat", 345, 445, 0.90, 0.16),
    Crop("vegetables", 295, 390, 0.75, 0.08),
    Crop("orchard", 0, 730, 0.55, 0.06),
    Crop("fallow", 220, 290, 0.25, 0.10),
)
_RISE = np.array([crop.rises for crop in CROPS])
_FALL = np.array([crop.falls for crop in CROPS])
_COVER = np.array([crop.cover for crop in CROPS])
_SHARE = np.cumsum([crop.share for crop in CROPS])
_PACE = 9.0  # days: how fast a field closes or is cleared around its half-way day
_STUBBLE_DAYS = 30.0


def season_of_the_wild(day: date) -> float:
    """Cover (0..1) of unsown vegetation: best at the monsoon's end, least in May."""
    return 0.7 + 0.3 * float(np.cos(2 * np.pi * (_day_of_year(day) - 265) / 365.25))


def field_spectra(
    seed: int, fields: NDArray[np.int64], day: date, rotation: float
) -> tuple[Spectrum, Spectrum]:
    """Reflectance (n, 13) of fields on a day, and how it varies inside each (n, 13).

    Args:
        seed: of the scene.
        fields: (4, n) integers that name each field.
        day: the day.
        rotation: share of the fields that do not keep their usual crop in a year.
    """
    green, straw = _cover(seed, fields, day, rotation)
    tone = uniform(seed, "soil", *fields)[:, None] ** 1.2
    wet = 1 - 0.12 * uniform(seed, "wet", *fields, day.toordinal())[:, None]
    soil = (DARK_SOIL + tone * (LIGHT_SOIL - DARK_SOIL)) * wet
    vigour = 0.9 + 0.2 * uniform(seed, "vigour", *fields)[:, None]
    mean = (1 - green - straw) * soil + green * vigour * GREEN + straw * STRAW
    uneven = (0.02 + 0.16 * green * (1 - green)) * (GREEN - soil) + 0.05 * mean
    return mean, uneven


def _cover(
    seed: int, fields: NDArray[np.int64], day: date, rotation: float
) -> tuple[Spectrum, Spectrum]:
    """Shares of green and of straw (n, 1) on fields."""
    year = day.year if day.month >= 6 else day.year - 1
    crop = _crop(seed, fields, year, rotation)
    habit = 24 * (uniform(seed, "habit", *fields) - 0.5)
    weather = 8 * (uniform(seed, "weather", year) - 0.5)
    late = habit + weather + 20 * (uniform(seed, "late", *fields, year) - 0.5)
    green, straw = np.zeros(crop.shape), np.zeros(crop.shape)
    for days in (0.0, 365.25):  # a crop sown last year may still stand
        since = _day_of_year(day) + days - late
        green += _up(since - _RISE[crop]) * _up(_FALL[crop] - since)
        gone = since - _FALL[crop]
        straw += _up(gone) * np.exp(-np.maximum(gone, 0) / _STUBBLE_DAYS)
    green = np.minimum(green, 1) * _COVER[crop]
    return green[:, None], np.minimum(0.6 * straw * _COVER[crop], 1 - green)[:, None]


def _crop(seed: int, fields: NDArray[np.int64], year: int, rotation: float) -> NDArray[np.int64]:
    usual = uniform(seed, "crop", *fields)
    other = uniform(seed, "other crop", *fields, year)
    turns = uniform(seed, "turn", *fields, year) < rotation
    return np.minimum(np.searchsorted(_SHARE, np.where(turns, other, usual)), len(CROPS) - 1)


def _day_of_year(day: date) -> float:
    return float(day.timetuple().tm_yday)


def _up(days: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 + 0.5 * np.tanh(days / (2 * _PACE)))
