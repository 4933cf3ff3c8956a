"""How windows are stored: as GeoTIFFs in folders, or together in a Zarr store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2cd.learning.prepared import REGISTERED, STATISTICS, said_statistics
from s2cd.learning.store import Area
from s2cd.learning.tiling.scene import Chip, Scene
from s2cd.output import completed, write_errors
from s2cd.scenes.mask import CODES_TAG, UNLABELLED
from s2cd.scenes.raster import gdal
from s2cd.scenes.stack import SCALE, encode, stack_array, write_stack

CODES = "0 = no change, 1..n = class, 255 = not labelled"
_SIDES = ("A", "B", "label")
ROLES = ("before", "after", "label")


class Files(Protocol):
    """Where windows are put."""

    def hold(self, area: Area) -> bool:
        """Whether a window is there, complete."""

    def write(self, chip: Chip) -> None:
        """Put a window there."""

    def names(self, area: Area) -> dict[str, Any]:
        """What the index calls a window and its files."""


@dataclass(frozen=True)
class GeoTiffs:
    """A stack for each date in ``A`` and ``B``, and a mask in ``label``."""

    folder: Path
    scene: Scene
    tags: tuple[dict[str, str], dict[str, str]]

    @classmethod
    def create(cls, folder: Path, scene: Scene, areas: list[Area]) -> "GeoTiffs":
        """The folders for the windows of a scene."""
        with write_errors(folder):
            for side in _SIDES[: 2 if scene.label is None else 3]:
                (folder / side).mkdir(exist_ok=True)
        return cls(folder, scene, _tags(scene))

    def hold(self, area: Area) -> bool:
        """Whether a window is there: each of its files is complete or absent."""
        return all((self.folder / name).exists() for name in self._paths(area).values())

    def names(self, area: Area) -> dict[str, Any]:
        """Its name, and those of its files within the folder."""
        return {"name": _name(area), **self._paths(area)}

    def write(self, chip: Chip) -> None:
        """Write the files of a window."""
        box = self.scene.pair.geobox[chip.area.slices]
        place = {"ROW": str(chip.area.top), "COLUMN": str(chip.area.left)}
        paths = {role: self.folder / name for role, name in self._paths(chip.area).items()}
        for which, values in enumerate((chip.before, chip.after)):
            stack = stack_array(values, box, self.scene.pair.bands)
            qa = stack_array(chip.flags[which][None], box, ("QA",))[0]
            tags = {**self.tags[which], **place}
            write_stack(stack, paths[ROLES[which]], qa, tags, overwrite=True)
        if chip.label is not None:
            _write_mask(chip.label, paths["label"], box)

    def _paths(self, area: Area) -> dict[str, str]:
        kinds = zip(ROLES, _SIDES, strict=True)
        paths = {role: f"{side}/{_name(area)}.tif" for role, side in kinds}
        if self.scene.label is None:
            del paths["label"]
        return paths


@dataclass(frozen=True)
class ZarrStore:
    """One array for each date and one for the masks; a window is a chunk of each."""

    folder: Path
    scene: Scene
    number: dict[Area, int]

    @classmethod
    def create(cls, folder: Path, scene: Scene, areas: list[Area]) -> "ZarrStore":
        """The arrays for the windows of a scene; those that are there are left as they are."""
        import zarr

        size, bands = areas[0].shape, [*scene.pair.bands, "QA"]
        with write_errors(folder):
            group = zarr.open_group(str(folder / "windows.zarr"), mode="a")
            group.attrs.update({"bands": bands, "scale": SCALE, "nodata": 0, "codes": CODES})
            for which, role in enumerate(ROLES[: 2 if scene.label is None else 3]):
                if role in group:
                    continue
                is_date = role != "label"
                group.create_array(
                    role,
                    shape=(len(areas), len(bands), *size) if is_date else (len(areas), *size),
                    chunks=(1, len(bands), *size) if is_date else (1, *size),
                    dtype="uint16" if is_date else "uint8",
                    fill_value=0 if is_date else UNLABELLED,
                    dimension_names=("window", *(("band",) if is_date else ()), "y", "x"),
                    attributes=_tags(scene)[which] if is_date else {},
                    config={"write_empty_chunks": True},
                )
        return cls(folder, scene, {area: number for number, area in enumerate(areas)})

    def hold(self, area: Area) -> bool:
        """Whether a window is there: each chunk is complete or absent."""
        tail = {"before": "0/0/0", "after": "0/0/0", "label": "0/0"}
        roles = ROLES[: 2 if self.scene.label is None else 3]
        store = self.folder / "windows.zarr"
        return all((store / f"{r}/c/{self.number[area]}/{tail[r]}").exists() for r in roles)

    def names(self, area: Area) -> dict[str, Any]:
        """Its number in the arrays."""
        return {"name": str(self.number[area])}

    def write(self, chip: Chip) -> None:
        """Write the chunks of a window."""
        import zarr

        number = self.number[chip.area]
        config: Any = {"write_empty_chunks": True}
        values: dict[str, NDArray[Any]] = {}
        for which, role in enumerate(ROLES[:2]):
            date = encode((chip.before, chip.after)[which])
            values[role] = np.concatenate([date, chip.flags[which][None]])
        if chip.label is not None:
            values["label"] = chip.label
        with write_errors(self.folder):
            for role, value in values.items():
                path = str(self.folder / "windows.zarr" / role)
                zarr.open_array(path, mode="r+", config=config)[number] = value


def _name(area: Area) -> str:
    return f"r{area.top:05d}_c{area.left:05d}"


def _tags(scene: Scene) -> tuple[dict[str, str], dict[str, str]]:
    """What windows of each date say of themselves: where they come from, and that they lie so."""
    pair, found = scene.pair, []
    for which, date in enumerate((pair.before, pair.after)):
        known = {key: str(value) for key, value in date.attrs.items() if key.isupper()}
        found.append({**known, STATISTICS: said_statistics(scene.statistics, which, pair.bands)})
    found[1][REGISTERED] = str(pair.before.attrs.get("source", "before"))
    if scene.shift is not None:
        found[1]["SHIFT_PX"] = f"{scene.shift.length:.3f}"
    return found[0], found[1]


def _write_mask(label: NDArray[np.uint8], path: Path, box: Any) -> None:
    import rasterio

    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 1,
        "height": label.shape[0],
        "width": label.shape[1],
        "crs": None if box.crs is None else box.crs.to_wkt(),
        "transform": box.affine,
        "nodata": UNLABELLED,
        "compress": "DEFLATE",
    }
    with (
        completed(path, overwrite=True) as temporary,
        gdal(),
        rasterio.open(temporary, "w", **profile) as target,
    ):
        target.write(label, 1)
        target.update_tags(**{CODES_TAG: CODES})
