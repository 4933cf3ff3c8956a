"""A Level-1C product: a ``.SAFE`` folder, its zip, or a folder that holds the same files."""

import logging
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.remote import Remote
from s2cd.scenes.archive import Archive, open_archive
from s2cd.scenes.bands import BANDS, band_of_file
from s2cd.scenes.decode import BandFile, open_band
from s2cd.scenes.metadata import MOST_XML, ProductFacts, read_product_xml, read_tile_xml

logger = logging.getLogger(__name__)

NODATA, SATURATED = 0, 65535
"""DN of no data and of a saturated pixel (`Special_Values`): the same in every L1C product."""
_PRODUCT_XML = re.compile(r"MTD_MSIL1C\.xml|S2[A-Z]_OPER_MTD_SAFL1C_.*\.xml")
_TILE_XML = re.compile(r"MTD_TL\.xml|S2[A-Z]_OPER_MTD_L1C_TL_.*\.xml")
_OTHER_XML = re.compile(r"MTD_MSIL(2A|1B)\.xml|S2[A-Z]_USER_MTD_SAFL2A_.*\.xml")
_SUFFIXES = (".jp2", ".tif")


@dataclass(frozen=True)
class Product:
    """One tile of one datatake.

    Attributes:
        path: The folder or zip.
        name: ``S2A_MSIL1C_…`` without an ending.
        datatake: What the satellite took in one go, without the processing baseline.
        sensed: When that began, in UTC.
        made: When the product was processed, as ESA writes it.
        baseline: Of the processing, such as ``05.00``.
        orbit: Relative orbit number.
        tile: Such as ``43QBF``.
        offsets: RADIO_ADD_OFFSET by band: reflectance = (DN + offset) / quantification.
        quantification: See ``offsets``.
        grids: By the size of the pixels in metres: 10, 20 and 60.
        sun_zenith: Mean over the tile, in degrees.
        sun_azimuth: Mean over the tile, in degrees clockwise from north.
        archive: Its files.
        bands: Name in the archive of the file of each band that is there; see `open_file`.
    """

    path: Path
    name: str
    datatake: str
    sensed: datetime
    made: str
    baseline: str
    orbit: int
    tile: str
    offsets: Mapping[str, float]
    quantification: float
    grids: Mapping[int, GeoBox]
    sun_zenith: float
    sun_azimuth: float
    archive: Archive
    bands: Mapping[str, str]

    @property
    def geobox(self) -> GeoBox:
        """The grid of its 10 m bands."""
        return self.grids[10]

    def open_file(self, band: str) -> BandFile:
        """The file of a band, checked against the metadata; no pixel of it is read.

        Raises:
            S2cdError: where it is missing, cut short, or not what MTD_TL.xml says.
        """
        grid = self.grids[BANDS[band].resolution]
        name = self.bands.get(band)
        if name is None:
            raise S2cdError(f"{self.archive.said(self._expected(band))} is missing. Fetch it again")
        said = self.archive.said(name)
        if name.endswith(".jp2"):
            _check_whole(self.archive, name)
        container = self.archive.path if self.archive.zipped else self.archive.path / name
        return open_band(self.archive.gdal_name(name), said, container, grid)

    def _expected(self, band: str) -> str:
        """The name that the file of a band would have."""
        if not self.bands:
            return f"IMG_DATA/…_{band}.jp2"
        other, name = next(iter(self.bands.items()))
        return f"{band}.jp2".join(name.rsplit(f"{other}{PurePosixPath(name).suffix}", 1))


def product_at(path: Path) -> Path | None:
    """The folder or zip of the product that ``path`` names or lies in; None where it is none."""
    if isinstance(path, Remote):
        return None
    if path.is_file():
        if _PRODUCT_XML.fullmatch(path.name):
            return path.parent
        return path if path.suffix.lower() == ".zip" else None
    absolute = path.absolute()
    for folder in (absolute, *absolute.parents[:3]):
        if folder.is_dir() and any(_PRODUCT_XML.fullmatch(f.name) for f in folder.iterdir()):
            return path if folder == absolute else folder
    return path if path.is_dir() and (_is_safe(path) or any(path.glob("*.SAFE"))) else None


def open_product(path: Path, offset: float | None = None) -> Product:
    """A Level-1C product; its metadata is read, and no pixel.

    Args:
        path: A ``.SAFE`` folder, its zip, or a folder that holds the same files.
        offset: RADIO_ADD_OFFSET in DN, in place of the metadata's.

    Raises:
        S2cdError: where it is no such product, or its metadata cannot be believed.
    """
    archive = open_archive(path)
    product_xml = _product_xml(archive)
    root = str(PurePosixPath(product_xml).parent)
    folder = path.resolve().name if root == "." else PurePosixPath(root).name
    said = archive.said(product_xml)
    facts = read_product_xml(archive.read(product_xml, MOST_XML), said, folder)
    if facts.assumed and offset is None:
        logger.info("%s: %s", facts.name, facts.assumed)
    tile_xml = _tile_xml(archive, root)
    tile = read_tile_xml(archive.read(tile_xml, MOST_XML), archive.said(tile_xml))
    return Product(
        path=path,
        name=facts.name,
        datatake=facts.datatake,
        sensed=facts.sensed,
        made=facts.made,
        baseline=facts.baseline,
        orbit=facts.orbit,
        tile=tile.tile,
        offsets=_offsets(facts, offset),
        quantification=facts.quantification,
        grids=tile.grids,
        sun_zenith=tile.sun_zenith,
        sun_azimuth=tile.sun_azimuth,
        archive=archive,
        bands=_band_names(archive, str(PurePosixPath(tile_xml).parent)),
    )


