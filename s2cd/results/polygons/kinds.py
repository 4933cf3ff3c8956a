"""What the spectra say became of a change: published indices of both dates, and rules on them.

All are of reflectance at the top of the atmosphere, as Level-1C gives it:
NDVI = (nir - red) / (nir + red), Rouse et al. 1974 (NASA SP-351);
NDBI = (swir16 - nir) / (swir16 + nir), Zha et al. 2003 (Int. J. Remote Sensing 24, 583-594);
NDWI = (green - nir) / (green + nir), McFeeters 1996 (Int. J. Remote Sensing 17, 1425-1432);
MNDWI = (green - swir16) / (green + swir16), Xu 2006 (Int. J. Remote Sensing 27, 3025-3033);
BSI = ((swir16 + red) - (nir + blue)) / ((swir16 + red) + (nir + blue)), Rikimaru et al. 2002
(Tropical Ecology 43, 39-47).
What is built is uneven, and a field of wet soil, whose indices are those of roofs, is even: that
texture tells built-up land is after Pesaresi et al. 2008 (IEEE J. Sel. Topics Appl. Earth Obs. 1,
180-192); here it is the spread of red within a change.

The thresholds that no source gives were chosen on changes of bercy, lasvegas, beirut, saclay_e and
pisa (OSCD) that were looked at one by one; the words are a help to sort by, not a land-cover map.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.blocks import Block
from s2cd.results.dates import dates_of_map
from s2cd.scenes.pair import Pair

HELD = ("ndvi", "ndbi", "ndwi", "blue", "green", "red", "nir", "swir16", "water", "red squared")
"""What is held of a date: indices, reflectance, 1 where a pixel is water, and (10 red)^2."""
NEEDED = ("B02", "B03", "B04", "B08", "B11")
"""The bands that they are made of."""
KINDS = (
    "vegetation to built-up",
    "bare to built-up",
    "vegetation lost",
    "vegetation gained",
    "water gained",
    "water lost",
    "other",
)
"""What may have become of a change."""
_VEGETATED = 0.3
"""NDVI of vegetation, for reflectance at the top of the atmosphere. Sobrino et al. 2004 (Remote
Sensing of Environment 90, 434-440) take less than 0.2 for bare soil and more than 0.5 for full
cover: a third of the way, since the atmosphere lowers NDVI."""
_SOME_VEGETATION = 0.2
"""NDVI below which there is none (Sobrino et al. 2004)."""
_BARE = 0.1
"""BSI of bare soil at the top of the atmosphere: deserts and building sites lie at 0.12 to 0.17,
roofs, asphalt and rows of houses at 0.0 to 0.09."""
_LESS_BARE = 0.03
"""A fall of BSI that is more than the wetness of soil."""
_BRIGHTER = 1.4
"""How much brighter in red, green and blue vegetation becomes where it is built upon; what burned,
was mown or ploughed does not."""
_UNEVEN = 0.065
"""Spread of red within a change, as a share of its mean, from which on it may be built-up: 0.02 to
0.06 on fields of wet soil at saclay_e and pisa, 0.08 and more on what was built."""
_ROOF = 0.55
"""Red, green and blue together from which on even ground is a roof or a yard: no wet soil is as
bright (0.34 to 0.52)."""
_DARK = 0.05
"""Reflectance of water at 1.6 micrometres, at most: shade in a city is brighter but where it is
deepest."""
_A_POND = 2000.0
"""Least area of water gained or lost, in m2: smaller dark places are shade or ships as often."""
_FELL = 0.15
"""A change of mean NDVI that is more than the difference between two good dates of one season."""


@dataclass(frozen=True)
class IndexReader:
    """What is held of both dates of a pair: (20, height, width), that of before first."""

    pair: Pair

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """What is held of a block, NaN where a date is not valid."""
        window = self.pair.window(block.ys, block.xs)
        values = np.concatenate([_held(window.before), _held(window.after)])
        values[:, ~window.valid] = np.nan
        return values


def index_reader(
    dates: tuple[Path, Path], geobox: GeoBox, tags: dict[str, str], bands: tuple[str, ...] | None
) -> IndexReader:
    """Indices of the dates of a map, registered to each other as the map says they were.

    Raises:
        S2cdError: where a date lacks a band, or `before` does not lie on the map's grid.
    """
    return IndexReader(dates_of_map(dates, geobox, tags, NEEDED, bands))


def _held(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    _, green, red, nir, swir = bands
    indices = [_ratio(nir, red), _ratio(swir, nir), _ratio(green, nir)]
    return np.stack([*indices, *bands, _is_water(bands), (10 * red) ** 2]).astype(np.float32)


def _is_water(bands: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Water by Fmask's test of reflectance at the top of the atmosphere, by MNDWI, and if dark.

    Zhu and Woodcock 2012 (Remote Sensing of Environment 118, 83-94), equation 5; MNDWI > 0 (Xu
    2006). Each alone takes shade for water.
    """
    _, green, red, nir, swir = bands
    ndvi = _ratio(nir, red)
    with np.errstate(invalid="ignore"):
        fmask = ((ndvi < 0.01) & (nir < 0.11)) | ((ndvi < 0.1) & (nir < 0.05))
        water: NDArray[np.bool_] = fmask & (_ratio(green, swir) > 0) & (swir < _DARK)
    return water


