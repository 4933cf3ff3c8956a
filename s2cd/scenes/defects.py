"""Which pixels a product itself says were lost, degraded or are of defective detectors.

Baselines before 04.00 hold them as polygons (MSK_TECQUA, MSK_DEFECT), later ones as rasters
(MSK_QUALIT). Source: Sentinel-2 products specification document, annex on quality masks.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS
from s2cd.scenes.codestream import tile_codes
from s2cd.scenes.decode import BandFile, mask_handle, open_mask
from s2cd.scenes.grid import regrid
from s2cd.scenes.metadata import MOST_XML, parse_xml
from s2cd.scenes.product import Product

_POLYGONS = re.compile(
    r"MSK_(?:DEFECT|TECQUA)_(B\d[\dA])\.gml|.*_MSK_(?:DEFECT|TECQUA)_.*_(B\d[\dA])_.*\.gml"
)
_RASTER = re.compile(r"MSK_QUALIT_(B\d[\dA])\.jp2")
_KINDS = ("MSI_LOST", "MSI_DEG", "QT_DEFECTIVE_PIXELS")
"""What makes a pixel defective: lost or degraded image packets, or its detector. Lost ancillary
packets, saturation and no data are other things."""
_LAYERS = (3, 4, 5)
"""The same, as layers of MSK_QUALIT."""
_MOST_MASK = 64 << 20
_MOST_POINTS = 1_000_000
_MOST_POLYGONS = 100_000

Window = tuple[slice, slice]


@dataclass(frozen=True)
class MaskFile(BandFile):
    """A raster of quality flags: 1 = defective. Tiles that are known to be clear are not decoded.

    Attributes:
        flagged: Row and column of the tiles that hold a defective pixel.
    """

    flagged: frozenset[tuple[int, int]]

    def _decode(self, row: int, column: int) -> NDArray[np.uint16]:
        height, width = self.geobox.shape
        top, left = row * self.block[0], column * self.block[1]
        size = min(self.block[0], height - top), min(self.block[1], width - left)
        if (row, column) not in self.flagged:
            return np.zeros(size, np.uint16)
        layers = mask_handle(
            self, _LAYERS, (slice(top, top + size[0]), slice(left, left + size[1]))
        )
        return (layers != 0).any(axis=0).astype(np.uint16)


@dataclass(frozen=True)
class Defects:
    """Of some bands of a product.

    Attributes:
        polygons: In the CRS of the product.
        rasters: Only those that hold a defective pixel.
        crs: Of the polygons.
    """

    polygons: tuple[Any, ...]
    rasters: tuple[MaskFile, ...]
    crs: Any

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.polygons or self.rasters)

    def over(self, geobox: GeoBox, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window of a grid are defective in any of the bands."""
        found = self._burned(geobox, window)
        for raster in self.rasters:
            read = lambda ys, xs, raster=raster: raster.read(ys, xs)[None].astype(np.float32)  # noqa: E731
            found |= regrid(read, (raster.geobox, geobox), window, "nearest")[0] > 0
        return found

    def _burned(self, geobox: GeoBox, window: Window) -> NDArray[np.bool_]:
        from rasterio.features import rasterize

        ys, xs = window
        shape = (ys.stop - ys.start, xs.stop - xs.start)
        if not self.polygons:
            return np.zeros(shape, np.bool_)
        import shapely

        block, polygons = geobox[window], self._placed(geobox)
        near = shapely.intersects(polygons, shapely.box(*block.extent.boundingbox))
        shapes = [(polygon, 1) for polygon in polygons[near]]
        if not shapes:
            return np.zeros(shape, np.bool_)
        burned = rasterize(shapes, shape, transform=block.affine, all_touched=True, dtype="uint8")
        return np.asarray(burned > 0)

    def _placed(self, geobox: GeoBox) -> NDArray[Any]:
        """The polygons in the CRS of a grid."""
        import shapely

        polygons = np.array(self.polygons)
        if geobox.crs == self.crs:
            return polygons
        transform = self.crs.transformer_to_crs(geobox.crs)
        return shapely.transform(polygons, lambda at: np.column_stack(transform(*at.T)))


