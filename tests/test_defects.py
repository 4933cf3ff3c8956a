"""What a product says of its own pixels reaches the QA band: lost, degraded, defective."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from conftest import refused
from test_product import DAY, stack_now, zipped

from s2cd.errors import S2cdError
from s2cd.scenes import defects
from s2cd.scenes.codestream import tile_codes
from s2cd.scenes.product import open_product
from s2cd.scenes.simulate import Sheet
from s2cd.scenes.stack import QA_FLAGS, open_stack

DEFECTIVE = QA_FLAGS["defective"]
SHEET = Sheet(day=DAY, size=120)
_GML = """<?xml version="1.0" encoding="UTF-8"?>
<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2">
<eop:maskMembers><eop:MaskFeature gml:id="F.0"><eop:maskType>{kind}</eop:maskType><eop:extentOf>
<gml:Polygon><gml:exterior><gml:LinearRing><gml:posList srsDimension="3">{ring}</gml:posList>
</gml:LinearRing></gml:exterior></gml:Polygon></eop:extentOf></eop:MaskFeature></eop:maskMembers>
</eop:Mask>"""


def quality(root, name):
    return root / SHEET.granule / "QI_DATA" / name


def write_polygon(root, name, kind="QT_DEFECTIVE_PIXELS", ring=None):
    """A polygon over rows 20 to 29 and columns 30 to 49 of the 10 m grid."""
    west, north = SHEET.corner[0] + 302, SHEET.corner[1] - 202
    corners = [(west, north), (west + 196, north), (west + 196, north - 96), (west, north - 96)]
    text = " ".join(f"{x} {y} 12.5" for x, y in [*corners, corners[0]])
    quality(root, name).write_text(_GML.format(kind=kind, ring=text if ring is None else ring))


def write_quality(root, band, metres, flagged=(), layer=5, side=None, block=32):
    """MSK_QUALIT as ESA writes it: eight layers of bits, tiled."""
    side = side or -(-SHEET.size * 10 // metres)
    values = np.zeros((8, side, side), np.uint8)
    for row, column in flagged:
        values[layer - 1, row, column] = 1
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 8, "dtype": "uint8"}
    where = rasterio.transform.from_origin(*SHEET.corner, metres, metres)
    path = quality(root, f"MSK_QUALIT_{band}.jp2")
    path.unlink(missing_ok=True)
    with rasterio.MemoryFile() as memory, rasterio.Env(GDAL_PAM_ENABLED="NO"):
        with memory.open(**profile, crs=SHEET.crs, transform=where) as target:
            target.write(values)
        options = {"QUALITY": "100", "REVERSIBLE": "YES", "YCC": "NO"}
        rasterio.shutil.copy(
            memory.name, path, driver="JP2OpenJPEG", CODEC="JP2", BLOCKXSIZE=str(block),
            BLOCKYSIZE=str(block), **options,
        )  # fmt: skip
    return path


@pytest.fixture
def root(make_product):
    return make_product()


def flags_of(root):
    return stack_now(root)[1].values


@pytest.mark.parametrize("name", ["MSK_DEFECT_B04.gml", "MSK_TECQUA_B8A.gml"])
def test_polygons_of_old_baselines_are_flagged_and_masked(root, name, tmp_path, run):
    write_polygon(root, name, "MSI_LOST" if "TECQUA" in name else "QT_DEFECTIVE_PIXELS")
    expected = np.zeros((120, 120), bool)
    expected[20:30, 30:50] = True
    for path in (root, zipped(root, tmp_path / "product.zip")):
        np.testing.assert_array_equal(flags_of(path) & DEFECTIVE > 0, expected)
    assert run("stack", root, "-o", "s.tif", "--no-clouds").returncode == 0
    red = open_stack(tmp_path / "s.tif").sel(band="B04").values
    np.testing.assert_array_equal(np.isnan(red), expected)
    everything = open_stack(tmp_path / "s.tif", mask=()).sel(band="B04").values
    assert np.isfinite(everything).all()


def test_other_kinds_and_other_bands_are_not_flagged(root):
    write_polygon(root, "MSK_DEFECT_B10.gml")
    write_polygon(root, "MSK_TECQUA_B04.gml", "ANC_LOST")
    write_polygon(root, "MSK_SATURA_B04.gml")
    assert (flags_of(root) & DEFECTIVE == 0).all()


def test_no_data_stays_no_data(make_product):
    dn = np.full((120, 120), 1500)
    dn[:25] = 0
    root = make_product(dict.fromkeys(("B02", "B03", "B04", "B08"), dn) | dict.fromkeys(
        ("B05", "B06", "B07", "B8A", "B11", "B12"), dn[::2, ::2]))  # fmt: skip
    write_polygon(root, "MSK_DEFECT_B04.gml")
    flags = flags_of(root)
    assert (flags[:25] == 0).all() and (flags[25:30, 30:50] == 1 | DEFECTIVE).all()


@pytest.mark.parametrize("layer", [3, 4, 5])
def test_rasters_of_new_baselines_are_flagged(root, layer):
    write_quality(root, "B04", 10, [(7, 9), (100, 119)], layer)
    write_quality(root, "B05", 20, [(30, 31)], layer)
    expected = np.zeros((120, 120), bool)
    expected[7, 9] = expected[100, 119] = True
    expected[60:62, 62:64] = True
    np.testing.assert_array_equal(flags_of(root) & DEFECTIVE > 0, expected)


@pytest.mark.parametrize("layer", [1, 2, 6, 7, 8])
def test_other_layers_are_no_defect(root, layer):
    write_quality(root, "B04", 10, [(7, 9)], layer)
    assert (flags_of(root) & DEFECTIVE == 0).all()


def test_tiles_coded_alike_are_decoded_once(root, monkeypatch):
    write_quality(root, "B04", 10)
    decoded = []
    usual = defects.mask_handle
    monkeypatch.setattr(
        defects, "mask_handle", lambda *words: decoded.append(words[2]) or usual(*words)
    )
    assert not defects.defects_of(open_product(root), ["B04"])
    assert len(decoded) == 4  # of 16 tiles: inner, right, bottom, corner
    write_quality(root, "B04", 10, [(40, 40)])
    found = defects.defects_of(open_product(root), ["B04"])
    assert found.rasters[0].flagged == {(1, 1)}


def test_the_code_of_a_tile_is_told_apart(root):
    content = write_quality(root, "B04", 10, [(40, 40)]).read_bytes()
    codes = tile_codes(content, "here")
    assert codes.size == (32, 32) and codes.columns == 4 and len(codes.digests) == 16
    assert len(set(codes.digests[:3])) == 1 and codes.digests[5] != codes.digests[0]


@pytest.mark.parametrize("cut", [0, 30, 200, -1])
def test_a_raster_that_is_cut_short_is_refused(root, cut):
    path = write_quality(root, "B04", 10, [(40, 40)])
    content = path.read_bytes()
    path.write_bytes(content[: cut if cut >= 0 else len(content) // 2])
    with pytest.raises(S2cdError, match=r"MSK_QUALIT_B04"):
        flags_of(root)


def test_a_raster_of_another_size_is_refused(root, run):
    write_quality(root, "B04", 10, side=90)
    said = refused(run("stack", root, "-o", "s.tif"))
    assert "MSK_QUALIT_B04.jp2 has 90 x 90 pixels" in said


@pytest.mark.parametrize(
    "ring", ["", "1 2 3", "1 2 3 4 5 6 7 8", "a b c", "nan nan 0 " * 5, "1 2 3 " * 2]
)
def test_a_ring_that_is_none_is_refused(root, ring):
    write_polygon(root, "MSK_DEFECT_B04.gml", ring=ring)
    with pytest.raises(S2cdError, match="MSK_DEFECT_B04"):
        flags_of(root)


def test_entities_are_refused(root):
    path = quality(root, "MSK_DEFECT_B04.gml")
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    with pytest.raises(S2cdError, match="document type"):
        flags_of(root)
