"""From an area to two stacks: choose, bring, stack, and write down what came from where."""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError, UnwritableError
from s2cd.output import completed, write_errors
from s2cd.sources.choice import WINDOW_DAYS, Pair
from s2cd.sources.http.part import digest_of
from s2cd.sources.notes import noted_pair, pair_in
from s2cd.sources.source import Cost, Kept, Order, Scene, Source, Told

logger = logging.getLogger(__name__)

STACKS = ("before.tif", "after.tif")
RECORD, _PLAN, _LOCK = "fetch.json", ".fetch.json", ".fetch.lock"
_SPARE = 1.1
"""Room that is asked for, times what comes."""
_CLAIMED = (*STACKS, RECORD, "products")


@dataclass(frozen=True)
class Request:
    """What to fetch.

    Attributes:
        order: The area, the bands, and where to.
        dates: About which dates; None for the clearest of the last year and of its season before.
        window_days: Around each of ``dates``.
        today: The last day that is looked at.
    """

    order: Order
    dates: tuple[date, date] | None = None
    window_days: int = WINDOW_DAYS
    today: date = date.max

    def said(self) -> dict[str, Any]:
        """What makes a fetch another one."""
        import shapely

        outline = shapely.to_wkb(shapely.normalize(self.order.aoi.outline))
        return {
            "aoi": self.order.aoi.name,
            "outline_sha256": hashlib.sha256(outline).hexdigest(),
            "dates": None if self.dates is None else [str(day) for day in self.dates],
            "window_days": self.window_days if self.dates else None,
            "bands": list(self.order.bands),
            "clouds": self.order.clouds,
        }


@dataclass(frozen=True)
class Plan:
    """What was decided, so that it stays decided: a fetch that goes on takes the same dates.

    Attributes:
        request: As of `Request.said`.
        source: Name of the source.
        pair: The two dates.
        stacks: Size and SHA-256 of the stacks that were written, by name.
    """

    request: dict[str, Any]
    source: str
    pair: Pair
    stacks: dict[str, dict[str, Any]]


def plan_in(request: Request, source: str) -> Plan | None:
    """The plan that a folder holds; None where it holds nothing yet, or only a plan that failed.

    Raises:
        S2cdError: where the folder is none, or holds another fetch, or something else.
    """
    folder = request.order.folder
    _check_folder(folder)
    if not (folder / _PLAN).exists():
        if taken := [name for name in _CLAIMED if (folder / name).exists()]:
            raise S2cdError(
                f"{folder} holds {taken[0]}, which no fetch of s2cd left. Name another folder: -o"
            )
        return None
    if not any(_holds(folder / name) for name in _CLAIMED):
        return None
    try:
        noted = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
        plan = _plan_of(noted)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, S2cdError) as e:
        raise S2cdError(
            f"{folder / _PLAN}, which says what {folder} is for, cannot be read. Remove it with "
            "what lies beside it, or name another folder: -o"
        ) from e
    if _other(plan, request) or source not in ("auto", plan.source):
        raise S2cdError(
            f"{folder} holds another fetch ({_difference(plan, request, source)}). "
            "Name another folder: -o"
        )
    return plan


def _check_folder(folder: Path) -> None:
    """Refuse a name that is a file's, and a folder that cannot be looked into."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if there.is_dir():
            (folder / _PLAN).exists()
            return
    except OSError as e:
        raise S2cdError(
            f"{folder} cannot be looked into: {e.strerror}. Name another folder: -o"
        ) from e
    raise S2cdError(f"{there} is a file. Name a folder: -o")


def _plan_of(noted: Any) -> Plan:
    """A plan as `_note` writes it; what another version may have written otherwise is refused."""
    request, source, stacks = noted["request"], noted["source"], noted["stacks"]
    if not isinstance(request, dict) or not isinstance(stacks, dict) or "aoi" not in request:
        raise ValueError("it is no plan of a fetch")
    return Plan(request, str(source), pair_in(noted["pair"]), stacks)


def _holds(path: Path) -> bool:
    """Whether a path is, or holds, a file with a name; parts and drafts have hidden ones."""
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and not file.name.startswith(".") for file in files)


def _clear(folder: Path) -> None:
    """Remove the parts that a plan which failed has left."""
    with write_errors(folder), suppress(FileNotFoundError):
        shutil.rmtree(folder / "products")


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
            _clear(folder)
        _note(folder, plan)
        scenes = (plan.pair.before, plan.pair.after)
        kept = source.download(scenes, request.order, told)
        for name, scene in zip(STACKS, scenes, strict=True):
            if not _is_right(folder, plan.stacks.get(name)):
                _write(source, scene, request.order, name)
                plan.stacks[name] = _sums(folder, name)
                _note(folder, plan)
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


def _note(folder: Path, plan: Plan) -> None:
    noted = {
        "request": plan.request,
        "source": plan.source,
        "pair": noted_pair(plan.pair),
        "stacks": plan.stacks,
    }
    with completed(folder / _PLAN, overwrite=True) as draft:
        draft.write_text(json.dumps(noted, allow_nan=False), encoding="utf-8")


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


def _difference(plan: Plan, request: Request, source: str) -> str:
    """What sets two fetches apart, in words."""
    if source not in ("auto", plan.source):
        return f"source {plan.source}"
    said = {"outline_sha256": f"aoi {plan.request['aoi']}"}
    other = [
        said.get(key, f"{key} {plan.request.get(key, 'of another kind')}")
        for key in _other(plan, request)
    ]
    return ", ".join(other[:2])


def _other(plan: Plan, request: Request) -> list[str]:
    """In what a request differs from the planned one; how its area is named does not count."""
    now = request.said()
    return [key for key in now if key != "aoi" and now[key] != plan.request.get(key)]
