"""The laws of detection, on the real path: stacks on disk, journal, COG."""

import json
import os
import signal
import subprocess
import sys
import time

import dask
import numpy as np
import pytest
import rasterio
from conftest import grid, landscape, refused

import s2cd
from s2cd.detection.blocks import Lattice, blocks, classify, quantize
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.schedule import Workers
from s2cd.errors import S2cdError
from s2cd.networks.classical import Cva
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack, stack_array, write_stack


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_change_is_found_and_the_map_is_what_the_interface_promises(place, run):
    out = place.folder / "change.tif"
    done = run("detect", place.before, place.after, "-o", out, "--probability", "p.tif", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["model"] == "cva" and said["threshold"] == 0.5
    assert said["observed_fraction"] == 1.0
    change, stored = read(out), read(place.folder / "p.tif")
    assert said["changed_fraction"] == pytest.approx((change == 1).mean())
    flat = (change == 1).sum() * 100  # UTM shows it 0.14 % too large here, 300 km off its middle
    assert said["changed_area_m2"] == pytest.approx(flat / 1.0014, rel=2e-4)
    found = change == 1
    assert (found & (place.truth == 1)).sum() > 0.95 * (place.truth == 1).sum()
    assert (found & (place.truth == 0)).mean() < 0.03
    np.testing.assert_array_equal(change, (stored >= 100).astype(np.uint8))
    with rasterio.open(out) as file, rasterio.open(place.before) as before:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.crs, file.transform, file.shape) == (
            before.crs,
            before.transform,
            before.shape,
        )
        assert file.dtypes == ("uint8",) and file.nodata == 255
        assert file.colormap(1)[1][:3] == (214, 24, 32)
        tags = file.tags()
    assert tags["MODEL"] == "cva" and tags["BEFORE"] == "before.tif"
    assert tags["CALIBRATION"] == "uncalibrated" and tags["S2CD_VERSION"] == s2cd.__version__
    assert str(place.folder) not in json.dumps(tags)
    left = {p.name for p in place.folder.iterdir()}
    assert left == {"before.tif", "after.tif", "change.tif", "p.tif"}


def test_a_large_map_has_overviews_of_its_classes(tmp_path):
    shape = (1100, 1300)
    values = np.zeros(shape, np.uint8)
    values[100:160, 200:260] = 1
    values[900:, :50] = 255
    s2cd.write_map(stack_array(values[None], grid(shape), ["c"])[0], tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.overviews(1)
        small = file.read(1, out_shape=(550, 650))
    assert set(np.unique(small).tolist()) == {0, 1, 255}


def test_not_observed_is_exactly_where_the_pair_is_not_valid(make_place):
    place = make_place(hole=True)
    pair = make_pair(open_stack(place.before), open_stack(place.after))
    valid = pair.window(slice(0, 300), slice(0, 340)).valid
    detect_files(Request(place.before, place.after, place.folder / "c.tif"))
    np.testing.assert_array_equal(read(place.folder / "c.tif") == 255, ~valid)
    assert (~valid).sum() == 50 * 70


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (256, 256), (257, 513), (1024, 511)])
@pytest.mark.parametrize("size", [1, 256, 300, 4096])
def test_blocks_cover_each_pixel_once(shape, size):
    seen = np.zeros(shape, int)
    for block in blocks(shape, size if max(shape) < 600 and size > 1 else max(size, 64)):
        seen[block.ys, block.xs] += 1
    assert (seen == 1).all()


def test_a_block_is_a_whole_number_of_cores():
    lattice = Lattice(window=266, halo=5)
    assert lattice.core == 256
    for asked in (1, 100, 256, 700, 1024, 5000):
        assert lattice.block_size(asked) % 256 == 0
    assert lattice.block_size(1024) == 1024 and lattice.block_size(1) == 256


def test_the_map_does_not_depend_on_blocks_or_workers(make_place):
    place = make_place((700, 530), hole=True)
    bytes_of = set()
    for name, block, threads in (("a", 256, 1), ("b", 512, 2), ("c", 4096, 3)):
        out = place.folder / name
        out.mkdir()
        detect_files(
            Request(
                place.before,
                place.after,
                out / "c.tif",
                out / "p.tif",
                block=block,
                workers=Workers(threads),
            )
        )
        bytes_of.add(((out / "c.tif").read_bytes(), (out / "p.tif").read_bytes()))
    assert len(bytes_of) == 1


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_the_lazy_map_is_the_map_of_the_command(place, scheduler):
    detect_files(Request(place.before, place.after, place.folder / "c.tif"))
    change = s2cd.detect(open_stack(place.before), open_stack(place.after))
    assert change.dims == ("y", "x") and change.dtype == np.uint8 and hasattr(change.data, "dask")
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(change.values, read(place.folder / "c.tif"))
    s2cd.write_map(change, place.folder / "again.tif")
    np.testing.assert_array_equal(read(place.folder / "again.tif"), read(place.folder / "c.tif"))


