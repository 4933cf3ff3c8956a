"""From an area to two stacks: choose, bring, stack, and write down what came from where."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError, UnwritableError
from s2cd.output import completed, write_errors
from s2cd.sources.choice import Pair
from s2cd.sources.http.part import digest_of
from s2cd.sources.notes import noted_pair, pair_in
from s2cd.sources.plan import RECORD, STACKS, Plan, Request, clear, note_plan, plan_in
from s2cd.sources.source import Cost, Kept, Order, Scene, Source, Told

logger = logging.getLogger(__name__)

_LOCK = ".fetch.lock"
_SPARE = 1.1
"""Room that is asked for, times what comes."""


def finished(request: Request) -> dict[str, Any] | None:
    """The record of a fetch all of whose files are there and right; None otherwise."""
    folder = request.order.folder
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = [file for key in ("before", "after") for file in record[key]["files"]]
        stacks = [record[key]["stack"] for key in ("before", "after")]
        pair_in(record), record["source"], record["licence"]  # what is told of it
        whole = all(_is_right(folder, file) for file in (*stacks, *files))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, S2cdError):
        return None
    return record if whole else None


def fetch(source: Source, request: Request, pair: Pair, told: Told) -> dict[str, Any]:
    """Bring two dates and leave their stacks and a record of them in ``request.order.folder``.

    Args:
        source: Where from.
        request: What for.
        pair: The dates.
        told: Is told of bytes as they come.

    Returns:
        The record, as it stands in ``fetch.json``.

    Raises:
        S2cdError: where something cannot be had or written; the same call continues.
    """
    folder = request.order.folder
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        plan = plan_in(request, source.name)
        if plan is None:
            plan = Plan(request.said(), source.name, pair, {})
            clear(folder)
        note_plan(folder, plan)
        scenes = (plan.pair.before, plan.pair.after)
        kept = source.download(scenes, request.order, told)
        for name, scene in zip(STACKS, scenes, strict=True):
            if not _is_right(folder, plan.stacks.get(name)):
                _write(source, scene, request.order, name)
                plan.stacks[name] = _sums(folder, name)
                note_plan(folder, plan)
        record = _record(plan, kept, folder)
        with completed(folder / RECORD, overwrite=True) as draft:
            draft.write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
        return record


def costs(source: Source, pair: Pair, order: Order) -> tuple[Cost, Cost]:
    """What each date takes.

    Raises:
        S2cdError: where a source lacks what is needed, or there is no room for it.
    """
    before, after = (source.cost(scene, order) for scene in (pair.before, pair.after))
    return before, after


def check_room(folder: Path, needed: int) -> None:
    """Refuse a fetch for which the disk has no room.

    Args:
        folder: Where it goes to.
        needed: Bytes that are still to come.

    Raises:
        S2cdError: where it has none.
    """
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if needed * _SPARE > free:
        raise S2cdError(
            f"The disk of {place} has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} GB shall "
            "come. Free space there, or name another folder: -o"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other fetches out of the folder; the lock ends with the process."""
    path = folder / _LOCK
    with write_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # NFS locks no folder
    try:
        try:
            with write_errors(path):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except UnwritableError as e:
            if not isinstance(e.__cause__, BlockingIOError):
                raise
            raise S2cdError(f"Another fetch is at work in {folder}. Wait for it") from e
        yield
    finally:
        os.close(handle)


def _write(source: Source, scene: Scene, order: Order, name: str) -> None:
    from s2cd.scenes.stack import write_stack

    opened = source.open(scene, order)
    tags = {str(key): str(value) for key, value in opened.stack.attrs.items()}
    tags["LICENCE"] = licence([scene])
    write_stack(opened.stack, order.folder / name, opened.qa, tags, True, opened.later)


def licence(scenes: Sequence[Scene]) -> str:
    """What whoever passes the data on has to say (Copernicus Sentinel data legal notice)."""
    years = ", ".join(dict.fromkeys(str(scene.day.year) for scene in scenes))
    return f"contains modified Copernicus Sentinel data {years}"


def _record(plan: Plan, kept: Sequence[Kept], folder: Path) -> dict[str, Any]:
    from s2cd import __version__

    dates = noted_pair(plan.pair)
    for key, name in zip(("before", "after"), STACKS, strict=True):
        names = {product["name"] for product in dates[key]["products"]}
        dates[key]["stack"] = plan.stacks[name]
        dates[key]["files"] = [
            {
                "path": file.path.relative_to(folder).as_posix(),
                "url": file.url,
                "size": file.size,
                "checksum": list(file.checksum),
            }
            for file in kept
            if file.product in names
        ]
    return {
        "software": f"s2cd {__version__}",
        "source": plan.source,
        "licence": licence([plan.pair.before, plan.pair.after]),
        "request": plan.request,
        **dates,
    }


def _sums(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return {
        "path": name,
        "size": path.stat().st_size,
        "checksum": ["sha256", digest_of(path, "sha256")],
    }


def _is_right(folder: Path, noted: Any) -> bool:
    """Whether a file is there as it was noted."""
    try:
        path = folder / str(noted["path"])
        name, digits = noted["checksum"]
        return bool(path.stat().st_size == noted["size"] and digest_of(path, name) == digits)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, S2cdError):
        return False
