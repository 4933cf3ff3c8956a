"""Level-1C products: what is read of them, and what is refused."""

import logging
import shutil
import zipfile
from datetime import date

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from conftest import refused, write_jp2

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS, DEFAULT_BANDS
from s2cd.scenes.decode import BlockCache
from s2cd.scenes.metadata import offset_by_name, parse_xml, read_product_xml, read_tile_xml
from s2cd.scenes.mosaic import Wanted, open_date, stack_of
from s2cd.scenes.product import open_product, product_at
from s2cd.scenes.simulate import Sheet, Simulation, write_product
from s2cd.scenes.stack import open_qa, open_stack

DAY = date(2020, 11, 28)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two products of one pair: with an offset and without."""
    folder = tmp_path_factory.mktemp("products")
    simulation = Simulation(size=300, seed=1)
    return simulation, [
        write_product(simulation, index, folder, baseline)
        for index, baseline in enumerate(("05.00", "02.04"))
    ]


def zipped(root, path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent))
    return path


def stack_now(*paths, **wanted):
    products, geobox = open_date(paths, Wanted(**wanted))
    stack, qa = stack_of(products, geobox, Wanted(**wanted))
    return stack.compute(), qa.compute()


def band_path(root, band):
    return next(root.glob(f"GRANULE/*/IMG_DATA/*_{band}.jp2"))


@pytest.mark.parametrize("index", [0, 1])
def test_a_simulated_product_gives_back_its_reflectance(simulated, index):
    simulation, roots = simulated
    stack, qa = stack_now(roots[index])
    truth = simulation.window(index, slice(0, 300), slice(0, 300))
    names = list(BANDS)
    assert list(stack.band.values) == list(DEFAULT_BANDS) and stack.shape == (10, 300, 300)
    for band in ("B02", "B03", "B04", "B08"):
        assert np.abs(stack.sel(band=band).values - truth[names.index(band)]).max() < 1e-3
    for band in ("B05", "B8A", "B12"):  # each 20 m pixel's mean is where it was
        pooled = stack.sel(band=band).values.reshape(150, 2, 150, 2).mean(axis=(1, 3))
        own = truth[names.index(band)][::2, ::2]
        assert np.corrcoef(pooled.ravel(), own.ravel())[0, 1] > 0.99
    assert (qa.values == 1).all()


def test_the_command_writes_the_stack_with_tags(simulated, tmp_path, run):
    done = run("stack", simulated[1][0], "-o", "s.tif", "--bands", "B02,B8A,B10")
    assert done.returncode == 0, done.stderr
    stack, qa = open_stack(tmp_path / "s.tif"), open_qa(tmp_path / "s.tif")
    assert list(stack.band.values) == ["B02", "B8A", "B10"] and (qa.values == 1).all()
    attrs = stack.attrs
    assert attrs["PRODUCT"] == simulated[1][0].stem
    assert attrs["SENSING_TIME"] == "2015-11-20T05:41:22Z"
    assert attrs["PROCESSING_BASELINE"] == "05.00" and attrs["RADIO_ADD_OFFSET"] == "-1000"
    assert attrs["RELATIVE_ORBIT"] == "5" and float(attrs["SUN_ZENITH"]) > 30


def test_a_zip_reads_as_its_folder(simulated, tmp_path):
    root = simulated[1][0]
    plain, _ = stack_now(root, bands=("B02", "B05"))
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = zipped(root, tmp_path / f"p{compression}.zip", compression)
        again, qa = stack_now(path, bands=("B02", "B05"))
        np.testing.assert_array_equal(again.values, plain.values)
        assert (qa.values == 1).all()


def test_sun_and_all_bands_are_at_hand(simulated):
    product = open_product(simulated[1][0])
    assert 30 < product.sun_zenith < 60 and 90 < product.sun_azimuth < 180
    assert list(product.bands) == list(BANDS)
    assert product.grids[60].shape == (50, 50)
    stack, _ = stack_of([product], product.grids[60], Wanted(bands=("B10", "B01")))
    assert stack.shape == (2, 50, 50) and np.isfinite(stack.values).all()
    with rasterio.open(band_path(product.path, "B10")) as source:
        expected = (source.read(1) - 1000.0) / 10000
    np.testing.assert_allclose(stack.values[0], expected, atol=1e-6)


def test_no_data_dark_and_saturated_pixels(make_product, tmp_path, run):
    dn = np.full((120, 120), 1500, np.uint16)
    dn[0, :4] = 0, 900, 1000, 65535
    coarse = np.full((60, 60), 1500, np.uint16)
    coarse[0, 0] = 0
    coarse[30, 30] = 65535
    root = make_product({"B02": dn, "B05": coarse})
    done = run("stack", root, "-o", "s.tif", "--bands", "B02,B05", "--no-clouds")
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "s.tif") as file:
        blue, red_edge, qa = file.read()
    assert blue[0, :5].tolist() == [0, 1, 1, 65535, 500]
    assert red_edge[:3, :3].tolist() == [[0, 0, 500], [0, 0, 500], [500, 500, 500]]
    assert qa[0, :4].tolist() == [0, 1, 1, 17] and qa[60, 60] == qa[61, 61] == 17
    assert qa[62, 62] == 1 and red_edge[60, 60] == 65535


def test_offsets_come_from_the_xml_then_from_the_baseline_never_from_the_date(make_product, caplog):
    caplog.set_level(logging.INFO, "s2cd")
    old = make_product(day=date(2015, 8, 1), baseline="05.00")
    assert set(open_product(old).offsets.values()) == {-1000}
    xml = old / "MTD_MSIL1C.xml"
    text = xml.read_text()
    xml.write_text(text.replace(">-1000<", ">-900<", 1))
    assert open_product(old).offsets["B01"] == -900 and not caplog.records
    start, end = text.index("<Radiometric_Offset_List>"), text.index("</Radiometric_Offset_List>")
    xml.write_text(text[:start] + text[end + len("</Radiometric_Offset_List>") :])
    assert set(open_product(old).offsets.values()) == {-1000} and "assumed" in caplog.text
    xml.write_text(xml.read_text().replace("<PROCESSING_BASELINE>05.00</PROCESSING_BASELINE>", ""))
    assert set(open_product(old).offsets.values()) == {-1000}  # by _N0500_ in the name
    new = make_product(day=date(2024, 8, 1), baseline="03.01")
    assert set(open_product(new).offsets.values()) == {0}
    assert set(open_product(new, offset=-7).offsets.values()) == {-7}
    assert offset_by_name("S2C_MSIL1C_20250101T054122_N0511_R005_T43QBF_20250101T090000") == -1000
    assert offset_by_name("somewhere_N0500") is None


def test_a_missing_offset_of_one_band_is_refused(make_product):
    root = make_product()
    xml = root / "MTD_MSIL1C.xml"
    xml.write_text(xml.read_text().replace('<RADIO_ADD_OFFSET band_id="3">-1000', "<X>0", 1))
    with pytest.raises(S2cdError, match="no whole XML"):
        open_product(root)
    xml.write_text(xml.read_text().replace("<X>0</RADIO_ADD_OFFSET>", ""))
    with pytest.raises(S2cdError, match="no RADIO_ADD_OFFSET of B04"):
        open_product(root)


def test_any_satellite_and_any_way_to_name_the_product(make_product, tmp_path):
    root = make_product(unit="C")
    product = open_product(root)
    assert product.name.startswith("S2C_") and product.tile == "43QBF" and product.orbit == 5
    images = next(root.glob("GRANULE/*/IMG_DATA"))
    assert product_at(images) == product_at(root / "MTD_MSIL1C.xml") == root
    assert product_at(tmp_path / "nowhere") is None
    renamed = root.rename(tmp_path / "my scene")
    assert open_product(product_at(renamed)).name == product.name
    (tmp_path / "outer").mkdir()
    shutil.move(renamed, tmp_path / "outer" / root.name)
    assert open_product(tmp_path / "outer").name == product.name
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (tmp_path / "outer").rglob("*.*"):
        if file.is_file() and not file.name.startswith("MSK"):
            shutil.copy(file, flat)
    assert list(open_product(flat).bands) == list(BANDS)


def test_masks_and_pictures_are_never_bands(make_product, tmp_path, run):
    root = make_product()
    images = next(root.glob("GRANULE/*/IMG_DATA"))
    shutil.copy(next(root.glob("GRANULE/*/QI_DATA/MSK_*_B02.jp2")), images / "MSK_QUALIT_B02.jp2")
    shutil.copy(band_path(root, "B02"), images / "T43QBF_20201128T054122_TCI.jp2")
    blue = band_path(root, "B02")
    assert open_product(root).bands["B02"].endswith(blue.name)
    blue.unlink()
    line = refused(run("stack", root, "-o", "s.tif"))
    assert blue.name in line and "missing" in line
    assert not (tmp_path / "s.tif").exists()


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("in_zip", [False, True])
def test_a_truncated_band_is_told_by_its_name(simulated, tmp_path, share, in_zip):
    root = tmp_path / simulated[1][0].name
    shutil.copytree(simulated[1][0], root)
    file = band_path(root, "B04")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    path = zipped(root, tmp_path / "p.zip") if in_zip else root
    with pytest.raises(S2cdError) as caught:
        stack_now(path, bands=("B02", "B04"))
    assert file.name in str(caught.value) and "\n" not in str(caught.value)


def test_a_band_of_another_size_place_or_kind_is_told_by_its_name(make_product):
    sheet = Sheet(DAY, 120)
    elsewhere = Sheet(DAY, 120, corner=(300000, 2600040))
    other_zone = Sheet(DAY, 120, crs="EPSG:32642")
    root = make_product()
    file = band_path(root, "B04")
    cases = [
        (np.full((110, 110), 9, np.uint16), sheet, "110 x 110 pixels, and MTD_TL.xml says 120"),
        (np.full((120, 120), 9, np.uint16), elsewhere, "lies elsewhere"),
        (np.full((120, 120), 9, np.uint16), other_zone, "lies elsewhere"),
    ]
    for values, where, said in cases:
        file.unlink()
        write_jp2(file, values, where, 10)
        with pytest.raises(S2cdError, match=said) as caught:
            open_product(root).open_file("B04")
        assert file.name in str(caught.value)
    shutil.copy(next(root.glob("GRANULE/*/QI_DATA/MSK_*_B02.jp2")), file)
    with pytest.raises(S2cdError, match="1 x uint8, not one band of uint16"):
        open_product(root).open_file("B04")


def test_other_levels_and_missions_get_one_line(make_product, tmp_path, run):
    root = make_product()
    xml = root / "MTD_MSIL1C.xml"
    text = xml.read_text()
    for old, new, said in [
        ("Level-1C<", "Level-2A<", "of Level-2A, not Level-1C"),
        (">Sentinel-2A<", ">Sentinel-3A<", "of Sentinel-3A, not Sentinel-2"),
    ]:
        xml.write_text(text.replace(old, new))
        with pytest.raises(S2cdError, match=said):
            open_product(root)
    xml.rename(root / "MTD_MSIL2A.xml")
    line = refused(run("stack", root, "-o", "s.tif"))
    assert "is a Level-2A product" in line and root.name in line
    (root / "MTD_MSIL2A.xml").unlink()
    with pytest.raises(S2cdError, match="no Sentinel-2 Level-1C product"):
        open_product(product_at(root))
    (tmp_path / "text.zip").write_text("no zip")
    assert "text.zip is no product" in refused(run("stack", "text.zip", "-o", "s.tif"))


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "declares a document type"),
        (FILE, "declares a document type"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><a/>', "declares a document type"),
        ("<a>&b;</a>", "no whole XML"),
        ("<a>" * 1000, "nests its elements too deep"),
        (f"<a>{'<b/>' * 300_000}</a>", "has too many elements"),
        ("<a><b></a>", "no whole XML"),
        ("", "no whole XML"),
        ("\0\1", "no whole XML"),
    ],
)
def test_hostile_xml_is_refused(text, said, make_product):
    with pytest.raises(S2cdError, match=said):
        parse_xml(text.encode(), "x.xml")
    root = make_product(size=12)
    next(root.glob("GRANULE/*/MTD_TL.xml")).write_text(text)
    with pytest.raises(S2cdError, match=said):
        open_product(root)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<NROWS>12<", "<NROWS>900000000<", "claims"),
        ("<NROWS>12<", "<NROWS>1e999<", "no number as NROWS"),
        ("<NROWS>12<", "<NROWS>-1<", "claims"),
        ("<ULX>199980<", "<ULX>nan<", "no number as ULX"),
        ("<XDIM>10<", "<XDIM>11<", "places its 10 m pixels nowhere"),
        ("EPSG:32643", "EPSG:4326", "no tile in a UTM zone"),
        ("<ZENITH_ANGLE", "<Z_ANGLE", "no whole XML"),
        ("Mean_Sun_Angle", "Other_Angle", "no Mean_Sun_Angle"),
    ],
)
def test_metadata_that_cannot_be_is_refused(old, new, said, make_product):
    root = make_product(size=12)
    xml = next(root.glob("GRANULE/*/MTD_TL.xml"))
    assert old in xml.read_text()
    xml.write_text(xml.read_text().replace(old, new))
    with pytest.raises(S2cdError, match=said) as caught:
        open_product(root)
    assert "\n" not in str(caught.value) and "MTD_TL.xml" in str(caught.value)


def test_a_zip_that_leads_elsewhere_is_refused(make_product, tmp_path):
    root = make_product(size=12)
    link = zipfile.ZipInfo(f"{root.name}/GRANULE/link.jp2")
    link.external_attr = 0o120777 << 16
    for name, said in [
        ("../../evil.jp2", "leads out"),
        ("/etc/evil.jp2", "no path in it"),
        ("a\\..\\evil.jp2", "no path in it"),
        ("C:evil.jp2", "no path in it"),
        (link, "is a link"),
        (f"{root.name}/MTD_MSIL1C.xml", "is in it twice"),
    ]:
        path = zipped(root, tmp_path / "p.zip")
        with zipfile.ZipFile(path, "a") as archive:
            if isinstance(name, str) and name.endswith(".xml"):
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr(name, b"x")
            else:
                archive.writestr(name, b"x")
        with pytest.raises(S2cdError, match=said):
            open_product(path)
    assert not list(tmp_path.parent.glob("evil*"))


def test_a_zip_bomb_is_refused(make_product, tmp_path):
    root = make_product(size=12)
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{root.name}/MTD_MSIL1C.xml", b" " * (40 << 20))
    with pytest.raises(S2cdError, match="longer than 32 MiB"):
        open_product(path)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_001):
            archive.writestr(f"{number}", b"")
    with pytest.raises(S2cdError, match="more than a product"):
        open_product(path)
    whole = zipped(root, path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(S2cdError, match="neither a folder nor a whole zip"):
        open_product(path)


def test_real_metadata_is_read(shared):
    folders = sorted((shared / "l1c-metadata").glob("*.SAFE"))
    if not folders:
        pytest.skip("../shared/data/l1c-metadata is absent")
    for folder, tile, baseline, zenith in zip(
        folders, ("01LAC", "46RER"), ("02.09", "03.01"), (45.0, 26.49), strict=True
    ):
        product = open_product(folder)
        assert (product.tile, product.baseline) == (tile, baseline)
        assert set(product.offsets.values()) == {0} and product.quantification == 10000
        assert product.geobox.shape == (10980, 10980) and product.grids[60].shape == (1830, 1830)
        assert abs(product.sun_zenith - zenith) < 10 and 0 < product.sun_azimuth < 360
        assert f"{product.sensed:%Y%m%dT%H%M%S}" in folder.name
        assert f"_{product.datatake.split('_')[1]}_" in folder.name
        with pytest.raises(S2cdError, match=r"B02\.jp2 is missing"):
            product.open_file("B02")


def test_real_metadata_with_an_offset_list_is_read(shared):
    folder = next((shared / "l1c-metadata").glob("*_N0301_*"))
    text = (folder / "MTD_MSIL1C.xml").read_text()
    listed = "".join(
        f'<RADIO_ADD_OFFSET band_id="{n}">{-1000 - n}</RADIO_ADD_OFFSET>' for n in range(13)
    )
    mark = "</QUANTIFICATION_VALUE>"
    text = text.replace(mark, f"{mark}<Radiometric_Offset_List>{listed}</Radiometric_Offset_List>")
    facts = read_product_xml(text.encode(), "x.xml", folder.name)
    assert facts.offsets["B8A"] == -1008 and facts.offsets["B12"] == -1012
    tile = next(folder.glob("GRANULE/*/MTD_TL.xml")).read_bytes()
    assert read_tile_xml(tile, "t.xml").sun_azimuth == pytest.approx(142.9876, abs=1e-3)


def test_neighbours_make_one_mosaic_of_the_first_that_has_data(make_product):
    west = np.full((120, 120), 2000, np.uint16)
    west[:, 110:] = 0
    first = make_product({"B02": west}, tile="43QBF", corner=(300000, 2600040))
    second = make_product(3000, tile="43QCF", corner=(301000, 2600040))
    stack, qa = stack_now(first, second, bands=("B02",))
    assert stack.shape == (1, 120, 220) and (qa.values == 1).all()
    assert stack.odc.geobox.affine[:6] == (10, 0, 300000, 0, -10, 2600040)
    np.testing.assert_allclose(stack.values[0, :, :110], 0.1, atol=1e-6)
    np.testing.assert_allclose(stack.values[0, :, 110:], 0.2, atol=1e-6)
    swapped, _ = stack_now(second, first, bands=("B02",))
    np.testing.assert_allclose(swapped.values[0, :, :100], 0.1, atol=1e-6)
    np.testing.assert_allclose(swapped.values[0, :, 100:], 0.2, atol=1e-6)
    assert stack.attrs["PRODUCT"] == f"{first.stem}, {second.stem}"


def test_a_neighbour_in_another_zone_is_brought_to_the_zone_that_covers_most(make_product):
    from pyproj import Transformer

    # 78 degrees east parts zones 43 and 44
    over = Transformer.from_crs("EPSG:32643", "EPSG:32644", always_xy=True)
    x, y = over.transform(808000.0, 2600040.0)
    corner = (round(x / 10) * 10, round(y / 10) * 10)
    large = make_product(2000, size=240, tile="43QHF", corner=(806000, 2600640))
    small = make_product(3000, tile="44QKF", crs="EPSG:32644", corner=corner)
    stack, qa = stack_now(small, large, bands=("B02", "B05"))
    box = stack.odc.geobox
    assert box.crs.epsg == 32643 and box.affine[:6][2] % 10 == box.affine[:6][5] % 10 == 0
    values, seen = stack.values, qa.values == 1
    assert np.isfinite(values[0])[seen].all() and np.isnan(values[:, ~seen]).all()
    dim, bright = np.isclose(values[0], 0.1, atol=1e-3), np.isclose(values[0], 0.2, atol=1e-3)
    assert (dim | bright | ~seen).all()
    assert bright.sum() == pytest.approx(120 * 120, rel=0.02)  # it is named first
    assert dim.sum() + bright.sum() > 240 * 240
    west = int((over.transform(*corner, direction="INVERSE")[0] - box.affine.c) / 10)
    assert abs(int(np.flatnonzero(bright.any(axis=0))[0]) - west) <= 2


def test_of_one_datatake_only_the_highest_baseline_stays(make_product, tmp_path, run):
    old, new = make_product(500, baseline="02.04"), make_product(3000, baseline="05.00")
    done = run("stack", old, new, "-o", "s.tif", "--bands", "B02", "--no-clouds")
    assert done.returncode == 0 and f"{old.stem} is left out" in done.stderr
    np.testing.assert_allclose(open_stack(tmp_path / "s.tif").values, 0.2, atol=1e-6)


def test_different_dates_are_refused(make_product, tmp_path, run):
    one, other = make_product(size=12), make_product(size=12, day=date(2020, 12, 3))
    line = refused(run("stack", one, other, "-o", "s.tif"))
    assert "2020-11-28, 2020-12-03" in line and "each date" in line


def test_each_block_is_decoded_once(simulated, monkeypatch):
    from s2cd.scenes import decode

    seen = []
    monkeypatch.setattr(decode, "_BLOCKS", BlockCache(64 << 20))
    original = decode.BandFile._decode

    def counted(self, row, column):
        seen.append((self.source, row, column))
        return original(self, row, column)

    monkeypatch.setattr(decode.BandFile, "_decode", counted)
    stack_now(simulated[1][1])
    assert len(seen) == len(set(seen)) == 10


def test_the_cache_holds_what_it_may_and_forgets_what_failed():
    cache = BlockCache(3 * 200)
    made = []

    def make(key):
        made.append(key)
        return np.zeros(100, np.uint16)

    for key in (1, 2, 3, 1, 4, 1, 2):
        cache.get((key,), lambda key=key: make(key))
    assert made == [1, 2, 3, 4, 2]
    with pytest.raises(ZeroDivisionError):
        cache.get((9,), lambda: 1 // 0)
    assert cache.get((9,), lambda: make(9)).shape == (100,)


def test_a_window_does_not_depend_on_the_whole(simulated):
    products, geobox = open_date(simulated[1][:1], Wanted())
    whole, _ = stack_of(products, geobox, Wanted(bands=("B02", "B05")))
    part, qa = stack_of(products, geobox[37:180, 51:200], Wanted(bands=("B02", "B05")))
    np.testing.assert_array_equal(part.values, whole.values[:, 37:180, 51:200])
    assert (qa.values == 1).all()
    assert whole.sel(band="B05").shape == (300, 300)
    assert whole[0, 5, 7].values == whole.values[0, 5, 7]
