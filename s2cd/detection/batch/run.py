"""A batch: pairs one after another or side by side; started again, only what is missing."""

import hashlib
import json
import logging
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from s2cd.detection.batch.extras import Extra
from s2cd.detection.batch.jobs import jobs_within
from s2cd.detection.batch.pairs import PairLine
from s2cd.detection.batch.record import DONE, RUNNING, WAITING, Entry, Record, open_record
from s2cd.detection.batch.worker import Outcome, Worker
from s2cd.detection.detect import Report, Request
from s2cd.detection.inputs import identity
from s2cd.detection.journal import locked
from s2cd.detection.schedule import processors_here
from s2cd.errors import LostError, ResultExistsError, S2cdError, SourceError
from s2cd.networks.registry import model_identity
from s2cd.output import write_errors
from s2cd.scenes.memory import free_memory
from s2cd.scenes.product import product_at

logger = logging.getLogger(__name__)

_LOCK = ".batch.lock"
_DRIVER = Path("/proc/driver/nvidia/version")
"""There where CUDA is: pairs that run side by side would share the memory of one GPU."""


@dataclass(frozen=True)
class Batch:
    """What a user asks of `run_batch`.

    Attributes:
        pairs: What to detect change in.
        folder: Where results go: ``FOLDER/NAME/…`` of each pair, and the record.
        like: What is asked of each pair, whose own files take the place of these dates; its
            results bear the names of these results.
        jobs: Pairs side by side; by default as many as memory and processors allow.
        extras: What else is made of each map.
    """

    pairs: tuple[PairLine, ...]
    folder: Path
    like: Request
    jobs: int | None = None
    extras: tuple[Extra, ...] = ()

    def request(self, pair: PairLine) -> Request:
        """What is asked of one pair."""
        folder, wanted = self.folder / pair.name, self.like.probability
        return replace(
            self.like,
            before=pair.before,
            after=pair.after,
            change=folder / self.like.change.name,
            probability=None if wanted is None else folder / wanted.name,
        )


def run_batch(batch: Batch, report: Report = lambda done, of: None) -> dict[str, Any]:
    """Write the maps of many pairs; killed at any time, the same batch continues.

    A pair that fails does not stop the others: the record says why. Started again, what failed is
    tried again, and what is done stays unless an input or an option has changed.

    Returns:
        The record, as ``FOLDER/batch.json`` holds it.

    Raises:
        S2cdError: where the folder cannot be used, or the model is none.
        LostError: where the cluster is lost; no pair has failed then.
    """
    with write_errors(batch.folder):
        batch.folder.mkdir(parents=True, exist_ok=True)
    with locked(batch.folder / _LOCK, batch.folder):
        record = open_record(batch.folder, batch.pairs, _options(batch))
        run = _Run(batch, record, report)
        try:
            run.until_done()
        finally:
            run.leave()
    return record.content()


