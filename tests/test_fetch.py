"""From an area to two stacks, out of a bucket on this machine."""

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from conftest import UTM, refused
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_bounds
from servers import Fault, Reply, bucket, bucket_files, serving, some_faults, unused_url
from test_choice import found
from test_masks import raster
from test_product import write_jp2
from typer.testing import CliRunner

from s2cd.cli.app import app
from s2cd.cli.fetch import _explain
from s2cd.errors import S2cdError, UnwritableError
from s2cd.scenes.aoi import open_aoi
from s2cd.scenes.bands import BANDS
from s2cd.scenes.product import open_product
from s2cd.scenes.simulate import Sheet, Simulation, write_metadata, write_product
from s2cd.scenes.stack import open_qa, open_stack
from s2cd.sources.choice import Pair
from s2cd.sources.decide import choose
from s2cd.sources.fetch import fetch
from s2cd.sources.google import Google
from s2cd.sources.http import Policy
from s2cd.sources.plan import Request
from s2cd.sources.source import Cost, Order, Scene, Search

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
SIZE = 240
QUICK = Policy(pause=0.01, longest_pause=0.05, read=5, tries=80, spoiled=60, most_tries=400)
DATES = date(2015, 11, 20), date(2020, 11, 28)


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """Two products with pixels, and metadata of others on other dates."""
    folder = tmp_path_factory.mktemp("archive")
    simulation = Simulation(size=SIZE, seed=3)
    for index, baseline in enumerate(("05.00", "02.09")):
        write_product(simulation, index, folder, baseline)
    for sheet in (
        Sheet(date(2015, 11, 20), SIZE, "02.04"),
        Sheet(date(2015, 11, 30), SIZE, "05.00", cloud=60.0),
        Sheet(date(2020, 11, 18), SIZE, "05.00", unit="B", cloud=35.5, orbit=105),
        Sheet(date(2021, 3, 18), SIZE, "05.00", unit="B", cloud=3.0),
    ):
        root = folder / f"{sheet.name}.SAFE"
        root.mkdir()
        write_metadata(root, sheet)
    return folder


@pytest.fixture
def files(archive):
    return bucket_files(sorted(archive.glob("*.SAFE")))


@pytest.fixture
def server(files, monkeypatch, tmp_path):
    with serving(bucket(files, page=7)) as server:
        monkeypatch.setenv("S2CD_GOOGLE_URL", server.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield server


@pytest.fixture
def area(archive) -> str:
    """A square within the simulated tile, as W,S,E,N."""
    product = open_product(next(archive.glob("S2A_MSIL1C_20151120*N0500*")))
    return box_of(product.geobox[60:180, 60:200])


def box_of(geobox: GeoBox) -> str:
    box = transform_bounds(geobox.crs.to_wkt(), "EPSG:4326", *geobox.boundingbox.bbox)
    return ",".join(f"{value:.6f}" for value in box)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: object, **environment: str):
        done = CliRunner().invoke(app, [str(word) for word in words], env=environment)
        lines = done.stderr.splitlines()
        assert done.exit_code != 1 or sum(line.startswith("error: ") for line in lines) == 1
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return invoke


def words(area: str, *more: object) -> list[object]:
    dates = ",".join(map(str, DATES))
    return ["fetch", "--aoi", area, "--dates", dates, "--source", "google", "-o", "out", *more]