def test_identical_dates_give_no_change_at_all(place):
    request = Request(place.before, place.before, place.folder / "c.tif", place.folder / "p.tif")
    said = detect_files(request)
    assert said["changed_fraction"] == 0
    assert (read(place.folder / "p.tif") == 0).all()


def test_gain_and_offset_alone_are_no_change(place):
    stack = open_stack(place.before)
    write_stack(stack * 1.1 + 0.02, place.folder / "brighter.tif")
    said = detect_files(
        Request(place.before, place.folder / "brighter.tif", place.folder / "c.tif")
    )
    assert said["changed_fraction"] == 0


def test_swapping_dates_gives_the_same_map_without_normalisation(place):
    before, after = open_stack(place.before), open_stack(place.after)
    detector = Cva()
    everywhere = slice(0, 300), slice(0, 340)
    maps = []
    for one, other in ((before, after), (after, before)):
        pair = make_pair(one, other)
        window = pair.window(*everywhere)
        maps.append(detector.fit(pair).predict(window.before[None], window.after[None])[0])
    np.testing.assert_array_equal(*maps)


def test_what_was_learned_predicts_the_same_bits_after_a_round_trip(place):
    pair = make_pair(open_stack(place.before), open_stack(place.after))
    frozen = Cva().fit(pair)
    again = Cva().restore(json.loads(json.dumps(frozen.numbers())))
    window = pair.window(slice(0, 266), slice(0, 266))
    np.testing.assert_array_equal(
        frozen.predict(window.before[None], window.after[None]),
        again.predict(window.before[None], window.after[None]),
    )