def newest(products: Sequence[Product]) -> list[Product]:
    """The products without those that another one replaces: datatake and tile, higher baseline."""
    best: dict[tuple[str, str], Product] = {}
    for product in products:
        key = (product.datatake, product.tile)
        if key not in best:
            best[key] = product
            continue
        old, new = sorted((best[key], product), key=lambda p: (p.baseline, p.made))
        logger.info("%s is left out: %s is the same in a later baseline", old.name, new.name)
        best[key] = new
    return list(best.values())


def _is_safe(path: Path) -> bool:
    return path.suffix.upper() == ".SAFE" or (path / "manifest.safe").is_file()


def _offsets(facts: ProductFacts, offset: float | None) -> Mapping[str, float]:
    return facts.offsets if offset is None else dict.fromkeys(BANDS, offset)


def _product_xml(archive: Archive) -> str:
    found = [name for name in archive.sizes if _PRODUCT_XML.fullmatch(PurePosixPath(name).name)]
    shallowest = min((name.count("/") for name in found), default=0)
    if len(found := [name for name in found if name.count("/") == shallowest]) == 1:
        return found[0]
    if found:
        said = ", ".join(sorted(str(PurePosixPath(name).parent) for name in found)[:4])
        raise S2cdError(f"{archive.path} holds several products ({said}). Name each by itself")
    for name in archive.sizes:
        if match := _OTHER_XML.fullmatch(PurePosixPath(name).name):
            level = match[1] or "2A"
            raise S2cdError(
                f"{archive.path} is a Level-{level} product ({name}). Fetch the Level-1C one: "
                "its name has MSIL1C"
            )
    raise S2cdError(
        f"{archive.path} is no Sentinel-2 Level-1C product: it has no MTD_MSIL1C.xml. Fetch it "
        "again, or name a folder of band files"
    )


def _tile_xml(archive: Archive, root: str) -> str:
    """The name of the tile's metadata, below the folder that holds the product's."""
    start = "" if root == "." else f"{root}/"
    found = [
        name
        for name in archive.sizes
        if name.startswith(start) and _TILE_XML.fullmatch(PurePosixPath(name).name)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise S2cdError(
            f"{archive.path} holds {len(found)} tiles, as products before December 2016 did. "
            "Fetch the product of your tile, processed anew (Collection-1)"
        )
    raise S2cdError(
        f"{archive.said(start + 'GRANULE/…/MTD_TL.xml')} is missing. Fetch the product again"
    )


def _band_names(archive: Archive, granule: str) -> dict[str, str]:
    """Name of the file of each band, from IMG_DATA alone, or beside MTD_TL.xml without one."""
    start = "" if granule == "." else f"{granule}/"
    inside = {f"{start}IMG_DATA", f"{start}IMG_DATA/"}
    names = [name for name in archive.sizes if str(PurePosixPath(name).parent) in inside]
    if not names:
        names = [name for name in archive.sizes if str(PurePosixPath(name).parent) == granule]
    bands: dict[str, str] = {}
    for name in sorted(names):
        file = PurePosixPath(name)
        band = band_of_file(file.stem) if file.suffix in _SUFFIXES else None
        if band is None:
            continue
        if band in bands:
            raise S2cdError(
                f"{archive.path} holds band {band} twice: {bands[band]} and {name}. Fetch it again"
            )
        bands[band] = name
    return {band: bands[band] for band in BANDS if band in bands}


def _check_whole(archive: Archive, name: str) -> None:
    """Refuse a JPEG 2000 file that ends before its codestream does.

    The boxes of a JP2 file are walked: ISO/IEC 15444-1, annex I.4; the end of a codestream is the
    marker FF D9, annex A.4.4. OpenJPEG may take what is missing for zero.
    """
    size, length = archive.sizes[name], 1 << 16
    head = archive.head(name, length)
    at = 0
    while at + 16 <= len(head):
        box, kind = struct.unpack_from(">I4s", head, at)
        box = struct.unpack_from(">Q", head, at + 8)[0] if box == 1 else box
        if kind == b"jp2c":
            if box == 0 and not archive.zipped:
                _check_end(archive, name)
            if at + box <= size:
                return
            break
        if box < 8:
            break
        at += box
    else:
        if at < size and at + 16 > length:
            return  # boxes before the codestream that are longer than any known: GDAL will tell
    raise S2cdError(
        f"{archive.said(name)} is cut short or damaged: it has {size} bytes. Fetch it again"
    )


def _check_end(archive: Archive, name: str) -> None:
    with (archive.path / name).open("rb") as file:
        file.seek(-min(2, archive.sizes[name]), 2)
        if file.read(2) != b"\xff\xd9":
            raise S2cdError(f"{archive.said(name)} is cut short: it does not end. Fetch it again")
