"""Products of one date to one lazy stack and its QA band, on one UTM grid."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import NoOverlapError, S2cdError
from s2cd.scenes.aoi import NEAR, Aoi, Box, box_in, common, said_box
from s2cd.scenes.bands import DEFAULT_BANDS, band_names
from s2cd.scenes.decode import BandFile, Dn
from s2cd.scenes.defects import Defects, defects_of
from s2cd.scenes.grid import ground_extent, regrid, source_window, whole_offset
from s2cd.scenes.product import NODATA, SATURATED, Product, newest, open_product
from s2cd.scenes.reader import span
from s2cd.scenes.safe import RESAMPLING
from s2cd.scenes.stack import CHUNK, QA_FLAGS, SCALE, stack_array

logger = logging.getLogger(__name__)

Window = tuple[slice, slice]
_SATURATED_AS = np.float32(SATURATED * SCALE)
"""Reflectance of a saturated pixel, so that it is stored as 65535."""


@dataclass(frozen=True)
class Wanted:
    """What to make of products.

    Attributes:
        aoi: The area to cut to; None for all that the products cover.
        bands: In the order wanted; the ten at 10 m and 20 m by default.
        offset: RADIO_ADD_OFFSET in DN, in place of what the metadata says.
        resampling: How bands are brought to the 10 m grid, of `safe.RESAMPLING`.
    """

    aoi: Aoi | None = None
    bands: Sequence[str] | None = None
    offset: float | None = None
    resampling: str = RESAMPLING[0]


@dataclass(frozen=True)
class Layer:
    """Bands of one product as they appear on a grid; windows are rows and columns of that grid."""

    product: Product
    files: tuple[tuple[str, BandFile], ...]
    geobox: GeoBox
    resampling: str
    defects: Defects

    def meets(self, window: Window) -> bool:
        """Whether the product reaches into a window."""
        ys, xs = source_window(self.product.geobox, self.geobox, *window, around=0)
        return ys.stop > ys.start and xs.stop > xs.start

    def reflectance(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        """(band, rows, columns), NaN = no data; saturated pixels are 6.5535."""
        result = np.empty((len(bands), *_lengths(window)), np.float32)
        for number, band in enumerate(bands):
            name, file = self.files[band]
            units = self.product.offsets[name], self.product.quantification
            read = _reader(file, partial(_reflectance, units=units))
            result[number] = self._placed(file, read, window, self.resampling)
            self._keep_saturated(file, window, result[number])
        return result

    def flags(self, window: Window) -> NDArray[np.uint16]:
        """QA (rows, columns): observed where any band has data; saturated, defective if any is."""
        observed, saturated = (np.zeros(_lengths(window), bool) for _ in range(2))
        covered = self._covers(window)
        for _, file in self.files:
            if covered:  # exactly what lies under the window: no other block is decoded for it
                dn = file.read(*source_window(file.geobox, self.geobox, *window, around=0))
                if dn.min() > NODATA and dn.max() < SATURATED:
                    observed[:] = True
                    continue
            kinds = self._placed(file, _reader(file, _kinds), window, "nearest")
            observed |= kinds > 0
            saturated |= kinds > 1
        flags: NDArray[np.uint16] = observed * _bit("observed") | saturated * _bit("saturated")
        if self.defects:
            flags |= (self.defects.over(self.geobox, window) & observed) * _bit("defective")
        return flags

    def _keep_saturated(self, file: BandFile, window: Window, values: NDArray[np.float32]) -> None:
        """Set what resampling made of saturated pixels; flags are by nearest neighbour too."""
        if whole_offset(file.geobox, self.geobox) is not None:
            return
        dn = file.read(*source_window(file.geobox, self.geobox, *window, around=1))
        if dn.size and dn.max() == SATURATED:
            kinds = self._placed(file, _reader(file, _kinds), window, "nearest")
            values[kinds > 1] = _SATURATED_AS

    def _covers(self, window: Window) -> bool:
        """Whether a window lies within the product, on its own lattice."""
        offset = whole_offset(self.product.geobox, self.geobox)
        return offset is not None and all(
            side.start + at >= 0 and side.stop + at <= length
            for side, at, length in zip(window, offset, self.product.geobox.shape, strict=True)
        )

    def _placed(
        self, file: BandFile, read: Callable[..., Any], window: Window, resampling: str
    ) -> NDArray[np.float32]:
        offset = whole_offset(file.geobox, self.geobox)
        if offset is not None and self._covers(window):
            ys, xs = (
                slice(s.start + at, s.stop + at) for s, at in zip(window, offset, strict=True)
            )
            return read(ys, xs)[0]
        return regrid(read, (file.geobox, self.geobox), window, resampling)[0]


@dataclass(frozen=True)
class Mosaic:
    """Layers on one grid: each pixel is of the first that has data there."""

    layers: tuple[Layer, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width."""
        height, width = self.layers[0].geobox.shape
        return len(self.layers[0].files), height, width

    def reflectance(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        """(band, rows, columns), NaN = no data."""
        if len(self.layers) == 1:
            return self.layers[0].reflectance(window, bands)
        values = np.full((len(bands), *_lengths(window)), np.nan, np.float32)
        for layer, mine in self._shares(window):
            np.copyto(values, layer.reflectance(window, bands), where=mine > 0)
        return values

    def flags(self, window: Window) -> NDArray[np.uint16]:
        """QA (rows, columns)."""
        if len(self.layers) == 1:
            return self.layers[0].flags(window)
        flags = np.zeros(_lengths(window), np.uint16)
        for _, mine in self._shares(window):
            flags |= mine
        return flags

    def _shares(self, window: Window) -> Any:
        """The layers that meet a window, each with its flags where no earlier one has data."""
        free = np.ones(_lengths(window), bool)
        for layer in self.layers:
            if layer.meets(window) and free.any():
                mine = layer.flags(window) * free
                free &= mine == 0
                yield layer, mine


@dataclass(frozen=True)
class _Reflectance:
    """A mosaic seen as an array (band, y, x)."""

    mosaic: Mosaic

    ndim = 3
    dtype = np.dtype("float32")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.mosaic.shape

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[np.float32]:
        (ys, pick_ys), (xs, pick_xs) = span(key[1], self.shape[1]), span(key[2], self.shape[2])
        chosen = np.arange(self.shape[0])[key[0]]
        bands = [int(band) for band in np.atleast_1d(chosen)]
        picked = self.mosaic.reflectance((ys, xs), bands)[:, pick_ys][..., pick_xs]
        return picked[0] if chosen.ndim == 0 else picked


@dataclass(frozen=True)
class _Flags:
    """The QA of a mosaic seen as an array (y, x)."""

    mosaic: Mosaic

    ndim = 2
    dtype = np.dtype("uint16")

    @property
    def shape(self) -> tuple[int, int]:
        return self.mosaic.shape[1:]

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.uint16]:
        (ys, pick_ys), (xs, pick_xs) = span(key[0], self.shape[0]), span(key[1], self.shape[1])
        return self.mosaic.flags((ys, xs))[pick_ys][..., pick_xs]


