"""Areas of interest: a vector file, a box in degrees, or the name of an area that ships here."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.output import one_line

SUFFIXES = (".geojson", ".json", ".gpkg", ".shp", ".kml")
"""Endings of the vector files that are read."""
_MOST_BYTES = 256 << 20
_MOST_FEATURES = 100_000
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_BOX = re.compile(rf"\s*{_NUMBER}\s*(?:,\s*{_NUMBER}\s*){{3}}")
NEAR = 0.01
"""Pixels by which an area may reach into a pixel without taking it: 10 cm, since coordinates in
degrees are rounded, and an area drawn on the grid shall give that grid."""
_STEP = 0.02
"""Degrees between the points of an outline before it is projected: 2 km."""


class Box(NamedTuple):
    """A rectangle in some CRS."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True)
class Aoi:
    """An area in WGS 84 degrees.

    Attributes:
        name: What the user called it.
        outline: A shapely polygon or multipolygon, longitude and latitude.
    """

    name: str
    outline: Any

    @property
    def extent(self) -> str:
        """Where it lies, in words."""
        return said_box(Box(*self.outline.bounds))

    def area_in(self, geobox: GeoBox) -> float:
        """Square metres (units of the CRS) of the area that lie within a grid."""
        import shapely

        seen = self._projected(geobox.crs, [geobox])
        return float(seen.intersection(shapely.box(*geobox.boundingbox.bbox)).area)

    def box_in(self, crs: Any, near: Sequence[GeoBox]) -> Box:
        """Its bounds in a CRS, as far as it lies on or near some grids."""
        return Box(*self._projected(crs, near).bounds)

    def _projected(self, crs: Any, near: Sequence[GeoBox]) -> Any:
        """The part around some grids, in a CRS: what is far away may have no place in it."""
        import shapely

        clip = shapely.union_all([_around(geobox) for geobox in near])
        part = shapely.intersection(self.outline, clip)
        if part.is_empty:
            return part
        to_crs = _transformer("EPSG:4326", crs.to_wkt())
        return shapely.make_valid(shapely.transform(shapely.segmentize(part, _STEP), to_crs))


def open_aoi(text: str) -> Aoi:
    """The area that ``text`` names.

    Args:
        text: A vector file (`SUFFIXES`), ``W,S,E,N`` in degrees, or the name of a shipped area.

    Raises:
        S2cdError: where it is none of these, or holds no area on the ground.
    """
    import shapely

    if _BOX.fullmatch(text):
        west, south, east, north = (float(part) for part in text.split(","))
        if not (west < east and south < north):
            raise S2cdError(
                f"The AOI {text} is empty: give west,south,east,north in degrees, west < east and "
                "south < north (an area across 180 degrees in two parts)"
            )
        return _checked(text, shapely.box(west, south, east, north))
    path = _file(text)
    return _checked(path.name, _read(path))


def shipped() -> dict[str, Path]:
    """The areas that ship with s2cd, by their names."""
    package = Path(__file__).parents[1]
    for folder in (package / "aoi", package.parent / "aoi"):  # installed; in a source tree
        if folder.is_dir():
            return {path.name: path for path in sorted(folder.glob("*.geojson"))}
    return {}


def said_box(box: Box) -> str:
    """A box in words, as `grid.ground_extent` says them."""
    return f"W {box.west:.4f} S {box.south:.4f} E {box.east:.4f} N {box.north:.4f}"


def box_in(geobox: GeoBox, crs: Any) -> Box:
    """Bounds of a grid in another CRS."""
    from rasterio.warp import transform_bounds

    if geobox.crs == crs:
        return Box(*geobox.boundingbox.bbox)
    return Box(*transform_bounds(geobox.crs.to_wkt(), crs.to_wkt(), *geobox.boundingbox.bbox))


def common(one: Box, other: Box) -> Box:
    """What two boxes share; empty, west beyond east, where they do not meet."""
    return Box(
        max(one.west, other.west),
        max(one.south, other.south),
        min(one.east, other.east),
        min(one.north, other.north),
    )


def _file(text: str) -> Path:
    path, known = Path(text), shipped()
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise S2cdError(f"{path} is no AOI: name a file that ends in {', '.join(SUFFIXES)}")
        if path.stat().st_size > _MOST_BYTES:
            raise S2cdError(f"{path} is larger than {_MOST_BYTES >> 20} MiB. Give a simpler AOI")
        return path
    for name in (text, f"{text}.geojson"):
        if name in known:
            return known[name]
    raise S2cdError(
        f"There is no AOI {text}: it is no file, no W,S,E,N in degrees, and none of those that "
        f"ship with s2cd ({', '.join(known) or 'none'})"
    )


