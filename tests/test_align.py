"""Registration: true on simulated shifts, and as good as the best on real pairs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from conftest import UTM, grid, landscape, refused
from odc.geo.geobox import GeoBox
from rasterio.warp import calculate_default_transform

from s2cd.detection.detect import Request, detect_files
from s2cd.detection.prepare import Preparation, motion_in
from s2cd.errors import S2cdError
from s2cd.learning.metrics import confusion
from s2cd.results.dates import dates_of_map
from s2cd.scenes.align import aligned, shift_between
from s2cd.scenes.align.phase import phase_shift
from s2cd.scenes.bands import BANDS
from s2cd.scenes.grid import regrid
from s2cd.scenes.motion import motion_of, restored, translation
from s2cd.scenes.pair import make_pair
from s2cd.scenes.safe import open_folder
from s2cd.scenes.simulate import Simulation
from s2cd.scenes.stack import stack_array, write_stack

RED = list(BANDS).index("B04")


def simulated(shift, seed, size=512, bands=("B04",)):
    simulation = Simulation(size=size, seed=seed, shift=shift)
    everywhere = slice(0, size), slice(0, size)
    chosen = [list(BANDS).index(b) for b in bands]
    return [
        stack_array(simulation.window(date, *everywhere)[chosen], grid((size, size)), bands)
        for date in (0, 1)
    ]


@pytest.mark.parametrize(
    ("shift", "seed"), [((0.4, -0.3), 1), ((1.3, -2.7), 2), ((-3.4, 3.6), 3), ((0.1, 0.05), 4)]
)
def test_simulated_shifts_are_found_to_a_twentieth_of_a_pixel(shift, seed):
    found = shift_between(make_pair(*simulated(shift, seed)))
    assert found.is_sure
    error = np.hypot(found.rows + shift[0], found.columns + shift[1])
    assert error <= 0.05, (shift, found)


def test_identical_dates_have_no_shift_at_all():
    before, _ = simulated((0, 0), 0)
    found = shift_between(make_pair(before, before))
    assert found.length == 0 and found.is_sure and found.rest == 0


def test_once_aligned_nothing_is_left_and_aligning_again_does_no_harm():
    pair = make_pair(*simulated((0.6, 0.8), 5))
    better = aligned(pair, shift_between(pair))
    left = shift_between(better)
    assert left.length < 0.02
    assert shift_between(aligned(better, left)).length < 0.02


def test_holes_and_change_do_not_disturb_it():
    before, after = simulated((0.5, -1.2), 6)
    after.values[:, 100:260, 40:300] = np.nan
    before.values[:, 300:330, :] = np.nan
    after.values[:, 400:450, 400:500] = 0.5
    found = shift_between(make_pair(before, after))
    assert np.hypot(found.rows + 0.5, found.columns - 1.2) <= 0.06


def test_noise_is_not_taken_for_a_shift():
    random = np.random.default_rng(0)
    dates = [
        stack_array(random.uniform(0, 0.3, (1, 512, 512)).astype("f4"), grid((512, 512)), ["B04"])
        for _ in "ab"
    ]
    found = shift_between(make_pair(*dates))
    assert not found.is_sure


@pytest.mark.parametrize("values", [0.2, np.nan])
def test_where_nothing_can_be_measured_nothing_is_claimed(values):
    flat = stack_array(np.full((1, 200, 200), values, "f4"), grid((200, 200)), ["B04"])
    assert shift_between(make_pair(flat, flat)) is None


def test_detect_moves_a_shifted_date_and_says_so(tmp_path, run):
    dates = simulated((1.2, -0.9), 7, bands=("B02", "B03", "B04", "B08"))
    for date, name in zip(dates, ("a.tif", "b.tif"), strict=True):
        write_stack(date, tmp_path / name)
    done = run("detect", "a.tif", "b.tif", "-o", "c.tif", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shift_px"] == pytest.approx(1.5, abs=0.06)
    assert "after lies 1.5" in done.stderr and "moved by" in done.stderr
    with rasterio.open(tmp_path / "c.tif") as file:
        tags, change = file.tags(), file.read(1)
    assert tags["REGISTRATION"] == "after moved"
    assert float(tags["SHIFT_ROWS"]) == pytest.approx(-1.2, abs=0.05)
    assert 0 < (change == 255).mean() < 0.01  # the rim that after no longer covers
    done = run("detect", "a.tif", "b.tif", "-o", "d.tif", "--no-align", "--json")
    assert json.loads(done.stdout)["shift_px"] is None
    with rasterio.open(tmp_path / "d.tif") as file:
        unmoved = file.read(1)
    truth = Simulation(size=512, seed=7, shift=(1.2, -0.9)).truth(slice(0, 512), slice(0, 512))
    assert confusion(change, truth).f1 > confusion(unmoved, truth).f1 + 0.05


def test_a_small_shift_is_left_alone(tmp_path):
    dates = simulated((0.1, 0.05), 8)
    for date, name in zip(dates, ("a.tif", "b.tif"), strict=True):
        write_stack(date, tmp_path / name)
    said = detect_files(Request(tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif"))
    assert said["shift_px"] < 0.2 and said["observed_fraction"] == 1


def test_pictures_without_a_place_are_aligned_too():
    ground = landscape((300, 300), 1, seed=9)
    box = grid((260, 260), (0, 0), 1, None)
    one = stack_array(ground[:, 10:270, 10:270], box, ["B04"])
    other = stack_array(ground[:, 12:272, 7:267], box, ["B04"])
    found = shift_between(make_pair(one, other))
    assert (found.rows, found.columns) == pytest.approx((2, -3), abs=0.05)
    window = aligned(make_pair(one, other), found).window(slice(0, 260), slice(0, 260))
    inner = (slice(None), slice(20, 240), slice(20, 240))
    assert np.abs(window.after - window.before)[inner].max() < 5e-3


@pytest.mark.parametrize("city", ["beihai", "saclay_e", "paris"])
def test_real_pairs_are_registered_by_the_common_measure(oscd, city):
    """B04, log1p, 8 px cut, 128 px blocks, scikit-image, median length: at most 0.10 px."""
    registration = pytest.importorskip("skimage.registration")
    folders = oscd / "Images" / city
    pair = make_pair(*(open_folder(folders / f, ["B04"]) for f in ("imgs_1", "imgs_2")))
    window = aligned(pair, shift_between(pair)).window(*(slice(0, n) for n in pair.shape))
    dates = [np.log1p(np.nan_to_num(d[0].clip(0)) * 1e4) for d in (window.before, window.after)]
    one, other = (d[8:-8, 8:-8] for d in dates)
    lengths = []
    for y in range(0, one.shape[0] - 127, 128):
        for x in range(0, one.shape[1] - 127, 128):
            block = (slice(y, y + 128), slice(x, x + 128))
            shift, _, _ = registration.phase_cross_correlation(
                one[block], other[block], upsample_factor=100
            )
            lengths.append(np.hypot(*shift))
    assert np.median(lengths) <= 0.10


def test_the_command_moves_a_date_and_its_flags(tmp_path, run):
    before, after = simulated((1.0, -2.0), 7, bands=("B03", "B04"))
    after.values[:, 100:140, 200:260] = np.nan
    qa = stack_array(
        np.where(np.isnan(after.values[:1]), 0, 1).astype(np.uint16), after.odc.geobox, ["QA"]
    )[0]
    qa.values[300:310, 300:310] |= 2
    write_stack(before, tmp_path / "b.tif")
    write_stack(after, tmp_path / "a.tif", qa.drop_vars("band"))
    done = run("align", "b.tif", "a.tif", "-o", "m.tif", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert abs(found["rows"] + 1) < 0.05 and abs(found["columns"] - 2) < 0.05
    again = run("align", "b.tif", "m.tif", "-o", "n.tif", "--json")
    assert json.loads(again.stdout)["shift_px"] < 0.05
    with rasterio.open(tmp_path / "m.tif") as file:
        flags, red = file.read(3), file.read(2)
    assert (flags[299:309, 302:312] == 3).all() and (flags == 3).sum() == 100
    assert (red[99:139, 202:262] == 0).all() and flags[120, 230] == 0
    assert run("align", "b.tif", "a.tif", "-o", "m.tif").returncode == 1


def test_dates_without_anything_in_common_are_not_moved(tmp_path, run):
    before, after = simulated((0, 0), 8)
    after.values[:] = 0.2
    write_stack(before, tmp_path / "b.tif")
    write_stack(after, tmp_path / "a.tif")
    done = run("align", "b.tif", "a.tif", "-o", "m.tif")
    assert done.returncode == 1 and "cannot be measured" in done.stderr
    assert not (tmp_path / "m.tif").exists()


BENT = {
    "affine": np.array([[[0.3, 0.9], [-0.7, -0.1]], [[1.0, -1.2], [0.6, -1.6]]]),
    "local": np.stack(
        [0.8 * np.sin(3 * np.linspace(0, 1, 5)) + 0.4 * np.linspace(0, 1, 5)[:, None],
         0.7 * np.linspace(0, 1, 5) * np.linspace(0, 1, 5)[:, None]]
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=["affine", "local"])
def bent(request):
    """A pair whose second date is bent by a known motion, and that motion."""
    size = 768
    true = motion_of(BENT[request.param], (size, size))
    pair = make_pair(*simulated((0, 0), 3, size))
    against = replace(pair, motion=motion_of(-BENT[request.param], (size, size)))
    after = against.window(slice(0, size), slice(0, size)).after
    return request.param, true, make_pair(pair.before, stack_array(after, pair.geobox, ["B04"]))


def test_a_bent_date_is_straightened_to_a_twentieth_of_a_pixel(bent):
    kind, true, pair = bent
    found = shift_between(pair, kind)
    assert found.is_sure and found.motion.kind == kind
    everywhere = slice(0, 768), slice(0, 768)
    misses = np.hypot(*(found.motion.over(*everywhere) - true.over(*everywhere)))
    assert misses.mean() <= 0.05 and found.rest <= 0.03
    plain = shift_between(pair)
    left = np.hypot(*(plain.motion.over(*everywhere) - true.over(*everywhere)))
    assert left.mean() > 0.2  # which a translation cannot


def test_a_moved_window_is_a_part_of_the_whole(bent):
    _, true, pair = bent
    moved = replace(pair, motion=true)
    whole = moved.window(slice(0, 768), slice(0, 768)).after
    part = moved.window(slice(130, 391), slice(77, 600)).after
    np.testing.assert_array_equal(part, whole[:, 130:391, 77:600])


def test_no_data_stays_where_it_is_when_a_date_is_bent(bent):
    _, true, pair = bent
    after = pair.after.copy()
    after.values[:, 300:340, 400:460] = np.nan
    window = replace(make_pair(pair.before, after), motion=true).window(
        slice(0, 768), slice(0, 768)
    )
    lost = np.isnan(window.after[0, 20:-20, 20:-20])
    assert 0.9 * 2400 < lost.sum() < 1.1 * 2400 and (window.valid[20:-20, 20:-20] == ~lost).all()


def test_a_motion_survives_json_and_adds_up():
    for nodes in BENT.values():
        motion = motion_of(nodes, (100, 90))
        assert restored(json.loads(json.dumps(motion.numbers()))) == motion
        twice = motion.plus(translation(1.0, -2.0, (100, 90)))
        ys, xs = slice(3, 50), slice(10, 80)
        expected = motion.over(ys, xs) + np.array([1.0, -2.0])[:, None, None]
        np.testing.assert_allclose(twice.over(ys, xs), expected, atol=1e-9)


def test_too_small_a_scene_is_not_bent(tmp_path, run):
    dates = simulated((0.3, 0.2), 8, size=256)
    for date, name in zip(dates, ("b.tif", "a.tif"), strict=True):
        write_stack(date, tmp_path / name)
    done = run("align", "b.tif", "a.tif", "-o", "m.tif", "--registration", "local")
    assert "cannot be measured" in refused(done)
    done = run("align", "b.tif", "a.tif", "-o", "m.tif", "--registration", "elastic")
    assert "translation, affine, local" in refused(done)
    for wrong in (("--no-align", "--registration", "elastic"), ("--normalize", "histogram")):
        done = run("detect", "b.tif", "gone.tif", "-o", "c.tif", *wrong)
        assert f"{wrong[-1]!r}. Name one of none, " in refused(done)


def test_dates_in_two_projections_are_aligned_on_the_ground(tmp_path):
    """The shift counts in before's pixels, whatever the CRS of after."""
    before, after = simulated((1.3, -0.8), 11, size=640)
    own = before.odc.geobox
    to, width, height = calculate_default_transform(
        UTM, "EPSG:4326", 640, 640, *own.boundingbox.bbox
    )
    degrees = GeoBox((height, width), to, "EPSG:4326")
    window = slice(0, height), slice(0, width)
    values = regrid(lambda ys, xs: after.values[:, ys, xs], (own, degrees), window, "lanczos")
    there = stack_array(values, degrees, ["B04"])
    found = shift_between(make_pair(before, there))
    assert found.is_sure
    assert (found.rows, found.columns) == pytest.approx((-1.3, 0.8), abs=0.08)
    assert shift_between(aligned(make_pair(before, there), found)).length < 0.05


