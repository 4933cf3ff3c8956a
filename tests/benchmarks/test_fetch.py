"""Fetching: as fast as four connections allow, in bounded memory, and through 200 faults."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from memory import peak_of

from s2cd.scenes.bands import BANDS
from s2cd.scenes.simulate import Simulation, write_product
from s2cd.scenes.simulate.product import _manifest

SERVERS = Path(__file__).parents[1] / "servers.py"
RATE = 20_000_000
SIZES = {10: 110_000_000, 20: 28_000_000, 60: 3_000_000}
"""Bytes of a band of a full tile by the size of its pixels in metres, as products have them."""
DATES = "2015-11-20,2020-11-28"
AOI = "72.066,23.462,72.083,23.479"


def archive(folder: Path, scale: float) -> Path:
    """Two small products whose band files are as long as those of full tiles, times ``scale``.

    A JP2 file may end in a box of type ``free``, which readers skip (ISO/IEC 15444-1, I.4).
    """
    folder.mkdir(parents=True)
    for index, baseline in enumerate(("05.00", "02.09")):
        root = write_product(Simulation(size=240, seed=3), index, folder, baseline)
        for path in root.glob("GRANULE/*/IMG_DATA/*.jp2"):
            length = int(SIZES[BANDS[path.stem[-3:]].resolution] * scale) - path.stat().st_size
            block = hashlib.sha256(path.name.encode()).digest() * 32768
            with path.open("ab") as file:
                file.write(struct.pack(">I4s", length, b"free"))
                for left in range(length - 8, 0, -len(block)):
                    file.write(block[:left])
        (root / "manifest.safe").unlink()
        (root / "manifest.safe").write_text(_manifest(root), encoding="utf-8")
    return folder


@contextmanager
def served(folder: Path, *options: object):
    """A server in a process of its own; gives its URL and a function that asks what it saw."""
    line = [sys.executable, SERVERS, folder, *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([str(word) for word in line], **pipes) as server:
        url = server.stdout.readline().strip()

        def state() -> dict[str, int]:
            server.stdin.write("state\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        try:
            yield url, state
        finally:
            server.communicate("end\n")


def downloading(url: str, folder: Path, out: Path) -> list[object]:
    """The command line of a process that brings both dates, without stacking them."""
    code = f"""
        import os, time
        from datetime import date
        from pathlib import Path
        os.environ |= {{"S2CD_GOOGLE_URL": {url!r}, "XDG_CACHE_HOME": {str(folder / "cache")!r}}}
        from s2cd.scenes.aoi import open_aoi
        from s2cd.sources.decide import choose
        from s2cd.sources.plan import Request
        from s2cd.sources.google import Google
        from s2cd.sources.source import Order
        order = Order(open_aoi({AOI!r}), Path({str(out)!r}))
        source = Google()
        days = [date.fromisoformat(day) for day in {DATES!r}.split(",")]
        pair = choose(source, Request(order, tuple(days)))
        began = time.monotonic()
        kept = source.download((pair.before, pair.after), order, lambda count: None)
        seconds = time.monotonic() - began
        Path({str(folder / "speed")!r}).write_text(f"{{sum(k.size for k in kept)}} {{seconds}}")
    """
    return [sys.executable, "-c", textwrap.dedent(code)]


@pytest.mark.enable_socket
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_four_connections_are_used_to_90_percent_within_200_mib(tmp_path, scale, figure):
    folder = archive(tmp_path / "archive", scale)
    with served(folder, "--rate", RATE) as (url, state):
        peak = peak_of(downloading(url, tmp_path, tmp_path / "out"))
        assert state()["most"] <= 4
    size, seconds = map(float, (tmp_path / "speed").read_text().split())
    share = size / seconds / (4 * RATE)
    print(
        f"{size / 1e6:.0f} MB in {seconds:.1f} s: {size / seconds / 1e6:.1f} MB/s, {share:.1%} of "
        f"4 x {RATE / 1e6:.0f} MB/s; peak {peak.mib:.0f} MiB (PSS)"
    )
    what = f"`fetch`, {size / 1e6:.0f} MB: share of four connections of {RATE / 1e6:.0f} MB/s"
    figure(what, f"{share:.1%}, {peak.mib:.0f} MiB", "90 %, 200 MiB")
    assert share >= 0.9
    assert peak.mib < 200


def start(url: str, work: Path) -> subprocess.Popen:
    """A fetch of both dates into ``work``/out, from the bucket at ``url``."""
    words = ["fetch", "--aoi", AOI, "--dates", DATES, "--source", "google", "-o", "out"]
    work.mkdir(exist_ok=True)
    environment = {"S2CD_GOOGLE_URL": url, "XDG_CACHE_HOME": str(work / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "s2cd", *words],
        cwd=work,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def result(child: subprocess.Popen, work: Path, url: str) -> dict[str, bytes]:
    """All that a fetch leaves, by name; the server's address, which differs, left out."""
    _, said = child.communicate()
    assert child.returncode == 0, said
    paths = [path for path in sorted((work / "out").rglob("*")) if path.is_file()]
    tree = {path.relative_to(work).as_posix(): path.read_bytes() for path in paths}
    tree["out/fetch.json"] = tree["out/fetch.json"].replace(url.encode(), b"URL")
    return tree


@pytest.mark.enable_socket
def test_faults_in_one_fetch_change_nothing(tmp_path):
    folder, trees = archive(tmp_path / "archive", 0.01), []
    for name, faults in (("plain", 0), ("faults", 200)):
        with served(folder, "--faults", faults, "--most", 7) as (url, state):
            began = time.monotonic()
            trees.append(result(start(url, tmp_path / name), tmp_path / name, url))
            print(f"{faults} faults: {time.monotonic() - began:.0f} s")
            assert state()["left"] == 0
    assert trees[0] == trees[1]


@pytest.mark.enable_socket
def test_killed_at_random_moments_the_same_command_completes(tmp_path, kills=4):
    folder, random, killed = archive(tmp_path / "archive", 0.01), Random(0), 0
    with served(folder, "--rate", 300_000) as (url, _):
        began = time.monotonic()
        plain = result(start(url, tmp_path / "plain"), tmp_path / "plain", url)
        took, number = time.monotonic() - began, 0
        while killed < kills:
            work, number = tmp_path / f"try{number}", number + 1
            for _ in range(2):
                child = start(url, work)
                time.sleep(random.uniform(0.1, 0.95) * took)
                child.kill()
                child.communicate()
                killed += child.returncode == -signal.SIGKILL
            assert result(start(url, work), work, url) == plain
    print(f"{killed} kills of a fetch of {took:.0f} s, in {number} folders")
