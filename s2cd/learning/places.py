"""Labelled places: where DATA keeps its pairs, and which are learned from."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s2cd.errors import S2cdError
from s2cd.learning.areas import GAP, WINDOW, Cut, cut
from s2cd.learning.store import Area
from s2cd.output import one_line

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

NEARBY = (
    frozenset({"aguasclaras", "brasilia"}),
    frozenset({"bercy", "paris"}),
    frozenset({"saclay_e", "saclay_w"}),
)
"""OSCD cities that lie close together: never on two sides of a split."""
SPLITS = ("train", "val", "test")
REQUEST = "tile.json"
"""The file that says of a folder of windows what they were cut from: all from one scene."""
_COLUMNS = ("before", "after", "label", "split")
_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
LAYOUTS = (
    "an OSCD folder (Images, Train Labels), a LEVIR-CD folder (train/A, B, label), or a CSV with "
    "columns before, after, label, split"
)
WITHOUT_DATA = "`s2cd demo --train` shows how it works, without any"


@dataclass(frozen=True)
class Place:
    """Two dates and a mask of change.

    Attributes:
        name: What it is called in results.
        before: A raster, or a folder of band files.
        after: The later date.
        label: The mask.
        split: ``train``, ``val``, ``test``, or empty where nobody said.
        area: The part of the scene that it is; all of it by default.
        reach: Pixels around the area that a network may see, but not learn from.
        whole: Name of the scene of which it is a part: never on two sides of a split but by areas.
    """

    name: str
    before: Path
    after: Path
    label: Path
    split: str = ""
    area: Area | None = None
    reach: int = 0
    whole: str = ""

    @property
    def scene(self) -> str:
        """What the scene is called that it is, or is a part of."""
        return self.whole or self.name


def open_date(path: Path, bands: Sequence[str] | None) -> "xr.DataArray":
    """One date of a place: a raster, or a folder of band files."""
    from s2cd.scenes.safe import open_folder
    from s2cd.scenes.stack import open_stack

    return open_folder(path, bands) if path.is_dir() else open_stack(path, bands)


def find_places(data: Path) -> list[Place]:
    """The labelled places of DATA, by name.

    Raises:
        S2cdError: where there is none, or a file that it names is missing.
    """
    if not data.exists():
        raise S2cdError(f"{data} is not there. DATA is {LAYOUTS}. {WITHOUT_DATA}")
    if data.is_file():
        places = _from_csv(data)
    elif _oscd_folder(data, "Images") is not None:
        places = _from_oscd(data)
    else:
        places = _from_levir(data) or _from_table_in(data)
    if not places:
        raise S2cdError(f"{data} holds no labelled pairs. DATA is {LAYOUTS}. {WITHOUT_DATA}")
    return sorted(_distinct(places), key=lambda place: place.name)


def with_splits(
    places: list[Place], share: float = 0.2, seed: int = 0, window: int = WINDOW
) -> list[Place]:
    """The places with a split each: what they have, or ``share`` of the groups for validation.

    Nearby cities are one group. A test split of DATA is kept, and so is one of validation where
    nothing is there to learn from. Where there is one place only, it is cut into areas with a gap
    between them (`cut`): the same ones whatever the seed, so that an evaluation finds them again.

    Args:
        places: What DATA holds.
        share: Of the places, or of the one place, for validation.
        seed: Another seed, other places.
        window: Height and width of the windows to learn from; the gap is as wide.

    Raises:
        S2cdError: where there are too few places for both sides, or one is too small to be cut.
    """
    sides = {split: [p for p in places if p.split == split] for split in ("", *SPLITS)}
    if not (sides["train"] or sides[""]):
        return places
    if sides["val"]:
        _warn_of_neighbours(sides["val"], sides["train"] + sides[""])
        return [p if p.split else replace(p, split="train") for p in places]
    free, fixed = sides[""] or sides["train"], sides["train"] if sides[""] else []
    if len(free) == 1 and not fixed:
        return [*(p for p in places if p is not free[0]), *_parts(free[0], share, window)]
    groups = sorted({_group(p) for p in free} - {_group(p) for p in fixed})
    most = len(groups) if fixed else len(groups) - 1
    if most < 1:
        raise S2cdError(
            f"{len(free)} places can be learned from or validated on, and they lie close together. "
            "Add a place that lies elsewhere"
        )
    np.random.default_rng(seed).shuffle(groups)
    kept = set(groups[: min(most, max(1, round(share * (len(groups) + len(fixed)))))])
    chosen = {p.name: "val" if _group(p) in kept else "train" for p in free}
    return [replace(p, split=chosen.get(p.name, p.split)) for p in places]


def _group(place: Place) -> str:
    """What a place must stay together with."""
    return next((min(cities) for cities in NEARBY if place.scene in cities), place.scene)


def _warn_of_neighbours(val: list[Place], train: list[Place]) -> None:
    learned = {_group(p): p for p in train}
    for place in val:
        near = learned.get(_group(place))
        parted = near is not None and place.whole != "" and place.whole == near.whole
        if near is not None and not parted:  # `tile` leaves a gap between its own
            logger.warning("%s is validated on, and %s lies close to it", place.name, near.name)


def _parts(place: Place, share: float, window: int) -> list[Place]:
    """One place as areas that do not touch, some to learn from and some to validate on."""
    found = _cut(place, share, window)
    sides = [("train", area) for area in found.train] + [("val", area) for area in found.val]
    return [
        replace(
            place,
            name=f"{place.name}_{area.top}_{area.left}",
            split=split,
            area=area,
            reach=found.gap if split == "val" else 0,
            whole=place.name,
        )
        for split, area in sides
    ]


def _cut(place: Place, share: float, window: int) -> Cut:
    from s2cd.scenes.mask import UNLABELLED, read_label

    label = read_label(place.label, open_date(place.before, None).odc.geobox)
    found = cut(label, window, share)
    logger.info(
        "%s is the only place: cut into areas, %d to learn from and %d to validate on, %d pixels "
        "apart",
        place.name, len(found.train), len(found.val), found.gap,
    )  # fmt: skip
    changed = (label > 0) & (label != UNLABELLED)
    if not any(changed[area.slices].any() for area in found.val):
        logger.warning("%s: no change is labelled in the areas to validate on", place.name)
    return found


def _distinct(places: list[Place]) -> list[Place]:
    """Places with names of their own, where several files of one name lie in several folders."""
    often = {name for name, count in Counter(p.name for p in places).items() if count > 1}
    named = [replace(p, name=f"{p.split}_{p.name}") if p.name in often else p for p in places]
    seen: Counter[str] = Counter()
    for number, place in enumerate(named):
        seen[place.name] += 1
        if seen[place.name] > 1:
            named[number] = replace(place, name=f"{place.name}_{seen[place.name]}")
    return named


def _from_table_in(data: Path) -> list[Place]:
    """The places of the only CSV of a folder."""
    tables = sorted(data.glob("*.csv"))
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables[:5])
        raise S2cdError(f"{data} holds {len(tables)} CSVs ({names}). Name the one that is DATA")
    return _from_csv(tables[0]) if tables else []


def _from_csv(path: Path) -> list[Place]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise S2cdError(f"{path} cannot be read as CSV: {one_line(e)}. DATA is {LAYOUTS}") from e
    if missing := [c for c in _COLUMNS[:3] if c not in columns]:
        raise S2cdError(f"{path} has no column {missing[0]!r}. DATA is {LAYOUTS}")
    found = [_from_row(path, line, row) for line, row in enumerate(rows, start=2)]
    return [place for place in found if place.split != GAP]


def _from_row(path: Path, line: int, row: dict[str, str | None]) -> Place:
    cells = {c: (row.get(c) or "").strip() for c in (*_COLUMNS, "name")}
    if missing := [c for c in _COLUMNS[:3] if not cells[c]]:
        raise S2cdError(f"{path}, line {line}: no {missing[0]}. DATA is {LAYOUTS}")
    if cells["split"] not in ("", *SPLITS, GAP):
        raise S2cdError(
            f"{path}, line {line}: split {cells['split']!r}. Name one of {', '.join(SPLITS)}, or "
            f"{GAP} for what is left out"
        )
    files = [path.parent / cells[c] for c in _COLUMNS[:3]]
    if absent := [f for f in files if not f.exists()]:
        raise S2cdError(f"{path}, line {line}: {absent[0]} is not there. Correct the line")
    name = cells["name"] or f"{line - 1:04d}_{files[0].stem}"
    return Place(name, files[0], files[1], files[2], cells["split"])


def _oscd_folder(data: Path, kind: str) -> Path | None:
    """A folder of OSCD, under its name or the longer one that the archives unpack to."""
    found = [data / kind, *sorted(data.glob(f"* - {kind}"))]
    return next((folder for folder in found if folder.is_dir()), None)


def _from_oscd(data: Path) -> list[Place]:
    places = []
    images = _oscd_folder(data, "Images")
    for kind, split in (("Train Labels", ""), ("Test Labels", "test")):
        labels = _oscd_folder(data, kind)
        if images is None or labels is None:
            continue
        for folder in sorted(labels.glob("*/cm")):
            city = folder.parent.name
            masks = [*folder.glob("*-cm.tif"), *folder.glob("cm.png")]
            dates = [_dated(images / city, date) for date in (1, 2)]
            if masks and all(date.is_dir() for date in dates):
                places.append(Place(city, dates[0], dates[1], masks[0], split))
    return places


def _dated(city: Path, date: int) -> Path:
    """The folder of one date's bands, as the authors registered it where that is there."""
    ready = city / f"imgs_{date}_rect"
    return ready if ready.is_dir() else city / f"imgs_{date}"


