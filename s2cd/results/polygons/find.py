"""From a change map to a table of polygons."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.blocks import BLOCK, STEPS, Block
from s2cd.errors import S2cdError
from s2cd.results.dates import sensed
from s2cd.results.polygons.components import (
    INDEX_STEPS,
    Components,
    Layers,
    Read,
    find_components,
    numbered,
)
from s2cd.results.polygons.kinds import HELD, index_reader, kinds_of
from s2cd.results.polygons.outlines import find_corners
from s2cd.results.polygons.shapes import Shaping, draw, ellipsoidal, metres_of
from s2cd.scenes.header import grid_of
from s2cd.scenes.raster import gdal, reading

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_LARGEST_BLOCK = 2048
"""Larger blocks are read in parts, so that a full tile with both dates stays below 2 GiB."""
_CACHE = 128 << 20
"""Bytes of GDAL's block cache, which is 5 % of the machine's memory by default."""


@dataclass(frozen=True)
class Sources:
    """A map, and what else is known of its pixels.

    Attributes:
        change: A change map of `detect`.
        probability: Its probabilities or scores.
        before: The earlier date, for indices; with ``after``.
        after: The later date.
        bands: What the bands of the dates are, where they have no names.
        block: Height and width of the blocks that are read, in pixels; 2048 at most.
    """

    change: Path
    probability: Path | None = None
    before: Path | None = None
    after: Path | None = None
    bands: tuple[str, ...] | None = None
    block: int = BLOCK


@dataclass(frozen=True)
class Found:
    """The changes of a map.

    Attributes:
        table: One row a change, with its polygon in the map's CRS.
        tags: What the map says of itself.
        pixels: Changed pixels of the map, before small changes are left out.
        observed: Pixels observed in both dates.
        left_out: Number and pixels of the changes that are too small.
        pixel_m: Side of a pixel, in metres.
    """

    table: "GeoDataFrame"
    tags: dict[str, str]
    pixels: int
    observed: int
    left_out: tuple[int, int]
    pixel_m: float


def find_polygons(sources: Sources, shaping: Shaping | None = None) -> Found:
    """The changes of a map as a table of polygons; the same whatever the size of the blocks.

    Columns: ``id`` from 1 in reading order, ``class``, ``area_m2`` of the pixels (holes filled as
    asked) on the ellipsoid, ``perimeter_m`` and ``compactness`` (4 pi area / perimeter squared,
    Polsby and Popper 1991) of the outline as drawn, ``probability_mean`` and ``probability_max``
    (0..1), ``date_before`` and ``date_after``, the change of ``ndvi``, ``ndbi`` and ``ndwi``
    (``…_change``), and ``kind``. What is not known is null.

    Raises:
        S2cdError: where a file is no such map, or does not lie on its grid.
    """
    shaping = shaping or Shaping()
    with _open(sources) as (layers, geobox, tags):
        pixel = metres_of(geobox)
        least = shaping.min_area * (1 - 1e-9)
        every = find_components(layers, _surely_less(least, geobox))
        kept = _areas(every, geobox) >= least
        components = every.keep(kept)
        corners = find_corners(layers.shape, numbered(layers, components))
    shapes = draw(corners, geobox, shaping)
    table = _table(components, shapes, geobox, tags)
    count, pixels = every.forgotten
    left_out = count + int((~kept).sum()), pixels + int(every.parts.pixels[~kept].sum())
    changed = pixels + int(every.parts.pixels.sum())
    return Found(table, tags, changed, every.observed, left_out, pixel)


def _surely_less(area: float, geobox: GeoBox) -> int:
    """A number of pixels; fewer have less than this area wherever they lie in the map."""
    from s2cd.detection.changemap import pixel_areas

    areas = pixel_areas(geobox)
    return 1 if areas is None else max(1, int(area // float(areas.max())))


def _areas(components: Components, geobox: GeoBox) -> NDArray[np.float64]:
    """Areas of the changes in the map's plane; in degrees, by the row of their first pixel."""
    from s2cd.detection.changemap import pixel_areas

    areas = pixel_areas(geobox)
    if areas is None:  # metres_of has refused such a map
        return components.parts.pixels.astype(np.float64)
    return components.parts.pixels * areas[components.parts.first // geobox.shape[1]]


@contextmanager
def _open(sources: Sources) -> Iterator[tuple[Layers, GeoBox, dict[str, str]]]:
    import rasterio
    from rasterio.windows import Window

    def reader(source: Any) -> Read:
        return lambda b: source.read(1, window=Window.from_slices(b.ys, b.xs))

    with gdal(), rasterio.Env(GDAL_CACHEMAX=_CACHE), reading(sources.change) as source:
        _check_map(source, sources.change)
        if source.crs is None:
            raise S2cdError(
                f"{sources.change} has no CRS: its changes have no place. Georeference it in a GIS"
            )
        geobox, tags = grid_of(source, sources.change), dict(source.tags())
        indices = _indices(sources, geobox, tags)
        classes = _checked(reader(source), sources.change)
        shape, size = (source.height, source.width), min(sources.block, _LARGEST_BLOCK)
        if sources.probability is None:
            yield Layers(shape, size, classes, None, indices), geobox, tags
            return
        with reading(sources.probability) as scores:
            _check_scores(scores, sources, geobox)
            yield Layers(shape, size, classes, reader(scores), indices), geobox, tags


def _check_map(source: Any, path: Path) -> None:
    if source.count != 1 or source.dtypes[0] != "uint8":
        raise S2cdError(
            f"{path} is no change map: it has {source.count} bands of {source.dtypes[0]}. "
            "Name one of `s2cd detect`"
        )
    if source.scales != (1.0,):
        raise S2cdError(f"{path} holds probabilities, not classes. Name the map of `s2cd detect`")


def _checked(read: Read, path: Path) -> Read:
    """A reader that refuses what cannot be a class."""

    def checked(block: Block) -> NDArray[np.uint8]:
        values: NDArray[np.uint8] = read(block)
        strange = values[(values > 100) & (values < 255)]
        if strange.size:
            raise S2cdError(f"{path} is no change map: it holds {strange[0]}. Name one of detect")
        return values

    return checked


def _check_scores(scores: Any, sources: Sources, geobox: GeoBox) -> None:
    path = sources.probability
    if scores.dtypes[0] != "uint8" or not np.isclose(scores.scales[0], 1 / STEPS):
        raise S2cdError(f"{path} holds no probabilities. Make them by `s2cd detect --probability`")
    if grid_of(scores, path or Path()) != geobox:
        raise S2cdError(f"{path} does not lie on the grid of {sources.change}. Name its own")


def _indices(sources: Sources, geobox: GeoBox, tags: dict[str, str]) -> Read | None:
    if sources.before is None and sources.after is None:
        return None
    if sources.before is None or sources.after is None:
        raise S2cdError("Index changes need both dates. Give --before and --after")
    return index_reader((sources.before, sources.after), geobox, tags, sources.bands)


def _table(
    components: Components,
    shapes: tuple[NDArray[Any], NDArray[Any]],
    geobox: GeoBox,
    tags: dict[str, str],
) -> "GeoDataFrame":
    from geopandas import GeoDataFrame

    drawn, exact = shapes
    area = ellipsoidal(exact, geobox)[0]
    drawn_area, perimeter = ellipsoidal(drawn, geobox)
    columns: dict[str, Any] = {
        "id": np.arange(1, len(components) + 1, dtype=np.int32),
        "class": components.parts.classes.astype(np.int32),
        "area_m2": np.round(area, 1),
        "perimeter_m": np.round(perimeter, 1),
        "compactness": np.round(4 * np.pi * drawn_area / perimeter**2, 3),
        **_probabilities(components),
        "date_before": _text(sensed(tags, "BEFORE"), len(components)),
        "date_after": _text(sensed(tags, "AFTER"), len(components)),
        **_spectra(components, area),
    }
    return GeoDataFrame(columns, geometry=drawn, crs=geobox.crs.to_wkt())


def _probabilities(components: Components) -> dict[str, NDArray[np.float64]]:
    total, most, count = components.parts.probability
    with np.errstate(invalid="ignore"):
        mean = total / count / STEPS
    return {
        "probability_mean": np.round(mean, 4),
        "probability_max": np.where(count > 0, most / STEPS, np.nan),
    }


def _spectra(components: Components, areas: NDArray[np.float64]) -> dict[str, Any]:
    sums, held = components.parts.indices, len(HELD)
    if len(sums) != 2 * held + 1:
        sums = np.zeros((2 * held + 1, len(components)))
    with np.errstate(invalid="ignore"):
        means = sums[:-1] / sums[-1] / INDEX_STEPS
    change = np.round(means[held:] - means[:held], 4)
    columns = {f"{name}_change": change[HELD.index(name)] for name in ("ndvi", "ndbi", "ndwi")}
    return {**columns, "kind": _texts(kinds_of(means, areas))}


def _text(value: str | None, count: int) -> Any:
    return _texts(np.full(count, value, object))


def _texts(values: NDArray[np.object_]) -> Any:
    """A column of text, also where all of it is null."""
    import pandas

    return pandas.array(values, dtype="string")
