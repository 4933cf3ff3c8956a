"""Changes read back from a file of `s2cd polygons`, as somebody may have edited it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.results.polygons.shapes import ellipsoidal
from s2cd.results.polygons.write import FORMATS, LAYER

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

logger = logging.getLogger(__name__)

NUMBERS = (
    "id",
    "class",
    "area_m2",
    "perimeter_m",
    "compactness",
    "probability_mean",
    "probability_max",
    "ndvi_change",
    "ndbi_change",
    "ndwi_change",
)
"""The columns of a table of changes that hold numbers."""


def read_polygons(path: Path, geobox: GeoBox, rejected: bool = False) -> "GeoDataFrame":
    """Changes in the CRS of a map's grid, by ``id``; what has no area or number is given one.

    Rows without a polygon are left out.

    Args:
        path: A file of `s2cd polygons` or `s2cd review`.
        geobox: The map's grid.
        rejected: Whether to keep changes that a reviewer has rejected (column ``status``).

    Raises:
        S2cdError: where the file cannot be read, holds no polygons, or lies elsewhere.
    """
    return tidied(_read(path), path, geobox, rejected)


def tidied(
    table: "GeoDataFrame", path: Path, geobox: GeoBox, rejected: bool = False
) -> "GeoDataFrame":
    """A table of changes that came from a file, made fit as `read_polygons` says."""
    import shapely

    if table.crs is None:
        raise S2cdError(f"{path} has no CRS. Give the polygons of this map")
    table = table[~(table.geometry.isna() | table.geometry.is_empty)]
    if not table.geometry.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        raise S2cdError(f"{path} holds more than polygons. Give those of `s2cd polygons`")
    if "status" in table.columns and not rejected:
        table = table[table["status"] != "rejected"]
    table = table.set_geometry(_valid(table.geometry.values), crs=table.crs)
    table = table[~table.geometry.is_empty]
    table = _with_numbers(table, path).to_crs(geobox.crs.to_wkt()).reset_index(drop=True)
    if len(table) and not shapely.box(*geobox.boundingbox.bbox).intersects(table.geometry).any():
        raise S2cdError(f"{path} lies elsewhere than the map. Give the polygons of this map")
    if "area_m2" not in table.columns or table["area_m2"].isna().any():
        area, perimeter = ellipsoidal(table.geometry.values, geobox)
        table = table.assign(area_m2=np.round(area, 1), perimeter_m=np.round(perimeter, 1))
    if "id" not in table.columns or table["id"].isna().any() or not table["id"].is_unique:
        table = table.assign(id=np.arange(1, len(table) + 1, dtype=np.int32))
    return table.sort_values("id", ignore_index=True)


def _valid(polygons: Any) -> Any:
    """Polygons of which none crosses itself, as those that somebody drew may; the area stays."""
    import shapely

    crossed = ~shapely.is_valid(polygons)
    fixed = np.array(polygons, object)
    fixed[crossed] = shapely.make_valid(fixed[crossed], method="structure", keep_collapsed=False)
    return fixed


def _with_numbers(table: "GeoDataFrame", path: Path) -> "GeoDataFrame":
    """The table with null for what is no finite number where numbers are expected."""
    import pandas

    for name in [name for name in NUMBERS if name in table.columns]:
        try:
            values = pandas.to_numeric(table[name]).replace([np.inf, -np.inf], np.nan)
        except (ValueError, TypeError) as e:
            raise S2cdError(
                f"{path} holds text in its column {name}. Give polygons of `s2cd polygons`"
            ) from e
        table = table.assign(**{name: values})
    return table


def _read(path: Path) -> "GeoDataFrame":
    import geopandas
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if not path.is_file():
        raise S2cdError(f"There is no file {path}. Make it with `s2cd polygons`")
    try:
        with _one_line_warnings(path):
            if FORMATS.get(path.suffix.lower()) == "GeoParquet":
                return geopandas.read_parquet(path)
            layers = pyogrio.list_layers(path)[:, 0]
            layer = LAYER if LAYER in layers else None
            return geopandas.read_file(path, engine="pyogrio", layer=layer)
    except (DataSourceError, DataLayerError, OSError, ValueError) as e:
        raise S2cdError(
            f"{path} cannot be read as polygons: {one_line(e)}. Make it with `s2cd polygons`"
        ) from e


@contextmanager
def _one_line_warnings(path: Path) -> Iterator[None]:
    """Say what GDAL warns of while it reads a file as everything else is said."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", RuntimeWarning)
        yield
    for warning in heard:
        logger.warning("%s: %s", path, " ".join(str(warning.message).split()))
