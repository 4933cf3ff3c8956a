"""Polygons of a GIS file on a raster's grid, each with what it says of its pixels."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import NoOverlapError, S2cdError
from s2cd.learning.labels.classes import Choice, Rows, classes_of, verdicts_of
from s2cd.learning.labels.layer import Layer, find_layer, read_column, read_rows
from s2cd.output import one_line
from s2cd.scenes.aoi import Box
from s2cd.scenes.grid import ground_extent
from s2cd.scenes.mask import UNLABELLED

logger = logging.getLogger(__name__)

_STEP_DEGREES, _STEP_METRES = 0.01, 1000.0
"""Between the points of an outline before it is projected: a straight line of 1 km in one CRS is
bent by less than 3 cm in another."""
_AROUND = 0.05
"""Share of a raster's extent that is read around it."""


@dataclass(frozen=True)
class Polygons:
    """Polygons on a grid, in the order in which they count: the later one wins.

    Attributes:
        shapes: Shapely polygons in columns and rows of the grid.
        codes: What their pixels become: 0 = no change, 1..n = class, 255 = not labelled.
        names: Names of the classes, by their numbers, where they have some.
        facts: What is to be told: the layer, and how many polygons there are of each kind.
    """

    shapes: NDArray[Any]
    codes: NDArray[np.uint8]
    names: dict[int, str]
    facts: dict[str, Any]


