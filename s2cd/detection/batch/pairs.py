"""The CSV of pairs: columns before, after and, where one likes, name."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.remote import Remote, path_of

MOST_PAIRS = 100_000
"""Five times the tiles of all land: more is not a list of pairs."""
_MOST_BYTES = 100 << 20
_LONGEST_NAME = 200
"""Bytes: a file system takes 255, and the names of what is written meanwhile are longer."""
_FORBIDDEN = "/\\:"
_USUAL = ("before", "after")
"""Stems of files that say nothing of the place: the name of their folder does."""
RECORD = "batch.json"
"""Name of the record, in the folder of the maps; no pair can have it."""
_WHAT = "Give columns before, after and, if you like, name, with commas between"


@dataclass(frozen=True)
class PairLine:
    """Two dates as a line of the CSV names them.

    Attributes:
        name: Of the folder with its results.
        before: The earlier date.
        after: The later date.
        line: Where it stands in the CSV.
    """

    name: str
    before: Path
    after: Path
    line: int


def read_pairs(path: Path) -> tuple[PairLine, ...]:
    """The pairs that a CSV lists; whether their files are there is not looked at.

    Paths are relative to the CSV. A pair without a name gets that of the folder where its files
    are before.* and after.* of one folder, else those of its files.

    Raises:
        S2cdError: where it is no such CSV, or two pairs would have one name.
    """
    pairs: dict[str, PairLine] = {}
    for line, cells in _rows(path):
        pair = _pair(path, line, cells)
        key = pair.name.casefold()  # some file systems know no difference
        if key in pairs:
            raise S2cdError(
                f"{path}, line {line}: the pair is named {pair.name!r}, and so is that of line "
                f"{pairs[key].line}. Give each a name of its own, in a column name"
            )
        pairs[key] = pair
        if len(pairs) > MOST_PAIRS:
            raise S2cdError(f"{path} lists more than {MOST_PAIRS} pairs. Cut it into several")
    if not pairs:
        raise S2cdError(f"{path} lists no pair. {_WHAT}, and a line a pair")
    return tuple(pairs.values())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines with their numbers: the cells that matter, by their columns."""
    _check_file(path)
    number = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            columns = _columns(path, next(reader, []))
            for row in reader:
                number = reader.line_num
                if any(cell.strip() for cell in row):
                    yield number, _cells(path, number, columns, row)
    except UnicodeDecodeError as e:
        raise S2cdError(f"{path} is not text in UTF-8 after line {number}. Save it as that") from e
    except (OSError, csv.Error) as e:
        raise S2cdError(
            f"{path} cannot be read as CSV after line {number}: {one_line(e)}. {_WHAT}"
        ) from e


def _check_file(path: Path) -> None:
    if not path.is_file():
        said = "is no file" if path.exists() else "does not exist"
        raise S2cdError(f"{path} {said}. Name a CSV of pairs. {_WHAT}")
    if path.stat().st_size > _MOST_BYTES:
        raise S2cdError(f"{path} is too large for a list of pairs. Cut it into several")


def _columns(path: Path, row: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in row]
    for name in ("before", "after"):
        if name not in columns:
            held = ", ".join(cell for cell in columns[:8] if cell.isprintable()) or "none"
            raise S2cdError(f"{path}, line 1: no column {name!r} (columns: {held[:200]}). {_WHAT}")
    for name in ("before", "after", "name"):
        if columns.count(name) > 1:
            raise S2cdError(f"{path}, line 1: column {name!r} is there twice. {_WHAT}")
    return columns


def _cells(path: Path, line: int, columns: list[str], row: list[str]) -> dict[str, str]:
    if len(row) > len(columns):
        raise S2cdError(
            f"{path}, line {line}: {len(row)} cells, and there are {len(columns)} columns. Put a "
            "path that holds a comma in double quotes"
        )
    cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
    wanted = {name: cells.get(name, "") for name in ("before", "after", "name")}
    for name, cell in wanted.items():
        if not cell.isprintable():
            raise S2cdError(f"{path}, line {line}: {name} holds a control character. Remove it")
        if not cell and name != "name":
            raise S2cdError(f"{path}, line {line}: no {name}. Name a stack or a product there")
    return wanted


def _pair(path: Path, line: int, cells: dict[str, str]) -> PairLine:
    before, after = (_date(path, line, cells[key]) for key in ("before", "after"))
    name = cells["name"] or _usual_name(before, after)
    strange = sorted(set(name) & set(_FORBIDDEN))
    if strange or name.startswith((".", "-")) or len(name.encode()) > _LONGEST_NAME:
        why = f"holds {strange[0]!r}" if strange else "begins with a dot or dash, or is too long"
        raise S2cdError(
            f"{path}, line {line}: the name {name[:60]!r} {why}: it is to be a folder's. Give "
            "another in the column name"
        )
    if name.casefold() == RECORD:
        raise S2cdError(f"{path}, line {line}: {RECORD} is the record's name. Give another")
    return PairLine(name, before, after, line)


def _date(path: Path, line: int, cell: str) -> Path:
    try:
        date = path_of(cell)
    except S2cdError as e:
        raise S2cdError(f"{path}, line {line}: {e}") from e
    return date if isinstance(date, Remote) else path.parent / date


def _usual_name(before: Path, after: Path) -> str:
    if (before.stem.lower(), after.stem.lower()) == _USUAL and before.parent == after.parent:
        return before.absolute().parent.name
    return f"{before.stem}_{after.stem}"
