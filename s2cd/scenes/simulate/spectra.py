"""What the ground reflects, and what of it arrives at the top of the atmosphere.

The surface spectra are rounded typical values for the 13 bands, after the ECOSTRESS (formerly
ASTER) spectral library (Baldridge et al. 2009, 10.1016/j.rse.2008.11.007; Meerdink et al. 2019,
10.1016/j.rse.2019.05.015) for soils, roofs, asphalt, concrete and vegetation, lowered where a
canopy holds shadow; water follows the shape of lake spectra in Dekker (1993). Atmosphere: path
reflectance and two-way transmittance of a clear day of the order that 6S gives (Vermote et al.
1997, 10.1109/36.581987). They are plausible, not measured.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2cd.scenes.bands import BANDS

Spectrum = NDArray[np.float64]


def _spectrum(text: str) -> Spectrum:
    """Reflectance (13,) from percent, in the order of ``BANDS``."""
    return np.array([float(word) for word in text.split()]) / 100


#                              B01  B02  B03  B04  B05  B06  B07  B08  B8A  B09  B10  B11  B12
GREEN = _spectrum("           3.0  3.5  7.0  4.0 11.0 32.0 40.0 43.0 45.0 45.0 34.0 23.0 11.5")
STRAW = _spectrum("           8.0 10.0 15.0 20.0 23.5 26.0 28.0 30.0 32.0 33.0 36.0 40.0 31.0")
LIGHT_SOIL = _spectrum("      8.5 11.0 15.5 21.0 24.0 26.0 28.0 30.0 32.0 33.0 38.0 41.0 36.0")
DARK_SOIL = _spectrum("       5.0  6.0  8.0 10.5 12.0 13.5 14.5 16.0 17.5 18.0 21.0 24.0 21.0")
CANOPY = _spectrum("          2.0  2.5  4.5  3.0  7.0 20.0 25.0 27.0 29.0 29.0 21.0 14.5  7.0")
SAND = _spectrum("           16.0 20.0 26.0 32.0 35.0 37.0 38.0 40.0 41.0 42.0 45.0 47.0 44.0")
RIVER = _spectrum("           4.5  5.5  8.5  8.0  7.0  4.5  4.2  3.8  3.2  2.5  0.8  0.7  0.5")
LAKE = _spectrum("            2.5  3.0  4.0  2.2  1.8  1.2  1.1  1.0  0.8  0.7  0.4  0.3  0.2")
ASPHALT = _spectrum("         8.0  8.5  9.5 10.5 11.0 11.5 12.0 12.5 13.0 13.0 14.0 15.0 14.5")
CONCRETE = _spectrum("       17.0 20.0 24.0 27.0 28.5 29.0 30.0 31.0 32.0 32.0 33.0 34.5 33.0")
METAL = _spectrum("          36.0 42.0 47.0 49.0 50.0 50.0 50.0 50.0 50.0 50.0 47.0 43.0 39.0")
BITUMEN = _spectrum("         5.0  5.5  6.0  6.5  7.0  7.0  7.5  8.0  8.0  8.5  9.0 10.0 10.0")
RED_TILE = _spectrum("        6.0  7.0 10.0 20.0 25.0 27.0 28.0 29.0 31.0 32.0 36.0 39.0 35.0")
SHADE = _spectrum("           2.5  2.5  3.0  3.0  3.5  5.0  5.5  6.0  6.0  6.0  5.0  4.5  4.0")

PATH = _spectrum("           11.0  8.0  5.0  3.3  2.7  2.2  1.8  1.5  1.3  0.8  0.1  0.3  0.1")
TRANSMITTANCE = _spectrum("    79   83   87   91   92   92   94   93   95   40    1   95   92")
SNR = 100 * _spectrum("       129  154  168  142  117   89  105  174   72  114   50  100  100")
"""Required signal-to-noise ratio of each band (Drusch et al. 2012, 10.1016/j.rse.2011.11.026)."""

HAZE = (np.array([band.wavelength for band in BANDS.values()]) / 492.7) ** -1.3
"""How strong haze is in each band, relative to blue (Angstrom exponent 1.3)."""


@dataclass(frozen=True)
class Material:
    """One kind of ground that is no crop: how much of it is green, and what the rest is.

    Attributes:
        rest: reflectance (13,) of all but the green part.
        green: share covered by vegetation in its best season.
        texture: standard deviation of the brightness inside it.
    """

    rest: Spectrum
    green: float = 0.0
    texture: float = 0.08

    def seen(self, season: float) -> Spectrum:
        """Reflectance (13,) where vegetation has ``season`` (0..1) of its best cover."""
        return self.rest + self.green * season * (GREEN - self.rest)


ROOFS = (CONCRETE, METAL, BITUMEN, RED_TILE)
LEVELS = (0.7, 0.9, 1.1, 1.3)
"""Brightness of one roof relative to its kind; gardens use them for how green they are."""

_EARTH = (LIGHT_SOIL + DARK_SOIL) / 2
_KINDS = {
    "margin": Material((_EARTH + STRAW) / 2, 0.6, 0.12),
    "track": Material((LIGHT_SOIL + SAND) / 2, 0.15),
    "wood": Material(CANOPY, 0.15, 0.16),
    "bank": Material(SAND, 0.25, 0.15),
    "river": Material(RIVER, 0.0, 0.03),
    "lake": Material(LAKE, 0.0, 0.03),
    "road": Material(ASPHALT, 0.05),
    "street": Material((ASPHALT + CONCRETE) / 2, 0.10),
    "yard": Material((CONCRETE + LIGHT_SOIL) / 2, 0.05, 0.12),
    "site": Material((SAND + CONCRETE) / 2, 0.0, 0.10),
    "shadow": Material(SHADE, 0.1),
}
_GARDENS = {
    f"garden{level}": Material((_EARTH + CONCRETE) / 2, 0.55 * factor, 0.16)
    for level, factor in enumerate(LEVELS)
}
_ROOFS = {
    f"roof{4 * kind + level}": Material(roof * factor)
    for kind, roof in enumerate(ROOFS)
    for level, factor in enumerate(LEVELS)
}
MATERIALS = _KINDS | _GARDENS | _ROOFS
"""All that is no crop, by name; the roofs of one kind stand together, darkest first."""

LABELS = {name: label for label, name in enumerate(MATERIALS)}
"""The number of each material in a drawn landscape; larger numbers are fields."""