def tree(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_an_area_becomes_two_stacks_and_then_a_map(server, area, call, tmp_path):
    done = call(*words(area))
    assert done.returncode == 0, done.stderr
    before, after = open_stack(tmp_path / "out/before.tif"), open_stack(tmp_path / "out/after.tif")
    assert before.shape == after.shape and before.odc.geobox == after.odc.geobox
    assert before.attrs["PRODUCT"].startswith("S2A_MSIL1C_20151120T054122_N0500_R005_T43QBF")
    assert after.attrs["PRODUCT"].startswith("S2B_MSIL1C_20201128T054122_N0209_R005_T43QBF")
    assert before.attrs["LICENCE"] == "contains modified Copernicus Sentinel data 2015"
    assert before.attrs["RADIO_ADD_OFFSET"] == "-1000" and "CLOUD_FRACTION" in before.attrs
    assert 0.01 < float(np.nanmedian(before.values)) < 0.6
    assert (open_qa(tmp_path / "out/before.tif").values & 1).all()
    mapped = call("detect", "out/before.tif", "out/after.tif", "-o", "change.tif")
    assert mapped.returncode == 0, mapped.stderr
    record = json.loads((tmp_path / "out/fetch.json").read_text())
    assert record["licence"] == "contains modified Copernicus Sentinel data 2015, 2020"
    assert record["source"] == "google" and record["before"]["orbit"] == 5
    bands = [file["path"] for file in record["before"]["files"] if file["path"].endswith(".jp2")]
    assert len(bands) == 13 and len(record["before"]["files"]) == 16
    assert all(file["url"].startswith(server.url) for file in record["after"]["files"])
    assert {file["checksum"][0] for file in record["after"]["files"]} == {"md5", "sha3-256"}


@pytest.fixture
def flat_product(tmp_path):
    """Write a product whose every band is constant, anywhere on the ground."""

    def make(dn: int, **changed) -> Path:
        sheet = Sheet(**{"day": DATES[0], "size": SIZE, **changed})
        root = tmp_path / "flat" / f"{sheet.name}.SAFE"
        (root / sheet.granule / "IMG_DATA").mkdir(parents=True)
        for name, band in BANDS.items():
            side = SIZE * 10 // band.resolution
            values = np.full((side, side), dn, np.uint16)
            write_jp2(root / sheet.band_file(name), values, sheet, band.resolution)
        write_metadata(root, sheet)
        return root

    return make


def test_tiles_of_one_date_go_together_and_coverage_is_said(
    server, files, flat_product, call, tmp_path
):
    north = 199980, 2600040 + 10 * SIZE - 400  # overlaps the other tile by 400 m
    for day, unit in zip(DATES, "AB", strict=True):
        made = [
            flat_product(3000, day=day, unit=unit),
            flat_product(2000, day=day, unit=unit, tile="43QBG", corner=north),
        ]
        files |= bucket_files(made)
    files_of_day = {key: path for key, path in files.items() if "flat" in str(path)}
    server.app = bucket(files_of_day)
    wide = box_of(GeoBox((500, SIZE + 40), Affine(10, 0, 199980, 0, -10, 2602040), UTM))
    line = words(wide, "--bands", "B02,B11", "--no-clouds")
    done = call(*line)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/fetch.json").read_text())
    assert [p["tile"] for p in record["before"]["products"]] == ["43QBF", "43QBG"]
    assert "% of the area is covered" in done.stderr and record["before"]["coverage"] < 0.95
    stack = open_stack(tmp_path / "out/before.tif")
    seen = np.unique(stack.values[0][np.isfinite(stack.values[0])])
    assert seen == pytest.approx([0.1, 0.2])


def test_stacks_of_two_tiles_lie_on_one_grid(server, files, flat_product, tmp_path):
    north = 199980, 2600040 + 5 * SIZE  # overlaps the other tile by 1200 m
    made = [
        flat_product(3000, day=DATES[0], unit="A"),
        flat_product(2000, day=DATES[1], unit="B", tile="43QBG", corner=north),
    ]
    server.app = bucket(bucket_files(made))
    shared = box_of(GeoBox((80, 100), Affine(10, 0, 200500, 0, -10, 2599900), UTM))
    record = brought(shared, tmp_path / "out")
    tiles = [record[key]["products"][0]["tile"] for key in ("before", "after")]
    assert tiles == ["43QBF", "43QBG"]
    before, after = (open_stack(tmp_path / "out" / name) for name in ("before.tif", "after.tif"))
    assert before.odc.geobox == after.odc.geobox
    assert np.isfinite(before.values).all() and np.isfinite(after.values).all()


def request_of(area: str, folder: Path, **changed) -> Request:
    return Request(Order(open_aoi(area), folder, **changed), DATES)


def brought(area: str, folder: Path, policy: Policy = QUICK, **changed) -> dict:
    """A fetch in this process, of three bands and without clouds unless asked otherwise."""
    usual = {"bands": ("B02", "B08", "B11"), "clouds": False}
    source, request = Google(policy), request_of(area, folder, **{**usual, **changed})
    return fetch(source, request, choose(source, request), lambda count: None)


def test_the_same_again_asks_for_nothing(server, area, call, tmp_path):
    line = words(area, "--bands", "B02,B08", "--no-clouds")
    assert call(*line).returncode == 0
    before, asked = tree(tmp_path / "out"), len(server.seen)
    again = call(*line, "--json")
    assert again.returncode == 0 and len(server.seen) == asked
    assert tree(tmp_path / "out") == before
    said = json.loads(again.stdout)
    assert said["before"] == "out/before.tif" and said["after_date"] == "2020-11-28"


def test_what_is_broken_or_missing_is_brought_again_and_nothing_else(server, area, tmp_path):
    out = tmp_path / "out"
    brought(area, out)
    whole = tree(out)
    bands = sorted((out / "products").glob("*/GRANULE/*/IMG_DATA/*.jp2"))
    bands[0].unlink()
    content = bytearray(bands[1].read_bytes())
    content[len(content) // 2] ^= 1
    bands[1].write_bytes(content)
    (out / "after.tif").write_bytes(b"")
    server.seen.clear()
    brought(area, out)
    assert tree(out) == whole
    got = sorted(asked.path.rsplit("/", 1)[1] for asked in server.asked("jp2$"))
    assert got == sorted(path.name for path in bands[:2])


def test_metadata_without_a_checksum_is_looked_at_and_comes_again(server, area, tmp_path):
    plain, out = server.app, tmp_path / "out"

    def silent(asked):
        reply = plain(asked)
        if asked.path != "/":
            return reply
        return replace(reply, body=re.sub(rb"<(Size|ETag)>.*?</\1>", b"", reply.body))

    server.app = silent
    brought(area, out)
    whole = tree(out)
    manifest = next((out / "products").glob("*_N0500_*/manifest.safe"))
    manifest.write_bytes(manifest.read_bytes()[:-40])
    server.seen.clear()
    brought(area, out)
    assert tree(out) == whole
    assert [asked.path.rsplit("/", 1)[1] for asked in server.asked("SAFE/")] == ["manifest.safe"]


def test_other_bands_dates_or_areas_are_another_fetch(server, area, call, tmp_path):
    brought(area, tmp_path / "out")
    line = words(area, "--bands", "B02,B08", "--no-clouds")
    assert not list((tmp_path / "out").rglob("*.part"))
    assert "holds another fetch (bands" in refused(call(*line))
    line = words("72.0,23.4,72.1,23.5", "--bands", "B02,B08,B11", "--no-clouds")
    assert "another fetch (aoi" in refused(call(*line))


def test_what_another_version_noted_is_one_line_or_written_anew(server, area, call, tmp_path):
    brought(area, tmp_path / "out", bands=("B02",))
    line = words(area, "--bands", "B02", "--no-clouds")
    plan, record = tmp_path / "out/.fetch.json", tmp_path / "out/fetch.json"
    whole, old = json.loads(plan.read_text()), json.loads(record.read_text())
    old["before"]["stack"]["checksum"][0] = "crc-of-a-later-version"
    lacks = json.dumps({key: value for key, value in old.items() if key != "notes"})
    for text in (json.dumps(old), lacks, '{"before": {"files": ["x"], "stack": 1}}', "[" * 10**5):
        record.write_text(text)
        assert call(*line).returncode == 0 and json.loads(record.read_text())["notes"] == []
    asked = {**whole["request"]}
    del asked["bands"], asked["window_days"]
    plan.write_text(json.dumps({**whole, "request": asked}))
    assert "holds another fetch (window_days of another kind" in refused(call(*line))
    for changed in ({"request": ["aoi"]}, {"stacks": None}, {"pair": {"before": []}}):
        plan.write_text(json.dumps({**whole, **changed}))
        assert "cannot be read. Remove it" in refused(call(*line))


def test_a_folder_with_other_stacks_is_left_alone(server, area, call, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/before.tif").write_bytes(b"mine")
    assert "holds before.tif, which no fetch of s2cd left" in refused(call(*words(area)))
    assert (tmp_path / "out/before.tif").read_bytes() == b"mine" and not server.seen


def test_a_name_that_is_no_folder_is_told_before_anything_is_asked(server, area, call, tmp_path):
    (tmp_path / "afile").write_bytes(b"mine")
    for name, said in (
        ("afile", "afile is a file. Name a folder: -o"),
        ("afile/out", "afile is a file"),
        ("x" * 300, "cannot be looked into: File name too long"),
    ):
        for more in ([], ["--dry-run"]):
            assert said in refused(call(*words(area, *more)[: -1 - len(more)], name, *more))
    assert not server.seen and (tmp_path / "afile").read_bytes() == b"mine"


def test_two_fetches_do_not_share_a_folder(server, area, tmp_path):
    import fcntl

    brought(area, tmp_path / "out")
    (tmp_path / "out/fetch.json").unlink()
    with (tmp_path / "out" / ".fetch.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(S2cdError, match="Another fetch is at work"):
            brought(area, tmp_path / "out")


def test_of_two_commands_in_one_folder_the_second_is_told(server, area, call, tmp_path):
    line = words(area, "--bands", "B02,B08", "--no-clouds")
    plain, told = server.app, threading.Event()

    def slow(asked):
        if asked.path.endswith("jp2"):
            told.wait(60)
        return plain(asked)

    server.app = slow
    command = [sys.executable, "-m", "s2cd", *map(str, line)]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out/.fetch.lock").exists():
        assert first.poll() is None
        time.sleep(0.005)
    assert "Another fetch is at work in out. Wait for it" in refused(call(*line))
    told.set()
    assert first.wait(60) == 0, first.stderr.read()
    first.stderr.close()
    assert call(*line).returncode == 0


def test_a_disk_that_knows_no_locks_is_told_as_that(server, area, tmp_path, monkeypatch):
    import fcntl

    def fail(handle, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(UnwritableError, match="No locks available"):
        brought(area, tmp_path / "out")


def test_a_fetch_that_failed_before_any_file_binds_nothing(server, area, call, tmp_path):
    server.plan(Fault("cut", r"manifest\.safe", after=100), Fault("status", "manifest", 99, 403))
    line = words(area, "--bands", "B02", "--no-clouds")
    assert "refuses" in refused(call(*line)) and (tmp_path / "out/.fetch.json").exists()
    left = tmp_path / "out/products/x/.manifest.safe.part"  # which thread fails first is chance
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"cut")
    server.faults.clear()
    record = brought(area, tmp_path / "out")
    assert record["request"]["bands"] == ["B02", "B08", "B11"]
    assert "holds another fetch (bands" in refused(call(*line))


def test_a_dry_run_says_what_it_would_bring_and_writes_nothing(server, area, call, tmp_path, files):
    done = call(*words(area, "--dry-run"))
    assert done.returncode == 0 and not (tmp_path / "out").exists()
    wanted = [
        path
        for key, path in files.items()
        if "T05412" in key and ("_N0500_R005_T43QBF_20151120" in key or "_N0209_" in key)
        if key.endswith((".jp2", "MTD_MSIL1C.xml", "MTD_TL.xml", "manifest.safe"))
        if "QI_DATA" not in key
    ]
    total = sum(path.stat().st_size for path in wanted)
    assert len(wanted) == 32 and f"{total} bytes would be brought" in done.stdout
    table = done.stdout.splitlines()
    assert table[0].split() == ["date", "cloud", "covers", "orbit", "size", "product"]
    assert table[1].split()[:4] == ["2015-11-20", "~0.0", "%", "100.0"]
    assert "both of relative orbit 5, 8 days apart in the year" in table[3]
    said = json.loads(call(*words(area, "--dry-run", "--json")).stdout)
    assert said["bytes"] == total and len(said["items"]["features"]) == 2


def test_orbits_and_days_between_are_said_whatever_they_are(server, area, capsys):
    scenes = [found("2015-11-20", orbit=5), found("2020-12-20", orbit=105)]
    pair = Pair(*(Scene((one,), 1.0, 0.0) for one in scenes))
    _explain(pair, (Cost(10), Cost(20)), Google(QUICK), True)
    assert "relative orbits 5, 105, 30 days apart in the year" in capsys.readouterr().out


def test_a_dry_run_counts_what_is_still_to_come(server, area, call, tmp_path):
    line = words(area, "--bands", "B02,B08", "--no-clouds")
    plan = json.loads(call(*line, "--dry-run", "--json").stdout)["bytes"]
    assert call(*line).returncode == 0
    assert json.loads(call(*line, "--dry-run", "--json").stdout)["bytes"] == 0
    first, second = sorted((tmp_path / "out").rglob("*_B0[28].jp2"))[:2]
    missing = first.stat().st_size + second.stat().st_size - 1000
    first.unlink()
    second.rename(second.with_name(f".{second.name}.part"))
    os.truncate(second.with_name(f".{second.name}.part"), 1000)
    said = f"{missing} bytes would be brought; {plan - missing} are there already"
    assert said in call(*line, "--dry-run").stdout


def test_search_lists_the_best_first_and_as_stac_items(server, area, call):
    line = ["search", "--aoi", area, "--start", "2015-01-01", "--end", "2021-12-31"]
    done = call(*line)
    assert done.returncode == 0, done.stderr
    rows = [row.split() for row in done.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == ["2020-11-28", "2015-11-20", "2021-03-18"]
    assert [row[1] for row in rows] == ["~0.0", "~0.0", "~3.0"]
    done = call(*line, "--max-cloud", "100", "--json")
    items = json.loads(done.stdout)["features"]
    assert [item["properties"]["eo:cloud_cover"] for item in items] == [0, 0, 3, 35.5, 60]
    first = items[0]
    assert first["id"].startswith("S2B_MSIL1C_20201128") and first["stac_version"] == "1.1.0"
    assert first["properties"]["datetime"] == "2020-11-28T05:41:22Z"
    assert first["properties"]["grid:code"] == "MGRS-43QBF"
    assert first["geometry"]["type"] == "Polygon" and len(first["bbox"]) == 4


def test_metadata_of_candidates_is_read_once(server, area, call):
    line = ["search", "--aoi", area, "--start", "2015-01-01", "--end", "2021-12-31"]
    call(*line)
    read = len(server.asked("MTD_MSIL1C.xml"))
    assert read == 5  # of one datatake in two baselines only the higher
    call(*line)
    assert len(server.asked("MTD_MSIL1C.xml")) == read


def test_both_datastrips_of_a_tile_are_found(server, files, area):
    request = request_of(area, Path("out"))
    names = {key.split("/")[4] for key in files if "_N0500_" in key and "20151120" in key}
    (name,) = names
    later = name[:-20] + "20231009T000000.SAFE"
    for key in [key for key in files if name in key]:
        files[key.replace(name, later)] = files[key]
    found = Google(QUICK).find(Search(request.order.aoi, (DATES,)))
    assert {one.name for one in found if one.day == DATES[0]} == {name[:-5], later[:-5]}


def test_nothing_found_says_what_was_searched_and_what_would_help(server, area, call):
    said = refused(call("search", "--aoi", area, "--start", "2016-01-01", "--end", "2016-02-01"))
    assert "No Level-1C product with at most 20 % cloud" in said and "43QBF" in said
    assert "2016-01-01 to 2016-02-01 in google" in said and "Give other dates" in said
    line = ["fetch", "--aoi", area, "--dates", "2016-06-01,2020-11-28", "-o", "out"]
    assert "2016-05-17 to 2016-06-16" in refused(call(*line))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dates", "2020-11-28,2015-11-20"], "BEFORE is not before AFTER"),
        (["--dates", "2020-11-28"], "Give two"),
        (["--dates", "28.11.2020,2021"], "is no date"),
        (["--dates", "2020-W01-1,2021-01-01"], "is no date"),
        (["--dates", "20200101,2021-02-30"], "is no date"),
        (["--dates", "2020-01-01,2021-02-30"], "is no date"),
        (["--dates", "0001-01-01,2020-01-01"], "0001-01-01 is beyond Sentinel-2. Give one from"),
        (["--dates", "2020-01-01,9999-12-31"], "9999-12-31 is beyond Sentinel-2"),
        (["--source", "nasa"], "no source 'nasa'"),
    ],
)
def test_words_that_contradict_each_other_are_wrong_usage(call, more, said):
    done = call("fetch", "--aoi", "72,23,72.1,23.1", "-o", "out", *more)
    assert done.returncode == 2 and said in done.stderr


def test_an_unknown_area_names_those_that_ship(call):
    said = refused(call("fetch", "--aoi", "atlantis"))
    assert "There is no AOI atlantis" in said and "ahmedabad.geojson" in said


def test_no_network_is_one_line(area, call, tmp_path):
    said = refused(
        call("search", "--aoi", area, S2CD_GOOGLE_URL=unused_url(), XDG_CACHE_HOME=str(tmp_path))
    )
    assert "could not be had: 3 tries" in said and "no connection" in said


def test_an_address_that_is_not_encrypted_is_refused(area, call):
    said = refused(call("search", "--aoi", area, S2CD_GOOGLE_URL="http://example.com/b"))
    assert "S2CD_GOOGLE_URL" in said and "not encrypted" in said


@pytest.mark.parametrize("seed", [0, 1])
def test_many_faults_in_one_fetch_change_nothing(server, area, tmp_path, seed):
    brought(area, tmp_path / "plain")
    whole = tree(tmp_path / "plain")
    shutil.rmtree(tmp_path / "cache")
    server.plan(*some_faults(65, seed))
    brought(area, tmp_path / "out")
    assert server.left == 0 and tree(tmp_path / "out") == whole


def interrupted(line, folder: Path, sign: int, moment) -> tuple[int, str]:
    """A fetch in another process, sent a signal at some moment: its exit code and what it said."""
    command = [sys.executable, "-m", "s2cd", *map(str, line)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not moment():
            time.sleep(0.002)
        child.send_signal(sign)
        _, said = child.communicate(timeout=60)
    return child.returncode, said


def lie_in(folder: Path, pattern: str) -> bool:
    """Whether there are such files, in folders that come and go."""
    with suppress(FileNotFoundError):
        return any(folder.rglob(pattern))
    return False


def test_killed_at_any_moment_it_continues(server, area, tmp_path):
    three = {"bands": ("B02", "B08", "B11"), "clouds": False}
    brought(area, tmp_path / "plain", **three)
    out, server.rate = tmp_path / "out", 50_000
    line = words(area, "--bands", "B02,B08,B11", "--no-clouds")
    for moment in (lambda: lie_in(out, "*.part"), lambda: lie_in(out, "*.jp2")):
        assert interrupted(line, tmp_path, signal.SIGKILL, moment)[0] == -signal.SIGKILL
        assert not (out / "fetch.json").exists()
    brought(area, out, **three)
    assert tree(out) == tree(tmp_path / "plain")


def test_ctrl_c_is_130_and_the_same_command_continues(server, area, call, tmp_path):
    server.rate = 20_000
    line = words(area, "--bands", "B02,B08", "--no-clouds")
    code, said = interrupted(
        line, tmp_path, signal.SIGINT, lambda: lie_in(tmp_path / "out", "*.part")
    )
    assert code == 130 and "the same command continues" in said
    server.rate = None
    assert call(*line).returncode == 0


def test_a_full_disk_is_one_line_and_with_room_it_continues(server, area, disk):
    folder, resize = disk
    resize(60_000)
    with pytest.raises(S2cdError, match="The disk is full"):
        brought(area, folder / "out")
    assert not list(folder.rglob("fetch.json"))
    resize(64 << 20)
    assert brought(area, folder / "out")["before"]["date"] == "2015-11-20"


def test_a_disk_that_is_full_while_stacks_are_written_is_one_line(server, area, disk):
    folder, resize = disk
    out = folder / "out"

    class Narrow(Google):
        """A source after whose files the disk holds next to nothing more."""

        def download(self, *given):
            kept = super().download(*given)
            resize(sum(path.stat().st_blocks * 512 for path in out.rglob("*")) + 40_960)
            return kept

    source, request = Narrow(QUICK), request_of(area, out, bands=("B02", "B08"), clouds=False)
    with pytest.raises(S2cdError, match=r"The disk is full: .*before\.tif was not written"):
        fetch(source, request, choose(source, request), lambda count: None)
    assert not list(out.glob("*.tif")) and not list(out.glob(".*.partial"))
    resize(64 << 20)
    server.seen.clear()
    assert brought(area, out, bands=("B02", "B08"))["before"]["stack"]["path"] == "before.tif"
    assert not server.asked("jp2$")


def test_a_disk_without_room_is_told_before_anything_comes(server, area, call, disk):
    folder, resize = disk
    resize(60_000)
    line = words(area)
    line[line.index("out")] = folder / "out"
    assert "GB free" in refused(call(*line)) and not server.asked("jp2$")
    (folder / "out").mkdir()
    with (folder / "out/mine.bin").open("wb") as file:
        file.truncate(1 << 30)  # a hole: what is not the fetch's gives it no room
    assert "GB free" in refused(call(*line)) and not server.asked("jp2$")


def test_a_product_that_lacks_a_band_is_told(server, files, area, tmp_path):
    (key,) = [key for key in files if key.endswith("20151120T054122_B08.jp2")]
    del files[key]
    with pytest.raises(S2cdError, match="not complete where it was looked for: B08 is missing"):
        brought(area, tmp_path / "out")


@pytest.mark.parametrize("name", ["_B08.jp2", "MTD_TL.xml"])
def test_a_product_with_two_granules_is_told(server, files, area, tmp_path, name):
    (key,) = [k for k in files if k.endswith(name) and "20151120" in k and "_N0500_" in k]
    files[key.replace("GRANULE/L1C", "GRANULE/L1D")] = files[key]
    what = name.removeprefix("_").removesuffix(".jp2")
    with pytest.raises(S2cdError, match=f"not complete .*: {what} is there 2 times"):
        brought(area, tmp_path / "out")


def test_a_band_of_another_place_never_gets_its_name(server, files, area, tmp_path, archive):
    product = next(archive.glob("S2A_MSIL1C_20151120*N0500*"))
    (key,) = [key for key in files if product.name in key and key.endswith("MTD_TL.xml")]
    moved = files[key].read_text().replace("<ULX>199980</ULX>", "<ULX>199920</ULX>")
    files[key] = moved.encode()
    manifest = key.split("/GRANULE")[0] + "/manifest.safe"
    text = files[manifest].read_text()
    old = hashlib.sha3_256((product / key.split(".SAFE/")[1]).read_bytes()).hexdigest()
    files[manifest] = text.replace(old, hashlib.sha3_256(files[key]).hexdigest()).encode()
    quick = Policy(pause=0.001, longest_pause=0.001, tries=2)
    with pytest.raises(S2cdError, match="lies elsewhere"):
        brought(area, tmp_path / "out", quick)
    assert not list((tmp_path / "out").rglob("T43QBF_20151120*_B02.jp2"))


def test_a_listing_and_a_manifest_that_contradict_each_other_are_told(
    server, files, area, tmp_path
):
    (key,) = [key for key in files if key.endswith("20151120T054122_B08.jp2")]
    files[key] = files[key].read_bytes() + b"more"
    with pytest.raises(S2cdError, match="the product's manifest says"):
        brought(area, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("manifest.safe", {"_MOST_MANIFEST": 100}),
        ("MTD_TL.xml", {"_MOST": {"jp2": 1 << 30, "xml": 100}}),
        ("_B08.jp2", {"_MOST": {"jp2": 100, "xml": 1 << 20}}),
    ],
)
def test_files_larger_than_any_are_not_brought(server, area, tmp_path, monkeypatch, name, most):
    for key, value in most.items():
        monkeypatch.setattr(f"s2cd.sources.products.{key}", value)
    with pytest.raises(S2cdError, match="as no file of its kind has"):
        brought(area, tmp_path / "out")
    assert not server.asked(f"20151120.*{name}")


def test_a_file_of_unknown_size_has_a_bound(server, area, tmp_path, monkeypatch):
    plain = server.app

    def silent(asked):
        reply = plain(asked)
        if asked.path == "/":
            return replace(reply, body=re.sub(rb"<Size>\d+</Size>", b"", reply.body))
        return reply

    server.app = silent
    assert brought(area, tmp_path / "out")["source"] == "google"
    monkeypatch.setattr("s2cd.sources.products._MOST_MANIFEST", 100)
    with pytest.raises(S2cdError, match="more than 100 bytes"):
        brought(area, tmp_path / "other", Policy(pause=0.01, tries=2, spoiled=2))


HOSTILE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">
<!ENTITY b "&a;&a;">]><x>&b;</x>"""


@pytest.mark.parametrize("name", ["MTD_MSIL1C.xml", "MTD_TL.xml", "manifest.safe"])
def test_xml_that_declares_entities_is_refused(server, files, area, tmp_path, name):
    for key in [key for key in files if key.endswith(name) and "20151120" in key]:
        files[key] = HOSTILE
    quick = Policy(pause=0.001, longest_pause=0.001, tries=2)
    with pytest.raises(S2cdError) as told:
        brought(area, tmp_path / "out", quick)
    assert "root:" not in str(told.value) and len(str(told.value).splitlines()) == 1


def test_names_that_lead_out_of_the_product_are_refused(server, files, area, tmp_path):
    start = next(k for k in files if "20151120" in k and "_N0500_" in k).split(".SAFE/")[0]
    for name in ("../../../../evil.jp2", "GRANULE/x/IMG_DATA/..\\evil_B02.jp2"):
        files[f"{start}.SAFE/{name}"] = b"evil"
        with pytest.raises(S2cdError, match="strange name"):
            brought(area, tmp_path / "out")
        del files[f"{start}.SAFE/{name}"]
    assert not list(tmp_path.rglob("evil*"))


def test_a_listing_that_never_ends_is_told(server, area, call, monkeypatch):
    page = "<ListBucketResult><IsTruncated>true</IsTruncated>{}</ListBucketResult>"
    count = iter(range(10**6))

    def endless(asked):
        prefix = f"{asked.query['prefix']}{next(count):09d}/"
        part = f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"
        return Reply(page.format(part).encode(), kind="application/xml", ranges=False)

    server.app = endless
    with pytest.raises(S2cdError, match="without end"):
        choose(Google(QUICK), request_of(area, Path("out")))


def test_names_that_are_no_products_are_passed_over(server, files, area):
    request = request_of(area, Path("out"))
    plain = choose(Google(QUICK), request)
    key = next(key for key in files if "_N0500_" in key and key.endswith("MTD_MSIL1C.xml"))
    for odd in ("20151399T054122", "20151120T256199", "2015112\u0660T054122"):
        files[re.sub(r"MSIL1C_\w{15}_", f"MSIL1C_{odd}_", key, count=1)] = files[key]
    server.seen.clear()
    assert choose(Google(QUICK), request) == plain
    assert not server.asked("20151399|256199|\u0660")


def test_a_page_of_html_in_place_of_a_listing_is_told(server, area):
    server.plan(Fault("html", times=10**6))
    quick = Policy(pause=0.001, longest_pause=0.001, tries=2)
    with pytest.raises(S2cdError, match=r"2 x a page of HTML"):
        choose(Google(quick), request_of(area, Path("out")))


def test_a_broken_cache_is_no_harm(server, area, tmp_path):
    source = Google(QUICK)
    first = choose(source, request_of(area, Path("out")))
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            path.write_bytes(HOSTILE)
    assert choose(Google(QUICK), request_of(area, Path("out"))) == first


def test_a_cache_with_a_turned_bit_is_no_harm(server, area, tmp_path):
    first = choose(Google(QUICK), request_of(area, Path("out")))
    turned = 0
    for path in (path for path in (tmp_path / "cache").rglob("*") if path.is_file()):
        content = path.read_bytes()
        other = content.replace(b">5</SENSING_ORBIT", b">7</SENSING_ORBIT")
        turned += other != content
        path.write_bytes(other)
    assert turned >= 2 and choose(Google(QUICK), request_of(area, Path("out"))) == first


def test_without_a_home_nothing_is_kept_and_all_is_found(server, area, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    first = choose(Google(QUICK), request_of(area, Path("out")))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert choose(Google(QUICK), request_of(area, Path("out"))) == first


def test_the_cloud_over_the_area_counts_more_than_that_of_the_whole_product(
    server, files, area, tmp_path, call
):
    days = {date(2015, 11, 10): 5.0, date(2015, 11, 22): 30.0, DATES[1]: 0.0}
    for day, cloud in days.items():
        sheet = Sheet(day, SIZE, cloud=cloud)
        root = tmp_path / "sky" / f"{sheet.name}.SAFE"
        (root / sheet.granule / "QI_DATA").mkdir(parents=True)
        cloudy = (slice(0, 40), slice(0, 40)) if cloud == 5 else (slice(0, 2), slice(0, 40))
        (root / sheet.granule / "QI_DATA" / "MSK_CLASSI_B00.jp2").write_bytes(raster(cloudy, 40))
        write_metadata(root, sheet)
    server.app = bucket(bucket_files(sorted((tmp_path / "sky").iterdir())))
    pair = choose(Google(QUICK), request_of(area, Path("out")))
    assert pair.before.day == date(2015, 11, 22) and pair.before.cloud == 0
    asked = len(server.seen)
    assert choose(Google(QUICK), request_of(area, Path("out"))) == pair
    assert not [one for one in server.seen[asked:] if "MSK" in one.path]  # kept in the cache


def test_around_given_dates_every_mask_is_read(area):
    class Sky:
        """Days of which only the cloudiest by its metadata is clear over the area."""

        name, looked = "sky", []

        def find(self, search):
            return [one for one in skies if search.keeps(one)]

        def clouds_over(self, parts):
            self.looked += [one.name for one, _ in parts]
            return [0.0 if one.cloud == 90 else 80.0 for one, _ in parts]

    outline = open_aoi(area).outline.buffer(0.1)
    days = [date(2015, 11, n) for n in range(8, 24)] + [DATES[1]]
    skies = [found(str(day), 90.0 if day.day == 23 else 10.0, footprint=outline) for day in days]
    pair = choose(Sky(), request_of(area, Path("out")))
    assert pair.before.day == date(2015, 11, 23) and len(Sky.looked) == len(days)


def test_a_mask_that_is_none_leaves_its_date_in_the_search(server, files, area, tmp_path):
    sheet = Sheet(date(2015, 11, 22), SIZE, cloud=1.0)
    root = tmp_path / "sky" / f"{sheet.name}.SAFE"
    (root / sheet.granule / "QI_DATA").mkdir(parents=True)
    mask = root / sheet.granule / "QI_DATA" / "MSK_CLOUDS_B00.gml"
    mask.write_text("<g:Polygon xmlns:g='g'><g:posList>nan 1 2 nan 3 4 5 6</g:posList></g:Polygon>")
    write_metadata(root, sheet)
    files |= bucket_files([root])
    found = Google(QUICK).find(Search(open_aoi(area), ((date(2015, 1, 1), date(2016, 1, 1)),)))
    (odd,) = (one for one in found if one.cloud == 1)
    quick = Policy(pause=0.001, longest_pause=0.001, spoiled=2)
    assert Google(quick).clouds_over([(odd, odd.footprint)]) == [None]
    assert len(server.asked("MSK_CLOUDS")) == 2


def test_alone_the_last_year_and_five_years_before(server, area):
    request = Request(Order(open_aoi(area), Path("out")), today=date(2021, 3, 1))
    pair = choose(Google(QUICK), request)
    assert (pair.before.day, pair.after.day) == DATES


def test_the_folder_is_named_after_the_area(server, area, call, tmp_path):
    aoi = {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}}]}
    west, south, east, north = map(float, area.split(","))
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    aoi["features"][0]["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    (tmp_path / "my town.geojson").write_text(json.dumps(aoi))
    line = ["fetch", "--aoi", "my town.geojson", "--dates", ",".join(map(str, DATES))]
    done = call(*line, "--bands", "B02", "--no-clouds")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/my_town/before.tif").exists()