class _Run:
    """A batch at work: the pairs that wait, and those that workers are at."""

    def __init__(self, batch: Batch, record: Record, report: Report) -> None:
        self._batch, self._record, self._report = batch, record, report
        self._facts = _facts(batch)
        self._waiting = deque(pair for pair in batch.pairs if not self._is_done(pair))
        self._busy: dict[Connection, tuple[PairLine, Worker]] = {}
        self._free: list[Worker] = []

    def until_done(self) -> None:
        """Work until no pair is left."""
        total = len(self._record.pairs)
        jobs = min(self._batch.jobs or _jobs(self._batch), len(self._waiting))
        logger.debug("%d pairs to do, %d side by side", len(self._waiting), jobs)
        self._free = [Worker(jobs) for _ in range(jobs)]
        while self._waiting or self._busy:
            started = self._begin()
            self._record.write()
            for pair, request in started:
                worker = self._free.pop()
                self._busy[worker.give(request, self._batch.extras)] = pair, worker
            self._wait()
            self._report(total - len(self._waiting) - len(self._busy), total)

    def _wait(self) -> None:
        """Take what workers have finished, when one has."""
        ready = wait(list(self._busy)) if self._busy else []  # of none it would wait for ever
        for connection in [c for c in self._busy if c in ready]:
            pair, worker = self._busy.pop(connection)
            self._keep(pair, worker.outcome())
            self._free.append(worker)

    def leave(self) -> None:
        """End the workers, and write down what is done, and that what they were at waits."""
        for worker in (*self._free, *(worker for _, worker in self._busy.values())):
            worker.end()
        left = {n: e for n, e in self._record.pairs.items() if e.state == RUNNING}
        self._record.pairs |= {n: replace(e, state=WAITING) for n, e in left.items()}
        self._record.write()

    def _entry(self, pair: PairLine) -> Entry:
        return self._record.pairs[pair.name]

    def _is_done(self, pair: PairLine) -> bool:
        """Whether a pair's results are there, made of these inputs by these options."""
        entry = self._entry(pair)
        if entry.state != DONE or not entry.whole(self._batch.folder):
            return False
        with suppress(OSError, SourceError):  # work on it tells why it cannot be read
            return entry.key == self._key(pair)
        return False

    def _key(self, pair: PairLine) -> str:
        inputs = [identity(path) for path in (pair.before, pair.after)]
        return hashlib.sha256(json.dumps([inputs, self._facts]).encode()).hexdigest()

    def _begin(self) -> list[tuple[PairLine, Request]]:
        """Pairs for the workers that are free, noted as begun; those that cannot begin failed."""
        started: list[tuple[PairLine, Request]] = []
        while self._waiting and len(started) < len(self._free):
            pair = self._waiting.popleft()
            try:
                started.append((pair, self._begun(pair)))
            except S2cdError as e:
                self._keep(pair, Outcome(error=str(e)))
        return started

    def _begun(self, pair: PairLine) -> Request:
        """What is asked of a pair, once it is noted that work on it begins.

        Raises:
            S2cdError: where a date is not there, or a result is that is not of this batch.
        """
        entry, request = self._entry(pair), self._batch.request(pair)
        paths = *request.results, *(extra.path(request) for extra in self._batch.extras)
        foreign = [path for path in paths if not entry.may_replace(path)]
        if foreign and not request.overwrite:
            raise ResultExistsError(
                f"{foreign[0]} exists, and this batch has not made it. Give --overwrite, or move it"
            )
        try:
            key = self._key(pair)
        except OSError as e:
            why = f"{e.filename} cannot be read: {e.strerror}"
            raise S2cdError(f"{why}. Correct line {pair.line} of the CSV") from e
        with write_errors(request.change.parent):
            request.change.parent.mkdir(exist_ok=True)
        self._record.pairs[pair.name] = replace(entry, state=RUNNING, key=key)
        return replace(request, overwrite=True)

    def _keep(self, pair: PairLine, outcome: Outcome) -> None:
        """Note what came of a pair, and say it.

        Raises:
            LostError: where all others would fail as well.
        """
        if outcome.lost:
            raise LostError(outcome.error)
        entry = self._entry(pair)
        warnings = [text for level, text in outcome.notes if level >= logging.WARNING]
        if outcome.summary is not None:
            entry = entry.finished(self._batch.folder, outcome.summary, warnings)
        else:
            entry = entry.failed(outcome.error or "", warnings)
            with suppress(OSError):  # nothing is in it, or what may be continued
                (self._batch.folder / pair.name).rmdir()
        self._record.pairs[pair.name] = entry
        self._tell(pair, outcome)
        logger.info("%s: %s", pair.name, entry.state)

    def _tell(self, pair: PairLine, outcome: Outcome) -> None:
        """Pass on what was said of a pair; notes on each would be too much for many."""
        for level, text in outcome.notes:
            said = level if level >= logging.WARNING else logging.DEBUG
            logger.log(said, "%s: %s", pair.name, text)


def _jobs(batch: Batch) -> int:
    """Pairs side by side, where the user does not say."""
    like = batch.like
    if like.compute.device != "cpu" and _DRIVER.exists():
        return 1
    dates = (path for pair in batch.pairs for path in (pair.before, pair.after))
    products = 2 if any(product_at(path) is not None for path in dates) else 0
    return jobs_within(free_memory(), processors_here(), like.workers.threads, products)


def _options(batch: Batch) -> dict[str, Any]:
    """What was asked of every pair, for the record."""
    like = batch.like
    return {
        "model": like.model,
        "threshold": like.threshold,
        **asdict(like.preparation),
        "bands": like.bands,
        "precision": like.compute.precision,
        "backend": like.compute.backend,
        "probability": like.probability is not None,
        "extras": [extra.role for extra in batch.extras],
    }


def _facts(batch: Batch) -> list[Any]:
    """All that the maps depend on but for the dates.

    Raises:
        S2cdError: where there is no such model.
    """
    from s2cd import __version__

    return [_options(batch), model_identity(batch.like.model), __version__]
