"""What a file says of its own size is checked; what is missing of it is never taken for data."""

import sys

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import ORIGIN, grid, landscape, refused
from test_bad_rasters import NAMES, sparse, tiff_header, vrt, vrt_band, whole

from s2cd.errors import S2cdError, UnwritableError
from s2cd.output import write_errors
from s2cd.scenes.header import read_header
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack, stack_array

PLACE = grid((40, 52)).affine


@pytest.mark.parametrize("kind", ["tiled", "striped", "cog", "png", "jpeg", "jp2", "envi"])
def test_a_raster_cut_anywhere_is_refused_and_never_read_as_zeros(kind, tmp_path, monkeypatch):
    values = np.rint(landscape((300, 340), 4) * 10000).astype(np.uint16)
    monkeypatch.setattr("test_bad_rasters.dn", lambda count=4: values[:count])
    path = tmp_path / "odd.tif"
    whole(path, kind, 4)
    data = path.read_bytes()
    bands = None if kind in ("png", "jpeg") else NAMES
    assert np.isfinite(open_stack(path, bands).values).mean() > 0.99
    for share in (0.1, 0.5, 0.9, 0.99, 0.995, 0.9985, 0.999):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(S2cdError, match=r"odd\.tif"):
            open_stack(path, bands).load()


@pytest.mark.parametrize("bands", [1, 4])
@pytest.mark.parametrize("side", [60_000, 200_000])
def test_a_header_that_claims_more_than_the_file_can_hold_is_refused(side, bands, tmp_path):
    path = tmp_path / "odd.tif"
    for make in (
        lambda: sparse(path, side, 4096, bands),
        lambda: path.write_bytes(tiff_header(side, side, bands, rows=1)),
        lambda: path.write_text(vrt((200_000, side), [vrt_band(1, "nowhere.tif", name="B02")])),
    ):
        path.unlink(missing_ok=True)
        make()
        with pytest.raises(S2cdError, match=r"odd\.tif (claims|is cut short)"):
            read_header(path, NAMES[:bands])


def test_a_small_file_without_data_is_read(tmp_path):
    sparse(tmp_path / "empty.tif", 3000, 512, 4)
    assert np.isnan(open_stack(tmp_path / "empty.tif")[0, :9, :9].values).all()


def test_a_block_that_fills_the_memory_is_refused(make_raster, tmp_path):
    path = tmp_path / "odd.tif"
    sparse(path, 16384, 16384, 13)
    with open(path, "ab") as file:
        file.truncate(400_000)
    with pytest.raises(S2cdError, match="one block"):
        read_header(path, "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12".split())


@pytest.mark.parametrize("value", [-3.4028234663852886e38, 1e20, np.inf, -np.inf, np.nan])
def test_undeclared_fill_values_are_no_data(value, make_raster):
    values = landscape((40, 52), 2)
    values[:, :5] = value
    path = make_raster("f.tif", values, names=["B02", "B03"])
    opened = open_stack(path).values
    assert np.isnan(opened[:, :5]).all() and np.isfinite(opened[:, 5:]).all()


@pytest.mark.parametrize("nodata", [1e300, -1e300, np.inf, np.nan, 3.4028234663852886e38])
def test_a_no_data_value_beyond_the_type_does_no_harm(nodata, make_raster, tmp_path):
    path = make_raster("f.tif", landscape((40, 52), 1).astype("f8"), names=["B02"], nodata=nodata)
    assert np.isfinite(open_stack(path).values).all()


def test_a_no_data_value_and_an_alpha_band_may_stand_together(make_raster):
    values = np.full((4, 9, 9), 90, np.uint8)
    values[:3, 0] = 7
    path = make_raster("a.tif", values, photometric="RGB", alpha="YES", nodata=7)
    assert np.isnan(open_stack(path).values[:, 0]).all()


def test_bands_of_several_types_or_without_text_are_refused(tmp_path, make_raster):
    make_raster("base.tif", landscape((40, 52), 2), names=["B02", "B03"])
    bands = [vrt_band(1, "base.tif", "UInt16"), vrt_band(2, "base.tif", "Float32")]
    (tmp_path / "m.tif").write_text(vrt((40, 52), bands))
    with pytest.raises(S2cdError, match=r"m\.tif holds bands of several types"):
        open_stack(tmp_path / "m.tif")
    path = make_raster("n.tif", landscape((4, 5), 1), names=["Bxyz2"])
    path.write_bytes(path.read_bytes().replace(b"Bxyz2", b"B\xff\xfe\xfd2"))
    with pytest.raises(S2cdError, match=r"n\.tif"):
        open_stack(path)