def open_date(paths: Sequence[Path], wanted: Wanted) -> tuple[list[Product], GeoBox]:
    """The products of one date that matter, and the grid for them; no pixel is read.

    Of one datatake and tile only the highest baseline stays, and with an AOI only what meets it.

    Args:
        paths: ``.SAFE`` folders, their zips, or folders that hold the same files.
        wanted: What to make of them.

    Raises:
        S2cdError: where a product cannot be read, or the dates differ.
        NoOverlapError: where no product meets the AOI.
    """
    products = newest([open_product(path, wanted.offset) for path in paths])
    days = sorted({f"{product.sensed:%Y-%m-%d}" for product in products})
    if len(days) > 1:
        raise S2cdError(
            f"The products are of several dates ({', '.join(days)}). Make one stack of each date"
        )
    if wanted.aoi is not None:
        products = _within(products, wanted.aoi)
    return products, joint_grid([product.geobox for product in products], wanted.aoi)


def stack_of(
    products: Sequence[Product], geobox: GeoBox, wanted: Wanted
) -> tuple[xr.DataArray, xr.DataArray]:
    """Products as a stack on a grid and its QA band, both lazy.

    Each pixel is of the first product that has data there. Reflectance is (DN + offset) /
    quantification, and DN 0 is no data, before the offset.

    Args:
        products: Of one date, the one that comes first where several have data.
        geobox: The grid, in any CRS and of any pixel size.
        wanted: Bands and resampling.

    Returns:
        Reflectance (band, y, x), float32, NaN = no data, with tags as attributes; and bit flags
        (y, x), uint16, of `QA_FLAGS`: observed, saturated and defective.

    Raises:
        S2cdError: where the file of a band is missing, or not what the metadata says.
    """
    import dask.array as da

    if wanted.resampling not in RESAMPLING:
        raise S2cdError(
            f"{wanted.resampling!r} is no resampling. Name one of {', '.join(RESAMPLING)}"
        )
    bands = DEFAULT_BANDS if wanted.bands is None else band_names(wanted.bands)
    layers = tuple(
        Layer(
            p,
            tuple((name, p.open_file(name)) for name in bands),
            geobox,
            wanted.resampling,
            defects_of(p, bands),
        )
        for p in products
    )
    mosaic = Mosaic(layers)
    name = f"products-{_token(mosaic)}"
    options = {"asarray": False, "inline_array": True}
    stack = da.from_array(
        _Reflectance(mosaic),
        chunks=(-1, CHUNK, CHUNK),
        name=name,
        meta=np.empty((0, 0, 0), np.float32),
        **options,
    )
    flags = da.from_array(
        _Flags(mosaic),
        chunks=(CHUNK, CHUNK),
        name=f"{name}-qa",
        meta=np.empty((0, 0), np.uint16),
        **options,
    )
    labelled = stack_array(stack, geobox, bands)
    labelled.attrs = _tags(products, wanted)
    qa = stack_array(flags[None], geobox, ["QA"])[0].drop_vars("band")
    return labelled, qa


