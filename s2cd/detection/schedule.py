"""Who computes the blocks: threads here, or the workers of a dask.distributed scheduler."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from s2cd.errors import S2cdError
from s2cd.networks.runtime import share_processors

Task = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Workers:
    """How many threads compute, or where the dask.distributed scheduler is that has workers."""

    threads: int | None = None
    scheduler: str | None = None

    @property
    def count(self) -> int:
        """Threads to use here: one a processor that this process may use, unless told."""
        return self.threads or len(os.sched_getaffinity(0))


def run_all(tasks: Sequence[Task], workers: Workers) -> Iterator[Any]:
    """Results of all tasks, as they finish; only as many as keep the workers busy are under way.

    A task may run twice on a cluster: what it writes must bear that.
    """
    if not tasks:
        return
    running: set[Any] = set()
    with _executor(workers) as (executor, slots):
        waiting = _interleaved(tasks, slots)[::-1]
        try:
            while waiting or running:
                while waiting and len(running) <= slots:
                    function, arguments = waiting.pop()
                    running.add(executor.submit(function, *arguments))
                done, running = wait(running, return_when=FIRST_COMPLETED)
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
def _executor(workers: Workers) -> Iterator[tuple[Executor, int]]:
    """What runs the tasks, and how many it runs at once."""
    if workers.scheduler is not None:
        with _cluster(workers.scheduler) as client:
            slots = sum(client.nthreads().values())
            yield client.get_executor(pure=False), max(1, slots)
        return
    count = workers.count
    processors = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(count, "block", share_processors, (count, processors))
    with pool:
        yield pool, count


def _cluster(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as e:
        raise S2cdError("--scheduler needs dask.distributed: pip install distributed") from e
    try:
        return Client(address, timeout="10s")
    except (OSError, ValueError) as e:
        raise S2cdError(f"No dask scheduler answers at {address}. Start one, or check it") from e
