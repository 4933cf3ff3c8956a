"""The bands of Sentinel-2's MultiSpectral Instrument and the names people give them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from s2cd.errors import S2cdError


@dataclass(frozen=True)
class Band:
    """One band: ESA's name, its STAC common name, centre wavelength (nm) and pixel size (m).

    Wavelengths are those of Sentinel-2A in the Sentinel-2 MSI technical guide.
    """

    name: str
    common: str
    wavelength: float
    resolution: int


_TABLE = (
    Band("B01", "coastal", 442.7, 60),
    Band("B02", "blue", 492.7, 10),
    Band("B03", "green", 559.8, 10),
    Band("B04", "red", 664.6, 10),
    Band("B05", "rededge071", 704.1, 20),
    Band("B06", "rededge075", 740.5, 20),
    Band("B07", "rededge078", 782.8, 20),
    Band("B08", "nir", 832.8, 10),
    Band("B8A", "nir08", 864.7, 20),
    Band("B09", "nir09", 945.1, 60),
    Band("B10", "cirrus", 1373.5, 60),
    Band("B11", "swir16", 1613.7, 20),
    Band("B12", "swir22", 2202.4, 20),
)
BANDS = {band.name: band for band in _TABLE}
"""All 13 bands by ESA's name, in the order of wavelength."""

DEFAULT_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The 10 m and 20 m bands, in the order of wavelength: what a stack holds by default."""

CLOUD_BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
"""What clouds are looked for in: the bands of s2cloudless, in its order."""

RGB = ("B04", "B03", "B02")
"""The bands of a picture, in the order red, green, blue."""

_BY_COMMON_NAME = {band.common: band.name for band in _TABLE}
_ESA_NAME = re.compile(r"b(\d{1,2}|8a)", re.IGNORECASE)
_AT_END_OF_STEM = re.compile(r"(?:^|_)(B(?:\d{2}|8A))(?:_\d{2}m)?$")


def find_band(text: str) -> str | None:
    """ESA's name of the band that ``text`` names, or None: B2, b02, blue and B02 are one band."""
    word = text.strip().lower()
    if match := _ESA_NAME.fullmatch(word):
        name = "B8A" if match[1] == "8a" else f"B{int(match[1]):02d}"
        return name if name in BANDS else None
    return _BY_COMMON_NAME.get(word)


def band_name(text: str) -> str:
    """ESA's name of the band that ``text`` names.

    Raises:
        S2cdError: where no band has that name.
    """
    if (name := find_band(text)) is None:
        known = ", ".join(f"{b.name} ({b.common})" for b in _TABLE)
        raise S2cdError(f"{text!r} is not a Sentinel-2 band. Name one of {known}")
    return name


def band_names(texts: Iterable[str]) -> tuple[str, ...]:
    """ESA's names of several bands, in the order given.

    Raises:
        S2cdError: where one has no such name, or is named twice.
    """
    names = tuple(band_name(text) for text in texts)
    for name in names:
        if names.count(name) > 1:
            raise S2cdError(f"Band {name} is named twice. Name each band once")
    return names


def band_of_file(stem: str) -> str | None:
    """The band that a file's name says at its end, or None.

    Understands ``T43QBF_20151120T054122_B02``, ESA's older long names, ``B02`` alone and
    ``..._B02_10m``; a mask such as ``MSK_DETFOO_B02`` is not a band.
    """
    if stem.upper().startswith("MSK_"):
        return None
    match = _AT_END_OF_STEM.search(stem)
    return match[1] if match and match[1] in BANDS else None
