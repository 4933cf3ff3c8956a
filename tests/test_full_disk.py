"""On a full disk a command says so in one line; what was there stays, and the work is not lost."""

import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import refused
from test_bad_rasters import overheard
from typer.testing import CliRunner

from s2cd.cli.app import app
from s2cd.scenes.simulate import Simulation, write_band_files


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bands")
    write_band_files(Simulation(size=300, seed=1), 0, folder)
    return folder


@pytest.fixture
def commands(bands, make_place):
    """The words of each command that writes files, and the results that it leaves."""
    pair = make_place((600, 620), ("B02", "B03", "B04"))
    dates = [pair.before, pair.after]
    return {
        "stack": (["stack", bands, "-o", "s.tif"], ["s.tif"]),
        "detect": (
            ["detect", *dates, "-o", "c.tif", "--probability", "p.tif", "--block-size", "256"],
            ["c.tif", "p.tif"],
        ),
        "plot": (["plot", *dates, "-o", "r.png"], ["r.png"]),
    }


def invoke(words, folder):
    names = {"s.tif", "c.tif", "p.tif", "r.png"}
    line = [str(folder / word) if word in names else str(word) for word in words]
    stray: list[str] = []
    with overheard(stray):
        done = CliRunner().invoke(app, line)
    # libtiff prints these itself where GDAL closes a file; no handler of GDAL's is asked
    told = [line for line in stray[0].splitlines() if "Proc: No space left" not in line]
    assert told == []
    return done


def held(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def line_of(done):
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and done.stderr.splitlines()[-1] == lines[0], done.stderr
    return lines[0]


SHARES = {
    "stack": (0, 0.1, 0.5, 0.9, 0.98, 0.999, 1.02),
    "detect": (0, 0.4, 0.8, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 3.6),
    "plot": (0, 0.5, 0.98),
}
"""Of the space that the results need: beyond 1 where others are written first."""


@pytest.mark.parametrize("command", ["stack", "detect", "plot"])
def test_a_full_disk_leaves_earlier_results_as_they_were(command, commands, disk, tmp_path):
    (words, names), (folder, resize) = commands[command], disk
    assert invoke(words, tmp_path).exit_code == 0
    whole = {name: (tmp_path / name).read_bytes() for name in names}
    old = {name: b"what was there" * 300 for name in names}
    need = sum(len(data) for data in whole.values())
    refusals = 0
    for share in SHARES[command]:
        for name, data in old.items():
            (folder / name).write_bytes(data)
        resize(4096 * 2 * len(old) + share * need)
        done = invoke([*words, "--overwrite"], folder)
        if done.exit_code == 0:
            assert held(folder) == whole, share
            continue
        refusals += 1
        line = line_of(done)
        assert "disk is full" in line and "Free space" in line, line
        assert held(folder) == old, share
        if command != "detect":
            assert {p.name for p in folder.iterdir()} == set(names)
            continue
        resize(64 << 20)
        again = invoke([*words, "--overwrite"], folder)
        assert again.exit_code == 0 and held(folder) == whole, again.output
        assert {p.name for p in folder.iterdir()} == set(names)
    assert refusals > 2
    resize(64 << 20)
    assert invoke([*words, "--overwrite"], folder).exit_code == 0 and held(folder) == whole


def test_detect_continues_after_a_full_disk_without_computing_again(commands, disk, monkeypatch):
    words, (folder, resize) = commands["detect"][0], disk
    resize(200_000)
    assert "disk is full" in line_of(invoke(words, folder))
    chunks = list((folder / ".c.tif.s2cd").rglob("c/*/*"))
    assert chunks and not held(folder)
    resize(64 << 20)
    assert "continuing" in invoke(words, folder).stderr
    assert {p.name for p in folder.iterdir()} == {"c.tif", "p.tif"}


def limited(words, folder, most):
    """Run a command that may write no file beyond ``most`` bytes."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    line = [sys.executable, "-m", "s2cd", *map(str, words)]
    return subprocess.run(
        line, cwd=folder, preexec_fn=limit, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["stack", "detect", "plot"])
@pytest.mark.parametrize("most", [100, 20_000])
def test_a_limit_on_file_sizes_is_told_in_one_line(command, most, commands, tmp_path):
    words, names = commands[command]
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / names[0]).write_text("mine")
    line = refused(limited([*words, "--overwrite"], folder, most))
    assert "cannot be written" in line or "full" in line
    assert held(folder) == {names[0]: b"mine"}
    assert {p.name for p in folder.iterdir()} <= {names[0], ".c.tif.s2cd"}


def test_ctrl_c_keeps_the_journal_and_the_same_command_continues(make_place):
    place = make_place((900, 900))
    words = ["detect", place.before, place.after, "-o", "c.tif", "--probability", "p.tif"]
    line = [sys.executable, "-m", "s2cd", *map(str, words), "--block-size", "256"]
    line += ["--workers", "1"]
    names = ["c.tif", "p.tif"]
    assert subprocess.run(line, cwd=place.folder, capture_output=True, check=False).returncode == 0
    whole = [(place.folder / name).read_bytes() for name in names]
    for name in names:
        (place.folder / name).unlink()
    child = subprocess.Popen(line, cwd=place.folder, stderr=subprocess.PIPE, text=True)
    first = place.folder / ".c.tif.s2cd" / "probability" / "c" / "0" / "0"
    until = time.monotonic() + 60
    while not first.exists() and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in said, said
    assert first.exists() and not any((place.folder / name).exists() for name in names)
    done = subprocess.run(line, cwd=place.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "continuing" in done.stderr
    assert [(place.folder / name).read_bytes() for name in names] == whole
    assert np.sum([p.name.startswith(".c.tif") for p in place.folder.iterdir()]) == 0
