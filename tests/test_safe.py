import numpy as np
import pytest
from conftest import ORIGIN, refused

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS, DEFAULT_BANDS
from s2cd.scenes.safe import open_folder
from s2cd.scenes.simulate import Simulation, write_band_files
from s2cd.scenes.stack import open_stack


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "bands"
    folder.mkdir()
    write_band_files(Simulation(size=300, seed=1), 0, folder)
    return folder


def test_a_folder_becomes_a_stack_on_the_ten_metre_grid(folder, tmp_path, run):
    done = run("stack", folder, "-o", "s.tif")
    assert done.returncode == 0, done.stderr
    assert "offset 0" in done.stderr
    stack = open_stack(tmp_path / "s.tif")
    assert stack.shape == (10, 300, 300) and list(stack.band.values) == list(DEFAULT_BANDS)
    assert stack.odc.geobox.affine[:6] == (10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
    assert stack.attrs["SENSING_TIME"] == "2015-11-20T05:41:22Z"


def test_twenty_metre_pixels_cover_two_by_two(make_raster, tmp_path):
    y, x = np.mgrid[:40, :40]
    fine = (1000 + 10 * x + 7 * y).astype(np.uint16)
    coarse = fine.reshape(20, 2, 20, 2).mean(axis=(1, 3)).astype(np.uint16)
    from affine import Affine

    make_raster("p/T43QBF_20201128T054159_B02.tif", fine)
    transform = Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1])
    make_raster("p/T43QBF_20201128T054159_B05.tif", coarse, transform=transform)
    stack = open_folder(tmp_path / "p", ["B02", "B05"]).values * 1e4
    inner = (slice(4, -4), slice(4, -4))
    # a ramp is reproduced by cubic convolution where pixels are placed right
    assert np.abs(stack[1] - stack[0])[inner].max() < 1.0
    nearest = open_folder(tmp_path / "p", ["B02", "B05"], resampling="nearest").values[1] * 1e4
    np.testing.assert_allclose(nearest, coarse.repeat(2, 0).repeat(2, 1), rtol=1e-5)


def test_the_offset_is_applied_and_dark_pixels_stay_valid(make_raster, tmp_path, run):
    dn = np.full((30, 30), 1500, np.uint16)
    dn[0, 0], dn[0, 1], dn[0, 2] = 0, 900, 1000
    make_raster("p/x_B02.tif", dn)
    assert run("stack", "p", "-o", "s.tif", "--bands", "B02", "--offset=-1000").returncode == 0
    import rasterio

    with rasterio.open(tmp_path / "s.tif") as file:
        assert file.read(1)[0, :4].tolist() == [0, 1, 1, 500]
        assert file.tags()["RADIO_ADD_OFFSET"] == "-1000"


def test_names_of_any_age_are_understood(make_raster, tmp_path):
    ones = np.full((6, 6), 700, np.uint16)
    make_raster("p/S2A_OPER_MSI_L1C_TL_MTI__20160120T104345_A003020_T39QZG_B04.tif", ones)
    make_raster("p/MSK_DETFOO_B02.tif", ones)
    stack = open_folder(tmp_path / "p", ["red"])
    assert "SENSING_TIME" not in stack.attrs  # the time in ESA's old names is that of creation
    with pytest.raises(S2cdError, match="no file of band B02"):
        open_folder(tmp_path / "p", ["B02"])


def test_two_dates_in_one_folder_are_refused(make_raster, tmp_path):
    for name in ("p/a_B02.tif", "p/b_B02.tif"):
        make_raster(name, np.ones((6, 6), np.uint16))
    with pytest.raises(S2cdError, match=r"B02 twice: a_B02\.tif and b_B02\.tif"):
        open_folder(tmp_path / "p", ["B02"])


def test_bands_of_other_places_or_kinds_are_refused(make_raster, tmp_path):
    from affine import Affine

    make_raster("p/x_B02.tif", np.ones((6, 6), np.uint16))
    make_raster("p/x_B03.tif", np.ones((6, 6), np.uint16), transform=Affine(10, 0, 0, 0, -10, 0))
    with pytest.raises(S2cdError, match=r"x_B03\.tif lies elsewhere"):
        open_folder(tmp_path / "p", ["B02", "B03"])
    make_raster("p/x_B04.tif", np.ones((6, 6), np.float32))
    with pytest.raises(S2cdError, match="float32, not whole DN"):
        open_folder(tmp_path / "p", ["B02", "B04"])
    make_raster("p/x_B08.tif", np.ones((2, 6, 6), np.uint16))
    with pytest.raises(S2cdError, match="2 bands, not one"):
        open_folder(tmp_path / "p", ["B02", "B08"])


def test_jpeg_2000_bands_are_read(tmp_path):
    folder = tmp_path / "jp2"
    folder.mkdir()
    simulation = Simulation(size=256, seed=2)
    write_band_files(simulation, 1, folder, driver="JP2OpenJPEG", offset=-1000)
    stack = open_folder(folder, offset=-1000)
    truth = simulation.window(1, slice(0, 256), slice(0, 256))
    names = list(BANDS)
    for band in ("B02", "B08"):
        difference = stack.sel(band=band).values - truth[names.index(band)]
        assert np.abs(difference).max() < 1e-3


@pytest.mark.parametrize("what", ["missing", "empty", "text", "truncated", "file"])
def test_bad_band_folders_get_one_line(what, folder, tmp_path, run):
    target = next(folder.glob("*_B04.tif"))
    product = folder
    if what == "missing":
        product = tmp_path / "nowhere"
    elif what == "file":
        product = target
    elif what == "empty":
        target.write_bytes(b"")
    elif what == "text":
        target.write_text("no raster")
    else:
        target.write_bytes(target.read_bytes()[:20000])
    line = refused(run("stack", product, "-o", "s.tif"))
    assert (target.name if what in ("empty", "text", "truncated") else product.name) in line
    assert [p.name for p in tmp_path.iterdir()] == ["bands"]
