"""What the spectra say became of a change: indices of both dates, and rules on their means.

Indices, all of reflectance: NDVI = (nir - red) / (nir + red), Rouse et al. 1974 (NASA SP-351);
NDBI = (swir16 - nir) / (swir16 + nir), Zha et al. 2003 (Int. J. Remote Sensing 24, 583-594);
NDWI = (green - nir) / (green + nir), McFeeters 1996 (Int. J. Remote Sensing 17, 1425-1432);
DBSI = (swir16 - green) / (swir16 + green) - NDVI, Rasul et al. 2018 (Land 7, 81).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.blocks import Block
from s2cd.results.dates import dates_of_map
from s2cd.scenes.pair import Pair

INDICES = ("ndvi", "ndbi", "ndwi", "dbsi")
"""The indices of a date, in the order in which they are held."""
NEEDED = ("B03", "B04", "B08", "B11")
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
_BARE = 0.26
"""DBSI of bare soil: the threshold of Rasul et al. 2018."""
_FELL = 0.15
"""A change of mean NDVI that is more than the difference between two good dates of one season."""


@dataclass(frozen=True)
class IndexReader:
    """Indices of both dates of a pair: (8, height, width), those of before first."""

    pair: Pair

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """Indices in a block, NaN where a date is not valid."""
        window = self.pair.window(block.ys, block.xs)
        values = np.concatenate([_indices(window.before), _indices(window.after)])
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


def _indices(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    green, red, nir, swir = bands
    ndvi = _ratio(nir, red)
    return np.stack([ndvi, _ratio(swir, nir), _ratio(green, nir), _ratio(swir, green) - ndvi])


def _ratio(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: NDArray[np.float32] = np.clip((one - other) / (one + other), -1, 1)
    return ratio


def kinds_of(means: NDArray[np.float64]) -> NDArray[np.object_]:
    """What became of changes, by their mean indices (8, n): (n,) of `KINDS`, None where unknown.

    Each date is water, vegetation, bare or built-up, the first that fits: water where NDWI > 0
    (McFeeters 1996) and NDBI < 0, so that bright roofs are none; vegetation where NDVI > 0.3
    (after Sobrino et al. 2004); bare where DBSI > 0.26 (Rasul et al. 2018); built-up where
    NDBI > NDVI (Zha et al. 2003, as a difference in He et al. 2010, Remote Sensing Letters 1).
    """
    before, after = _states(means[:4]), _states(means[4:])
    step = means[4] - means[0]
    rules = [
        (before != "water") & (after == "water"),
        (before == "water") & (after != "water"),
        (before == "vegetation") & (after == "built-up"),
        (before == "bare") & (after == "built-up"),
        (after != "vegetation") & (before == "vegetation") | (step < -_FELL),
        (after == "vegetation") & (before != "vegetation") | (step > _FELL),
    ]
    names = ["water gained", "water lost", *KINDS[:4]]
    kinds = np.select(rules, names, "other").astype(object)
    kinds[np.isnan(means).any(axis=0)] = None
    return kinds


def _states(means: NDArray[np.float64]) -> NDArray[np.str_]:
    ndvi, ndbi, ndwi, dbsi = means
    rules = [(ndwi > 0) & (ndbi < 0), ndvi > _VEGETATED, dbsi > _BARE, ndbi > ndvi]
    return np.select(rules, ["water", "vegetation", "bare", "built-up"], "mixed")
