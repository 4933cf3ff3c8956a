"""The learned path against a bare loop: the same network, threads and batches, from memory."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from s2cd.detection import blocks as cutting
from s2cd.detection.blocks import lattice_of
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.schedule import Workers
from s2cd.networks.checkpoint import save_checkpoint
from s2cd.networks.learned import open_network
from s2cd.networks.runtime import share_processors
from s2cd.networks.spec import Spec
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack

SECONDS = 60


@pytest.fixture
def checkpoint(tmp_path):
    import torch

    from s2cd.networks.build import build

    torch.manual_seed(0)
    spec = Spec("siamese", "resnet18", "diff", DEFAULT_BANDS)
    save_checkpoint(tmp_path / "net.safetensors", spec, build(spec))
    return tmp_path / "net.safetensors"


def bare_loop(frozen, window: int, threads: int, seconds: float) -> float:
    """Windows a second of threads that feed the network ready batches, and do nothing else."""
    random = np.random.default_rng(0)
    shape = (cutting.BATCH, len(DEFAULT_BANDS), window, window)
    batch = [random.uniform(0, 0.4, shape).astype(np.float32) for _ in range(2)]
    until = time.monotonic() + seconds

    def feed(_: int) -> int:
        share_processors(threads, len(os.sched_getaffinity(0)))
        count = 0
        while time.monotonic() < until:
            frozen.predict(*batch)
            count += cutting.BATCH
        return count

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(feed, range(threads)))
    return done / (time.monotonic() - began)


def test_detect_reaches_90_percent_of_a_bare_loop(stacks, tmp_path, checkpoint):
    pair_of = stacks(5490)
    detector = open_network(checkpoint, "cpu")
    pair = make_pair(open_stack(pair_of.before), open_stack(pair_of.after), DEFAULT_BANDS)
    threads = Workers().count
    frozen, core = detector.fit(pair), lattice_of(detector).core
    first = bare_loop(frozen, detector.window, threads, SECONDS / 2)
    request = Request(pair_of.before, pair_of.after, tmp_path / "c.tif", model=str(checkpoint))
    seconds = detect_files(request)["seconds"]["predict"]
    rate = (-(-5490 // core)) ** 2 / seconds
    last = bare_loop(frozen, detector.window, threads, SECONDS / 2)
    bare = (first + last) / 2
    print(
        f"detect {rate:.2f} windows of {detector.window} a second over {seconds:.0f} s, bare loop "
        f"{first:.2f} before and {last:.2f} after ({threads} threads): {rate / bare:.3f}"
    )
    assert seconds >= SECONDS
    assert rate >= 0.9 * bare
