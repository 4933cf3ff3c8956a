import pickle

import numpy as np
import pytest
import rasterio
from conftest import UTM, grid, landscape

from s2cd.errors import ResultExistsError, S2cdError
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.stack import encode, open_qa, open_stack, stack_array, write_stack


@pytest.fixture
def stack():
    values = landscape((70, 90), 10)
    values[:, :5, :7] = np.nan
    return stack_array(values, grid((70, 90)), DEFAULT_BANDS)


def test_what_was_written_is_read_back(tmp_path, stack):
    write_stack(stack, tmp_path / "s.tif", tags={"SENSING_TIME": "2015-11-20T05:41:22Z"})
    back = open_stack(tmp_path / "s.tif")
    assert back.dtype == np.float32 and back.dims == ("band", "y", "x")
    assert list(back.band.values) == list(DEFAULT_BANDS)
    assert back.odc.geobox == stack.odc.geobox
    assert back.attrs["SENSING_TIME"] == "2015-11-20T05:41:22Z"
    np.testing.assert_allclose(back.values, stack.values, atol=0.51e-4)


def test_the_file_is_what_the_interface_promises(tmp_path, stack):
    write_stack(stack, tmp_path / "s.tif")
    with rasterio.open(tmp_path / "s.tif") as file:
        assert file.descriptions == (*DEFAULT_BANDS, "QA")
        assert file.dtypes == ("uint16",) * 11
        assert file.scales == (1e-4,) * 10 + (1.0,)
        assert file.nodata == 0
        assert file.block_shapes[0] == (512, 512)
        assert file.compression.value == "ZSTD"
        qa = file.read(11)
    assert (qa[:5, :7] == 0).all() and (qa[5:] == 1).all()


def test_stored_values_keep_dark_pixels_valid_and_saturation():
    values = np.array([np.nan, -0.02, 0.0, 0.00004, 0.1, 6.5535, 7.0], np.float32)
    assert encode(values).tolist() == [0, 1, 1, 1, 1000, 65535, 65535]


def test_all_dn_survive_a_round_trip(tmp_path):
    dn = np.arange(65536, dtype=np.float32).reshape(1, 256, 256)
    values = np.where(dn == 0, np.nan, dn * np.float32(1e-4))
    write_stack(stack_array(values, grid((256, 256)), ["B02"]), tmp_path / "s.tif")
    again = encode(open_stack(tmp_path / "s.tif").values)
    assert (again == dn).all()


def test_masked_flags_become_nan_and_others_do_not(tmp_path, stack):
    qa = np.ones((70, 90), np.uint16)
    qa[20, 20], qa[30, 30], qa[40, 40] = 1 + 2, 1 + 16, 1 + 4
    write_stack(stack, tmp_path / "s.tif", qa=stack_array(qa[None], grid((70, 90)), ["QA"])[0])
    seen = open_stack(tmp_path / "s.tif")
    assert np.isnan(seen[:, 20, 20]).all()
    assert np.isfinite(seen[:, 30, 30]).all() and np.isfinite(seen[:, 40, 40]).all()
    assert np.isnan(open_stack(tmp_path / "s.tif", mask=("cirrus",))[:, 40, 40]).all()
    assert np.isfinite(open_stack(tmp_path / "s.tif", mask=())[:, 20, 20]).all()
    assert (open_qa(tmp_path / "s.tif").values == qa).all()
    with pytest.raises(S2cdError, match="no QA flag"):
        open_stack(tmp_path / "s.tif", mask=("clouds",))


def test_an_open_stack_can_be_pickled_and_is_lazy(tmp_path, stack):
    write_stack(stack, tmp_path / "s.tif")
    lazy = open_stack(tmp_path / "s.tif")
    assert hasattr(lazy.data, "dask")
    again = pickle.loads(pickle.dumps(lazy))
    np.testing.assert_array_equal(again[3, 10:20, 5:50].values, lazy.values[3, 10:20, 5:50])


def test_a_lazy_stack_is_indexed_as_an_array_is(tmp_path, stack):
    write_stack(stack, tmp_path / "s.tif")
    lazy = open_stack(tmp_path / "s.tif")
    whole = lazy.values
    for key in [
        (3, slice(10, 20), 5),
        (slice(None, None, 2), slice(60, 2, -7), slice(1, 90, 4)),
        (-1, -2, slice(-9, None)),
        ([2, 0], slice(0, 0), slice(None)),
    ]:
        np.testing.assert_array_equal(lazy.data[key].compute(), whole[key])