def test_polygons_and_maps_use_the_motion_that_is_in_the_tags(bent, tmp_path):
    kind, true, pair = bent
    for date, name in ((pair.before, "b.tif"), (pair.after, "a.tif")):
        write_stack(date, tmp_path / name)
    request = Request(
        tmp_path / "b.tif", tmp_path / "a.tif", tmp_path / "c.tif", preparation=Preparation(kind)
    )
    detect_files(request)
    with rasterio.open(tmp_path / "c.tif") as file:
        tags = file.tags()
    assert tags["SHIFT_KIND"] == kind and tags["REGISTRATION"] == "after moved"
    seen = dates_of_map((request.before, request.after), pair.geobox, tags, ["B04"])
    assert seen.motion.kind == kind
    everywhere = slice(0, 768), slice(0, 768)
    misses = np.hypot(*(seen.motion.over(*everywhere) - true.over(*everywhere)))
    assert misses.mean() <= 0.05


@pytest.mark.parametrize(
    "tag", ["{", "[]", "[" * 100_000, '{"rows": [[1]], "columns": [[1]], "shape": [3, 3]}']
)
def test_a_damaged_motion_or_one_of_another_grid_is_refused(tag):
    with pytest.raises(S2cdError, match=r"MOTION is .*again"):
        motion_in({"MOTION": tag}, (4, 4))


