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
from scipy.ndimage import binary_dilation, binary_propagation, label, uniform_filter

from s2cd.errors import S2cdError
from s2cd.scenes.clouds.lattice import (
    COARSE,
    FINE_BANDS,
    Array,
    Lattice,
    cell_means,
    coarse_mean,
    lattice_of,
)
from s2cd.scenes.clouds.parallax import drift
from s2cd.scenes.clouds.probability import MODEL_BANDS, cloud_probability, may_be_cloud
from s2cd.scenes.clouds.shadow import shadows
from s2cd.scenes.clouds.sun import SunAngles, likely_suns
from s2cd.scenes.reader import span
from s2cd.scenes.stack import CHUNK, QA_FLAGS

logger = logging.getLogger(__name__)

NEEDED = MODEL_BANDS
"""The bands that clouds are looked for in."""
LIKELY = 0.4
"""Probability from which a cell may be cloud: the advised one of s2cloudless."""
SURE, WIDE, OPAQUE = 0.8, 25, 0.2
"""A deck without any texture, so that nothing can be measured on it, is cloud from this
probability, number of cells (0.36 km2) and reflectance in B02 on."""
SLOWEST, SIGMAS, SIGMAS_IN_A_FIELD = 3.0, 4.5, 2.5
"""m/s from which something is above the ground (300 m), and standard errors that it takes: fewer
within 1.5 km of a cloud, since clouds come in fields."""
GLOW = 0.015
"""Reflectance in B02 that a cloud adds to that of the ground around it, at least."""
CIRRUS, THICK_CIRRUS = 0.012, 0.035
"""Reflectance in B10 of thin and of thick cirrus (Sen2Cor 2.10 ATBD, thresholds T1 and T2)."""
_GROWTH = 4  # cells, 500 m, that a cloud may reach beyond where its movement can be measured
_BUFFER = 1  # cells, 120 m
_AROUND = 25  # cells, 3 km: the ground around
_FIELD = 12  # cells, 1.5 km
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
    once); spread to 10 m pixels block by block. The attributes are tags: the share of each.

    Args:
        bands: Level-1C reflectance (y, x), the offset applied, NaN = no data, each on its own
            grid (``.odc.geobox``), by ESA's names; all of `NEEDED`, more does no harm.
        sun: Where the sun stands; if None, the likeliest of the year's positions at this latitude.
        like: The 10 m grid; that of B02 by default.

    Raises:
        S2cdError: where a band is missing or lies elsewhere, or s2cloudless is not installed.
    """
    if missing := missing_bands(bands):
        raise S2cdError(
            f"Clouds cannot be looked for without {', '.join(missing)}. Give all of "
            f"{' '.join(NEEDED)}, or say --no-clouds"
        )
    geobox = bands["B02"].odc.geobox if like is None else like
    lattice = lattice_of(geobox)
    return flags_of(cell_means({name: bands[name] for name in NEEDED}, lattice), lattice, sun)


def flags_of(means: Mapping[str, Array], lattice: Lattice, sun: SunAngles | None) -> xr.DataArray:
    """The flags of `cloud_flags` from what `cell_means` gives for `NEEDED`."""
    import dask.array as da

    step = COARSE * lattice.step[0], COARSE * lattice.step[1]
    shape = lattice.geobox.shape[0], lattice.geobox.shape[1]
    source = CellFlags(cell_flags(means, lattice, sun), step, shape)
    shares = _shares(source)
    logger.info("clouds: %s", ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    return xr.DataArray(
        da.from_array(source, chunks=CHUNK, asarray=False, meta=np.empty((0, 0), np.uint16)),
        dims=("y", "x"),
        coords=xr_coords(lattice.geobox, always_yx=True),
        attrs={f"{name.upper()}_FRACTION": f"{share:.4f}" for name, share in shares.items()},
    )


def with_clouds(
    qa: xr.DataArray, bands: Mapping[str, xr.DataArray], sun: SunAngles | None = None
) -> xr.DataArray:
    """The QA band (y, x) of a stack with the flags of `cloud_flags` added where it is observed."""
    flags = cloud_flags(bands, sun, qa.odc.geobox)
    observed = (qa & QA_FLAGS["observed"]) != 0
    return (qa | flags.data * observed).astype(np.uint16)


def cell_flags(
    means: Mapping[str, Array], lattice: Lattice, sun: SunAngles | None
) -> NDArray[np.uint16]:
    """Flags (y, x) of coarse cells."""
    coarse = {n: coarse_mean(v) if n in FINE_BANDS else v for n, v in means.items()}
    possible = may_be_cloud(coarse)
    speed, error = drift(means, lattice, possible)
    cloud = find_clouds(coarse, possible, (speed, error))
    shadow = np.zeros_like(cloud)
    if cloud.any() and (suns := _suns(sun, lattice)):
        shadow = shadows(cloud, coarse, speed, lattice, suns)
    with np.errstate(invalid="ignore"):
        cirrus = _without_dots(coarse["B10"] >= CIRRUS)
    return _bits(_grown(cloud), cirrus, _grown(shadow))


def find_clouds(coarse: Mapping[str, Array], possible: Mask, moves: tuple[Array, Array]) -> Mask:
    """Which coarse cells are cloud, without a buffer.

    The model, the costly part, is asked only where its answer decides.

    Args:
        coarse: Reflectance of `NEEDED` over coarse cells.
        possible: Cells that may be cloud at all.
        moves: Apparent speed and its standard error, m/s.
    """
    speed, error = np.abs(moves[0]), moves[1]
    moving = (speed >= SLOWEST) & (speed >= SIGMAS_IN_A_FIELD * error)
    bright = possible & brighter_than_ground(coarse["B02"], moving)
    with np.errstate(invalid="ignore"):
        even = possible & (error > SLOWEST / 2) & (coarse["B02"] > OPAQUE)
        thick = _without_dots(coarse["B10"] >= THICK_CIRRUS)
    asked = (bright & moving) | even
    likely = cloud_probability(coarse, asked)
    surely = moving & (speed >= SIGMAS * error)
    core = (bright & surely & (likely >= LIKELY)) | thick | _wide(even & (likely >= SURE))
    if not core.any():
        return core
    core |= bright & moving & (likely >= LIKELY) & binary_dilation(core, _SQUARE, _FIELD)
    open_to = bright & ~(speed + 2 * error < SLOWEST)
    near = open_to & binary_dilation(core, _SQUARE, _GROWTH)
    likely = np.maximum(likely, cloud_probability(coarse, near & ~asked))
    cloud = binary_propagation(core, _SQUARE, mask=core | (open_to & (likely >= LIKELY)))
    return np.asarray(cloud | (binary_dilation(cloud, _SQUARE) & open_to))


def brighter_than_ground(blue: Array, moving: Mask) -> Mask:
    """Cells whose B02 exceeds that of the ground within 1.5 km, or that have none so near.

    Ground is what has nothing that moves within 500 m.
    """
    ground = np.isfinite(blue) & ~binary_dilation(moving, _SQUARE, _GROWTH)
    share = uniform_filter(ground.astype(np.float32), _AROUND, mode="constant")
    total = uniform_filter(np.where(ground, blue, 0), _AROUND, mode="constant")
    usual = total / np.maximum(share, np.float32(1e-6))
    with np.errstate(invalid="ignore"):
        return np.asarray((share < 10 / _AROUND**2) | (blue > usual + GLOW))


def _wide(mask: Mask) -> Mask:
    """What of a mask hangs together over at least `WIDE` cells."""
    return _parts_of(mask, WIDE)


def _without_dots(mask: Mask) -> Mask:
    """What of a mask is no dot: a roof flashes in B10 over a cell or two."""
    return _parts_of(mask, 4)


def _parts_of(mask: Mask, least: int) -> Mask:
    """The connected parts of a mask that have so many cells."""
    labels, count = label(mask, _SQUARE)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= least
    kept[0] = False
    return np.asarray(kept[labels])


def _suns(sun: SunAngles | None, lattice: Lattice) -> tuple[SunAngles, ...]:
    if sun is not None:
        return (sun,)
    return () if lattice.latitude is None else likely_suns(lattice.latitude)


def _shares(flags: CellFlags) -> dict[str, float]:
    """Shares of the pixels of a grid that are cloud, cirrus and shadow."""
    pixels = [
        np.minimum(step, size - step * np.arange(cells)) / size
        for cells, step, size in zip(flags.cells.shape, flags.step, flags.shape, strict=True)
    ]
    weight = np.outer(*pixels)
    return {
        name: float(weight[(flags.cells & QA_FLAGS[name]) != 0].sum())
        for name in ("cloud", "cirrus", "shadow")
    }


def _grown(mask: Mask) -> Mask:
    return np.asarray(binary_dilation(mask, _SQUARE, iterations=_BUFFER)) if mask.any() else mask


def _bits(cloud: Mask, cirrus: Mask, shadow: Mask) -> NDArray[np.uint16]:
    flags = np.zeros(cloud.shape, np.uint16)
    for mask, name in ((cloud, "cloud"), (cirrus, "cirrus"), (shadow & ~cloud, "shadow")):
        flags[mask] |= QA_FLAGS[name]
    return flags