def test_bands_are_chosen_by_any_name(tmp_path, stack):
    write_stack(stack, tmp_path / "s.tif")
    some = open_stack(tmp_path / "s.tif", ["nir", "B02"])
    assert list(some.band.values) == ["B08", "B02"]
    np.testing.assert_array_equal(some.values, open_stack(tmp_path / "s.tif").values[[6, 0]])
    with pytest.raises(S2cdError, match="no band B10"):
        open_stack(tmp_path / "s.tif", ["B10"])


def test_an_existing_stack_is_kept_unless_told(tmp_path, stack):
    path = tmp_path / "s.tif"
    path.write_text("mine")
    with pytest.raises(ResultExistsError, match="--overwrite"):
        write_stack(stack, path)
    assert path.read_text() == "mine"
    write_stack(stack, path, overwrite=True)
    assert open_stack(path).shape == (10, 70, 90)


def test_a_failed_write_leaves_nothing(tmp_path, stack):
    broken = stack.copy()
    broken.data = np.full(stack.shape, "x", object)
    with pytest.raises(TypeError):
        write_stack(broken, tmp_path / "s.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "profile", "expected"),
    [
        (np.full((1, 4, 4), 5000, "uint16"), {}, 0.5),
        (np.full((1, 4, 4), 5000, "int16"), {"nodata": -9999}, 0.5),
        (np.full((1, 4, 4), 0.5, "float32"), {}, 0.5),
        (np.full((1, 4, 4), 5000.0, "float64"), {}, 0.5),
        (np.full((1, 4, 4), 51, "uint8"), {}, 0.2),
    ],
)
def test_units_are_told_by_type_and_size(make_raster, values, profile, expected):
    values[0, 0, 0] = profile.get("nodata", values[0, 0, 0])
    path = make_raster("r.tif", values, names=["B4"], **profile)
    stack = open_stack(path)
    assert stack.values[0, 1, 1] == pytest.approx(expected)
    assert np.isnan(stack.values[0, 0, 0]) == ("nodata" in profile)


def test_earth_engine_names_and_nan_are_understood(make_raster):
    values = np.full((3, 5, 6), 0.2, np.float32)
    values[:, 2, 3] = np.nan
    stack = open_stack(make_raster("r.tif", values, names=["B1", "B8A", "B12"]))
    assert list(stack.band.values) == ["B01", "B8A", "B12"]
    assert np.isnan(stack.values[:, 2, 3]).all() and np.isnan(stack.values).sum() == 3


def test_bands_without_names_must_be_named(make_raster):
    path = make_raster("r.tif", np.ones((4, 5, 6), np.uint16))
    with pytest.raises(S2cdError, match="--bands"):
        open_stack(path)
    assert list(open_stack(path, ["blue", "green", "red", "nir"]).band.values) == [
        "B02", "B03", "B04", "B08",
    ]  # fmt: skip
    with pytest.raises(S2cdError, match="4 bands without names, and 2"):
        open_stack(path, ["blue", "green"])


def test_alpha_hides_pixels(make_raster):
    values = np.full((4, 5, 6), 100, np.uint8)
    values[3, 1, 1] = 0
    path = make_raster("r.tif", values, photometric="RGB", alpha="YES")
    stack = open_stack(path)
    assert list(stack.band.values) == ["B04", "B03", "B02"]
    assert np.isnan(stack.values[:, 1, 1]).all() and np.isnan(stack.values).sum() == 3


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path, stack):
    write_stack(stack, tmp_path / "s.tif")
    lazy = open_stack(tmp_path / "s.tif")
    write_stack(stack * 2, tmp_path / "s.tif", overwrite=True)
    with pytest.raises(S2cdError, match="changed while"):
        lazy.compute()


def test_geobox_of_degrees_is_kept_to_the_bit(tmp_path):
    box = grid((40, 50), (54.540252685546875, 24.366488081551143), 9.403e-05, "EPSG:4326")
    write_stack(stack_array(np.ones((1, 40, 50), "f4"), box, ["B02"]), tmp_path / "s.tif")
    with rasterio.open(tmp_path / "s.tif") as file:
        assert file.transform == box.affine
    assert open_stack(tmp_path / "s.tif").odc.geobox.affine == box.affine
    assert UTM != "EPSG:4326"
