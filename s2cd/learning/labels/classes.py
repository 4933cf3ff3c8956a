"""What polygons say of their pixels: classes by a column, and verdicts of a review."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError, UsageError

logger = logging.getLogger(__name__)

MOST_CLASSES = 100
"""Higher codes are no classes of a map."""
STATUS = "status"
"""The column in which `s2cd review` keeps its verdicts."""
_VERDICTS = {
    "accepted": "accepted",
    "added": "accepted",
    "rejected": "rejected",
    "unreviewed": "unreviewed",
    "": "unreviewed",
}
UNREVIEWED = ("change", "unlabelled")


@dataclass(frozen=True)
class Choice:
    """Which polygons of a file count, and as what.

    Attributes:
        layer: The layer, where a file has several.
        class_column: Column of classes: whole numbers, or names that are given numbers.
        names: The names in the order of their numbers, from 1; where empty, all of the column,
            sorted.
        unreviewed: What polygons without a verdict are, in a file of `s2cd review`: one of
            `UNREVIEWED`.
    """

    layer: str | None = None
    class_column: str | None = None
    names: tuple[str, ...] = ()
    unreviewed: str = UNREVIEWED[0]

    def __post_init__(self) -> None:
        if self.unreviewed not in UNREVIEWED:
            raise UsageError(f"--unreviewed is one of {', '.join(UNREVIEWED)}")
        if self.names and self.class_column is None:
            raise UsageError("--classes are the names of a --class-column. Give both")
        if len(set(self.names)) != len(self.names):
            raise UsageError("--classes holds a name twice")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are needed."""
        return (STATUS,) if self.class_column is None else (STATUS, self.class_column)


@dataclass(frozen=True)
class Rows:
    """Features of a layer: shapes, their numbers in the file, and some columns by name."""

    shapes: NDArray[Any]
    numbers: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    fields: tuple[str, ...]

    def take(self, kept: NDArray[np.bool_]) -> "Rows":
        """Some of the features."""
        columns = {name: values[kept] for name, values in self.columns.items()}
        return Rows(self.shapes[kept], self.numbers[kept], columns, self.fields)


def classes_of(
    rows: Rows, every: NDArray[Any] | None, path: Path, choice: Choice
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Code of each feature, and the names of the codes; 1 for all without a column of classes.

    Args:
        rows: The features.
        every: The column of classes of all features of the layer, also of those elsewhere, so
            that a name has one number wherever its layer is used.
        path: What to call the file.
        choice: The column, and the order of its names.

    Raises:
        S2cdError: where there is no such column, or a feature has no class or a wrong one.
    """
    if choice.class_column is None:
        return np.ones(len(rows.numbers), np.uint8), {}
    if every is None:
        raise S2cdError(
            f"{path} has no column {choice.class_column!r}. It has "
            f"{', '.join(rows.fields) or 'none'}"
        )
    values = rows.columns[choice.class_column]
    missing = np.array([_is_null(v) for v in values], bool)
    if missing.any():
        raise S2cdError(
            f"{path}: feature {rows.numbers[missing][0]} has no class in {choice.class_column!r}. "
            "Fill it, or delete the polygon"
        )
    numbers = None if choice.names else _numbers(every)
    if numbers is not None:
        return _checked(np.array([float(v) for v in values]), rows, path), {}
    return _named(values, rows, path, choice.names or _sorted_names(every))


def _is_null(value: Any) -> bool:
    return value is None or value != value or str(value).strip() == ""  # noqa: PLR0124 (NaN)


def _numbers(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """A column as numbers, where it holds nothing else."""
    try:
        return np.array([float(v) for v in values if not _is_null(v)])
    except (TypeError, ValueError):
        return None


def _checked(values: NDArray[np.float64], rows: Rows, path: Path) -> NDArray[np.uint8]:
    wrong = ~((values >= 0) & (values <= MOST_CLASSES) & (values == np.rint(values)))
    if wrong.any():
        raise S2cdError(
            f"{path}: feature {rows.numbers[wrong][0]} has the class {values[wrong][0]:g}. Number "
            f"classes 1 to {MOST_CLASSES} (0 = no change)"
        )
    return values.astype(np.uint8)


def _sorted_names(values: NDArray[Any]) -> tuple[str, ...]:
    return tuple(sorted({str(v).strip() for v in values if not _is_null(v)}))


def _named(
    values: NDArray[Any], rows: Rows, path: Path, names: tuple[str, ...]
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    if len(names) > MOST_CLASSES:
        raise S2cdError(
            f"{path} names {len(names)} classes, more than {MOST_CLASSES}. Join some of them"
        )
    codes = {name: code for code, name in enumerate(names, start=1)}
    texts = [str(v).strip() for v in values]
    for number, text in zip(rows.numbers, texts, strict=True):
        if text not in codes:
            raise S2cdError(
                f"{path}: feature {number} has the class {text!r}, which is none of --classes "
                f"{', '.join(names)}. Name it there, or correct the feature"
            )
    return np.array([codes[t] for t in texts], np.uint8), {c: n for n, c in codes.items()}


def verdicts_of(
    rows: Rows, path: Path, unreviewed: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], dict[str, int]]:
    """Which features count, which of them are unknown, and how many have which verdict.

    Without a column `STATUS` of the words of `s2cd review`, all count.

    Raises:
        S2cdError: where only some of the words are those of a review.
    """
    every = np.ones(len(rows.numbers), bool)
    if STATUS not in rows.columns:
        return every, ~every, {}
    words = ["" if _is_null(v) else str(v).strip().lower() for v in rows.columns[STATUS]]
    strange = sorted({w for w in words if w not in _VERDICTS})
    if strange and len(strange) == len({w for w in words if w}):
        logger.info("%s: its column %s is of no review: all polygons count", path.name, STATUS)
        return every, ~every, {}
    if strange:
        raise S2cdError(
            f"{path}: the {STATUS} {strange[0]!r} is none of "
            f"{', '.join(v for v in _VERDICTS if v)}. Correct it"
        )
    verdicts = np.array([_VERDICTS[w] for w in words])
    kinds = ("accepted", "rejected", "unreviewed")
    facts = {kind: int((verdicts == kind).sum()) for kind in kinds}
    unknown = (verdicts == "unreviewed") & (unreviewed == "unlabelled")
    return verdicts != "rejected", unknown, facts


def said_classes(names: dict[int, str]) -> str:
    """Names of classes as a tag."""
    return json.dumps({str(code): name for code, name in names.items()}, ensure_ascii=False)