def _from_levir(data: Path) -> list[Place]:
    places = []
    whole = data.resolve().name if (data / REQUEST).is_file() else ""
    for folder, split in [(data, ""), *((data / s, s) for s in SPLITS)]:
        sides = {side: _pictures(folder / side) for side in ("A", "B", "label")}
        for stem, before in sides["A"].items():
            if absent := [side for side in ("B", "label") if stem not in sides[side]]:
                raise S2cdError(
                    f"{folder / absent[0] / before.name} is not there, but {before} is. Complete "
                    "the folder"
                )
            files = before, sides["B"][stem], sides["label"][stem]
            places.append(Place(stem, *files, split, whole=whole))
    return _listed(places, data / "list")


def _listed(places: list[Place], folder: Path) -> list[Place]:
    """The places that the lists of a data set name, each with the split of its list."""
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    files = {split: file for split, file in files.items() if file.is_file()}
    if not files:
        return places
    split_of: dict[str, str] = {}
    for split, file in files.items():
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        stems = {Path(line.strip()).stem for line in lines if line.strip()}
        if missing := stems - {p.name for p in places}:
            raise S2cdError(f"{file} names {min(missing)}, which is not there. Complete the folder")
        if twice := stems & set(split_of):
            raise S2cdError(f"{file} names {min(twice)}, and so does another list. Name it once")
        split_of |= dict.fromkeys(stems, split)
    return [replace(p, split=split_of[p.name]) for p in places if p.name in split_of]


def _pictures(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by the stems of their names."""
    if not folder.is_dir():
        return {}
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in _PICTURES}
