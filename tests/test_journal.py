"""A journal is of one plan, held by one process, and believes no damaged chunk."""

import json

import numpy as np
import pytest

from s2cd.detection import detect as detection
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.journal import MISSING, Journal, Plan, held_journal
from s2cd.errors import S2cdError


class Stop(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture
def plan():
    return Plan({"inputs": ["a", "b"], "threshold": 0.5}, (500, 300), 256)


def fill(journal, value=7):
    for block in journal.plan.blocks():
        shape = block.ys.stop - block.ys.start, block.xs.stop - block.xs.start
        journal.write(block, np.full(shape, value, np.uint8))


def interrupted(result, plan, count):
    """A journal with its first ``count`` blocks, as a kill leaves it."""
    with pytest.raises(Stop), held_journal(result, plan) as journal:
        for block in journal.plan.blocks()[:count]:
            shape = block.ys.stop - block.ys.start, block.xs.stop - block.xs.start
            journal.write(block, np.full(shape, 7, np.uint8))
        raise Stop
    return journal


def test_finished_blocks_are_found_again(tmp_path, plan):
    interrupted(tmp_path / "c.tif", plan, 3)
    with held_journal(tmp_path / "c.tif", plan) as journal:
        assert [(b.row, b.column) for b in journal.missing()] == [(1, 1)]
        fill(journal)
        assert journal.missing() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        Plan({"inputs": ["a", "c"], "threshold": 0.5}, (500, 300), 256),
        Plan({"inputs": ["a", "b"], "threshold": 0.5, "version": "9"}, (500, 300), 256),
        Plan({"inputs": ["a", "b"], "threshold": 0.5}, (500, 301), 256),
        Plan({"inputs": ["a", "b"], "threshold": 0.5}, (500, 300), 128),
    ],
)
def test_a_journal_of_anything_else_is_discarded_and_said_so(tmp_path, plan, other, caplog):
    interrupted(tmp_path / "c.tif", plan, 4)
    with held_journal(tmp_path / "c.tif", other) as journal:
        assert len(journal.missing()) == len(other.blocks())
    assert "discarded" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "remove", "never", "header"])
def test_a_damaged_chunk_is_computed_again(tmp_path, plan, damage):
    journal = interrupted(tmp_path / "c.tif", plan, 4)
    chunk = journal.folder / "probability" / "c" / "0" / "1"
    data = bytearray(chunk.read_bytes())
    if damage == "cut":
        chunk.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
        chunk.write_bytes(data)
    elif damage == "empty":
        chunk.write_bytes(b"")
    elif damage == "remove":
        chunk.unlink()
    elif damage == "never":
        block = plan.blocks()[1]
        shape = block.ys.stop - block.ys.start, block.xs.stop - block.xs.start
        journal.write(block, np.full(shape, MISSING, np.uint8))
    else:
        (journal.folder / "probability" / "zarr.json").write_text("{")
    with held_journal(tmp_path / "c.tif", plan) as again:
        places = [(b.row, b.column) for b in again.missing()]
    assert places == ([(0, 1)] if damage != "header" else [(0, 0), (0, 1), (1, 0), (1, 1)])


def test_a_worker_that_was_given_up_writes_nothing_into_the_journal_of_another(tmp_path, plan):
    late = interrupted(tmp_path / "c.tif", plan, 1)
    other = Plan({"inputs": ["a", "c"], "threshold": 0.5}, plan.shape, plan.block)
    with held_journal(tmp_path / "c.tif", other) as journal:
        with pytest.raises(S2cdError, match="another detection"):
            fill(late)
        assert len(journal.missing()) == 4


def test_a_journal_held_by_a_live_process_is_refused(tmp_path, plan):
    with held_journal(tmp_path / "c.tif", plan) as journal:
        fill(journal)
        with (
            pytest.raises(S2cdError, match=r"c\.tif is being written by process \d+"),
            held_journal(tmp_path / "c.tif", plan),
        ):
            pass
        assert journal.missing() == []


def test_a_failure_that_cannot_be_continued_leaves_nothing(tmp_path, plan):
    with pytest.raises(S2cdError), held_journal(tmp_path / "c.tif", plan) as journal:
        fill(journal)
        raise S2cdError("after.tif cannot be read")
    assert list(tmp_path.iterdir()) == []


def test_a_journal_can_be_sent_to_another_process(tmp_path, plan):
    import pickle

    with held_journal(tmp_path / "c.tif", plan) as journal:
        fill(pickle.loads(pickle.dumps(journal)))
        assert journal.missing() == []
    assert isinstance(journal, Journal)


def test_what_was_learned_is_not_learned_twice(place, monkeypatch):
    request = Request(place.before, place.after, place.folder / "c.tif")

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(detection, "_translate", stop)
        with pytest.raises(Stop):
            detect_files(request)
    store = place.folder / ".c.tif.s2cd" / "probability" / "zarr.json"
    assert json.loads(store.read_text())["attributes"]["fit"]["limit"] > 0
    with monkeypatch.context() as patch:
        patch.setattr("s2cd.networks.classical.cva.Cva.fit", stop)
        detect_files(request)
    first = (place.folder / "c.tif").read_bytes()
    detect_files(Request(place.before, place.after, place.folder / "c.tif", overwrite=True))
    assert (place.folder / "c.tif").read_bytes() == first


def test_interrupted_between_two_results_the_same_request_still_continues(place, monkeypatch):
    results = place.folder / "p.tif", place.folder / "c.tif"
    request = Request(place.before, place.after, results[1], results[0])
    from s2cd.detection import changemap

    real = changemap.publish

    def once(temporary, path, *how):
        if path == results[1]:
            raise Stop
        real(temporary, path, *how)

    with monkeypatch.context() as patch:
        patch.setattr(changemap, "publish", once)
        with pytest.raises(Stop):
            detect_files(request)
    assert results[0].exists() and not results[1].exists()
    detect_files(request)
    assert results[1].exists()
    assert {p.name for p in place.folder.iterdir()} == {"before.tif", "after.tif", "p.tif", "c.tif"}
