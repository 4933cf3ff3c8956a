"""Many pairs: what is asked for is checked, what fails is told, what is done is not done again."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from conftest import grid, refused
from typer.testing import CliRunner

from s2cd.cli.app import app
from s2cd.detection.batch import run as run_module
from s2cd.detection.batch.extras import Extra
from s2cd.detection.batch.jobs import jobs_within
from s2cd.detection.batch.pairs import read_pairs
from s2cd.detection.batch.run import Batch, run_batch
from s2cd.detection.batch.worker import Worker, made
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.prepare import Preparation
from s2cd.errors import LostError, S2cdError, UnwritableError
from s2cd.scenes.memory import _of_groups, free_memory
from s2cd.scenes.stack import stack_array, write_stack

GB = 1 << 30
RESULTS = {"probability": "probability.tif", "polygons": "changes.gpkg", "report": "report.html"}
BANDS = ("B02", "B03", "B04", "B08")


@pytest.fixture
def pairs(make_place, tmp_path):
    """Give a CSV of so many pairs of one small place each; every place is another one."""

    def make(count, shape=(120, 140), bands=BANDS):
        lines = ["name,before,after"]
        for number in range(count):
            place, folder = make_place(shape, bands, seed=number), tmp_path / f"place{number}"
            folder.mkdir()
            for path in (place.before, place.after):
                shutil.move(path, folder / path.name)
            lines.append(f"p{number},place{number}/before.tif,place{number}/after.tif")
        path = tmp_path / "pairs.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return make


@pytest.fixture
def here(monkeypatch):
    """Pairs are worked at in this process: what is decided does not depend on where."""

    class Here(Worker):
        def give(self, request, extras=()):
            ours, theirs = Pipe()
            theirs.send(made(request, extras))
            self._held = SimpleNamespace(kill=int, join=int), ours
            return ours

    monkeypatch.setattr(run_module, "Worker", Here)


def asked(path, folder, jobs=1, **options):
    """A batch as `s2cd batch` asks for it, without registration, which tests of it need not."""
    usual = {"model": "cva", "preparation": Preparation("none")}
    like = Request(Path("before"), Path("after"), Path("change.tif"), **(usual | options))
    return Batch(read_pairs(path), folder, like, jobs)


def states(record):
    return {pair["name"]: pair["state"] for pair in record["pairs"]}


def times(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/change.tif")}


def test_each_pair_is_as_detect_makes_it_and_one_that_fails_stops_no_other(run, pairs, tmp_path):
    csv = pairs(2)
    with csv.open("a") as file:
        file.write("lost,place0/before.tif,nowhere.tif\n")
    words = ("batch", csv, "-o", "out", "--model", "cva", "--jobs", "2")
    done = run(*words, "-p", "--polygons", "--report")
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: 1 of 3 pairs failed: out/batch.json says why. Mend them, and the same command does "
        "what is missing"
    ]
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["p0", "done"], ["p1", "done"], ["lost", "failed"],
    ]  # fmt: skip
    assert "nowhere.tif" in lines[3] and "line 4 of the CSV" in lines[3]
    assert lines[4].startswith("2 done, 1 failed")
    record = json.loads((tmp_path / "out/batch.json").read_text())
    assert record["schema"] == 1 and record["summary"]["failed"] == 1
    for number, pair in enumerate(record["pairs"][:2]):
        place, single = tmp_path / f"place{number}", tmp_path / f"single{number}.tif"
        said = detect_files(Request(place / "before.tif", place / "after.tif", single, model="cva"))
        change = tmp_path / "out" / pair["files"]["change"]["path"]
        assert change == tmp_path / f"out/p{number}/change.tif"
        assert change.read_bytes() == single.read_bytes()
        assert pair["files"]["change"]["bytes"] == change.stat().st_size
        for fact in ("changed_fraction", "observed_fraction", "changed_area_m2", "model"):
            assert pair[fact] == said[fact]
        assert set(pair["seconds"]) >= {"predict", "write"} and pair["error"] is None
        for role, name in RESULTS.items():
            file = tmp_path / "out" / pair["files"][role]["path"]
            assert file.name == name and file.stat().st_size == pair["files"][role]["bytes"]
        assert {p.name for p in change.parent.iterdir()} == {
            "change.tif",
            "changes.qml",
            *RESULTS.values(),
        }
        assert pair["seconds"]["polygons"] > 0
    assert not (tmp_path / "out/lost").exists()
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"p0", "p1", "batch.json", ".batch.lock"}


def test_started_again_it_does_only_what_is_missing_or_has_changed(here, pairs, tmp_path):
    csv, out = pairs(3), tmp_path / "out"
    first = run_batch(asked(csv, out))
    assert states(first) == dict.fromkeys(("p0", "p1", "p2"), "done")
    before = times(out)
    assert run_batch(asked(csv, out))["pairs"] == first["pairs"] and times(out) == before
    (out / "p1/change.tif").unlink()
    os.utime(tmp_path / "place2/after.tif")
    run_batch(asked(csv, out))
    after = times(out)
    assert [name for name in sorted(before) if after[name] != before[name]] == ["p1", "p2"]
    run_batch(asked(csv, out, threshold=0.7))
    assert all(times(out)[name] != after[name] for name in after)
    with rasterio.open(out / "p0/change.tif") as file:
        assert file.tags()["THRESHOLD"] == "0.7"


def test_what_failed_is_tried_again(here, pairs, tmp_path):
    csv, out = pairs(2), tmp_path / "out"
    after = tmp_path / "place0/after.tif"
    data = after.read_bytes()
    after.write_bytes(data[: len(data) // 2])
    record = run_batch(asked(csv, out))
    assert states(record) == {"p0": "failed", "p1": "done"}
    assert "after.tif" in record["pairs"][0]["error"]
    after.write_bytes(data)
    assert states(run_batch(asked(csv, out))) == {"p0": "done", "p1": "done"}


def test_a_file_that_no_batch_made_is_kept_unless_told(here, pairs, tmp_path):
    csv, out = pairs(1), tmp_path / "out"
    (out / "p0").mkdir(parents=True)
    mine = out / "p0/change.tif"
    mine.write_text("mine")
    for _ in range(2):
        record = run_batch(asked(csv, out))
        assert states(record) == {"p0": "failed"} and "--overwrite" in record["pairs"][0]["error"]
        assert mine.read_text() == "mine"
    assert states(run_batch(asked(csv, out, overwrite=True))) == {"p0": "done"}
    mine.write_text("edited since")
    assert states(run_batch(asked(csv, out))) == {"p0": "failed"}
    assert mine.read_text() == "edited since"


def note(request, path):
    path.write_text(request.change.parent.name)


def fail(request, path):
    raise S2cdError(f"{path.name} cannot be made")


def test_an_extra_is_made_for_each_pair_and_one_that_fails_fails_the_pair(here, pairs, tmp_path):
    csv, out = pairs(2), tmp_path / "out"
    batch = replace(asked(csv, out), extras=(Extra("note", "note.txt", note),))
    record = run_batch(batch)
    assert (out / "p1/note.txt").read_text() == "p1" and record["options"]["extras"] == ["note"]
    before = times(out)
    (out / "p0/note.txt").unlink()
    run_batch(batch)
    assert (out / "p0/note.txt").exists() and times(out)["p1"] == before["p1"]
    record = run_batch(replace(batch, extras=(Extra("page", "page.txt", fail),)))
    assert [pair["error"] for pair in record["pairs"]] == ["page.txt cannot be made"] * 2


def test_another_list_in_the_same_folder_forgets_nothing(here, pairs, tmp_path):
    csv, out = pairs(2), tmp_path / "out"
    run_batch(asked(csv, out))
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join([lines[0], lines[2]]))
    record = run_batch(asked(csv, out))
    assert states(record) == {"p1": "done"} and record["others"][0]["name"] == "p0"
    before = times(out)
    csv.write_text("\n".join(lines))
    assert states(run_batch(asked(csv, out))) == {"p0": "done", "p1": "done"}
    assert times(out) == before


def start(csv, *words):
    line = [sys.executable, "-m", "s2cd", "batch", csv, "-o", csv.parent / "out", "--model", "cva"]
    line += ["--no-align", "--jobs", "1", *words]
    return subprocess.Popen(
        [str(w) for w in line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(seen, seconds=60):
    until = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.005)


def test_killed_between_pairs_it_loses_at_most_the_pair_at_work(here, pairs, tmp_path):
    csv, out = pairs(4), tmp_path / "out"
    child = start(csv)
    wait_for((out / "p1/change.tif").exists)
    workers = children_of(child.pid)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), 5)
    record = json.loads((out / "batch.json").read_text())
    done = {name for name, state in states(record).items() if state == "done"}
    assert done >= {"p0"} and states(record)["p3"] == "waiting"
    before = times(out)
    assert run_batch(asked(csv, out))["summary"]["done"] == 4
    after = times(out)
    assert len(after) == 4 and all(after[name] == before[name] for name in done)
    for number in range(4):
        place, single = tmp_path / f"place{number}", tmp_path / "single.tif"
        detect_files(
            Request(place / "before.tif", place / "after.tif", single, model="cva",
                    preparation=Preparation("none"), overwrite=True)
        )  # fmt: skip
        assert single.read_bytes() == (out / f"p{number}/change.tif").read_bytes()


def test_ctrl_c_ends_all_its_processes_with_130_and_the_same_command_continues(
    here, pairs, tmp_path
):
    csv, out = pairs(3), tmp_path / "out"
    child = start(csv)
    wait_for((out / "p0/change.tif").exists)
    workers = children_of(child.pid)
    os.kill(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted: the same command continues"
    assert "Traceback" not in errors
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), 5)
    record = json.loads((out / "batch.json").read_text())
    assert record["summary"]["running"] == 0 and record["summary"]["waiting"] >= 1
    assert run_batch(asked(csv, out))["summary"]["done"] == 3


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def test_a_process_that_is_killed_fails_its_pair_alone(pairs, tmp_path, monkeypatch):
    csv, out = pairs(3), tmp_path / "out"
    give, given = Worker.give, []

    def killing(self, request, extras=()):
        connection = give(self, request, extras)
        given.append(request.change.parent.name)
        if given == ["p0", "p1"]:
            self._held[0].kill()
        return connection

    monkeypatch.setattr(Worker, "give", killing)
    record = run_batch(asked(csv, out))
    assert states(record) == {"p0": "done", "p1": "failed", "p2": "done"}
    assert "killed" in record["pairs"][1]["error"]


def test_a_cluster_that_is_lost_fails_no_pair(here, pairs, tmp_path, monkeypatch):
    csv, out = pairs(3), tmp_path / "out"
    run_batch(asked(csv, out))
    (out / "p1/change.tif").unlink()
    (out / "p2/change.tif").unlink()

    def lost(request):
        raise LostError("The dask scheduler was lost")

    with monkeypatch.context() as patch:
        patch.setattr("s2cd.detection.batch.worker.detect_files", lost)
        with pytest.raises(LostError, match="scheduler was lost"):
            run_batch(asked(csv, out))
    record = json.loads((out / "batch.json").read_text())
    assert [record["summary"][state] for state in ("done", "failed", "running")] == [2, 0, 0]
    assert states(run_batch(asked(csv, out))) == dict.fromkeys(("p0", "p1", "p2"), "done")


@pytest.mark.parametrize("room", [4096, 24_000])
def test_a_full_disk_is_said_and_the_same_batch_continues(here, pairs, disk, room):
    folder, resize = disk
    csv, out = pairs(3), folder / "out"
    resize(room)
    try:
        full = str(run_batch(asked(csv, out))["pairs"])
    except UnwritableError as e:
        full = str(e)
    assert "The disk is full" in full
    resize(64 << 20)
    assert states(run_batch(asked(csv, out))) == dict.fromkeys(("p0", "p1", "p2"), "done")
    assert {path.name for path in (out / "p0").iterdir()} == {"change.tif"}


def test_a_folder_is_held_by_one_batch(pairs, tmp_path):
    from s2cd.detection.journal import locked

    csv, out = pairs(1), tmp_path / "out"
    out.mkdir()
    with (
        locked(out / ".batch.lock", out),
        pytest.raises(S2cdError, match=r"out is being written by process \d+"),
    ):
        run_batch(asked(csv, out))


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": 1, "pairs": 3, "others": []}'])
def test_a_record_that_is_none_is_refused_and_kept(pairs, tmp_path, damage):
    csv, out = pairs(1), tmp_path / "out"
    out.mkdir()
    (out / "batch.json").write_text(damage)
    with pytest.raises(S2cdError, match="not the record of a batch"):
        run_batch(asked(csv, out))
    assert (out / "batch.json").read_text() == damage


def test_a_model_that_is_none_is_refused_before_any_work(pairs, tmp_path):
    with pytest.raises(S2cdError, match="no model 'magic'"):
        run_batch(asked(pairs(1), tmp_path / "out", model="magic"))
    assert not (tmp_path / "out/batch.json").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "line 1: no column 'before'"),
        (b"before,after\n", "lists no pair"),
        (b"before;after\na;b\n", "line 1: no column 'before'"),
        (b"before,later\na,b\n", "line 1: no column 'after'"),
        (b"before,after,after\na,b,c\n", "line 1: column 'after' is there twice"),
        (b"before,after\na.tif,\n", "line 2: no after"),
        (b"before,after\na.tif,b.tif,c.tif\n", "line 2: 3 cells"),
        (b"before,after\na\0.tif,b.tif\n", "line 2: before holds a control character"),
        (b"before,after,name\na,b,x\nc,d,X\n", "line 3: the pair is named 'X', and so is that of"),
        (b"before,after,name\na,b,x/y\n", "line 2: the name 'x/y' holds '/'"),
        (b"before,after,name\na,b,..\n", "line 2: the name '..' begins with a dot"),
        (b"before,after,name\na,b,batch.json\n", "line 2: batch.json is the record's name"),
        (b"before,after,name\na,b," + b"n" * 300 + b"\n", "too long"),
        (b"before,after\n\n\na,\xff\n", "not text in UTF-8"),
        (b'before,after\n"a,b\n', "cannot be read as CSV"),
        (b"before,after\n" + b"x" * 200_000 + b",b\n", "cannot be read as CSV"),
        ("before,after\na,b\n".encode("utf-16"), "not text in UTF-8"),
    ],
)
def test_a_hostile_list_gets_one_line_that_names_the_line(tmp_path, content, expected):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(S2cdError) as caught:
        read_pairs(path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_million_lines_are_refused_soon(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("before,after,name\n" + "".join(f"a,b,n{i}\n" for i in range(1_000_000)))
    began = time.monotonic()
    with pytest.raises(S2cdError, match="lists more than 100000 pairs"):
        read_pairs(path)
    assert time.monotonic() - began < 10


@pytest.fixture
def command():
    """The command line in this process, which leaves logging as it was."""
    logger = logging.getLogger("s2cd")
    level, handlers = logger.level, list(logger.handlers)
    yield lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    logger.setLevel(level)
    logger.handlers = handlers


def test_json_is_the_record_and_quiet_says_nothing(here, command, pairs, tmp_path):
    csv, out = pairs(1), tmp_path / "out"
    words = ["batch", csv, "-o", out, "--model", "cva", "--no-align"]
    done = command(*words, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((out / "batch.json").read_text())
    done = command(*words, "-q")
    assert (done.exit_code, done.output) == (0, "")


def test_no_list_is_refused_by_the_command(run, tmp_path):
    assert "pairs.csv does not exist" in refused(run("batch", "pairs.csv", "-o", "out"))
    assert "is no file" in refused(run("batch", tmp_path, "-o", "out"))
    assert not (tmp_path / "out").exists()


def test_names_come_from_the_column_or_from_the_files(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(
        b"\xef\xbb\xbf After , Before,label, name\r\n"
        b"vienna/after.tif,vienna/before.tif,x,\r\n"
        b"\r\n"
        b'"b, 2020.tif",/data/a2015.tif,,\r\n'
        b"x.tif,y.tif,, cairo \r\n"
    )
    found = read_pairs(path)
    assert [pair.name for pair in found] == ["vienna", "a2015_b, 2020", "cairo"]
    assert [pair.line for pair in found] == [2, 4, 5]
    assert found[0].before == tmp_path / "vienna/before.tif"
    assert str(found[1].before) == "/data/a2015.tif"


def test_jobs_fit_into_memory():
    assert jobs_within(64 * GB, 8) == 8
    assert jobs_within(14 * GB, 8) == 5
    assert jobs_within(8 * GB, 8) == 1
    assert jobs_within(1 * GB, 8) == 1
    assert jobs_within(64 * GB, 1) == 1
    assert jobs_within(64 * GB, 8, threads=8) == 5
    assert jobs_within(64 * GB, 8, products=2) == 7


def test_the_limit_of_a_control_group_counts(tmp_path):
    def group(name, **files):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (tmp_path / name / file.replace("__", ".")).write_text(text)

    group("", memory__max="max\n", memory__current="5\n", memory__stat="")
    assert list(_of_groups(tmp_path)) == []
    group("", memory__max="1000\n", memory__current="700\n", memory__stat="inactive_file 50\n")
    assert list(_of_groups(tmp_path)) == [350]
    old = {"memory__limit_in_bytes": "900", "memory__usage_in_bytes": "800"}
    group("memory", **old, memory__stat="cache 3\ntotal_inactive_file 10\n")
    assert list(_of_groups(tmp_path)) == [350, 110]
    assert 0 < free_memory() < 1 << 50


def test_warnings_of_a_pair_are_told_with_its_name_and_kept(tmp_path, caplog):
    flat = np.full((4, 120, 140), 0.2, np.float32)
    for name in ("a.tif", "b.tif"):
        write_stack(stack_array(flat, grid((120, 140)), BANDS), tmp_path / name)
    (tmp_path / "pairs.csv").write_text("before,after,name\na.tif,b.tif,flat\n")
    record = run_batch(asked(tmp_path / "pairs.csv", tmp_path / "out", preparation=Preparation()))
    assert "could not be measured" in record["pairs"][0]["warnings"][0]
    assert "flat: how the dates lie to each other could not be measured" in caplog.text


def test_maps_with_a_place_and_a_time_become_a_collection(run, pairs, tmp_path):
    pystac = pytest.importorskip("pystac")
    csv = pairs(3)
    for number in range(2):  # the third does not say when its dates were
        for year, name in ((2016, "before.tif"), (2021, "after.tif")):
            path = tmp_path / f"place{number}" / name
            with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
                file.update_tags(SENSING_TIME=f"{year}-06-01T05:41:22Z")
    done = run("batch", csv, "-o", "out", "--model", "cva", "--no-align", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "p2 is not in the collection" in done.stderr
    collection = pystac.Collection.from_file(str(tmp_path / "out/collection.json"))
    items = list(collection.get_items())
    assert len(items) == 2
    for item in items:
        assert item.properties["start_datetime"].startswith("2016-06-01")
        assert Path(item.assets["change"].get_absolute_href()).is_file()
        assert item.get_collection().id == collection.id
        scenes = [link.get_absolute_href() for link in item.get_links("derived_from")]
        assert [Path(scene).name for scene in scenes] == ["before.tif", "after.tif"]
        assert all(Path(scene).is_file() for scene in scenes)
