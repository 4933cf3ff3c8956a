"""The README's table of figures: what `make bench` measured last, each against its bar."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TOP = Path(__file__).parents[2]
README = TOP / "README.md"
KEPT = Path(__file__).with_name("figures.json")
"""Goes with the project, so that a part of `make bench` leaves the other rows as they are."""
MARKS = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
HEAD = "| what | measured | bar | on |\n|---|---|---|---|"


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        what: The thing measured.
        measured: What was found, with its unit.
        bar: What it must keep.
    """

    what: str
    measured: str
    bar: str


def machine() -> str:
    """The processor, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'processor'}, {len(os.sched_getaffinity(0))} of its threads"


def keep(figures: list[Figure], kept: Path = KEPT, readme: Path = README) -> None:
    """Replace rows of the same name, and write the table anew."""
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    day = datetime.now(UTC).date().isoformat()
    for figure in figures:
        rows[figure.what] = [figure.measured, figure.bar, f"{day}, {machine()}"]
    kept.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    before, rest = readme.read_text().split(MARKS[0])
    lines = [HEAD, *(f"| {what} | {' | '.join(rows[what])} |" for what in sorted(rows))]
    text = "\n".join(lines)
    readme.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
