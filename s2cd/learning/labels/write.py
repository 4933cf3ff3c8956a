"""The mask on disk: a Cloud Optimized GeoTIFF that says how it was drawn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.blocks import BLOCK, Block, blocks
from s2cd.detection.changemap import Raster, class_colours, plain_raster
from s2cd.learning.labels.burn import RULES, Burner
from s2cd.learning.labels.classes import Choice, said_classes
from s2cd.learning.labels.polygons import Polygons, read_polygons
from s2cd.output import check_writable, completed
from s2cd.scenes.mask import CODES_TAG, UNLABELLED
from s2cd.scenes.observed import Observed, observed_in

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and on what.

    Attributes:
        polygons: A file of polygons.
        like: The raster whose grid the mask gets; where it has no data, nothing is labelled.
        within: Polygons of the area that was looked at; all of the raster by default.
        touched: Whether a polygon takes all pixels that it touches, not those of whose centres
            it takes.
        choice: Which polygons count, and as what.
        block: Height and width of the blocks in which it is drawn, in pixels.
    """

    polygons: Path
    like: Path
    within: Path | None = None
    touched: bool = False
    choice: Choice = field(default_factory=Choice)
    block: int = BLOCK


def write_label(
    drawing: Drawing,
    path: Path,
    overwrite: bool = False,
    report: Report = lambda done, of: None,
) -> dict[str, Any]:
    """Write polygons as a mask: uint8, 0 = no change, 1..n = class, 255 = not labelled.

    Returns:
        What `s2cd label --json` prints.

    Raises:
        S2cdError: where an input or the result cannot be used.
    """
    check_writable(path, overwrite)
    with observed_in(drawing.like) as (grid, observed):
        polygons = read_polygons(drawing.polygons, grid, drawing.choice)
        area = drawing.within and read_polygons(drawing.within, grid, Choice())
        canvas = _Canvas(polygons, area or None, observed, drawing.touched)
        raster = _raster(drawing, path, grid, polygons)
        every = list(blocks((grid.shape[0], grid.shape[1]), drawing.block))
        with completed(path, overwrite) as temporary, plain_raster(raster, temporary) as write:
            for done, block in enumerate(every, start=1):
                write(block, canvas.draw(block))
                report(done, len(every))
    return canvas.summary(drawing, path)


class _Canvas:
    """Draws blocks, and counts what came out."""

    def __init__(
        self, polygons: Polygons, area: Polygons | None, observed: Observed, touched: bool
    ) -> None:
        self.polygons, self.observed = polygons, observed
        self._burner = Burner(polygons, touched)
        self._area = None if area is None else Burner(area)
        self._codes = np.concatenate([[0], polygons.codes]).astype(np.uint8)
        self.counts = np.zeros(256, np.int64)
        self.taken = np.zeros(len(self._codes), bool)

    def draw(self, block: Block) -> NDArray[np.uint8]:
        """The codes of a block's pixels."""
        numbers = self._burner.numbers_in(block)
        self.taken[np.unique(numbers)] = True
        values: NDArray[np.uint8] = self._codes[numbers]
        if self._area is not None:
            values[self._area.numbers_in(block) == 0] = UNLABELLED
        values[~self.observed(block.ys, block.xs)] = UNLABELLED
        self.counts += np.bincount(values.ravel(), minlength=256)
        return values

    def summary(self, drawing: Drawing, path: Path) -> dict[str, Any]:
        """What was drawn."""
        pixels, names = int(self.counts.sum()), self.polygons.names
        found = np.flatnonzero(self.counts[1:UNLABELLED]) + 1
        labelled = pixels - int(self.counts[UNLABELLED])
        return {
            "label": str(path),
            **self.polygons.facts,
            "without_pixels": int((~self.taken[1:]).sum()),
            "rule": RULES[drawing.touched],
            "classes": {names.get(int(c), str(c)): int(self.counts[c]) for c in found},
            "labelled_fraction": labelled / pixels,
            "change_fraction": int(self.counts[found].sum()) / max(1, labelled),
        }


def _raster(drawing: Drawing, path: Path, grid: GeoBox, polygons: Polygons) -> Raster:
    from s2cd import __version__

    known = polygons.codes[polygons.codes != UNLABELLED]
    highest = max([1, *polygons.names, *known.tolist()])
    tags = {
        CODES_TAG: "0 = no change, 1 = change, 255 = not labelled"
        if highest == 1
        else f"0 = no change, 1..{highest} = class, 255 = not labelled",
        "RULE": RULES[drawing.touched],
        "POLYGONS": drawing.polygons.name,
        "LAYER": str(polygons.facts["layer"]),
        "LIKE": drawing.like.name,
        "S2CD_VERSION": __version__,
    }
    if drawing.within is not None:
        tags["WITHIN"] = drawing.within.name
    if polygons.names:
        tags["CLASSES"] = said_classes(polygons.names)
    return Raster(path, grid, tags, class_colours(highest))
