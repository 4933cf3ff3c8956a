"""Inputs and results behind URLs: the file of this machine, whatever the server does meanwhile."""

import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from bucket import BUCKET, Buckets
from conftest import grid, landscape
from rasterio.errors import RasterioError
from test_cluster import Cluster
from typer.testing import CliRunner

from s2cd.cli.app import app
from s2cd.detection.batch.pairs import read_pairs
from s2cd.detection.batch.run import Batch, run_batch
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.prepare import Preparation
from s2cd.detection.schedule import Workers
from s2cd.errors import LostError, ResultExistsError, S2cdError, SourceError
from s2cd.remote import Remote, path_of
from s2cd.scenes.header import read_header
from s2cd.scenes.reader import RasterReader
from s2cd.scenes.stack import open_stack, stack_array, write_stack

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
BANDS = ("B02", "B03", "B04", "B08")


class Stop(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Buckets(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def s3(server, monkeypatch):
    """The server, empty, with its owner's credentials in the environment."""
    for name, value in server.owner.items():
        monkeypatch.setenv(name, value)
    yield server
    forget_credentials()
    server.fail(None)
    for key in server.keys():
        server.s3.delete_object(Bucket=BUCKET, Key=key)


def forget_credentials():
    """Have the next request ask the environment who asks, as a new process would."""
    from s3fs import S3FileSystem
    from zarr.core.sync import sync

    for system in list(S3FileSystem._cache.values()):
        if system.asynchronous and system._s3 is not None:
            sync(system._s3.close())
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def pair(make_place, s3):
    """Two dates here and there, and what is asked of them: a map of four blocks."""
    place = make_place((500, 500), BANDS, hole=True)
    before, after = s3.put("in/before.tif", place.before), s3.put("in/after.tif", place.after)
    ways = {"model": "cva", "preparation": Preparation("none"), "block": 250}
    here = Request(place.before, place.after, place.folder / "here.tif", **ways)
    out = path_of(f"s3://{BUCKET}/out/change.tif")
    return here, replace(here, before=path_of(before), after=path_of(after), change=out)


def journal_of(s3):
    return [key for key in s3.keys("out/") if "/." in key]


def test_from_s3_to_s3_is_the_file_of_this_machine_to_the_byte(pair, s3, run):
    here, there = pair
    detect_files(replace(here, probability=here.change.with_name("p.tif")))
    start = len(s3.seen())
    words = ["detect", there.before, there.after, "-o", there.change, "--no-align"]
    words += ["--model", "cva", "--block-size", "250", "-p", f"s3://{BUCKET}/out/p.tif"]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"s3://{BUCKET}/out/change.tif: ")
    assert s3.get("out/change.tif") == here.change.read_bytes()
    assert s3.get("out/p.tif") == here.change.with_name("p.tif").read_bytes()
    assert s3.keys("out/") == ["out/change.tif", "out/p.tif"]
    asked = [one for one in s3.seen(start) if one["path"].startswith(f"/{BUCKET}/in/")]
    assert {one["method"] for one in asked} == {"GET", "HEAD"}
    assert all(one["range"] for one in asked if one["method"] == "GET")
    with pytest.raises(ResultExistsError, match=r"out/change\.tif exists. Give --overwrite"):
        detect_files(there)


def test_of_a_large_file_only_the_ranges_that_are_needed_are_asked_for(s3, make_place):
    large = make_place((1200, 1200), BANDS)
    small = open_stack(large.before)[:, 620:820, 620:820].compute()
    write_stack(small, large.before, overwrite=True)
    after = s3.put("after.tif", large.after)
    ways = {"model": "cva", "preparation": Preparation("none")}
    here = Request(large.before, large.after, large.folder / "here.tif", **ways)
    detect_files(here)
    start = len(s3.seen())
    detect_files(replace(here, after=path_of(after), change=large.folder / "there.tif"))
    assert (large.folder / "there.tif").read_bytes() == here.change.read_bytes()
    sent = [one["sent"] for one in s3.seen(start) if one["method"] == "GET"]
    assert 0 < sum(sent) < 0.4 * large.after.stat().st_size


def test_an_input_is_read_by_ranges_over_http(pair, s3):
    here, _ = pair
    detect_files(here)
    (s3.plain / "after.tif").write_bytes(here.after.read_bytes())
    url, start = path_of(f"{s3.url}/plain/after.tif"), len(s3.seen())
    detect_files(replace(here, after=url, change=here.change.with_name("there.tif")))
    asked = [one for one in s3.seen(start) if one["method"] == "GET"]
    assert asked and all(one["range"] for one in asked)
    with pytest.raises(S2cdError, match=r"none\.tif does not exist"):
        open_stack(f"{s3.url}/plain/none.tif")
    assert here.change.with_name("there.tif").read_bytes() == here.change.read_bytes()


def test_workers_elsewhere_read_and_write_by_url(pair, s3, tmp_path):
    here, there = pair
    cluster = Cluster(tmp_path)
    try:
        first = cluster.work(0.2)

        def watch(done, of):
            if done == 3:
                cluster.work()
                first.send_signal(signal.SIGKILL)

        detect_files(replace(there, workers=Workers(scheduler=cluster.address)), watch)
        assert first.wait() == -signal.SIGKILL
    finally:
        cluster.end()
    detect_files(here)
    assert s3.get("out/change.tif") == here.change.read_bytes()
    assert s3.keys("out/") == ["out/change.tif"]


def assert_continues(here, there, s3, after):
    """The same command begins after so many blocks, and ends in the file of one machine."""
    seen = []
    detect_files(there, lambda done, of: seen.append(done))
    assert seen[0] >= after
    detect_files(here)
    assert s3.get("out/change.tif") == here.change.read_bytes()


def test_what_was_interrupted_continues_to_the_same_file(pair, s3):
    here, there = pair

    def stop(done, of):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        detect_files(there, stop)
    assert journal_of(s3) and "out/change.tif" not in s3.keys()
    assert_continues(here, there, s3, after=2)
    assert not journal_of(s3)


def test_a_server_that_breaks_off_is_told_in_one_line_and_the_work_continues(pair, s3):
    here, there = pair

    def broken(done, of):
        if done == 2:
            s3.fail("*")

    with pytest.raises(SourceError, match=r"s3://.* cannot be") as told:
        detect_files(there, broken)
    assert "\n" not in str(told.value)
    s3.fail(None)
    assert journal_of(s3) and "out/change.tif" not in s3.keys()
    assert_continues(here, there, s3, after=1)


def test_of_two_runs_at_once_neither_makes_a_wrong_file(pair, s3):
    here, there = pair
    other = replace(there, threshold=0.2)

    def meanwhile(done, of):
        if done == 2:
            with pytest.raises(Stop):
                detect_files(other, stop)

    def stop(done, of):
        if done == 2:
            raise Stop

    with pytest.raises(LostError, match="another detection of the same result"):
        detect_files(there, meanwhile)
    assert "out/change.tif" not in s3.keys()
    detect_files(other)
    detect_files(replace(here, threshold=0.2))
    assert s3.get("out/change.tif") == here.change.read_bytes()
    assert not journal_of(s3)


def test_a_result_that_came_meanwhile_is_not_replaced(pair, s3, place):
    _, there = pair

    def meanwhile(done, of):
        if done == of:
            s3.put("out/change.tif", place.before)

    with pytest.raises(ResultExistsError, match="has come to be meanwhile"):
        detect_files(there, meanwhile)
    assert s3.get("out/change.tif") == place.before.read_bytes()
    detect_files(replace(there, overwrite=True))
    assert s3.get("out/change.tif") != place.before.read_bytes()


def test_an_input_that_changes_is_read_anew_and_never_mixed(pair, s3):
    here, there = pair
    values = landscape((500, 500), 4, seed=9)
    write_stack(stack_array(values, grid((500, 500)), BANDS), here.after, overwrite=True)

    def change(done, of):
        if done == 2:
            s3.put("in/after.tif", here.after)

    with pytest.raises(S2cdError, match=r"after\.tif changed while it was read"):
        detect_files(there, change)
    assert not s3.keys("out/")
    detect_files(there)
    detect_files(here)
    assert s3.get("out/change.tif") == here.change.read_bytes()


def test_a_worker_that_read_an_older_version_forgets_it(pair, s3):
    here, there = pair
    header, part = read_header(there.after), (slice(0, 4), slice(0, 64), slice(0, 64))
    old = RasterReader(header, 0)[part]  # this thread keeps its handle of it open
    values = landscape((500, 500), 4, seed=9)
    write_stack(stack_array(values, grid((500, 500)), BANDS), here.after, overwrite=True)
    s3.put("in/after.tif", here.after)
    new = RasterReader(header, 0)[part]
    assert np.array_equal(new, RasterReader(read_header(here.after), 0)[part])
    assert not np.array_equal(new, old)


def test_what_could_not_be_read_is_asked_for_once_more(pair, s3, monkeypatch):
    _, there = pair
    one, part = RasterReader(read_header(there.after), 0), (slice(0, 4), slice(0, 64), slice(0, 64))
    plain, real, failed = one[part], RasterReader._read, []

    def fails_first(self, *arguments):
        found = real(self, *arguments)
        if not failed:
            failed.append(len(s3.seen()))
            raise RasterioError("ZSTDDecode: Not enough data")
        return found

    monkeypatch.setattr(RasterReader, "_read", fails_first)
    assert np.array_equal(one[part], plain, equal_nan=True)
    assert len(s3.seen()) > failed[0]  # anew, not from what was kept
    failed.clear()
    monkeypatch.setattr("s2cd.scenes.reader.drop_kept", lambda path: False)
    with pytest.raises(SourceError, match="Not enough data"):
        one[part]


def test_pairs_of_a_batch_may_lie_elsewhere(pair, s3, tmp_path):
    here, there = pair
    listed = tmp_path / "pairs.csv"
    none = f"s3://{BUCKET}/in/none.tif"
    listed.write_text(f"before,after,name\n{there.before},{there.after},a\n{none},here.tif,b\n")
    record = run_batch(Batch(read_pairs(listed), tmp_path / "out", replace(here, threshold=0.4)))
    assert [pair["state"] for pair in record["pairs"]] == ["done", "failed"]
    assert f"{none} cannot be read: No such file" in record["pairs"][1]["error"]
    detect_files(replace(here, threshold=0.4))
    assert (tmp_path / "out/a/here.tif").read_bytes() == here.change.read_bytes()
    done = CliRunner().invoke(app, ["batch", str(listed), "-o", f"s3://{BUCKET}/out"])
    assert done.exit_code == 1
    assert done.stderr == f"error: s3://{BUCKET}/out is no folder of this machine. Name one\n"


@pytest.mark.parametrize(
    ("change", "environment", "line"),
    [
        ({"before": f"s3://{BUCKET}/in/none.tif"}, {}, "in/none.tif does not exist"),
        ({"before": "s3://no-such-bucket/a.tif"}, {}, "no-such-bucket/a.tif does not exist"),
        ({"change": "s3://no-such-bucket/c.tif"}, {}, "there is no such bucket"),
        ({"change": "https://127.0.0.1/c.tif"}, {}, "cannot be written. Name a file or s3://"),
        ({}, {"AWS_SECRET_ACCESS_KEY": "Wr0ngSecret"}, "before.tif is refused"),
        ({}, {"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, "before.tif is refused"),
        ({}, {"AWS_ENDPOINT_URL": "http://me:hidden@127.0.0.1:9"}, "http://127.0.0.1:9 does not"),
        ({}, {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "needs credentials"),
        ({}, "reader", "change.tif.s2cd is refused (AccessDenied). Check"),
    ],
)
def test_what_a_server_refuses_is_one_line_without_secrets(
    pair, s3, monkeypatch, caplog, change, environment, line
):
    environment = s3.reader if environment == "reader" else environment
    for name, value in environment.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    forget_credentials()
    asked = replace(pair[1], **{name: path_of(text) for name, text in change.items()})
    with pytest.raises(S2cdError) as told:
        detect_files(asked)
    said = str(told.value) + caplog.text
    assert line in said and "\n" not in str(told.value)
    for secret in (os.environ.get(n) for n in s3.owner if "KEY" in n):
        assert secret is None or secret not in said
    assert "hidden" not in said
    assert not s3.keys("out/")


def test_without_s3fs_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(S2cdError, match=r"s3://bucket/a\.tif, .* pip install 's2cd\[s3\]'"):
        open_stack("s3://bucket/a.tif")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hidden@host/a.tif",
        "https://host/a.tif?X-Amz-Signature=hidden",
        "s3://key:hidden@bucket/a.tif",
        "s3://bucket/a.tif#hidden",
        "http://example.com/a.tif",
        "s3://bucket",
        "s3://bucket/a//b.tif",
        "s3://bucket/../b.tif",
        "gs://bucket/a.tif",
        "s3://bucket/a\n.tif",
    ],
)
def test_an_address_that_holds_a_secret_or_names_no_file_is_refused(url):
    with pytest.raises(S2cdError) as told:
        path_of(url)
    assert "hidden" not in str(told.value) and "\n" not in str(told.value)


def test_a_url_is_a_path_by_name_only():
    path = path_of("s3://bucket/out/change.tif")
    assert isinstance(path, Remote) and str(path) == "s3://bucket/out/change.tif"
    assert (path.name, path.stem, path.scheme) == ("change.tif", "change", "s3")
    assert str(path.with_name("p.tif")) == "s3://bucket/out/p.tif"
    assert str(path.parent / "a" / "b") == "s3://bucket/out/a/b"
    with pytest.raises(S2cdError, match="is not on this machine"):
        open(path)
    assert type(path_of("a/b.tif")) is type(path_of(path_of("a/b.tif"))) is not Remote
