"""Clouds of a folder of band files, or of products: where the bands and the sun come from.

A folder says of the sun at most when the date was sensed; a product says where it stood.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.scenes.clouds.flags import NEEDED, missing_bands
from s2cd.scenes.clouds.lattice import lattice_of
from s2cd.scenes.clouds.probability import check_model
from s2cd.scenes.clouds.sun import SunAngles, sun_at
from s2cd.scenes.clouds.watch import CloudWatch
from s2cd.scenes.mosaic import Wanted, stack_of
from s2cd.scenes.product import Product
from s2cd.scenes.safe import band_files, open_folder

logger = logging.getLogger(__name__)

_COARSER = 6
"""Pixels of 10 m along one of 60 m."""


def watch_folder(folder: Path, stack: xr.DataArray, wanted: bool | None) -> CloudWatch | None:
    """A watch for the clouds of a folder's stack; None where they are not looked for.

    Args:
        folder: Holds the band files.
        stack: What `open_folder` made of it: its grid, offset, and time of sensing if known.
        wanted: True: refuse where it cannot be done. None: say so, and go on without.

    Raises:
        S2cdError: where clouds are wanted and a band or s2cloudless is missing.
    """
    offset = float(stack.attrs["RADIO_ADD_OFFSET"])
    source = _Source(str(folder), tuple(band_files(folder)), lambda: _sun_over(stack))
    return _watch(source, stack, lambda name: open_folder(folder, (name,), offset)[0], wanted)


def watch_products(
    products: Sequence[Product], stack: xr.DataArray, wanted: bool | None
) -> CloudWatch | None:
    """As `watch_folder`, of the stack that `stack_of` made of products of one date."""
    held = set.intersection(*({*product.bands} for product in products))
    first = products[0]
    sun = SunAngles(first.sun_zenith, first.sun_azimuth)
    coarse = _coarser(stack.odc.geobox)

    def read(name: str) -> xr.DataArray:
        return stack_of(products, coarse, Wanted(None, (name,), resampling="bilinear"))[0][0]

    return _watch(_Source(first.name, tuple(held), lambda: sun), stack, read, wanted)


@dataclass(frozen=True)
class _Source:
    """Where bands come from: its name, what it holds, and where the sun stood."""

    name: str
    bands: tuple[str, ...]
    sun: Callable[[], SunAngles | None]


def _watch(
    source: _Source,
    stack: xr.DataArray,
    read: Callable[[str], xr.DataArray],
    wanted: bool | None,
) -> CloudWatch | None:
    if wanted is False:
        return None
    held = [str(name) for name in stack.band.values]
    missing = missing_bands([*held, *source.bands])
    try:
        if not missing:
            check_model()
        more = [name for name in NEEDED if name not in held and name not in missing]
        return CloudWatch(stack, {name: read(name) for name in more}, source.sun())
    except S2cdError as e:
        if wanted:
            raise
        why = f"{' '.join(missing)} is missing" if missing else str(e)
        level = logging.INFO if missing else logging.WARNING
        logger.log(level, "%s: clouds are not looked for, since %s", source.name, why)
        return None


def _coarser(geobox: GeoBox) -> GeoBox:
    """A grid of 60 m pixels, or six times as large as given, over the same place."""
    height, width = (-(-size // _COARSER) for size in geobox.shape)
    return GeoBox((height, width), geobox.affine * Affine.scale(_COARSER), geobox.crs)


def _sun_over(stack: xr.DataArray) -> SunAngles | None:
    """Where the sun stood over the middle of a stack, where its time of sensing is known."""
    sensed = stack.attrs.get("SENSING_TIME")
    place = lattice_of(stack.odc.geobox)
    if sensed is None or place.latitude is None or place.longitude is None:
        return None
    return sun_at(datetime.fromisoformat(str(sensed)), place.latitude, place.longitude)
