"""`detect` as it ships on a full tile, against bare loops of the same network on this machine.

The tile is simulated; what is measured is time and memory, and the map's agreement with fp32.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from memory import peak_of, seconds_of
from rasterio.windows import Window

import s2cd
from s2cd.detection.blocks import lattice_of
from s2cd.networks.inputs import network_input
from s2cd.networks.learned import open_network
from s2cd.networks.runtime import Eager, has_native_bf16, network_at, share_processors
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack

OSCD10 = Path(s2cd.__file__).parent / "weights" / "oscd10.safetensors"
SIZE = 10980
SECONDS = 60
"""Of each bare loop."""
PROCESSORS = len(os.sched_getaffinity(0))


def words(pair_of, out, *more):
    line = ["detect", pair_of.before, pair_of.after, "-o", out, "--model", OSCD10, "--json"]
    return [sys.executable, "-m", "s2cd", *line, *more]


@pytest.fixture(scope="module")
def detected(stacks, tmp_path_factory):
    """The map of the full pair, as the command makes it: its path, its seconds, all in all too."""
    import subprocess

    out = tmp_path_factory.mktemp("line") / "change.tif"
    line = [str(word) for word in words(stacks(SIZE), out)]
    began = time.monotonic()
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    seconds = json.loads(done.stdout)["seconds"] | {"all": time.monotonic() - began}
    with rasterio.open(out) as file:
        tags = file.tags()
    way = f"{tags['BACKEND']} in {tags['PRECISION']}"
    said = ", ".join(f"{stage} {took:.1f}" for stage, took in seconds.items())
    print(f"\ndetect {SIZE} x {SIZE} x 10, {way}, {PROCESSORS} processors, seconds: {said}")
    return out, seconds


@pytest.fixture(scope="module")
def fitted(stacks):
    """The detector, and what it learned of the pair, as `detect` chooses it here."""
    pair_of = stacks(SIZE)
    detector = open_network(OSCD10, "auto", "auto", "auto")
    pair = make_pair(open_stack(pair_of.before), open_stack(pair_of.after), DEFAULT_BANDS)
    return detector, detector.fit(pair), pair


def bare_loop(frozen, window):
    """Windows a second of threads that compute ready windows, and do nothing else."""
    until = time.monotonic() + SECONDS

    def feed(_):
        share_processors(PROCESSORS, PROCESSORS)
        count = 0
        while time.monotonic() < until:
            frozen.predict(window.before[None], window.after[None])
            count += 1
        return count

    began = time.monotonic()
    with ThreadPoolExecutor(PROCESSORS) as pool:
        done = sum(pool.map(feed, range(PROCESSORS)))
    return done / (time.monotonic() - began)


def test_detect_computes_95_percent_of_the_windows_of_a_bare_loop(detected, fitted, figure):
    _, seconds = detected
    detector, frozen, pair = fitted
    size = slice(2000, 2000 + detector.window)
    count = (-(-SIZE // lattice_of(detector).core)) ** 2
    bare = bare_loop(frozen, pair.window(size, size))
    rate, written = (count / sum(seconds[s] for s in stages) for stages in (["predict"], LATER))
    print(f"\nwindows a second: bare loop {bare:.2f}, detect {rate:.2f}, written {written:.2f}")
    figure("`detect`, full pair: windows a second to a bare loop's", f"{rate / bare:.3f}", "0.95")
    figure("`detect`, predicted and written, to the loop's time", f"{bare / written:.3f}", "1.1")
    assert rate >= 0.95 * bare
    assert bare <= 1.1 * written


LATER = ["predict", "write"]


def plain_way(pair_of, network, statistics, out):
    """Pixels a second of 256 x 256 windows with 64 of overlap, read by rasterio one by one."""
    with rasterio.open(pair_of.before) as one, rasterio.open(pair_of.after) as two:
        profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "count": 1, "dtype": "uint8"}
        with rasterio.open(out, "w", **profile, tiled=True, compress="zstd") as result:
            began, done = time.monotonic(), 0
            for row in range(0, SIZE - 256, 192):
                for column in range(0, SIZE - 256, 192):
                    at = Window(column, row, 256, 256)
                    dates = [
                        f.read(range(1, 11), window=at).astype(np.float32)[None] * 1e-4
                        for f in (one, two)
                    ]
                    found = network.logits(network_input(*dates, statistics))[0, 0]
                    core = (found.numpy()[32:-32, 32:-32] > 0).astype(np.uint8)
                    result.write(core, 1, window=Window(column + 32, row + 32, 192, 192))
                    done += 192 * 192
                    if time.monotonic() - began > SECONDS:
                        return done / (time.monotonic() - began)
    raise AssertionError("the whole tile took less than a minute")


def test_detect_is_several_times_faster_than_the_plain_way(
    stacks, detected, fitted, tmp_path, figure
):
    """The plain way has the network alone, without IR-MAD, and its statistics for nothing."""
    _, seconds = detected
    _, frozen, _ = fitted
    share_processors(1, PROCESSORS)
    eager = Eager(network_at(str(OSCD10), frozen.network.sha256, "cpu"))
    pixels = plain_way(stacks(SIZE), eager, frozen.network.statistics, tmp_path / "plain.tif")
    plain = SIZE**2 / pixels
    print(f"\nthe plain way: {plain:.0f} s, from {SECONDS} s of it; detect: {seconds['all']:.0f} s")
    bar = 3 if has_native_bf16("cpu") else 2
    what = "`detect`, full pair, start to end: faster than the plain way (fp32, window by window)"
    figure(what, f"{plain / seconds['all']:.2f} x", f"{bar} x")
    assert plain / seconds["all"] >= bar


def test_the_map_is_that_of_torch_in_fp32(stacks, tmp_path, figure):
    """On a part, by the statistics of the part: each way to compute makes the whole of it."""
    pair_of, maps = stacks(2196), []
    for name, more in (("auto", ()), ("plain", ("--backend", "torch", "--precision", "fp32"))):
        seconds_of(words(pair_of, tmp_path / f"{name}.tif", *more))
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            maps.append(file.read(1))
    equal = float((maps[0] == maps[1]).mean())
    figure("maps of `--backend auto` and of torch in fp32, pixels alike", f"{equal:.2%}", "99.9 %")
    assert equal >= 0.999


def test_a_full_pair_takes_under_2_gib(stacks, tmp_path, figure):
    peak = peak_of(words(stacks(SIZE), tmp_path / "c.tif"))
    figure("`detect`, full pair: peak memory (PSS)", f"{peak.mib:.0f} MiB", "2048 MiB")
    assert peak.mib < 2048
