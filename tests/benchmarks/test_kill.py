"""Killed at random moments and started again: the bytes of an uninterrupted run."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio


def start(stacks, folder: Path) -> subprocess.Popen:
    words = ["detect", stacks.before, stacks.after, "-o", "c.tif", "--probability", "p.tif"]
    line = [sys.executable, "-m", "s2cd", *words]
    return subprocess.Popen([str(w) for w in line], cwd=folder, stderr=subprocess.DEVNULL)


def complete(path: Path) -> bool:
    with rasterio.open(path) as file:
        file.read(1)
        return file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize(("size", "kills"), [(2750, 6), (5490, 20)])
def test_killed_at_random_moments_and_resumed_gives_the_same_bytes(stacks, tmp_path, size, kills):
    pair = stacks(size)
    whole = tmp_path / "whole"
    whole.mkdir()
    began = time.monotonic()
    assert start(pair, whole).wait() == 0
    took = time.monotonic() - began
    expected = {name: (whole / name).read_bytes() for name in ("c.tif", "p.tif")}
    killed, phases = 0, []
    random = np.random.default_rng(0)
    while killed < kills:
        folder = tmp_path / f"try{len(phases)}"
        folder.mkdir()
        # every second try is killed twice: early, and again anywhere in what remains
        for moment in random.uniform(0.05, 1.0, size=1 + killed % 2) * took:
            child = start(pair, folder)
            time.sleep(moment)
            phases.append(phase(folder))
            child.send_signal(signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
            for name in expected:
                assert not (folder / name).exists() or complete(folder / name)
        assert start(pair, folder).wait() in (0, 1)  # 1: it had ended before the kill
        for name, content in expected.items():
            assert (folder / name).read_bytes() == content
        print(f"{size}: {killed} kills of a run of {took:.0f} s, in {', '.join(phases)}")


def phase(folder: Path) -> str:
    """What a run is doing, by what it has left so far."""
    store = folder / ".c.tif.s2cd" / "probability"
    if (folder / "c.tif").exists():
        return "done"
    if not store.exists():
        return "start"
    attributes = (store / "zarr.json").read_text()
    if '"publishing"' in attributes:
        return "translate"
    return "predict" if '"fit"' in attributes else "fit"