def _within(products: list[Product], aoi: Aoi) -> list[Product]:
    """The products that meet an AOI."""
    meeting = [p for p in products if aoi.area_in(p.geobox) > 0]
    if not meeting:
        extents = "; ".join(f"{p.name}: {ground_extent(p.geobox)}" for p in products)
        raise NoOverlapError(
            f"The AOI {aoi.name} ({aoi.extent}) lies outside the product ({extents}). "
            "Name a product of its tile"
        )
    for product in products:
        if product not in meeting:
            logger.info("%s is left out: it does not meet the AOI", product.name)
    return meeting


def joint_grid(grids: Sequence[GeoBox], aoi: Aoi | None) -> GeoBox:
    """One 10 m grid for several, cut to an AOI: in the UTM zone that covers most.

    Raises:
        NoOverlapError: where they do not meet the AOI.
    """
    if aoi is None and len(grids) == 1:
        return grids[0]
    covered: dict[Any, float] = {}
    for grid in grids:
        area = float(np.prod(grid.shape)) * 100 if aoi is None else aoi.area_in(grid)
        covered[grid.crs] = covered.get(grid.crs, 0) + area
    crs = max(covered, key=lambda zone: covered[zone])
    boxes = [box_in(grid, crs) for grid in grids]
    west, south, east, north = zip(*boxes, strict=True)
    whole = Box(min(west), min(south), max(east), max(north))
    if aoi is not None:
        whole = common(whole, aoi.box_in(crs, grids))
    anchor = next(grid for grid in grids if grid.crs == crs).affine
    return _snapped(whole, crs, (anchor.c, anchor.f))


def _snapped(box: Box, crs: Any, anchor: tuple[float, float]) -> GeoBox:
    """The grid of 10 m pixels, on a lattice with a corner at ``anchor``, that holds a box."""
    left, bottom = (
        np.floor((at - zero) / 10 + NEAR)
        for at, zero in zip((box.west, box.south), anchor, strict=True)
    )
    right, top = (
        np.ceil((at - zero) / 10 - NEAR)
        for at, zero in zip((box.east, box.north), anchor, strict=True)
    )
    if right <= left or top <= bottom:
        raise NoOverlapError(f"Nothing of the area is left ({said_box(box)}). Name a larger one")
    corner = anchor[0] + 10 * left, anchor[1] + 10 * top
    return GeoBox(
        (int(top - bottom), int(right - left)), Affine(10, 0, corner[0], 0, -10, corner[1]), crs
    )


def _tags(products: Sequence[Product], wanted: Wanted) -> dict[str, str]:
    first = products[0]
    offsets = sorted({f"{value:g}" for p in products for value in p.offsets.values()})
    tags = {
        "PRODUCT": ", ".join(product.name for product in products),
        "SENSING_TIME": f"{first.sensed:%Y-%m-%dT%H:%M:%SZ}",
        "PROCESSING_BASELINE": ", ".join(dict.fromkeys(p.baseline for p in products)),
        "RELATIVE_ORBIT": ", ".join(dict.fromkeys(str(p.orbit) for p in products)),
        "RADIO_ADD_OFFSET": ", ".join(offsets),
        "SUN_ZENITH": f"{first.sun_zenith:.3f}",
        "SUN_AZIMUTH": f"{first.sun_azimuth:.3f}",
    }
    if wanted.aoi is not None:
        tags["AOI"] = f"{wanted.aoi.name} ({wanted.aoi.extent})"
    return tags


def _token(mosaic: Mosaic) -> str:
    from dask.base import tokenize

    parts = [
        (
            layer.files,
            dict(layer.product.offsets),
            layer.product.quantification,
            layer.resampling,
            [polygon.wkb for polygon in layer.defects.polygons],
            layer.defects.rasters,
        )
        for layer in mosaic.layers
    ]
    geobox = mosaic.layers[0].geobox
    return str(tokenize(repr(parts), geobox.shape, tuple(geobox.affine), str(geobox.crs)))


def _reader(file: BandFile, seen_as: Callable[[Dn], Any]) -> Callable[[slice, slice], Any]:
    return lambda ys, xs: seen_as(file.read(ys, xs))[None]


def _reflectance(dn: Dn, units: tuple[float, float]) -> NDArray[np.float32]:
    """Reflectance of DN, by their offset and quantification."""
    offset, quantification = units
    values = dn.astype(np.float32)
    if offset:
        values += np.float32(offset)
    values *= np.float32(1 / quantification)
    if dn.size and dn.min() == NODATA:
        values[dn == NODATA] = np.nan
    if dn.size and dn.max() == SATURATED:
        values[dn == SATURATED] = _SATURATED_AS
    return values


def _kinds(dn: Dn) -> NDArray[np.float32]:
    """NaN = no data, 1 = observed, 2 = saturated."""
    kinds = np.where(dn == SATURATED, np.float32(2), np.float32(1))
    kinds[dn == NODATA] = np.nan
    return kinds


def _bit(name: str) -> np.uint16:
    return np.uint16(QA_FLAGS[name])


def _lengths(window: Window) -> tuple[int, int]:
    return window[0].stop - window[0].start, window[1].stop - window[1].start