def _read(path: Path) -> Any:
    """The union of a vector file's polygons, in degrees."""
    import shapely

    if (plain := _plain_geojson(path)) is not None:
        return shapely.union_all(plain)
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError

    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind]
        if not layers:
            raise S2cdError(f"{path} holds no geometry. Draw a polygon in it")
        if len(layers) > 1 and path.suffix.lower() != ".kml":
            raise S2cdError(f"{path} holds several layers ({', '.join(layers)}). Leave one in it")
        parts = []
        for layer in layers:
            meta, _, shapes, _ = pyogrio.raw.read(
                path, layer=layer, columns=[], force_2d=True, max_features=_MOST_FEATURES
            )
            parts.append(_in_degrees(shapely.from_wkb(shapes), meta["crs"], path))
    except (DataSourceError, DataLayerError, FieldError, GeometryError) as e:
        raise S2cdError(f"{path} cannot be read as an AOI: {one_line(e)}") from e
    except (shapely.errors.ShapelyError, ValueError) as e:
        raise S2cdError(f"{path} holds a shape that is none: {one_line(e)}. Draw it anew") from e
    return shapely.union_all([shape for part in parts for shape in part])


def _plain_geojson(path: Path) -> list[Any] | None:
    """The polygons of a GeoJSON file as RFC 7946 has them; None for all else, which GDAL reads.

    pyogrio brings pandas and pyarrow along: half a second, and 100 MB.
    """
    import shapely

    if path.suffix.lower() not in (".geojson", ".json"):
        return None
    try:
        root = json.loads(path.read_text(encoding="utf-8"))
        if root["type"] != "FeatureCollection" or "crs" in root:
            return None
        geometries = [feature["geometry"] for feature in root["features"]]
        if not 0 < len(geometries) <= _MOST_FEATURES:
            return None
        if {geometry["type"] for geometry in geometries} - {"Polygon", "MultiPolygon"}:
            return None
        shapes = [shapely.from_geojson(json.dumps(geometry)) for geometry in geometries]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, shapely.errors.ShapelyError):
        return None
    return [shapely.make_valid(shapely.force_2d(shape)) for shape in shapes if not shape.is_empty]


def _in_degrees(shapes: Any, crs: str | None, path: Path) -> list[Any]:
    """The polygons of a layer in WGS 84 degrees."""
    import shapely

    shapes = [shape for shape in shapes if shape is not None and not shape.is_empty]
    if not shapes:
        raise S2cdError(f"{path} is empty. Draw a polygon in it")
    if other := {s.geom_type for s in shapes} - {"Polygon", "MultiPolygon"}:
        raise S2cdError(
            f"{path} holds {', '.join(sorted(other))}, not only polygons. Draw the area's outline"
        )
    if crs is None:
        raise S2cdError(f"{path} has no CRS. Set it in a GIS (a Shapefile needs its .prj)")
    valid = [shapely.make_valid(shape) for shape in shapes]
    if crs == "EPSG:4326":
        return valid
    to_degrees, parts = _transformer(crs, "EPSG:4326"), []
    for shape in valid:
        west, south, east, north = shape.bounds
        step = max(east - west, north - south) / 64  # what is straight here is bent in degrees
        parts.append(shapely.transform(shapely.segmentize(shape, step or 1), to_degrees))
    return parts


def _transformer(source: str, target: str) -> Any:
    """A function from coordinates (n, 2), x before y, to those in another CRS."""
    from pyproj import Transformer
    from pyproj.exceptions import CRSError, ProjError

    try:
        transformer = Transformer.from_crs(source, target, always_xy=True)
    except (CRSError, ProjError) as e:
        raise S2cdError(
            f"The AOI's CRS cannot be understood: {one_line(e)}. Save it in EPSG:4326"
        ) from e

    def apply(points: Any) -> Any:
        return np.stack(transformer.transform(points[:, 0], points[:, 1]), axis=1)

    return apply


def _checked(name: str, outline: Any) -> Aoi:
    bounds = outline.bounds
    if outline.is_empty or not all(map(math.isfinite, bounds)):
        raise S2cdError(f"The AOI {name} is empty, or lies nowhere. Draw a polygon on the ground")
    if bounds[0] < -180 or bounds[2] > 180 or bounds[1] < -90 or bounds[3] > 90:
        raise S2cdError(
            f"The AOI {name} reaches beyond the Earth ({said_box(Box(*bounds))}). Give longitude "
            "and latitude in degrees, in this order"
        )
    if outline.area == 0:
        raise S2cdError(f"The AOI {name} has no area. Draw a polygon on the ground")
    return Aoi(name, outline)


def _around(geobox: GeoBox) -> Any:
    """The degrees around a grid, in one part or, across 180 degrees, in two."""
    import shapely
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(
        geobox.crs.to_wkt(), "EPSG:4326", *geobox.boundingbox.bbox
    )
    south, north = max(-90, south - 1), min(90, north + 1)
    if west <= east:
        return shapely.box(west - 1, south, east + 1, north)
    parts = shapely.box(west - 1, south, 180, north), shapely.box(-180, south, east + 1, north)
    return shapely.union_all(parts)
