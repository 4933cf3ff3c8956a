"""The record of a batch: what became of each pair, for people, for scripts, and to continue by."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from s2cd.detection.batch.pairs import RECORD, PairLine
from s2cd.errors import S2cdError
from s2cd.output import completed, one_line

SCHEMA = 1
"""Grows where a reader of the record would have to change."""
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
_FACTS = (
    "model",
    "threshold",
    "bands",
    "observed_fraction",
    "changed_fraction",
    "changed_area_m2",
    "shift_px",
    "seconds",
)


@dataclass(frozen=True)
class Entry:
    """What became of a pair.

    Attributes:
        name: Of the pair, and of the folder of its results.
        before: The earlier date.
        after: The later date.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        key: Of inputs and options, since work on it has begun: other ones, and it is done again.
        files: Of each result its path, from the record's folder, and its size in bytes.
        facts: As `detect_files` gives them: what was observed, what changed, seconds by stage.
        warnings: What was said while it was made.
        error: Why it failed, in one line.
    """

    name: str
    before: str
    after: str
    state: str = WAITING
    key: str | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_FACTS))
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    @classmethod
    def of(cls, pair: PairLine) -> "Entry":
        """A pair at which no work has begun."""
        return cls(pair.name, str(pair.before), str(pair.after))

    def finished(self, folder: Path, summary: dict[str, Any], warnings: list[str]) -> "Entry":
        """The pair with its results, by the summary of an `Outcome`."""
        paths = {role: Path(path) for role, path in summary["files"].items()}
        files = {
            role: {"path": str(path.relative_to(folder)), "bytes": path.stat().st_size}
            for role, path in paths.items()
        }
        facts = {name: summary[name] for name in _FACTS}
        return replace(self, state=DONE, files=files, facts=facts, warnings=warnings, error=None)

    def failed(self, error: str, warnings: list[str]) -> "Entry":
        """The pair with the line that says why it has no results."""
        return replace(Entry(self.name, self.before, self.after), state=FAILED, key=self.key,
                       warnings=warnings, error=error)  # fmt: skip

    def whole(self, folder: Path) -> bool:
        """Whether all results are there as they were written."""
        sizes = {folder / file["path"]: file["bytes"] for file in self.files.values()}
        return bool(sizes) and all(_size(path) == size for path, size in sizes.items())

    def may_replace(self, path: Path) -> bool:
        """Whether a result is not there, or is what this batch has made."""
        if not path.exists():
            return True
        if self.state != DONE:
            return self.key is not None
        return _size(path) in [file["bytes"] for file in self.files.values()]


@dataclass
class Record:
    """``batch.json``: the pairs of this request, and those of earlier ones in the same folder."""

    folder: Path
    options: dict[str, Any]
    pairs: dict[str, Entry]
    others: dict[str, Entry] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / RECORD

    def content(self) -> dict[str, Any]:
        """What the file holds."""
        from s2cd import __version__

        return {
            "schema": SCHEMA,
            "s2cd": __version__,
            "options": self.options,
            "summary": self.summary(),
            "pairs": [_flat(entry) for entry in self.pairs.values()],
            "others": [_flat(entry) for entry in self.others.values()],
        }

    def summary(self) -> dict[str, Any]:
        """Pairs by state, and the area of change of those that have one."""
        states = [entry.state for entry in self.pairs.values()]
        areas = [entry.facts["changed_area_m2"] for entry in self.pairs.values()]
        counts: dict[str, Any] = {s: states.count(s) for s in (DONE, FAILED, RUNNING, WAITING)}
        area = sum(area for area in areas if area is not None)
        return {"pairs": len(states), **counts, "changed_area_m2": area}

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            S2cdError: where it cannot be written.
        """
        with completed(self.path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(self.content(), indent=1, allow_nan=False) + "\n")


def open_record(folder: Path, pairs: Iterable[PairLine], options: dict[str, Any]) -> Record:
    """The record of a folder: what is known of these pairs, and all that is known of others.

    Raises:
        S2cdError: where the file is there and is no record.
    """
    known = _read(folder / RECORD)
    mine = {}
    for pair in pairs:
        before = known.pop(pair.name, Entry.of(pair))
        mine[pair.name] = replace(before, before=str(pair.before), after=str(pair.after))
    return Record(folder, options, mine, known)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read(path: Path) -> dict[str, Entry]:
    if not path.exists():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["schema"] != SCHEMA:
            raise S2cdError(f"{path} is of another version of s2cd. Name another folder")
        entries = [_entry(raw) for raw in (*held["pairs"], *held["others"])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise S2cdError(
            f"{path} is not the record of a batch: {one_line(e)}. Name another folder, or move it"
        ) from e
    return {entry.name: entry for entry in entries}


def _flat(entry: Entry) -> dict[str, Any]:
    """An entry as the file holds it: its facts beside the rest."""
    held = asdict(entry)
    facts = held.pop("facts")
    return {**held, **facts}


def _entry(raw: dict[str, Any]) -> Entry:
    facts = {name: raw.pop(name) for name in _FACTS}
    entry = Entry(**raw, facts=facts)
    for file in entry.files.values():
        inside = Path(file["path"])
        if inside.is_absolute() or ".." in inside.parts or not isinstance(file["bytes"], int):
            raise ValueError(f"{entry.name} has a file elsewhere")
    return entry
