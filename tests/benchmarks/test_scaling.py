"""A cluster on this machine, a processor a worker; what larger ones would take, by a model.

Cost of a pair on n workers = what the client does alone (open, prepare, fit, publish) + the time
in which n workers, each taking the next block when it is done, finish all blocks. A block costs
its reading, its windows, its writing, and the scheduler's handling of one task.
"""

import heapq
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import s2cd
from s2cd.detection.blocks import Block, blocks, lattice_of, predict_block
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.journal import Plan, held_journal
from s2cd.detection.schedule import Workers, run_all
from s2cd.networks.learned import open_network
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
OSCD10 = Path(s2cd.__file__).parent / "weights" / "oscd10.safetensors"
SIZES = (2196, 3660, 5490)
TILE = 10980
TASKS = 2000
COUNTRY, LAND = 450, 20_000
"""Tiles of a country of 3 million square kilometres, such as India, and of all land."""
NODE = """
import asyncio, os, sys
from distributed import Scheduler, Worker
os.sched_setaffinity(0, {int(sys.argv[1])})

async def serve():
    if len(sys.argv) > 2:
        node = Worker(sys.argv[2], nthreads=1, dashboard=False)
    else:
        node = Scheduler(host="127.0.0.1", port=0, dashboard=False)
    async with node:
        print(node.address, flush=True)
        await node.finished()

asyncio.run(serve())
"""


@pytest.fixture
def cluster(tmp_path):
    """Starts a scheduler and workers, each worker on a processor of its own."""
    processes = []

    def node(*words):
        line = [sys.executable, "-c", NODE, *map(str, words)]
        child = subprocess.Popen(
            line, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL, cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        processes.append(child)
        return child.stdout.readline().strip()

    def start(workers):
        processors = sorted(os.sched_getaffinity(0))
        address = node(processors[-1])
        for processor in processors[:workers]:
            node(processor, address)
        return address

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def seconds_by(address, pair_of, out):
    """Seconds by stage of a map of a pair, made by a cluster."""
    workers = Workers(scheduler=address)
    request = Request(
        pair_of.before, pair_of.after, out, model=str(OSCD10), workers=workers, overwrite=True
    )
    return detect_files(request)["seconds"]


@dataclass(frozen=True)
class Costs:
    """Seconds of one processor.

    Attributes:
        pixel: Of reading a pixel of both dates, all bands, and writing what is found.
        window: Of computing a window.
        task: Of the scheduler, for one task.
    """

    pixel: float
    window: float
    task: float

    def block(self, block: Block, core: int) -> float:
        """Of a block."""
        height, width = block.ys.stop - block.ys.start, block.xs.stop - block.xs.start
        windows = -(-height // core) * -(-width // core)
        return windows * (core**2 * self.pixel + self.window) + self.task

    def pair(self, size: int, workers: int, lattice) -> float:
        """Until workers have finished the blocks of a scene."""
        free = [0.0] * workers
        for block in blocks((size, size), lattice.block_size()):
            heapq.heapreplace(free, free[0] + self.block(block, lattice.core))
        return max(free)


def measured(pair_of, address, folder) -> tuple[Costs, object]:
    """The costs, each by itself, on one processor; `Costs.pixel` is of pixels of a core."""
    import torch

    torch.set_num_threads(1)
    detector = open_network(OSCD10, "cpu", "fp32", "torch")
    pair = make_pair(open_stack(pair_of.before), open_stack(pair_of.after), DEFAULT_BANDS)
    frozen, lattice = detector.fit(pair), lattice_of(detector)
    some = [b for b in blocks(pair.shape, lattice.block_size()) if b.row < 2 and b.column < 2]
    plan = Plan({}, pair.shape, lattice.block_size())
    computed, whole = 0.0, time.monotonic()
    predict = type(frozen).predict

    def timed(self, before, after):
        nonlocal computed
        began = time.monotonic()
        found = predict(self, before, after)
        computed += time.monotonic() - began
        return found

    with pytest.MonkeyPatch.context() as patch, held_journal(folder / "c.tif", plan) as journal:
        patch.setattr(type(frozen), "predict", timed)
        whole = time.monotonic()
        for block in some:
            journal.write(block, predict_block(pair, frozen, lattice, block))
        whole = time.monotonic() - whole
    windows = len(some) * (lattice.block_size() // lattice.core) ** 2
    rest = (whole - computed) / (windows * lattice.core**2)
    return Costs(rest, computed / windows, task_seconds(address)), lattice


def task_seconds(address):
    """What the scheduler takes for a task that does nothing, on one worker."""
    began = time.monotonic()
    assert sum(1 for _ in run_all([(int, ())] * TASKS, Workers(scheduler=address))) == TASKS
    return (time.monotonic() - began) / TASKS


def test_two_workers_do_nearly_twice_as_much_as_one(cluster, stacks, tmp_path, figure):
    pair_of = stacks(3660)
    one, two = (
        seconds_by(cluster(count), pair_of, tmp_path / f"{count}.tif")["predict"]
        for count in (1, 2)
    )
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "2.tif").read_bytes()
    what = "`detect --scheduler`: efficiency of two workers, a processor each"
    figure(what, f"{one / two / 2:.2f} ({one:.0f} s, {two:.0f} s)", "0.90")
    assert one / two / 2 >= 0.9


def test_the_model_of_cost_says_what_is_measured(cluster, stacks, tmp_path, figure):
    address = cluster(1)
    costs, lattice = measured(stacks(SIZES[0]), address, tmp_path)
    print(f"\nseconds: {costs.pixel * 1e6:.3f} a million pixels", costs)
    ratios, alone = [], 0.0
    for size in SIZES:
        seconds = seconds_by(address, stacks(size), tmp_path / f"{size}.tif")
        said = costs.pair(size, 1, lattice)
        ratios.append(said / seconds["predict"])
        alone = sum(seconds[s] for s in seconds if s != "predict")
        print(f"{size}: {seconds}; the model: {said:.1f} s, {ratios[-1]:.3f} of the measured")
    what = f"the model of cost, to what scenes of {', '.join(map(str, SIZES))} take"
    figure(what, ", ".join(f"{r:.2f}" for r in ratios), "0.85 to 1.15")
    print(beyond(costs, lattice, alone * (TILE / SIZES[-1]) ** 2))
    assert max(abs(np.array(ratios) - 1)) <= 0.15


def beyond(costs: Costs, lattice, alone: float) -> str:
    """What many tiles take on many workers, and where that ends, as a table.

    Args:
        costs: As measured.
        lattice: Of the detector.
        alone: Seconds of the client for a tile, by itself; several clients share the pairs.
    """
    busy = costs.pair(TILE, 1, lattice)
    count = len(list(blocks((TILE, TILE), lattice.block_size())))
    lines = [f"a tile: {count} blocks, {busy:.0f} s of a worker, {alone:.0f} s of its client"]
    for workers in (2, 16, 128, 1024):
        clients = max(1, round(workers * alone / busy))
        hours = [
            n * max(busy / workers, alone / clients) / 3600 for n in (100, COUNTRY, LAND)
        ]  # fmt: skip
        said = ", ".join(f"{h:.1f} h" for h in hours)
        lines.append(f"{workers} workers, {clients} clients: {said} for 100, {COUNTRY}, {LAND}")
    lines.append(f"one client feeds {busy / alone:.0f} workers")
    lines.append(f"one scheduler feeds {busy / count / costs.task:.0f} workers")
    lines.append(f"a worker reads {TILE**2 * 40 / busy / 2**20:.0f} MiB/s, unpacked")
    return "\n".join(lines)
