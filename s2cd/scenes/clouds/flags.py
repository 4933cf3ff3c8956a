"""The decision: which cells are cloud, cirrus or shadow, and their flags on the 10 m grid."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy.ndimage import binary_dilation, binary_propagation, label

from s2cd.errors import S2cdError
from s2cd.scenes.clouds.lattice import COARSE, Array, Lattice, coarse_mean, fine_means, lattice_of
from s2cd.scenes.clouds.parallax import PAIRS, drift
from s2cd.scenes.clouds.probability import MODEL_BANDS, cloud_probability
from s2cd.scenes.clouds.shadow import shadows
from s2cd.scenes.clouds.sun import SunAngles, likely_suns
from s2cd.scenes.reader import span
from s2cd.scenes.stack import CHUNK, QA_FLAGS

logger = logging.getLogger(__name__)

NEEDED = MODEL_BANDS
"""The bands that clouds are looked for in."""
LIKELY, EDGE = 0.4, 0.2
"""Probabilities from which a cell may be cloud (the advised one of s2cloudless), and its edge."""
SURE, WIDE = 0.8, 25
"""A deck without any texture, so that nothing can be measured on it, is cloud from this
probability and number of cells (0.36 km2) on."""
SLOWEST, SIGMAS = 3.0, 5.0
"""m/s from which something is above the ground (300 m), and standard errors that it takes: bands
are registered to 0.3 pixels at worst (Sentinel-2 data quality reports), 3 m/s between B08 and
B8A, and usually to 0.1."""
CIRRUS, THICK_CIRRUS = 0.012, 0.035
"""Reflectance in B10 of thin and of thick cirrus (Sen2Cor 2.10 ATBD, thresholds T1 and T2)."""
_GROWTH = 4  # cells, 500 m, that a cloud may reach beyond where its movement can be measured
_BUFFER = 1  # cells, 120 m
_SQUARE = np.ones((3, 3), bool)
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class CellFlags:
    """Flags of coarse cells seen as an array (y, x) of 10 m pixels."""

    cells: NDArray[np.uint16]
    step: tuple[int, int]
    shape: tuple[int, int]

    ndim = 2
    dtype = np.dtype("uint16")

    def __getitem__(self, key: tuple[Any, Any]) -> NDArray[np.uint16]:
        """Flags of a window."""
        picked = self.cells
        for axis, (index, size, step) in enumerate(zip(key, self.shape, self.step, strict=True)):
            window, rest = span(index, size)
            at = np.arange(window.start, window.stop) // step
            picked = picked.take(at, axis=axis)
            picked = picked[rest] if axis == 0 else picked[..., rest]
        return picked


def missing_bands(held: Iterable[str]) -> tuple[str, ...]:
    """The bands that clouds are looked for in and that are not among those held."""
    names = set(held)
    return tuple(name for name in NEEDED if name not in names)


def cloud_flags(
    bands: Mapping[str, xr.DataArray],
    sun: SunAngles | None = None,
    like: GeoBox | None = None,
) -> xr.DataArray:
    """Cloud, cirrus and shadow of one date: (y, x), uint16, bits 2, 4 and 8 of `QA_FLAGS`; lazy.

    Found when called, on cells of 120 m (a whole tile takes about 400 MB and reads each band
    once); spread to 10 m pixels block by block. Pixels without data get no flag of their own.

    Args:
        bands: Level-1C reflectance (y, x), the offset applied, NaN = no data, each on its own
            grid (``.odc.geobox``), by ESA's names; all of `NEEDED`, more does no harm.
        sun: Where the sun stands; if None, the likeliest of the year's positions at this latitude.
        like: The 10 m grid; that of B02 by default.

    Raises:
        S2cdError: where a band is missing or lies elsewhere, or s2cloudless is not installed.
    """
    import dask.array as da

    if missing := missing_bands(bands):
        raise S2cdError(
            f"Clouds cannot be looked for without {', '.join(missing)}. Give all of "
            f"{' '.join(NEEDED)}, or say --no-clouds"
        )
    geobox = bands["B02"].odc.geobox if like is None else like
    lattice = lattice_of(geobox)
    cells = cell_flags({name: bands[name] for name in NEEDED}, lattice, sun)
    step = COARSE * lattice.step[0], COARSE * lattice.step[1]
    source = CellFlags(cells, step, (geobox.shape[0], geobox.shape[1]))
    data = da.from_array(source, chunks=CHUNK, asarray=False, meta=np.empty((0, 0), np.uint16))
    return xr.DataArray(data, dims=("y", "x"), coords=xr_coords(geobox, always_yx=True))


def with_clouds(
    qa: xr.DataArray, bands: Mapping[str, xr.DataArray], sun: SunAngles | None = None
) -> xr.DataArray:
    """The QA band (y, x) of a stack with the flags of `cloud_flags` added where it is observed."""
    flags = cloud_flags(bands, sun, qa.odc.geobox)
    observed = (qa & QA_FLAGS["observed"]) != 0
    return xr.where(observed, qa | flags.data, qa).astype(np.uint16)


def cell_flags(
    bands: Mapping[str, xr.DataArray], lattice: Lattice, sun: SunAngles | None
) -> NDArray[np.uint16]:
    """Flags (y, x) of coarse cells."""
    fine = fine_means(bands, lattice)
    coarse = {name: coarse_mean(values) for name, values in fine.items()}
    likely = cloud_probability(coarse)
    measured = {name: fine[name] for first, second, _ in PAIRS for name in (first, second)}
    del fine
    speed, error = drift(measured, lattice, likely >= EDGE)
    with np.errstate(invalid="ignore"):
        cirrus = _without_dots(coarse["B10"] >= CIRRUS)
    cloud = decide(likely, (speed, error), coarse["B10"])
    shadow = np.zeros_like(cloud)
    if cloud.any() and (suns := _suns(sun, lattice)):
        shadow = shadows(cloud, coarse, speed, lattice, suns)
    return _bits(_grown(cloud), cirrus, _grown(shadow))


def decide(likely: Array, moves: tuple[Array, Array], high: Array) -> Mask:
    """Which cells are cloud, without a buffer.

    Args:
        likely: Probability of s2cloudless.
        moves: Apparent speed and its standard error, m/s.
        high: Reflectance in B10.
    """
    speed, error = np.abs(moves[0]), moves[1]
    with np.errstate(invalid="ignore"):
        thick = _without_dots(high >= THICK_CIRRUS)
    moving = (speed >= SLOWEST) & (speed >= SIGMAS * error)
    still = speed + 2 * error < SLOWEST
    core = (likely >= LIKELY) & moving | thick | _featureless(likely, error)
    near = binary_dilation(core, _SQUARE, iterations=_GROWTH) | (likely >= SURE)
    cloud = binary_propagation(core, _SQUARE, mask=core | ((likely >= LIKELY) & ~still & near))
    edge = (likely >= EDGE) & ~still
    return np.asarray(binary_dilation(cloud, _SQUARE, iterations=2, mask=cloud | edge))


def _featureless(likely: Array, error: Array) -> Mask:
    """Wide and surely cloud to s2cloudless, and too even for anything to be measured."""
    labels, count = label((likely >= SURE) & (error > SLOWEST / 2), _SQUARE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    wide = sizes >= WIDE
    wide[0] = False
    return np.asarray(wide[labels])


def _without_dots(mask: Mask) -> Mask:
    """What of a mask has a neighbour in it: a single cell with a flash in B10 is a roof."""
    labels, count = label(mask, _SQUARE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = sizes >= 4
    kept[0] = False
    return np.asarray(kept[labels])


def _suns(sun: SunAngles | None, lattice: Lattice) -> tuple[SunAngles, ...]:
    if sun is not None:
        return (sun,)
    return () if lattice.latitude is None else likely_suns(lattice.latitude)


def _grown(mask: Mask) -> Mask:
    return np.asarray(binary_dilation(mask, _SQUARE, iterations=_BUFFER)) if mask.any() else mask


def _bits(cloud: Mask, cirrus: Mask, shadow: Mask) -> NDArray[np.uint16]:
    flags = np.zeros(cloud.shape, np.uint16)
    for mask, name in ((cloud, "cloud"), (cirrus, "cirrus"), (shadow & ~cloud, "shadow")):
        flags[mask] |= QA_FLAGS[name]
    return flags
