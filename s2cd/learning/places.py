"""Labelled places: where DATA keeps its pairs, and which are learned from."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from s2cd.errors import S2cdError

NEARBY = (
    frozenset({"aguasclaras", "brasilia"}),
    frozenset({"bercy", "paris"}),
    frozenset({"saclay_e", "saclay_w"}),
)
"""OSCD cities that lie close together: never on two sides of a split."""
SPLITS = ("train", "val", "test")
_COLUMNS = ("before", "after", "label", "split")
_PICTURES = (".png", ".tif", ".tiff", ".jpg")
LAYOUTS = (
    "an OSCD folder (Images, Train Labels), a LEVIR-CD folder (train/A, B, label), or a CSV with "
    "columns before, after, label, split"
)


@dataclass(frozen=True)
class Place:
    """Two dates and a mask of change.

    Attributes:
        name: What it is called in results.
        before: A raster, or a folder of band files.
        after: The later date.
        label: The mask.
        split: ``train``, ``val``, ``test``, or empty where nobody said.
    """

    name: str
    before: Path
    after: Path
    label: Path
    split: str = ""


def find_places(data: Path) -> list[Place]:
    """The labelled places of DATA, by name.

    Raises:
        S2cdError: where there is none, or a file that it names is missing.
    """
    if data.is_file():
        places = _from_csv(data)
    elif (data / "Images").is_dir():
        places = _from_oscd(data)
    else:
        places = _from_levir(data)
    if not places:
        raise S2cdError(f"{data} holds no labelled pairs. DATA is {LAYOUTS}")
    return sorted(places, key=lambda place: place.name)


def with_splits(places: list[Place], share: float = 0.2, seed: int = 0) -> list[Place]:
    """The places with a split each: what they have, or ``share`` of the groups for validation.

    Nearby cities are one group. A test split of DATA is kept.

    Raises:
        S2cdError: where there are too few places for both sides.
    """
    if any(p.split == "val" for p in places) and any(p.split == "train" for p in places):
        return [p if p.split else replace(p, split="train") for p in places]
    free = [p for p in places if p.split != "test"]
    groups = sorted({_group(p.name) for p in free})
    if len(groups) < 2:
        raise S2cdError(
            f"Only {len(groups)} place can be learned from, and one must be kept for validation. "
            "Add a place, or cut this one in two that do not touch"
        )
    np.random.default_rng(seed).shuffle(groups)
    kept = set(groups[: max(1, round(share * len(groups)))])
    chosen = {p.name: "val" if _group(p.name) in kept else "train" for p in free}
    return [replace(p, split=chosen.get(p.name, p.split)) for p in places]


def _group(name: str) -> str:
    return next((min(cities) for cities in NEARBY if name in cities), name)


def _from_csv(path: Path) -> list[Place]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise S2cdError(f"{path} cannot be read as CSV: {e}. DATA is {LAYOUTS}") from e
    places = []
    for line, row in enumerate(rows, start=2):
        if missing := [c for c in _COLUMNS[:3] if not row.get(c)]:
            raise S2cdError(f"{path}, line {line}: no {missing[0]}. DATA is {LAYOUTS}")
        split = (row.get("split") or "").strip()
        if split not in ("", *SPLITS):
            raise S2cdError(
                f"{path}, line {line}: split {split!r}. Name one of {', '.join(SPLITS)}"
            )
        files = [path.parent / row[c].strip() for c in _COLUMNS[:3]]
        if absent := [f for f in files if not f.exists()]:
            raise S2cdError(f"{path}, line {line}: {absent[0]} is not there. Correct the line")
        name = (row.get("name") or f"{line - 1:04d}_{files[0].stem}").strip()
        places.append(Place(name, files[0], files[1], files[2], split))
    return places


def _from_oscd(data: Path) -> list[Place]:
    places = []
    for side, split in (("Train Labels", ""), ("Test Labels", "test")):
        for folder in sorted((data / side).glob("*/cm")):
            city = folder.parent.name
            masks = [*folder.glob("*-cm.tif"), *folder.glob("cm.png")]
            dates = [_dated(data / "Images" / city, date) for date in (1, 2)]
            if masks and all(date.is_dir() for date in dates):
                places.append(Place(city, dates[0], dates[1], masks[0], split))
    return places


def _dated(city: Path, date: int) -> Path:
    """The folder of one date's bands, as the authors registered it where that is there."""
    ready = city / f"imgs_{date}_rect"
    return ready if ready.is_dir() else city / f"imgs_{date}"


def _from_levir(data: Path) -> list[Place]:
    places = []
    for folder, split in [(data, ""), *((data / s, s) for s in SPLITS)]:
        for before in _pictures(folder / "A"):
            after, label = (folder / side / before.name for side in ("B", "label"))
            if absent := [f for f in (after, label) if not f.is_file()]:
                raise S2cdError(f"{absent[0]} is not there, but {before} is. Complete the folder")
            places.append(Place(before.stem, before, after, label, split))
    listed = {s: data / "list" / f"{s}.txt" for s in SPLITS}
    for split, file in listed.items():
        if file.is_file():
            stems = {Path(line.strip()).stem for line in file.read_text().splitlines()}
            places = [replace(p, split=split) if p.name in stems else p for p in places]
    return places


def _pictures(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
