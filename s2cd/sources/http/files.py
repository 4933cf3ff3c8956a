"""Several files at once, over the connections that a client has."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from s2cd.errors import S2cdError
from s2cd.sources.http.client import Client
from s2cd.sources.http.part import RemoteFile, digest_of, download

_BESIDE = 2
"""Threads more than connections: files are synced while others come."""


def is_whole(file: RemoteFile) -> bool:
    """Whether a file is there with its size and checksum; without one its own check counts."""
    try:
        size = file.path.stat().st_size
        if file.size is not None and size != file.size:
            return False
        if file.checksum is not None:
            return digest_of(file.path, file.checksum[0]) == file.checksum[1].lower()
        if file.check is not None:
            file.check(file.path)
        return True
    except (OSError, S2cdError):
        return False


def download_all(
    client: Client, files: Sequence[RemoteFile], told: Callable[[int], None] = lambda count: None
) -> None:
    """Bring several files, the largest first, so that no connection is left with one at the end.

    Raises:
        SourceError: the first of whichever file cannot be had; the others are stopped.
        KeyboardInterrupt: at Ctrl-C, at once; what has come stays.
    """
    waiting = sorted(files, key=lambda file: -(file.size or 0))
    side_by_side(client, [partial(download, client, file, told) for file in waiting])


def side_by_side(client: Client, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What several tasks that use a client give, in their order; the first error ends the others.

    Daemon threads, so that Ctrl-C need not wait for a server that hangs.
    """
    results: list[Any] = [None] * len(tasks)
    todo: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for number in range(len(tasks)):
        todo.put(number)

    def work() -> None:
        while True:
            try:
                number = todo.get_nowait()
            except Empty:
                return
            try:
                results[number] = tasks[number]()
                done.put(None)
            except BaseException as e:
                done.put(e)
                return

    for _ in range(min(len(tasks), client.policy.connections + _BESIDE)):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in tasks:
            if (error := done.get()) is not None:
                raise error
    except BaseException:
        client.stop()
        raise
    return results