@pytest.mark.parametrize("kind", ["affine", "local"])
def test_windows_in_one_line_tell_of_no_more_than_a_translation(kind):
    before, after = simulated((0.6, -0.4), 12, size=1900)
    strip = [stack_array(d.values[:, :200], grid((200, 1900)), ["B04"]) for d in (before, after)]
    assert not shift_between(make_pair(*strip), kind).is_sure
    assert shift_between(make_pair(*strip)).is_sure


def test_a_coast_whose_windows_are_mostly_sea_is_registered_by_its_land():
    before, after = simulated((1.2, -0.8), 12, size=1024)
    random = np.random.default_rng(3)
    for date in (before, after):
        date.values[:, :, 400:] = random.normal(0.03, 0.002, (1, 1024, 624))
    found = shift_between(make_pair(before, after))
    assert found.windows <= 0.4 * found.seen
    assert found.is_sure and found.error < 0.02
    assert np.hypot(found.rows + 1.2, found.columns - 0.8) <= 0.05


@pytest.mark.parametrize("kind", ["affine", "local"])
def test_sea_does_not_bend_a_motion(kind):
    before, after = simulated((1.2, -0.8), 12, size=1024)
    random = np.random.default_rng(3)
    for date in (before, after):
        date.values[:, :, 600:] = random.normal(0.03, 0.002, (1, 1024, 424))
    found = shift_between(make_pair(before, after), kind)
    assert found.is_sure
    rows, columns = np.mgrid[64:1024:64, 64:576:64].reshape(2, -1).astype(float)
    misses = found.motion.at(rows, columns) - [[-1.2], [0.8]]
    assert np.hypot(*misses).max() <= 0.1


def test_water_alone_is_never_sure():
    random = np.random.default_rng(5)
    for _ in range(4):
        dates = [
            stack_array(
                random.normal(0.03, 0.002, (1, 900, 900)).astype("f4"), grid((900, 900)), ["B04"]
            )
            for _ in "ab"
        ]
        assert not shift_between(make_pair(*dates)).is_sure


def test_a_date_that_covers_a_corner_alone_is_not_measured_where_it_is_missing():
    before, after = simulated((0.7, 0.4), 13, size=512)
    after.values[:, 150:, :] = np.nan
    after.values[:, :, 150:] = np.nan  # a hundredth of the other windows shows data
    found = shift_between(make_pair(before, after))
    assert found is None or found.seen <= 2


def test_a_window_without_structure_has_no_shift():
    flat = np.zeros((64, 64))
    assert np.isnan(phase_shift(flat, flat)).all()
