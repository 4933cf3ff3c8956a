"""What a Level-1C product's XML says: MTD_MSIL1C.xml of the product, MTD_TL.xml of its tile."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.scenes.bands import BANDS

MOST_XML = 32 << 20
"""Bytes of XML that are read: the tile's metadata of a full tile takes about 1 MB."""
_DEEPEST = 100
_MOST_ELEMENTS = 300_000
"""With their attributes: a mask of 10 000 clouds has 110 000."""
_LARGEST = 20_000
"""Pixels at a side; a tile has 10980."""
_NAME = re.compile(
    r"(?P<unit>S2[A-Z])_MSI(?P<level>L\w\w)_(?P<sensed>\d{8}T\d{6})(?:_N(?P<baseline>\d{4}))?"
    r"_R(?P<orbit>\d{3})_T(?P<tile>\d{2}[A-Z]{3})_(?P<made>\d{8}T\d{6})"
)
_SINCE_OFFSET = 4.0
"""The processing baseline since which RADIO_ADD_OFFSET is -1000 (Sentinel-2 products
specification, 14.9: every band, every product of it, whenever sensed)."""


@dataclass(frozen=True)
class ProductFacts:
    """Of the whole product.

    Attributes:
        name: ``S2A_MSIL1C_…`` without an ending.
        datatake: What the satellite took in one go, without the processing baseline.
        sensed: When that began; the time in the names of the product and of its bands.
        made: When it was processed, as ESA writes it.
        baseline: Of the processing, such as ``05.00``.
        orbit: Relative orbit number.
        offsets: RADIO_ADD_OFFSET by band.
        quantification: DN of a reflectance of 1, once the offset is added.
        assumed: What the XML does not say and was told from the name; empty where it says all.
    """

    name: str
    datatake: str
    sensed: datetime
    made: str
    baseline: str
    orbit: int
    offsets: Mapping[str, float]
    quantification: float
    assumed: str


@dataclass(frozen=True)
class TileFacts:
    """Of the tile.

    Attributes:
        tile: Such as ``43QBF``.
        grids: By the size of the pixels in metres.
        sun_zenith: Mean, in degrees.
        sun_azimuth: Mean, in degrees clockwise from north.
    """

    tile: str
    grids: Mapping[int, GeoBox]
    sun_zenith: float
    sun_azimuth: float


def offset_by_name(name: str) -> float | None:
    """RADIO_ADD_OFFSET by the baseline ``_Nxxxx_`` in a product's name; None where it has none."""
    match = _NAME.search(name)
    if match is None or match["baseline"] is None:
        return None
    return -1000.0 if int(match["baseline"]) / 100 >= _SINCE_OFFSET else 0.0


def read_product_xml(content: bytes, said: str, folder: str) -> ProductFacts:
    """What MTD_MSIL1C.xml says.

    Args:
        content: The file.
        said: Its name in messages.
        folder: Name of the product's folder, for what the XML lacks.

    Raises:
        S2cdError: where it is no such XML, or of another level or mission.
    """
    root = parse_xml(content, said)
    _check_kind(root, said)
    uri = _text(root, "PRODUCT_URI") or folder
    match = _NAME.search(uri) or _NAME.search(folder)
    named = match.groupdict() if match else {}
    baseline = _text(root, "PROCESSING_BASELINE") or _dotted(named.get("baseline"))
    offsets, assumed = _offsets(root, baseline, said)
    start = _text(root, "DATATAKE_SENSING_START") or _text(root, "PRODUCT_START_TIME")
    sensed = _time(start or named.get("sensed") or "", said)
    datatake = root.find(".//Datatake")
    taken = "" if datatake is None else datatake.get("datatakeIdentifier", "")
    quantification = _number(root, "QUANTIFICATION_VALUE", said)
    if not 1 <= quantification <= 1e6:
        raise S2cdError(f"{said}: QUANTIFICATION_VALUE is {quantification:g}. Fetch it again")
    return ProductFacts(
        name=re.sub(r"\.SAFE$", "", uri),
        datatake=re.sub(r"_N\d\d\.\d\d$", "", taken) or f"{sensed:%Y%m%dT%H%M%S}",
        sensed=sensed,
        made=named.get("made") or _text(root, "GENERATION_TIME"),
        baseline=baseline,
        orbit=int(_number(root, "SENSING_ORBIT_NUMBER", said)),
        offsets=offsets,
        quantification=quantification,
        assumed=assumed,
    )


def read_tile_xml(content: bytes, said: str) -> TileFacts:
    """What MTD_TL.xml says.

    Raises:
        S2cdError: where it is no such XML, or places the tile nowhere.
    """
    root = parse_xml(content, said)
    code = _text(root, "HORIZONTAL_CS_CODE")
    tile = re.search(r"_T(\d{2}[A-Z]{3})(?:_|$)", _text(root, "TILE_ID"))
    if not re.fullmatch(r"EPSG:32[67](0[1-9]|[1-5]\d|60)", code, re.IGNORECASE) or tile is None:
        raise S2cdError(f"{said} names no tile in a UTM zone ({code or 'no CRS'}). Fetch it again")
    grids = {metres: _grid(root, metres, code, said) for metres in (10, 20, 60)}
    sun = root.find(".//Mean_Sun_Angle")
    if sun is None:
        raise S2cdError(f"{said} has no Mean_Sun_Angle. Fetch it again")
    zenith, azimuth = (_number(sun, name, said) for name in ("ZENITH_ANGLE", "AZIMUTH_ANGLE"))
    return TileFacts(tile[1], grids, zenith, azimuth)


