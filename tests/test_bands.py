import pytest

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS, DEFAULT_BANDS, band_name, band_names, band_of_file


@pytest.mark.parametrize(
    ("text", "name"),
    [("B02", "B02"), ("b2", "B02"), ("B8A", "B8A"), ("b8a", "B8A"), (" red ", "B04"),
     ("nir", "B08"), ("swir16", "B11"), ("B12", "B12")],
)  # fmt: skip
def test_a_band_is_known_by_all_its_names(text, name):
    assert band_name(text) == name


@pytest.mark.parametrize("text", ["", "B13", "B00", "blue-ish", "B2A", "8A"])
def test_an_unknown_band_is_refused_with_the_known_ones(text):
    with pytest.raises(S2cdError, match="B8A"):
        band_name(text)


def test_a_band_named_twice_is_refused():
    with pytest.raises(S2cdError, match="B04 is named twice"):
        band_names(["red", "B04"])


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("T43QBF_20151120T054122_B02", "B02"),
        ("S2A_OPER_MSI_L1C_TL_MTI__20160120T104345_A003020_T39QZG_B8A", "B8A"),
        ("B11", "B11"),
        ("T43QBF_20201128T054159_B04_10m", "B04"),
        ("MSK_DETFOO_B02", None),
        ("T43QBF_20151120T054122_TCI", None),
        ("readme", None),
    ],
)
def test_a_file_is_a_band_only_by_its_exact_name(stem, name):
    assert band_of_file(stem) == name


def test_default_bands_stand_in_the_order_of_wavelength():
    waves = [BANDS[name].wavelength for name in DEFAULT_BANDS]
    assert waves == sorted(waves)
    assert {BANDS[name].resolution for name in DEFAULT_BANDS} == {10, 20}
