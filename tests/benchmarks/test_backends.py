"""Backends side by side on the network that ships: windows a second, and what their maps share.

They take turns, so that what else runs on the machine slows all of them alike.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

import s2cd
from s2cd.detection.blocks import lattice_of
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.prepare import Preparation
from s2cd.networks.learned import open_network
from s2cd.networks.openvino import has_openvino
from s2cd.networks.registry import Compute
from s2cd.networks.runtime import has_native_bf16, share_processors
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack

pytestmark = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
OSCD10 = Path(s2cd.__file__).parent / "weights" / "oscd10.safetensors"
SIZE = 2196
ROUNDS = 8


@pytest.fixture(scope="module")
def frozen(stacks):
    """What ships, its partner included, fitted to a pair by each backend; windows of the pair."""
    pair_of = stacks(SIZE)
    detector = open_network(OSCD10, "cpu")
    pair = make_pair(open_stack(pair_of.before), open_stack(pair_of.after), DEFAULT_BANDS)
    size = lattice_of(detector).window
    windows = [pair.window(slice(y, y + size), slice(y, y + size)) for y in (0, 500, 900, 1400)]
    batches = [(w.before[None], w.after[None]) for w in windows]
    precisions = ("fp32", "bf16") if has_native_bf16("cpu") else ("fp32",)
    ways = {
        f"{backend} {precision}": open_network(OSCD10, "cpu", precision, backend).fit(pair)
        for precision in precisions
        for backend in ("torch", "openvino")
    }
    return ways, batches, detector.threshold


def predicted(way, batches):
    """Probabilities of windows, one after another, as `detect` feeds them."""
    return np.concatenate([way.predict(*batch) for batch in batches])


@pytest.mark.parametrize("threads", sorted({1, len(os.sched_getaffinity(0))}))
def test_openvino_is_at_least_half_again_as_fast_as_torch(frozen, threads, figure):
    ways, batches, threshold = frozen
    share_processors(1, threads)
    found = {name: predicted(way, batches) for name, way in ways.items()}  # warms up too
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.monotonic()
            predicted(way, batches)
            seconds[name].append(time.monotonic() - began)
    plain, truth = np.array(seconds["torch fp32"]), found["torch fp32"]
    ratios = {name: float(np.median(plain / took)) for name, took in seconds.items()}
    print(f"\nthreads: {threads}")
    for name, took in seconds.items():
        equal = ((found[name] >= threshold) == (truth >= threshold)).mean()
        print(
            f"{name:>14}: {len(batches) / np.median(took):6.2f} windows a second, "
            f"{ratios[name]:5.2f} x torch fp32, {equal:.5f} of the pixels equal"
        )
    for name in sorted(set(ways) - {"torch fp32"}):
        bar = "at least 1.5" if name == "openvino fp32" else "none"
        what = f"`oscd10`'s windows a second by {name}, {threads} threads, to torch fp32"
        figure(what, f"{ratios[name]:.2f}", bar)
    assert ratios["openvino fp32"] >= 1.5


def test_a_map_by_openvino_takes_less_than_one_by_torch(stacks, tmp_path):
    pair_of, seconds = stacks(SIZE), {}
    for backend in ("torch", "auto"):
        request = Request(
            pair_of.before,
            pair_of.after,
            tmp_path / f"{backend}.tif",
            model=str(OSCD10),
            compute=Compute("cpu", "fp32", backend),
            preparation=Preparation("none"),
        )
        taken = detect_files(request)["seconds"]
        seconds[backend] = {stage: taken[stage] for stage in ("fit", "predict")}
    print(json.dumps({f"{SIZE} x {SIZE} pixels, seconds": seconds}))
    assert sum(seconds["auto"].values()) < sum(seconds["torch"].values())
