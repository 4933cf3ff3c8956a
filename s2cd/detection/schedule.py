"""Who computes the blocks: threads here, or the workers of a dask.distributed scheduler."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from s2cd.errors import LostError
from s2cd.networks.runtime import keep_processors, share_processors

_PATIENCE = 2.0
"""Seconds after which workers that have come are given something."""
_TALKERS = ("tornado.application", "distributed", "distributed.client")

Task = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Workers:
    """How many threads compute, or where the dask.distributed scheduler is that has workers.

    Attributes:
        threads: One a processor of this process's share, by default.
        scheduler: Address of a scheduler.
        sharers: Processes like this one, itself among them, that share the processors.
    """

    threads: int | None = None
    scheduler: str | None = None
    sharers: int = 1

    @property
    def share(self) -> int:
        """Processors for this process."""
        return max(1, processors_here() // self.sharers)

    @property
    def count(self) -> int:
        """Threads to use here."""
        return self.threads or self.share


def processors_here() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class _Pool:
    """What runs tasks.

    Attributes:
        executor: Takes them.
        slots: How many it can hold at a time, as of now.
        patience: Seconds after which to ask for that again; None: it stays the same.
    """

    executor: Executor
    slots: Callable[[], int]
    patience: float | None = None


def run_all(tasks: Sequence[Task], workers: Workers) -> Iterator[Any]:
    """Results of all tasks, as they finish; only as many as keep the workers busy are under way.

    A task may run twice on a cluster: what it writes must bear that. Workers may come and go.

    Raises:
        LostError: where the cluster is lost; what has been written stays.
    """
    if not tasks:
        return
    running: set[Any] = set()
    with _pool(workers) as pool:
        waiting = _interleaved(tasks, max(1, pool.slots()))[::-1]
        try:
            while waiting or running:
                most = pool.slots()
                while waiting and len(running) <= most:
                    function, arguments = waiting.pop()
                    running.add(pool.executor.submit(function, *arguments))
                done, running = wait(running, pool.patience, FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def _interleaved(tasks: Sequence[Task], runs: int) -> list[Task]:
    """The tasks as ``runs`` runs side by side: a worker goes on beside what it did last.

    Neighbouring blocks share tiles of the file, which are then still in the worker's cache.
    """
    length = -(-len(tasks) // runs)
    return [task for start in range(length) for task in tasks[start::length]]


@contextmanager
def _pool(workers: Workers) -> Iterator[_Pool]:
    if workers.scheduler is not None:
        with _cluster(workers.scheduler) as pool:
            yield pool
        return
    keep_processors()
    count = workers.count
    start = (share_processors, (count, workers.share))
    with ThreadPoolExecutor(count, "block", *start) as executor:
        yield _Pool(executor, lambda: count)


@contextmanager
def _cluster(address: str) -> Iterator[_Pool]:
    """The workers of a scheduler."""
    from distributed.client import ClosedClientError
    from distributed.scheduler import KilledWorker

    with _silent(), _client(address) as client:
        executor = client.get_executor(pure=False)
        try:
            yield _Pool(executor, partial(_slots, client, address), _PATIENCE)
        except (CancelledError, ClosedClientError) as e:
            raise _lost(address) from e
        except KilledWorker as e:
            raise LostError(
                f"Workers of {address} were killed, one after another, at one block: by want of "
                "memory perhaps. Give them more, and the same command continues"
            ) from e


def _slots(client: Any, address: str) -> int:
    """Twice the threads of all workers that are there now, so that none of them waits."""
    try:
        return 2 * sum(client.nthreads().values())
    except (OSError, TimeoutError) as e:
        raise _lost(address) from e


def _lost(address: str) -> LostError:
    return LostError(
        f"The dask scheduler at {address} was lost. Start one, and give the same command with its "
        "address: it continues"
    )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep distributed and tornado from printing tracebacks of what is raised here anyway."""
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _client(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as e:
        raise LostError(f"No dask scheduler answers at {address}. Start one, or check it") from e