def parse_xml(content: bytes, said: str) -> Element:
    """The root of an XML document without a document type: none is declared, nothing expands.

    Raises:
        S2cdError: where it is no XML, declares a document type or entities, nests too deep, or has
            more elements than any.
    """
    tree, parser = _Tree(said), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = tree.start, tree.end
    parser.CharacterDataHandler = tree.builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = tree.refuse
    try:
        parser.Parse(content, True)
        return tree.builder.close()
    except (expat.ExpatError, ValueError, LookupError) as e:
        raise S2cdError(f"{said} is no whole XML: {one_line(e)}. Fetch it again") from e


class _Tree:
    """Elements as they come, no deeper and no more than any product has."""

    def __init__(self, said: str) -> None:
        self.builder, self._said = TreeBuilder(), said
        self._depth = self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth, self._count = self._depth + 1, self._count + 1 + len(attributes)
        if self._depth > _DEEPEST:
            raise S2cdError(f"{self._said} nests its elements too deep. Fetch it again")
        if self._count > _MOST_ELEMENTS:
            raise S2cdError(f"{self._said} has too many elements. Fetch it again")
        self.builder.start(name, attributes)

    def end(self, name: str) -> None:
        self._depth -= 1
        self.builder.end(name)

    def refuse(self, *_: object) -> NoReturn:
        raise S2cdError(
            f"{self._said} declares a document type or an entity, as no product does. "
            "Fetch the product from where you trust it"
        )


def _check_kind(root: Element, said: str) -> None:
    level, craft = _text(root, "PROCESSING_LEVEL"), _text(root, "SPACECRAFT_NAME")
    if level != "Level-1C":
        raise S2cdError(
            f"{said} is of {level or 'no level'}, not Level-1C. Fetch the product of type S2MSI1C"
        )
    if not craft.startswith("Sentinel-2"):
        raise S2cdError(f"{said} is of {craft or 'no mission'}, not Sentinel-2. Fetch another")


def _offsets(root: Element, baseline: str, said: str) -> tuple[dict[str, float], str]:
    """RADIO_ADD_OFFSET by band, and what was assumed."""
    names = list(BANDS)
    values: dict[str, float] = {}
    for element in root.iter("RADIO_ADD_OFFSET"):
        number = element.get("band_id", "")
        if not re.fullmatch(r"\d|1[0-2]", number):
            raise S2cdError(f"{said} has an offset of a band {number!r}. Fetch it again")
        values[names[int(number)]] = _finite(element.text, "RADIO_ADD_OFFSET", said)
    if values:
        if missing := [name for name in names if name not in values]:
            raise S2cdError(
                f"{said} has no RADIO_ADD_OFFSET of {', '.join(missing)}. Fetch it anew"
            )
        return values, ""
    try:
        since = float(baseline) >= _SINCE_OFFSET
    except ValueError as e:
        raise S2cdError(
            f"{said} names neither offsets nor a processing baseline. Fetch the product again"
        ) from e
    assumed = f"assumed: offset -1000, as in every product of baseline {baseline}" if since else ""
    return dict.fromkeys(names, -1000.0 if since else 0.0), assumed


def _grid(root: Element, metres: int, code: str, said: str) -> GeoBox:
    from affine import Affine

    size = root.find(f".//Size[@resolution='{metres}']")
    place = root.find(f".//Geoposition[@resolution='{metres}']")
    if size is None or place is None:
        raise S2cdError(f"{said} does not say where its {metres} m pixels lie. Fetch it again")
    rows, columns = (_number(size, name, said) for name in ("NROWS", "NCOLS"))
    west, north = (_number(place, name, said) for name in ("ULX", "ULY"))
    steps = [_number(place, name, said) for name in ("XDIM", "YDIM")]
    if steps != [metres, -metres] or max(abs(west), abs(north)) > 2e7:
        raise S2cdError(f"{said} places its {metres} m pixels nowhere. Fetch it again")
    if not all(1 <= side <= _LARGEST and side == int(side) for side in (rows, columns)):
        raise S2cdError(f"{said} claims {columns:g} x {rows:g} pixels. Fetch it again")
    return GeoBox((int(rows), int(columns)), Affine(metres, 0, west, 0, -metres, north), code)


def _text(root: Element, name: str) -> str:
    return (root.findtext(f".//{name}") or "").strip()


def _number(root: Element, name: str, said: str) -> float:
    return _finite(_text(root, name), name, said)


def _finite(text: str | None, name: str, said: str) -> float:
    try:
        value = float((text or "").strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise S2cdError(f"{said} has no number as {name}: {(text or '')[:40]!r}. Fetch it again")
    return value


def _time(text: str, said: str) -> datetime:
    digits = re.sub(r"\D", "", text)[:14]
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as e:
        raise S2cdError(f"{said} has no sensing time: {text[:40]!r}. Fetch it again") from e


def _dotted(baseline: str | None) -> str:
    return f"{baseline[:2]}.{baseline[2:]}" if baseline else ""
