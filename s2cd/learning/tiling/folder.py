"""The folder of windows: each complete or absent, so that the same request goes on with it."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.detection.schedule import Workers, run_all
from s2cd.errors import S2cdError
from s2cd.learning.areas import Cut, cut
from s2cd.learning.places import REQUEST, open_date
from s2cd.learning.prepared import identity
from s2cd.learning.store import Area
from s2cd.learning.tiling.formats import ROLES, Files, GeoTiffs, ZarrStore
from s2cd.learning.tiling.scene import Chip, Scene, Tiling, lattice, open_scene
from s2cd.output import completed, write_errors

Report = Callable[[int, int], None]
INDEX = "index.csv"
_COLUMNS = (
    "name", "before", "after", "label", "split", "row", "column", "west", "south", "east",
    "north", "crs", "valid_fraction", "change_fraction",
)  # fmt: skip


def tile(
    tiling: Tiling,
    folder: Path,
    workers: Workers | None = None,
    report: Report = lambda done, of: None,
) -> dict[str, Any]:
    """Cut a pair into windows; killed at any time, the same request goes on.

    The folder then holds ``A``, ``B`` and ``label`` as LEVIR-CD has them, ``list`` with the names
    to learn from and to validate on, and ``index.csv``. Windows without data are left out.

    Returns:
        What `s2cd tile --json` prints.

    Raises:
        S2cdError: where an input cannot be used, or the folder holds something else.
    """
    _claim(tiling, folder)
    if (rows := _finished(folder)) is not None:
        return _summary(folder, tiling, rows, 0)
    scene = open_scene(tiling)
    groups = list(lattice(scene.pair.shape, tiling.size, tiling.step))
    kind = GeoTiffs if tiling.format == "geotiff" else ZarrStore
    files = kind.create(folder, scene, [area for group in groups for area in group])
    sides = _cut(scene, tiling)
    rows, written = [], 0
    tasks = [(_write_group, (scene, files, group)) for group in groups]
    for done, (found, new) in enumerate(run_all(tasks, workers or Workers()), start=1):
        rows += found
        written += new
        report(done, len(tasks))
    if not rows:
        raise S2cdError(f"No window of {tiling.before} and {tiling.after} has data in both dates")
    rows.sort(key=lambda row: (row["row"], row["column"]))
    for row in rows:
        row["split"] = "" if sides is None else sides.side_of(_area(row, tiling.size))
        row.update(_place(scene.pair.geobox, _area(row, tiling.size)))
    _write_lists(rows, folder, tiling)
    _write_index(rows, folder)
    return _summary(folder, tiling, rows, written)


def _claim(tiling: Tiling, folder: Path) -> None:
    """Take the folder for this request, or go on in it; refuse one that holds anything else."""
    from s2cd import __version__

    files = {key: getattr(tiling, key) for key in ("before", "after", "label")}
    for path in files.values():
        if path is not None and not path.exists():
            raise S2cdError(f"{path} does not exist. Check the name")
    facts: dict[str, Any] = {k: v for k, v in asdict(tiling).items() if k not in files}
    facts |= {key: None if path is None else identity(path) for key, path in files.items()}
    text = json.dumps({**facts, "stride": tiling.step, "version": __version__}, indent=1)
    note = folder / REQUEST
    with write_errors(folder):
        folder.mkdir(exist_ok=True)
    if note.exists():
        if note.read_text() != text:
            raise S2cdError(
                f"{folder} holds windows of another request ({REQUEST} says which). Name a new "
                "folder"
            )
        return
    if any(folder.iterdir()):
        raise S2cdError(f"{folder} holds something else. Name a new folder for the windows")
    with completed(note) as temporary:
        temporary.write_text(text)


def _cut(scene: Scene, tiling: Tiling) -> Cut | None:
    """The scene cut into areas to learn from and to validate on; None where it is too small."""
    label = np.zeros(scene.pair.shape, np.uint8) if scene.label is None else scene.label
    try:
        return cut(label, tiling.size, tiling.share)
    except S2cdError:
        return None


def _write_group(scene: Scene, files: Files, areas: list[Area]) -> tuple[list[dict[str, Any]], int]:
    """Write the windows of a group that are not there yet; a row of the index for each."""
    rows, written = [], 0
    for chip in scene.chips(areas):
        if chip.valid == 0:
            continue
        if not files.hold(chip.area):
            files.write(chip)
            written += 1
        rows.append(_row(chip, files))
    return rows, written


def _row(chip: Chip, files: Files) -> dict[str, Any]:
    change = "" if chip.change is None else round(chip.change, 6)
    at = {"row": chip.area.top, "column": chip.area.left}
    shares = {"valid_fraction": round(chip.valid, 6), "change_fraction": change}
    return {**files.names(chip.area), **at, **shares}


def _area(row: dict[str, Any], size: int) -> Area:
    return Area(row["row"], row["column"], row["row"] + size, row["column"] + size)


def _place(grid: GeoBox, area: Area) -> dict[str, Any]:
    """Bounds of a window on the ground, in the units of its CRS; nothing without one."""
    if grid.crs is None:
        return {}
    box = grid[area.slices].boundingbox
    bounds = {"west": box.left, "south": box.bottom, "east": box.right, "north": box.top}
    code = grid.crs.epsg
    return {**bounds, "crs": f"EPSG:{code}" if code else grid.crs.to_wkt()}


def _write_lists(rows: list[dict[str, Any]], folder: Path, tiling: Tiling) -> None:
    if tiling.format != "geotiff":
        return
    with write_errors(folder):
        (folder / "list").mkdir(exist_ok=True)
    for side in ("train", "val"):
        names = [Path(row["before"]).name for row in rows if row["split"] == side]
        if names:
            with completed(folder / "list" / f"{side}.txt", overwrite=True) as temporary:
                temporary.write_text("\n".join(names) + "\n")


def _write_index(rows: list[dict[str, Any]], folder: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with completed(folder / INDEX, overwrite=True) as temporary:
        temporary.write_text(text.getvalue())


def _finished(folder: Path) -> list[dict[str, Any]] | None:
    """The rows of the index, where it is there and all files that it names are."""
    if not (folder / INDEX).is_file():
        return None
    with (folder / INDEX).open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    names = [row[role] for row in rows for role in ROLES if row.get(role)]
    return rows if all((folder / name).is_file() for name in names) else None


def _summary(
    folder: Path, tiling: Tiling, rows: list[dict[str, Any]], written: int
) -> dict[str, Any]:
    height, width = open_date(tiling.before, tiling.bands).odc.geobox.shape
    asked = sum(map(len, lattice((height, width), tiling.size, tiling.step)))
    sides = [row["split"] for row in rows]
    return {
        "folder": str(folder),
        "index": str(folder / INDEX),
        "windows": len(rows),
        "written": written,
        "without_data": asked - len(rows),
        **{side: sides.count(side) for side in ("train", "val", "gap")},
    }