def read_polygons(path: Path, grid: GeoBox, choice: Choice) -> Polygons:
    """The polygons of a file that lie on a grid.

    Raises:
        S2cdError: where the file, its CRS, a shape or a class cannot be used.
        NoOverlapError: where no polygon lies on the grid.
    """
    if grid.crs is None:
        raise S2cdError("The raster has no CRS, so polygons have no place on it. Georeference it")
    with _told(path):
        layer = find_layer(path, choice.layer)
        boxes = _boxes(grid, layer)
        rows = read_rows(layer, boxes, choice.columns)
        every = read_column(layer, choice.class_column)
        shapes = _placed(_valid(rows, path), layer, grid, boxes)
    on = _meets(shapes, grid)
    if not on.any():
        raise NoOverlapError(
            f"The polygons of {path} ({layer.extent}) miss the raster ({ground_extent(grid)}). "
            "Name the polygons of its place"
        )
    rows = rows.take(on)
    codes, names = classes_of(rows, every, path, choice)
    kept, unknown, verdicts = verdicts_of(rows, path, choice.unreviewed)
    codes[unknown] = UNLABELLED
    order = np.flatnonzero(kept)
    order = order[np.argsort(codes[order] != UNLABELLED, kind="stable")]  # known covers unknown
    count = int(on.sum())
    facts: dict[str, Any] = {"layer": layer.name, "polygons": count}
    facts |= {"outside": layer.features - count, **verdicts}
    return Polygons(shapes[on][order], codes[order], names, facts)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what GDAL, GEOS and PROJ say of a file into one line."""
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError
    from pyproj.exceptions import CRSError, ProjError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # GDAL's, of what it reads all the same
            yield
    except (DataSourceError, DataLayerError, FieldError, GeometryError) as e:
        raise S2cdError(f"{path} cannot be read as polygons: {one_line(e)}") from e
    except (CRSError, ProjError) as e:
        raise S2cdError(
            f"Nothing leads from the CRS of {path} to that of the raster: {one_line(e)}. Save the "
            "polygons in EPSG:4326"
        ) from e
    except (shapely.errors.ShapelyError, ValueError) as e:
        raise S2cdError(f"{path} holds a shape that is none: {one_line(e)}. Draw it anew") from e


def _boxes(grid: GeoBox, layer: Layer) -> list[Box]:
    """The grid's extent and a little more in the layer's CRS; in two parts across 180 degrees."""
    from pyproj import Transformer

    to_layer = Transformer.from_crs(grid.crs.to_wkt(), layer.crs, always_xy=True)
    box = Box(*to_layer.transform_bounds(*grid.boundingbox.bbox, densify_pts=21, errcheck=True))
    if layer.crs.is_geographic and box.west > box.east:
        parts = Box(box.west, box.south, 180, box.north), Box(-180, box.south, box.east, box.north)
        return [_grown(part) for part in parts]
    return [_grown(box)]


def _grown(box: Box) -> Box:
    margin = _AROUND * max(box.east - box.west, box.north - box.south)
    return Box(box.west - margin, box.south - margin, box.east + margin, box.north + margin)


def _valid(rows: Rows, path: Path) -> NDArray[Any]:
    """The shapes, those that cross themselves taken apart; such without an area are left empty."""
    import shapely

    shapes = np.array(rows.shapes)
    broken = np.flatnonzero(~shapely.is_valid(shapes))
    if len(broken):
        first = shapely.is_valid_reason(shapes[broken[0]])
        logger.warning(
            "%s: %d polygons cross or touch themselves (the first: feature %d, %s): their parts "
            "were taken",
            path.name, len(broken), rows.numbers[broken[0]], first,
        )  # fmt: skip
        shapes[broken] = [_areas(shape) for shape in shapely.make_valid(shapes[broken])]
    flat = np.flatnonzero(shapely.area(shapes) == 0)
    if len(flat):
        logger.warning(
            "%s: %d polygons have no area (the first: feature %d): left out",
            path.name, len(flat), rows.numbers[flat[0]],
        )  # fmt: skip
    return shapes


def _areas(shape: Any) -> Any:
    """What is polygons of a shape."""
    import shapely

    parts = [p for p in shapely.get_parts(shape) if p.geom_type in ("Polygon", "MultiPolygon")]
    flat = [part for part in shapely.get_parts(parts) if part.area > 0]
    return shapely.multipolygons(flat) if flat else shapely.MultiPolygon()


def _placed(shapes: NDArray[Any], layer: Layer, grid: GeoBox, boxes: list[Box]) -> NDArray[Any]:
    """Shapes in columns and rows of the grid; what lies far from it is cut off."""
    import shapely
    from pyproj import CRS, Transformer

    to_pixels = ~grid.affine
    own = CRS.from_wkt(grid.crs.to_wkt())
    if not layer.crs.equals(own, ignore_axis_order=True):
        shapes = _near(shapes, boxes)
        step = _STEP_DEGREES
        if not layer.crs.is_geographic:
            step = _STEP_METRES / layer.crs.axis_info[0].unit_conversion_factor
        shapes = shapely.segmentize(shapes, step)
        to_grid = Transformer.from_crs(layer.crs, own, always_xy=True)
        shapes = shapely.transform(shapes, lambda p: np.stack(to_grid.transform(*p.T), axis=1))

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(to_pixels * (points[:, 0], points[:, 1]), axis=1)

    placed = np.asarray(shapely.transform(shapes, place))
    if not np.isfinite(shapely.get_coordinates(placed)).all():
        raise S2cdError(f"{layer.path} reaches where its CRS has no place. Draw it anew")
    return placed


def _near(shapes: NDArray[Any], boxes: list[Box]) -> NDArray[Any]:
    """The parts of shapes within some boxes."""
    import shapely

    around = shapely.union_all([shapely.box(*box) for box in boxes])
    shapely.prepare(around)
    far = np.flatnonzero(~shapely.covers(around, shapes))
    shapes = np.array(shapes)
    shapes[far] = [_areas(part) for part in shapely.intersection(shapes[far], around)]
    return shapes


def _meets(shapes: NDArray[Any], grid: GeoBox) -> NDArray[np.bool_]:
    """Which shapes share an area with the grid."""
    import shapely

    height, width = grid.shape
    raster = shapely.box(0, 0, width, height)
    shapely.prepare(raster)
    meets = shapely.intersects(raster, shapes) & ~shapely.touches(raster, shapes)
    return np.asarray(meets & (shapely.area(shapes) > 0))
