"""Tables of changes as files that any GIS opens."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError, UnwritableError
from s2cd.output import check_writable, completed, one_line
from s2cd.results.polygons.find import Found
from s2cd.results.polygons.style import qml

LAYER = "changes"
"""Name of the layer in every format: GDAL would take that of the temporary file."""
FORMATS = {
    ".gpkg": "GPKG",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
    ".fgb": "FlatGeobuf",
    ".parquet": "GeoParquet",
}
"""Formats by the ending of a name."""
GPKG = {"VERSION": "1.2"}
"""Programs from before 2023 warn of later versions of GeoPackage; nothing of them is needed."""
PROVENANCE = ("MODEL", "MODEL_SHA256", "THRESHOLD", "CALIBRATION", "BEFORE", "AFTER")
"""The tags of a map that its GeoPackages keep."""


def check_result(path: Path, overwrite: bool = False) -> None:
    """Refuse a name that no format belongs to, or that cannot be written, before the work.

    Raises:
        S2cdError: with what to do instead.
    """
    if path.suffix.lower() not in FORMATS:
        raise S2cdError(
            f"{path} has no ending that names a format. Take one of {', '.join(FORMATS)}"
        )
    check_writable(path, overwrite)


def write_polygons(found: Found, path: Path, overwrite: bool = False) -> None:
    """Write changes in the format that the name's ending says, with a QGIS style (.qml) beside it.

    GeoJSON is that of RFC 7946: longitude and latitude on WGS84, outer rings against the clock,
    seven decimals. GeoParquet is 1.1 with a column of bounding boxes. A GeoPackage holds the
    style as well. A style that is there already is left as it is, unless ``overwrite``.

    Raises:
        S2cdError: where it cannot be written; nothing is left behind then.
    """
    check_result(path, overwrite)
    with completed(path, overwrite) as temporary:
        working = temporary.with_name(f"{temporary.name}{path.suffix.lower()}")
        try:
            _write(found, working, path)
            os.replace(working, temporary)
        finally:
            for left in (working, working.with_name(f"{working.name}-journal")):
                with suppress(FileNotFoundError):
                    left.unlink()
    style = path.with_suffix(".qml")
    if overwrite or not style.exists():
        with completed(style, overwrite=True) as temporary:
            temporary.write_text(qml(found.table), encoding="utf-8")


def _write(found: Found, working: Path, path: Path) -> None:
    driver = FORMATS[working.suffix]
    if driver == "GeoParquet":
        found.table.to_parquet(working, schema_version="1.1.0", write_covering_bbox=True)
        return
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError

    table, options = found.table, _options(found, driver)
    if driver == "GeoJSON":
        table = table.to_crs("EPSG:4326")
    try:
        import pyogrio

        facts = {"driver": driver, "layer": LAYER, "geometry_type": "Polygon"}
        pyogrio.write_dataframe(table, working, **facts, **options)
        if (there := pyogrio.read_info(working)["features"]) not in (len(table), -1):
            raise DataSourceError(f"{there} of {len(table)} polygons were written")
    except (DataLayerError, DataSourceError, FeatureError, FieldError) as e:
        raise UnwritableError(
            f"{path} cannot be written: {one_line(e)}. Check the space and the mode of its folder"
        ) from e
    if driver == "GPKG":
        embed_style(qml(found.table), working)


def _options(found: Found, driver: str) -> dict[str, Any]:
    if driver == "GeoJSON":
        return {"layer_options": {"RFC7946": "YES", "COORDINATE_PRECISION": "7"}}
    if driver == "FlatGeobuf":
        return {"layer_options": {"SPATIAL_INDEX": "YES" if len(found.table) else "NO"}}
    facts = {name: found.tags[name] for name in PROVENANCE if name in found.tags}
    return {"layer_metadata": facts or None, "dataset_options": GPKG}


def embed_style(style: str, path: Path, layer: str = LAYER, title: str = "Changes by kind") -> None:
    """Put a style into a closed GeoPackage as QGIS does, as the default one of its layer."""
    with closing(sqlite3.connect(path)) as base, base:
        base.execute(
            "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,"
            " f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),"
            " f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,"
            " useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),"
            " update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"
        )
        base.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier)"
            " VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
        ((column,),) = base.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
        ).fetchall()
        base.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name,"
            " f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner)"
            " VALUES ('', '', ?, ?, ?, ?, '', 1, ?, 's2cd')",
            (layer, column, layer, style, title),
        )