def _ratio(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: NDArray[np.float32] = np.clip((one - other) / (one + other), -1, 1)
    return ratio


def kinds_of(means: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.object_]:
    """What became of changes: (n,) of `KINDS`, None where unknown.

    Each date is, the first that fits: water where most pixels are; vegetation where NDVI > 0.3
    (after Sobrino et al. 2004); bare where BSI > 0.1; built-up where there is neither vegetation
    nor bare soil, which is how Zha et al. 2003 tell it, and the ground is uneven or bright.

    Args:
        means: Means over each change of what is held of both dates (20, n).
        areas: Areas of the changes in m2 (n,).
    """
    one, other = (_Date(*part) for part in np.split(means, 2))
    before, after = one.states(), other.states()
    step, large = other.ndvi - one.ndvi, areas >= _A_POND
    cleared = (before == "vegetation") & (after != "vegetation") & (step < -_FELL / 2)
    grown = (before != "vegetation") & (after == "vegetation") & (step > _FELL / 2)
    rules = [
        large & (before != "water") & (after == "water"),
        large & (before == "water") & (after != "water"),
        (before == "vegetation") & (after == "built-up") & (other.light > _BRIGHTER * one.light),
        (before == "bare") & (after == "built-up") & (one.bsi - other.bsi > _LESS_BARE),
        cleared | ((one.ndvi > _SOME_VEGETATION) & (step < -_FELL)),
        grown | ((other.ndvi > _SOME_VEGETATION) & (step > _FELL)),
    ]
    names = ["water gained", "water lost", *KINDS[:4]]
    kinds = np.select(rules, names, "other").astype(object)
    kinds[np.isnan(means).any(axis=0)] = None
    return kinds


@dataclass(frozen=True)
class _Date:
    """Means of one date over each change, in the order of `HELD`."""

    ndvi: NDArray[np.float64]
    ndbi: NDArray[np.float64]
    ndwi: NDArray[np.float64]
    blue: NDArray[np.float64]
    green: NDArray[np.float64]
    red: NDArray[np.float64]
    nir: NDArray[np.float64]
    swir: NDArray[np.float64]
    water: NDArray[np.float64]
    red_squared: NDArray[np.float64]

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of red within each change, as a share of its mean."""
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.maximum(self.red_squared / 100 - self.red**2, 0)
            spread: NDArray[np.float64] = np.sqrt(variance) / self.red
        return spread

    @property
    def light(self) -> NDArray[np.float64]:
        """How bright it is to the eye."""
        return self.blue + self.green + self.red

    @property
    def bsi(self) -> NDArray[np.float64]:
        """The bare soil index of the mean reflectance."""
        soil, rest = self.swir + self.red, self.nir + self.blue
        with np.errstate(divide="ignore", invalid="ignore"):
            index: NDArray[np.float64] = (soil - rest) / (soil + rest)
        return index

    def states(self) -> NDArray[np.str_]:
        """What each change is at this date."""
        built = (self.spread > _UNEVEN) | (self.light > _ROOF)
        rules = [
            self.water > 0.5,
            self.ndvi > _VEGETATED,
            (self.bsi > _BARE) & (self.ndvi > 0),
            (self.bsi <= _BARE) & (self.ndvi < _SOME_VEGETATION) & built,
        ]
        return np.select(rules, ["water", "vegetation", "bare", "built-up"], "mixed")