def defects_of(product: Product, bands: Sequence[str]) -> Defects:
    """What a product says of its pixels; nothing where it holds no such masks.

    Raises:
        S2cdError: where a mask cannot be read or believed.
    """
    polygons: list[Any] = []
    rasters: list[MaskFile] = []
    for name in sorted(product.archive.sizes):
        file = PurePosixPath(name)
        if match := _POLYGONS.fullmatch(file.name):
            if (match[1] or match[2]) in bands:
                polygons += _polygons(product, name)
        elif (match := _RASTER.fullmatch(file.name)) and match[1] in bands:
            raster = _raster(product, name, match[1])
            rasters += [raster] if raster.flagged else []
    return Defects(tuple(polygons), tuple(rasters), product.geobox.crs)


def _polygons(product: Product, name: str) -> list[Any]:
    """The polygons of lost, degraded or defective pixels in a file of GML."""
    said = product.archive.said(name)
    root = parse_xml(product.archive.read(name, MOST_XML), said)
    found = []
    for feature in _below(root, "MaskFeature"):
        kinds = {(element.text or "").strip() for element in _below(feature, "maskType")}
        if kinds & set(_KINDS):
            found += [_polygon(polygon, said) for polygon in _below(feature, "Polygon")]
        if len(found) > _MOST_POLYGONS:
            raise S2cdError(f"{said} holds too many polygons to be true. Fetch the product again")
    return found


def _polygon(element: Element, said: str) -> Any:
    import shapely

    rings = [_ring(ring, said) for ring in _below(element, "posList")]
    if not rings:
        raise S2cdError(f"{said} holds a polygon without a ring. Fetch the product again")
    return shapely.Polygon(rings[0], rings[1:])


def _ring(element: Element, said: str) -> NDArray[np.float64]:
    """Corners (n, 2) of a posList."""
    size = element.get("srsDimension", "2")
    if size not in ("2", "3"):
        raise S2cdError(f"{said} holds a ring that is none. Fetch the product again")
    words = (element.text or "").split()
    try:
        if len(words) > _MOST_POINTS:
            raise ValueError("too many points")
        values = np.array([float(word) for word in words])
        corners = values.reshape(-1, int(size))[:, :2]
    except ValueError as e:
        raise S2cdError(f"{said} holds a ring that is none. Fetch the product again") from e
    if len(corners) < 4 or not np.isfinite(corners).all():
        raise S2cdError(f"{said} holds a ring that is none. Fetch the product again")
    return corners


def _below(root: Element, name: str) -> Iterator[Element]:
    """Elements of a name, whatever prefix their namespace has."""
    return (e for e in root.iter() if e.tag.rpartition(":")[2] == name)


def _raster(product: Product, name: str, band: str) -> MaskFile:
    """A raster of flags; of tiles that are coded alike one is decoded to know all."""
    archive, grid = product.archive, product.grids[BANDS[band].resolution]
    said = archive.said(name)
    container = archive.path if archive.zipped else archive.path / name
    plain = open_mask(archive.gdal_name(name), said, container, grid)
    codes = tile_codes(archive.read(name, _MOST_MASK), said)
    count = [-(-size // side) for size, side in zip(grid.shape, codes.size, strict=True)]
    blocks = [-(-size // side) for size, side in zip(grid.shape, plain.block, strict=True)]
    everywhere = frozenset(np.ndindex(*blocks))
    whole = MaskFile(plain.source, said, grid, plain.block, plain.version, everywhere)
    tiles = codes.columns, len(codes.digests)
    if codes.size != plain.block or tiles != (count[1], count[0] * count[1]):
        return whole  # one large tile, which GDAL shows in blocks: decoded where asked for
    known: dict[Any, bool] = {}
    flagged = set()
    for number, digest in enumerate(codes.digests):
        row, column = divmod(number, codes.columns)
        key = digest, row == count[0] - 1, column == count[1] - 1
        if key not in known:
            known[key] = bool(whole._decode(row, column).any())
        if known[key]:
            flagged.add((row, column))
    return MaskFile(plain.source, said, grid, plain.block, plain.version, frozenset(flagged))