@pytest.mark.parametrize("crs", ["EPSG:4978", 'LOCAL_CS["hall",UNIT["metre",1]]'])
def test_a_crs_without_a_plane_is_refused(crs, make_raster):
    path = make_raster("c.tif", landscape((40, 52), 1), names=["B02"], crs=crs)
    with pytest.raises(S2cdError, match=r"c\.tif has a CRS that is neither geographic nor"):
        open_stack(path)


def test_metres_that_are_said_to_be_degrees_are_refused(make_raster):
    path = make_raster("d.tif", landscape((40, 52), 1), names=["B02"], crs="EPSG:4326")
    with pytest.raises(S2cdError, match="CRS in degrees, but reaches from"):
        open_stack(path)


@pytest.mark.parametrize(
    "transform",
    [
        PLACE * Affine.scale(1e12),
        PLACE * Affine.scale(1e300),
        PLACE * Affine.scale(1e-200),
        PLACE * Affine.translation(0, 1e300),
        Affine(10, 0, ORIGIN[0], 1e-12, 0, ORIGIN[1]),
    ],
)
def test_a_transform_to_nowhere_is_refused(transform, make_raster):
    path = make_raster("t.tif", landscape((40, 52), 1), names=["B02"], transform=transform)
    with pytest.raises(S2cdError, match=r"t\.tif has a transform that maps pixels to no place"):
        open_stack(path)


@pytest.mark.parametrize(
    "shape, turn, crs",
    [((1, 30), 0, None), ((20, 30), 30, None), ((1, 30), 30, "EPSG:32643")],
)
def test_a_place_that_would_be_lost_is_refused(shape, turn, crs, make_raster):
    transform = PLACE * Affine.rotation(turn)
    path = make_raster("l.tif", landscape(shape, 1), names=["B02"], crs=crs, transform=transform)
    with pytest.raises(S2cdError, match="its place would be lost"):
        open_stack(path)


def test_dates_without_a_way_between_their_crs_are_refused():
    earth = stack_array(landscape((20, 30), 1), grid((20, 30)), ["B02"])
    moon = stack_array(landscape((20, 30), 1), grid((20, 30), crs="IAU_2015:30110"), ["B02"])
    with pytest.raises(S2cdError, match="from the CRS of after to that of before"):
        make_pair(earth, moon)


def test_a_date_that_is_far_finer_is_refused_before_it_fills_the_memory():
    import dask.array as da

    fine = da.zeros((1, 9000, 9000), dtype="f4", chunks=(1, 1024, 1024))
    coarse = stack_array(landscape((20, 30), 1), grid((20, 30), size=3000), ["B02"])
    with pytest.raises(S2cdError, match="A pixel of before covers 90000 of after"):
        make_pair(coarse, stack_array(fine, grid((9000, 9000)), ["B02"]))


def test_windows_of_a_pair_read_no_more_than_they_show(place, monkeypatch):
    from s2cd.scenes.reader import RasterReader

    seen = []
    real = RasterReader._reflectance
    monkeypatch.setattr(
        RasterReader, "_reflectance", lambda self, i, w: (seen.append(w), real(self, i, w))[1]
    )
    make_pair(open_stack(place.before), open_stack(place.after)).window(slice(5, 9), slice(7, 20))
    assert seen == [((5, 9), (7, 20))] * 2


def test_names_that_gdal_cannot_log_print_nothing(tmp_path, run, make_raster):
    (tmp_path / "odd.tif").write_bytes(b"<VRTDataset \xdc='\xff'>")
    done = run("detect", "odd.tif", "odd.tif", "-o", "c.tif")
    assert done.stderr.splitlines() == [refused(done)]


def test_what_rasterio_says_of_a_failed_write_is_told_as_unwritable(tmp_path):
    from rasterio._err import CPLE_AppDefinedError

    for error in (rasterio.errors.RasterioIOError("no"), CPLE_AppDefinedError(1, 1, "no")):
        with (
            pytest.raises(UnwritableError, match=r"c\.tif cannot be written"),
            write_errors(tmp_path / "c.tif"),
        ):
            raise error


def test_the_hook_of_python_is_as_before_after_a_command(run):
    from typer.testing import CliRunner

    from s2cd.cli.app import app

    usual = sys.excepthook, sys.unraisablehook
    CliRunner().invoke(app, ["models"])
    assert (sys.excepthook, sys.unraisablehook) == usual
