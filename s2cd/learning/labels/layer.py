"""A layer of a vector file, read as far as a raster reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.learning.labels.classes import Rows
from s2cd.scenes.aoi import Box, said_box

SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".kml")
"""Endings of the files that are read."""
_KINDS = ("Polygon", "MultiPolygon")
_UNDEFINED = "undefined"
"""How GeoPackage begins the names of its two CRSs that are none."""


@dataclass(frozen=True)
class Layer:
    """What a layer says of itself.

    Attributes:
        path: The file.
        name: The layer's name.
        crs: Its CRS, of pyproj.
        fields: Names of its columns.
        features: How many it holds.
        bounds: Where they lie, in its CRS.
    """

    path: Path
    name: str
    crs: Any
    fields: tuple[str, ...]
    features: int
    bounds: Box

    @property
    def extent(self) -> str:
        """Where it lies, in words: in degrees, as `ground_extent` says it, where it can be."""
        from pyproj import Transformer

        to_degrees = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        box = to_degrees.transform_bounds(*self.bounds, densify_pts=21)
        if np.isfinite(box).all():
            return said_box(Box(*box))
        return f"{said_box(self.bounds)} in {self.crs.name}"


def find_layer(path: Path, asked: str | None) -> Layer:
    """The layer of polygons in a file: the only one, or the one asked for.

    Raises:
        S2cdError: where there is none, or it is empty or without a CRS.
    """
    import pyogrio
    from pyproj import CRS

    if not path.is_file():
        raise S2cdError(f"{path} does not exist. Name a file of polygons")
    if path.suffix.lower() not in SUFFIXES:
        raise S2cdError(
            f"{path} is no file of polygons that is read: give one that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    name = _name(path, asked)
    info = pyogrio.read_info(path, layer=name, force_feature_count=True, force_total_bounds=True)
    if not info["features"]:
        raise S2cdError(f"The layer {name} of {path} is empty. Draw polygons in it")
    kind = str(info["geometry_type"])
    if "Point" in kind or "LineString" in kind:  # what else there is, the shapes themselves tell
        raise S2cdError(_no_polygons(path, name, kind))
    crs = None if info["crs"] is None else CRS.from_user_input(info["crs"])
    if crs is None or crs.name.lower().startswith(_UNDEFINED):
        raise S2cdError(f"{path} has no CRS. Set it in a GIS (a Shapefile needs its .prj)")
    bounds = Box(*(info["total_bounds"] or (np.nan,) * 4))
    return Layer(path, name, crs, tuple(map(str, info["fields"])), info["features"], bounds)


def _name(path: Path, asked: str | None) -> str:
    import pyogrio

    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind]
    if not layers:
        raise S2cdError(f"{path} holds no geometry. Draw polygons in it")
    if asked is not None and asked not in layers:
        raise S2cdError(f"{path} has no layer {asked!r}. It has {', '.join(layers)}")
    if asked is None and len(layers) > 1:
        raise S2cdError(
            f"{path} holds several layers ({', '.join(layers)}). Choose one with --layer"
        )
    return asked or layers[0]


def read_rows(layer: Layer, boxes: Sequence[Box], columns: Sequence[str]) -> Rows:
    """The features that may lie within some boxes, with the columns of those that there are.

    Raises:
        S2cdError: where one is no polygon.
    """
    import pyogrio
    import shapely

    _, numbers, wkb, values = pyogrio.raw.read(
        layer.path,
        layer=layer.name,
        columns=[c for c in columns if c in layer.fields],
        bbox=tuple(boxes[0]) if len(boxes) == 1 else None,
        force_2d=True,
        return_fids=True,
    )
    shapes = shapely.from_wkb(wkb)
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    kinds = {shape.geom_type for shape in shapes[there]}
    if other := kinds - set(_KINDS):
        raise S2cdError(_no_polygons(layer.path, layer.name, ", ".join(sorted(other))))
    held = [c for c in layer.fields if c in columns]
    rows = Rows(shapes, np.asarray(numbers), dict(zip(held, values, strict=True)), layer.fields)
    finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    if (there & ~finite).any():
        raise S2cdError(
            f"{layer.path}: feature {rows.numbers[there & ~finite][0]} has coordinates that are no "
            "numbers. Draw it anew"
        )
    return rows.take(there)


def read_column(layer: Layer, column: str | None) -> NDArray[Any] | None:
    """A column of all features, wherever they lie; None where none is asked for, or there."""
    import pyogrio

    if column is None or column not in layer.fields:
        return None
    values = pyogrio.raw.read(layer.path, layer=layer.name, columns=[column], read_geometry=False)[
        3
    ]
    return np.asarray(values[0])


def _no_polygons(path: Path, name: str, kinds: str) -> str:
    return f"The layer {name} of {path} holds {kinds}, not only polygons. Draw outlines"
