"""A dask cluster makes the file that one machine makes, whatever happens to it meanwhile."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import refused

from s2cd.detection.batch.pairs import read_pairs
from s2cd.detection.batch.run import Batch, run_batch
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.prepare import Preparation
from s2cd.detection.schedule import Workers
from s2cd.errors import LostError

BANDS = ("B02", "B03", "B04", "B08")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
SCHEDULER = """
import asyncio
from distributed import Scheduler

async def serve():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()

asyncio.run(serve())
"""
WORKER = """
import asyncio, os, signal, sys, time
from distributed import Worker
from s2cd.detection import detect

predict = detect.predict_block

def slowly(*arguments):
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(sys.argv[2]))
    return predict(*arguments)

detect.predict_block = slowly

async def serve():
    async with Worker(sys.argv[1], nthreads=1, dashboard=False) as worker:
        await worker.finished()

asyncio.run(serve())
"""


class Cluster:
    """A scheduler and workers, each a process that can be killed."""

    def __init__(self, folder: Path):
        self.folder, self.processes = folder, []
        self.scheduler = self._start(SCHEDULER)
        self.address = self.scheduler.stdout.readline().strip()

    def work(self, seconds=0.0):
        """One worker more, which takes so long for a block; it comes when it has started."""
        return self._start(WORKER, self.address, seconds)

    def _start(self, code, *words):
        folder = self.folder / str(len(self.processes))
        folder.mkdir()
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=folder,
                env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(folder)},
            )
        self.processes.append(process)
        return process

    def end(self):
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def cluster(tmp_path):
    clusters = []

    def start():
        folder = tmp_path / f"cluster{len(clusters)}"
        folder.mkdir()
        clusters.append(Cluster(folder))
        return clusters[-1]

    yield start
    for one in clusters:
        one.end()


def request(place, name, **more):
    """A map in 16 blocks, and its probabilities."""
    here = place.folder
    alone = Preparation("none")
    files = place.before, place.after, here / name, here / f"p-{name}"
    return Request(*files, model="cva", preparation=alone, block=256, **more)


def test_workers_that_are_killed_or_come_late_change_nothing(make_place, cluster):
    one = cluster()
    first, second = one.work(0.2), one.work(0.2)
    place = make_place((900, 900), BANDS, hole=True)
    detect_files(request(place, "here.tif"))
    there, seen = Workers(scheduler=one.address), []

    def watch(done, of):
        seen.append(done)
        if done == 3:
            first.send_signal(signal.SIGKILL)
            one.work()
        if done == 6:
            second.send_signal(signal.SIGKILL)  # the rest is the late one's
        assert of == 16

    detect_files(request(place, "there.tif", workers=there), watch)
    assert seen[-1] == 16
    (place.folder / "pairs.csv").write_text("before,after,name\nbefore.tif,after.tif,p\n")
    listed, like = (
        read_pairs(place.folder / "pairs.csv"),
        request(place, "there.tif", workers=there),
    )
    assert run_batch(Batch(listed, place.folder / "out", like))["summary"]["done"] == 1
    assert (place.folder / "out/p/there.tif").read_bytes() == (
        place.folder / "here.tif"
    ).read_bytes()
    assert first.wait() == second.wait() == -signal.SIGKILL
    for name in ("there.tif", "p-there.tif"):
        local = place.folder / name.replace("there", "here")
        assert (place.folder / name).read_bytes() == local.read_bytes()


def test_a_scheduler_that_is_lost_is_named_and_the_same_command_continues(make_place, cluster):
    one = cluster()
    one.work(0.3)
    place = make_place((900, 900), BANDS)
    lost = request(place, "there.tif", workers=Workers(scheduler=one.address))

    def watch(done, of):
        if done == 3:
            one.scheduler.send_signal(signal.SIGKILL)

    with pytest.raises(LostError, match=f"The dask scheduler at {one.address} was lost"):
        detect_files(lost, watch)
    assert not (place.folder / "there.tif").exists()
    assert len(list((place.folder / ".there.tif.s2cd/probability/c").glob("*/*"))) >= 3
    other, seen = cluster(), []
    other.work()
    detect_files(
        request(place, "there.tif", workers=Workers(scheduler=other.address)),
        lambda done, of: seen.append(done),
    )
    assert seen[0] >= 3
    detect_files(request(place, "here.tif"))
    there, here = (place.folder / name for name in ("there.tif", "here.tif"))
    assert there.read_bytes() == here.read_bytes()
    assert not (place.folder / ".there.tif.s2cd").exists()


def test_a_block_that_kills_its_workers_ends_the_work_and_it_continues(
    make_place, cluster, monkeypatch
):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    one = cluster()
    one.work("die")
    place = make_place((300, 300), BANDS)
    there = Workers(scheduler=one.address)
    with pytest.raises(LostError, match="were killed, one after another, at one block"):
        detect_files(request(place, "there.tif", workers=there))
    one.work()
    detect_files(request(place, "there.tif", workers=there))
    detect_files(request(place, "here.tif"))
    there, here = (place.folder / name for name in ("there.tif", "here.tif"))
    assert there.read_bytes() == here.read_bytes()


def test_the_command_tells_a_lost_scheduler_in_one_line(make_place, cluster):
    one = cluster()
    one.work(0.3)
    place = make_place((900, 900), BANDS)
    words = ["detect", place.before, place.after, "-o", "c.tif", "--model", "cva", "--no-align"]
    words += ["--block-size", "256", "--scheduler", one.address]
    child = subprocess.Popen(
        [sys.executable, "-m", "s2cd", *map(str, words)],
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = place.folder / ".c.tif.s2cd" / "probability" / "c"
    until = time.monotonic() + 120
    while len(list(journal.glob("*/*"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    one.scheduler.send_signal(signal.SIGKILL)
    stdout, stderr = child.communicate(timeout=120)
    done = subprocess.CompletedProcess([], child.returncode, stdout, stderr)
    assert f"The dask scheduler at {one.address} was lost" in refused(done)
    assert journal.exists() and not (place.folder / "c.tif").exists()
