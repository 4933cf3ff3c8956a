import pickle

import dask.array as da
import numpy as np
import pytest
from conftest import grid, landscape

from s2cd.errors import NoOverlapError, S2cdError
from s2cd.scenes.pair import SAMPLE_PIXELS, make_pair
from s2cd.scenes.radiometry import Radiometry
from s2cd.scenes.stack import stack_array

BANDS = ["B02", "B03", "B04"]


def date(shape=(120, 150), bands=BANDS, seed=0, **place):
    return stack_array(landscape(shape, len(bands), seed), grid(shape, **place), bands)


def whole(pair):
    return pair.window(slice(0, pair.shape[0]), slice(0, pair.shape[1]))


def test_after_on_the_same_lattice_is_shifted_by_whole_pixels():
    before = date()
    after = date((100, 100), origin=(199980.0 + 200, 2600040.0 - 100))
    window = whole(make_pair(before, after))
    np.testing.assert_array_equal(window.after[:, 10:110, 20:120], after.values)
    assert window.valid.sum() == 100 * 100 and window.valid[10:110, 20:120].all()
    np.testing.assert_array_equal(window.before, before.values)


def test_where_after_has_nothing_the_pair_is_not_valid():
    before, after = date(), date()
    after[1, 30:40, 50:60] = np.nan
    window = whole(make_pair(before, after))
    assert not window.valid[30:40, 50:60].any() and window.valid.sum() == 120 * 150 - 100


def test_after_of_other_pixel_size_is_brought_by_georeference():
    before, fine = date(), landscape((120, 150), 3)
    box = grid((118, 147), size=10.2)
    pair = make_pair(before, stack_array(fine[:, :118, :147], box, BANDS))
    assert pair.offset is None
    window = whole(pair)
    assert window.valid[5:110, 5:140].all()
    assert not np.allclose(window.after[:, 5:110, 5:140], fine[:, 5:110, 5:140], atol=1e-3)


def test_windows_may_reach_beyond_the_edges():
    pair = make_pair(date(), date())
    window = pair.window(slice(-4, 20), slice(140, 160))
    assert window.before.shape == (3, 24, 20)
    assert not window.valid[:4].any() and not window.valid[:, 10:].any()
    assert window.valid[4:, :10].all()


def test_bands_of_both_dates_are_used_in_the_usual_order():
    before = date(bands=["B12", "B02", "B01", "B08"])
    after = date(bands=["B08", "B01", "B12"])
    assert make_pair(before, after).bands == ("B08", "B12")
    assert make_pair(before, after, ["B01"]).bands == ("B01",)
    with pytest.raises(S2cdError, match="after image has no band B02"):
        make_pair(before, after, ["B02"])


def test_dates_without_a_common_band_are_refused():
    with pytest.raises(S2cdError, match="share no band"):
        make_pair(date(bands=["B02"]), date(bands=["B03"]))


def test_dates_that_do_not_meet_are_refused_with_both_extents():
    with pytest.raises(NoOverlapError, match=r"before covers W .* after covers W"):
        make_pair(date(), date(origin=(300000.0, 2600040.0)))
    with pytest.raises(NoOverlapError):
        make_pair(date(), date(origin=(199980.0 + 1500, 2600040.0)))


def test_pictures_without_a_place_must_have_one_size():
    one = date(crs=None, origin=(0, 0), size=1)
    assert make_pair(one, one).geobox.crs is None
    with pytest.raises(NoOverlapError, match="one size"):
        make_pair(one, date((120, 140), crs=None, origin=(0, 0), size=1))
    with pytest.raises(S2cdError, match="after image has no CRS"):
        make_pair(date(), one)


def test_the_sample_counts_each_valid_pixel_once_and_leaves_the_margin_out():
    before, after = date((300, 280)), date((300, 280))
    after[:, 100:200, 50:90] = np.nan
    pair = make_pair(before, after)
    windows = list(pair.sample(6))
    assert sum(int(w.valid.sum()) for w in windows) == 300 * 280 - 100 * 40
    total = np.concatenate([w.before[0][w.valid] for w in windows])
    expected = before.values[0][np.isfinite(after.values[0])]
    np.testing.assert_array_equal(np.sort(total), np.sort(expected))


def test_the_sample_of_a_large_pair_is_bounded_and_the_same_every_time(monkeypatch):
    shape = (1500, 1600)
    flat = stack_array(np.zeros((1, *shape), "f4"), grid(shape), ["B02"])
    rows = flat + np.arange(1500, dtype="f4")[:, None]
    pair = make_pair(rows, rows)
    samples = []
    for processors in (1, 3, 3):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=processors: set(range(n)))
        samples.append(np.concatenate([w.before[0][w.valid] for w in pair.sample(0)]))
    first, other, again = samples
    np.testing.assert_array_equal(first, other)
    assert SAMPLE_PIXELS <= first.size < SAMPLE_PIXELS + 128 * 128
    np.testing.assert_array_equal(first, again)
    assert first.min() < 128 and first.max() > 1371


@pytest.mark.parametrize("crs", ["EPSG:32643", None])
def test_a_pair_that_is_sent_is_small_and_reads_the_same(crs):
    boxes = [grid((10980, 10980), crs=crs), grid((10980, 10980), crs=crs)]
    dates = []
    for box in boxes:
        data = da.zeros((2, *box.shape), chunks=(-1, 5490, 5490), dtype="f4")
        dates.append(stack_array(data, box, ["B02", "B08"]))
    dates[0].attrs["source"] = "before.tif"
    pair = make_pair(*dates).under(Radiometry((2.0, 2.0), (0.5, 0.25)))
    sent = pickle.dumps(pair)
    assert len(sent) < 20_000
    again = pickle.loads(sent)
    assert again.geobox == pair.geobox and again.bands == pair.bands
    assert again.after_geobox == pair.after_geobox and again.before.attrs == pair.before.attrs
    window = slice(10970, 10990), slice(-4, 9)
    one, other = pair.window(*window), again.window(*window)
    np.testing.assert_array_equal(one.after, other.after)
    np.testing.assert_array_equal(one.before, other.before)
    np.testing.assert_array_equal(one.valid, other.valid)
    assert one.valid.any() and not one.valid.all()
