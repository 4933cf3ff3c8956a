"""Processes that each work at one pair at a time: what kills one of them fails one pair."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from s2cd.detection.batch.extras import Extra
from s2cd.detection.detect import Request, detect_files
from s2cd.errors import LostError, S2cdError
from s2cd.output import one_line

Note = tuple[int, str]
"""A level of `logging`, and a line."""


@dataclass(frozen=True)
class Outcome:
    """What came of a pair.

    Attributes:
        summary: Of `detect_files`, with ``files``, the paths of all results by what they are; None
            where it failed.
        error: The line that says why it failed.
        notes: What was said meanwhile.
        lost: Whether it failed by no fault of its own, and all others would.
    """

    summary: dict[str, Any] | None = None
    error: str | None = None
    notes: tuple[Note, ...] = ()
    lost: bool = False


_KILLED = Outcome(
    error="The process that worked at it was killed, by want of memory perhaps. Give fewer "
    "--jobs, and the same command continues",
)


class Worker:
    """A process of its own, which is started when it is first given something.

    Args:
        sharers: How many there are like it, which share the processors.
    """

    def __init__(self, sharers: int) -> None:
        self._sharers = sharers
        self._held: tuple[Any, Connection] | None = None

    def give(self, request: Request, extras: tuple[Extra, ...] = ()) -> Connection:
        """Have it work at a pair; what is given back becomes readable when it has finished."""
        if self._held is not None and not self._held[0].is_alive():
            self.end()
        self._held = self._held or _started()
        connection = self._held[1]
        workers = replace(request.workers, sharers=self._sharers)
        level = logging.getLogger("s2cd").getEffectiveLevel()
        connection.send((replace(request, workers=workers), extras, level))
        return connection

    def outcome(self) -> Outcome:
        """What came of it; where the process has died, the next pair gets another one."""
        if self._held is None:
            return _KILLED
        try:
            outcome: Outcome = self._held[1].recv()
        except (EOFError, ConnectionResetError):
            self.end()
            return _KILLED
        return outcome

    def end(self) -> None:
        """Kill the process: what it was at is continued another time."""
        if self._held is None:
            return
        process, connection = self._held
        self._held = None
        process.kill()
        process.join()
        connection.close()


def _started() -> tuple[Any, Connection]:
    """A process that serves, and the way to it."""
    context = multiprocessing.get_context("spawn")  # locks of threads are not copied
    connection, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    with _deaf_to_ctrl_c():
        process.start()
    theirs.close()
    return process, connection


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Have what is started in here never get Ctrl-C, which the terminal sends to all: it is ended.

    Processes inherit what signals are blocked.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _serve(connection: Connection) -> None:
    """The life of the process: pairs come in, outcomes go out."""
    Thread(target=_end_with_parent, daemon=True).start()
    notes = _Notes()
    logger = logging.getLogger("s2cd")
    logger.addHandler(notes)
    logging.getLogger("rasterio").addHandler(logging.NullHandler())  # as in cli/options.py
    with suppress(EOFError, OSError):  # until nobody asks, or listens
        while True:
            request, extras, level = connection.recv()
            logger.setLevel(level)
            outcome = made(request, extras)
            connection.send(replace(outcome, notes=notes.taken()))


def made(request: Request, extras: tuple[Extra, ...] = ()) -> Outcome:
    """What comes of a pair here and now; whatever it is, the other pairs go on."""
    try:
        summary = detect_files(request)
        files = {role: summary[role] for role in ("change", "probability") if summary[role]}
        for extra in extras:
            began, path = time.monotonic(), extra.path(request)
            extra.write(request, path)
            files[extra.role] = str(path)
            summary["seconds"][extra.role] = round(time.monotonic() - began, 3)
        summary["files"] = files
        return Outcome(summary)
    except S2cdError as e:
        return Outcome(error=" ".join(str(e).split()), lost=isinstance(e, LostError))
    except Exception as e:
        logging.getLogger(__name__).debug("", exc_info=True)
        return Outcome(error=f"{type(e).__name__}: {one_line(e)}. Not foreseen: please report it")


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


class _Notes(logging.Handler):
    """Keeps what is logged, until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[Note] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) if record.exc_info else record.getMessage()
        self._held.append((record.levelno, " ".join(text.split())))

    def taken(self) -> tuple[Note, ...]:
        """All since the last time."""
        held, self._held = tuple(self._held), []
        return held
