"""What a folder is for: the fetch that was asked for, and the two dates that were decided on."""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError
from s2cd.output import completed, write_errors
from s2cd.sources.choice import WINDOW_DAYS, Pair
from s2cd.sources.notes import noted_pair, pair_in
from s2cd.sources.source import Order

STACKS = ("before.tif", "after.tif")
RECORD, _PLAN = "fetch.json", ".fetch.json"
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


def clear(folder: Path) -> None:
    """Remove the parts that a plan which failed has left in a folder."""
    with write_errors(folder), suppress(FileNotFoundError):
        shutil.rmtree(folder / "products")


def note_plan(folder: Path, plan: Plan) -> None:
    """Write a plan down."""
    noted = {
        "request": plan.request,
        "source": plan.source,
        "pair": noted_pair(plan.pair),
        "stacks": plan.stacks,
    }
    with completed(folder / _PLAN, overwrite=True) as draft:
        draft.write_text(json.dumps(noted, allow_nan=False), encoding="utf-8")


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