def test_noise_alone_is_not_cut_in_two(tmp_path):
    random = np.random.default_rng(0)
    ground = landscape((256, 256), 4)
    for name in ("a.tif", "b.tif"):
        noisy = ground + random.normal(scale=0.003, size=ground.shape).astype("f4")
        write_stack(
            stack_array(noisy, grid((256, 256)), ["B02", "B03", "B04", "B08"]), tmp_path / name
        )
    said = detect_files(Request(tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif"))
    assert said["changed_fraction"] < 0.001


def test_the_threshold_cuts_the_stored_probability():
    stored = np.array([0, 59, 60, 61, 200, 255], np.uint8)
    assert classify(stored, 0.3).tolist() == [0, 0, 1, 1, 1, 255]
    assert classify(stored, 0.301).tolist() == [0, 0, 0, 1, 1, 255]
    assert quantize(np.array([0, 0.4976, 0.5, 1, 2], "f4")).tolist() == [0, 100, 100, 200, 200]


def test_another_grid_for_after_is_brought_to_before(place):
    stack = open_stack(place.after)
    window = (slice(0, 280), slice(0, 300))
    box = grid((280, 300), (199980.0, 2600040.0), 10.0)
    shifted = stack_array(stack.values[:, 10:290, 20:320], box, place.bands)
    write_stack(shifted, place.folder / "moved.tif")
    moved = grid((280, 300), (199980.0 + 200, 2600040.0 - 100))
    right = stack_array(stack.values[:, 10:290, 20:320], moved, place.bands)
    write_stack(right, place.folder / "right.tif")
    detect_files(Request(place.before, place.folder / "right.tif", place.folder / "c.tif"))
    change = read(place.folder / "c.tif")
    assert change.shape == (300, 340)
    assert (change[:10] == 255).all() and (change[:, :20] == 255).all()
    inside = change[10:290, 20:320]
    truth = place.truth[10:290, 20:320]
    assert (inside[truth == 1] == 1).mean() > 0.95 and window


@pytest.mark.parametrize("threshold", ["0", "-1", "1.5", "nan"])
def test_a_threshold_outside_its_range_is_refused(place, run, threshold):
    done = run("detect", place.before, place.after, "-o", "c.tif", f"--threshold={threshold}")
    assert "threshold" in refused(done)


def test_bad_requests_get_one_line_and_leave_nothing(place, run, make_raster, tmp_path):
    text = tmp_path / "model.safetensors"
    text.write_text("no weights")
    empty = make_raster("empty.tif", np.zeros((10, 300, 340), np.uint16), names=place.bands)
    far = tmp_path / "far.tif"
    write_stack(
        stack_array(np.ones((10, 20, 20), "f4"), grid((20, 20), (500000.0, 0.0)), place.bands), far
    )
    (tmp_path / "out").mkdir()
    cases = [
        (("detect", "nowhere.tif", place.after, "-o", "c.tif"), "nowhere.tif does not exist"),
        (("detect", place.before, tmp_path, "-o", "c.tif"), "is a folder"),
        (("detect", place.before, text, "-o", "c.tif"), "cannot be read as a raster"),
        (("detect", place.before, far, "-o", "c.tif"), "do not meet"),
        (("detect", place.before, empty, "-o", "c.tif"), "No pixel has data in both dates"),
        (("detect", place.before, place.after, "-o", "no/c.tif"), "does not exist"),
        (("detect", place.before, place.after, "-o", "out"), "is a folder"),
        (("detect", place.before, place.after, "-o", place.before, "--overwrite"), "is an input"),
        (("detect", place.before, place.after, "-o", "c.tif", "--probability", "c.tif"), "two"),
        (("detect", place.before, place.after, "-o", "c.tif", "--model", text), "model"),
        (("detect", place.before, place.after, "-o", "c.tif", "--bands", "B10"), "B10"),
    ]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    for words, expected in cases:
        assert expected in refused(run(*words)), words
    after = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert before == after and not list((tmp_path / "out").iterdir())
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"out"}


def test_an_existing_map_is_kept_unless_told(place, run):
    out = place.folder / "c.tif"
    out.write_text("mine")
    assert "--overwrite" in refused(run("detect", place.before, place.after, "-o", out))
    assert out.read_text() == "mine"
    assert run("detect", place.before, place.after, "-o", out, "--overwrite").returncode == 0
    assert read(out).shape == (300, 340)


def start(place, *words):
    line = [sys.executable, "-m", "s2cd", "detect", place.before, place.after, "-o", "c.tif"]
    line += ["--probability", "p.tif", "--block-size", "256", "--workers", "1", *words]
    return subprocess.Popen(
        [str(w) for w in line], cwd=place.folder, stderr=subprocess.PIPE, text=True
    )


def test_killed_at_any_moment_and_started_again_gives_the_same_bytes(make_place):
    place = make_place((900, 900))
    began = time.monotonic()
    first = start(place)
    first.communicate()
    assert first.returncode == 0
    took = time.monotonic() - began
    results = [place.folder / name for name in ("c.tif", "p.tif")]
    expected = [path.read_bytes() for path in results]
    for path in results:
        path.unlink()
    moments = np.random.default_rng(3).uniform(0.5, 1.0, size=4)
    for moment in moments:
        child = start(place)
        time.sleep(took * moment)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        for path, whole in zip(results, expected, strict=True):
            assert not path.exists() or path.read_bytes() == whole
        if results[-1].exists():
            break
    last = start(place)
    _, said = last.communicate()
    assert last.returncode == 0 or "exists" in said
    assert [path.read_bytes() for path in results] == expected
    if last.returncode == 0:
        assert {p.name for p in place.folder.iterdir()} == {
            "before.tif", "after.tif", "c.tif", "p.tif",
        }  # fmt: skip


def test_what_a_killed_process_left_of_its_results_goes_when_they_are_written(place):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in ("c.tif", "p.tif"):
        for end in ("", ".tif", ".ovr.tmp"):
            (place.folder / f".{name}.{gone.pid}.partial{end}").write_bytes(b"half")
    mine = place.folder / f".c.tif.{os.getppid()}.partial"
    mine.write_bytes(b"at work")
    results = place.folder / "c.tif", place.folder / "p.tif"
    detect_files(Request(place.before, place.after, *results, model="cva"))
    assert [path for path in place.folder.iterdir() if ".partial" in path.name] == [mine]


def test_ctrl_c_ends_with_130_and_the_same_command_continues(make_place):
    place = make_place((900, 900))
    child = start(place)
    journal = place.folder / ".c.tif.s2cd" / "probability" / "c"
    until = time.monotonic() + 60
    while not journal.exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said and "continues" in said
    assert not (place.folder / "c.tif").exists()
    again = start(place)
    _, said = again.communicate()
    assert again.returncode == 0 and "continuing" in said


def test_a_truncated_stack_is_named_and_leaves_nothing(place, run):
    data = place.after.read_bytes()
    place.after.write_bytes(data[: len(data) // 2])
    assert "after.tif" in refused(run("detect", place.before, place.after, "-o", "c.tif"))
    assert {p.name for p in place.folder.iterdir()} == {"before.tif", "after.tif"}


def test_the_library_refuses_as_the_command_does(place):
    stack = open_stack(place.before)
    with pytest.raises(S2cdError, match="no model 'magic'"):
        s2cd.detect(stack, stack, model="magic")
