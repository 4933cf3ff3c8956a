"""Changes under review, in a GeoPackage: each decision is on the disk before it is answered."""

import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.output import completed, one_line
from s2cd.results.polygons.read import tidied
from s2cd.results.polygons.shapes import ellipsoidal
from s2cd.results.polygons.style import qml
from s2cd.results.polygons.write import GPKG, LAYER, embed_style

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

STATUSES = ("unreviewed", "accepted", "rejected", "added")
"""What a change may be; one that was drawn anew is accepted."""
_MARK = "s2cd_review"
"""The table that tells which map a review belongs to."""
_WAIT = 5.0
"""Seconds to wait for another program, such as a GIS, that is writing to the file."""


class Store:
    """A review's GeoPackage, open for decisions; several threads may use it.

    Every decision is one transaction of SQLite with a full sync: a process that is killed, or a
    machine that stops, leaves all decisions that were answered and no half of one.
    """

    def __init__(self, path: Path, geobox: GeoBox) -> None:
        self.path = path
        self.geobox = geobox
        self._lock = threading.Lock()
        self._base = sqlite3.connect(path, timeout=_WAIT, check_same_thread=False)
        self._base.execute("PRAGMA synchronous = FULL")
        self._column = str(
            self._base.execute(
                "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (LAYER,)
            ).fetchone()[0]
        )

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._base.close()

    def table(self, number: int | None = None) -> "GeoDataFrame":
        """All changes, those that were rejected too; or one of them."""
        return tidied(self._rows(number), self.path, self.geobox, rejected=True)

    def _rows(self, number: int | None) -> "GeoDataFrame":
        """Rows as they are, read through the connection that writes.

        GDAL brings an SQLite of its own, and where two of them have one file open in one process,
        closing it in the one takes the locks of the other: https://sqlite.org/howtocorrupt.html
        (2.2.1).
        """
        import geopandas
        import pandas
        import shapely

        text = f'SELECT * FROM "{LAYER}"' + ("" if number is None else " WHERE id = ?")  # noqa: S608
        with self._reading() as base:
            found = base.execute(text, () if number is None else (number,))
            names = [column[0] for column in found.description]
            table = pandas.DataFrame(found.fetchall(), columns=names)
        blobs = table.pop(self._column)
        shapes = shapely.from_wkb([None if blob is None else _wkb(blob) for blob in blobs])
        return geopandas.GeoDataFrame(table, geometry=shapes, crs=self.geobox.crs.to_wkt())

    def counts(self) -> dict[str, int]:
        """How many changes there are of each status."""
        with self._reading() as base:
            rows = base.execute(
                f'SELECT status, count(*) FROM "{LAYER}" GROUP BY status'  # noqa: S608
            ).fetchall()
        return {status: dict(rows).get(status, 0) for status in STATUSES}

    def decide(self, number: int, status: str) -> None:
        """Accept or reject a change, or take a decision back.

        Raises:
            S2cdError: where there is no such change or status, or it cannot be written.
        """
        if status not in ("unreviewed", "accepted", "rejected"):
            raise S2cdError(f"{status!r} is no decision. Send accepted, rejected or unreviewed")
        self._update(number, {"status": status})

    def redraw(self, number: int, polygon: Any) -> None:
        """Give a change another outline, in the map's CRS; that accepts it.

        Raises:
            S2cdError: where there is no such change, or it cannot be written.
        """
        self._update(number, {**self._shape(polygon), "status": "accepted", "redrawn": 1})

    def add(self, polygon: Any) -> int:
        """Add a change that the map has missed; give its number.

        Raises:
            S2cdError: where it cannot be written.
        """
        values = {**self._shape(polygon), "class": 1, "status": "added", "redrawn": 0}
        with self._writing() as base:
            number = base.execute(f'SELECT coalesce(max(id), 0) + 1 FROM "{LAYER}"').fetchone()[0]  # noqa: S608
            names = ", ".join(f'"{name}"' for name in ("id", *values))
            marks = ", ".join("?" * (1 + len(values)))
            base.execute(
                f'INSERT INTO "{LAYER}" ({names}) VALUES ({marks})',  # noqa: S608
                (number, *values.values()),
            )
        return int(number)

    def _update(self, number: int, values: dict[str, Any]) -> None:
        parts = ", ".join(f'"{name}" = ?' for name in values)
        with self._writing() as base:
            done = base.execute(
                f'UPDATE "{LAYER}" SET {parts} WHERE id = ?',  # noqa: S608
                (*values.values(), number),
            )
            if done.rowcount != 1:
                raise S2cdError(f"There is no change {number} in {self.path}. Load the page anew")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._base
        except sqlite3.Error as e:
            raise S2cdError(f"{self.path} cannot be read: {one_line(e)}. Is it there?") from e

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._base:
                yield self._base
                self._base.execute(
                    "UPDATE gpkg_contents SET last_change = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
                    " WHERE table_name = ?",
                    (LAYER,),
                )
        except sqlite3.Error as e:
            raise S2cdError(
                f"{self.path} cannot be written: {one_line(e)}. Is it open elsewhere, or the disk "
                "full?"
            ) from e

    def _shape(self, polygon: Any) -> dict[str, Any]:
        """The columns that an outline decides."""
        import shapely

        area, perimeter = (float(v[0]) for v in ellipsoidal(np.array([polygon]), self.geobox))
        return {
            self._column: _blob(shapely.orient_polygons(polygon), self._srs()),
            "area_m2": round(area, 1),
            "perimeter_m": round(perimeter, 1),
            "compactness": round(4 * np.pi * area / perimeter**2, 3),
        }

    def _srs(self) -> int:
        with self._lock:
            row = self._base.execute(
                "SELECT srs_id FROM gpkg_geometry_columns WHERE table_name = ?", (LAYER,)
            ).fetchone()
        return int(row[0])


def _blob(polygon: Any, srs: int) -> bytes:
    """A geometry as GeoPackage holds it (OGC 12-128r19, 2.1.3): a header with envelope, and WKB."""
    import shapely

    west, south, east, north = polygon.bounds
    head = b"GP\x00\x03" + struct.pack("<i4d", srs, west, east, south, north)
    return head + bytes(shapely.to_wkb(polygon, byte_order=1))


def _wkb(blob: bytes) -> bytes:
    """The WKB of a geometry as GeoPackage holds it, without the header."""
    envelope = (0, 32, 48, 48, 64)[blob[3] >> 1 & 7]
    return blob[8 + envelope :]


def create_store(table: "GeoDataFrame", path: Path, mark: str) -> None:
    """Write a new review: all changes unreviewed, unless they have a status already.

    It has no spatial index: its triggers call functions that plain SQLite lacks.

    Raises:
        S2cdError: where it cannot be written.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError, FeatureError

    table = table.assign(status=_statuses(table), redrawn=np.zeros(len(table), np.int32))
    single = bool((table.geometry.geom_type == "Polygon").all())
    options = {"driver": "GPKG", "layer": LAYER, "layer_options": {"SPATIAL_INDEX": "NO"}}
    with completed(path) as temporary:
        working = temporary.with_name(f"{temporary.name}.gpkg")
        try:
            kind = "Polygon" if single else "MultiPolygon"
            pyogrio.write_dataframe(
                table,
                working,
                geometry_type=kind,
                promote_to_multi=not single,
                dataset_options=GPKG,
                **options,
            )
        except (DataSourceError, FeatureError) as e:
            raise S2cdError(f"{path} cannot be written: {one_line(e)}. Check its folder") from e
        if "kind" in table.columns:
            embed_style(qml(table), working)
        with sqlite3.connect(working) as base:
            base.execute(f"CREATE TABLE {_MARK} (map_sha256 TEXT NOT NULL)")
            base.execute(f"INSERT INTO {_MARK} VALUES (?)", (mark,))  # noqa: S608
        base.close()
        working.replace(temporary)


def _statuses(table: "GeoDataFrame") -> Any:
    """The status of each change; unreviewed where it has none."""
    status = np.full(len(table), STATUSES[0], object)
    if "status" not in table.columns:
        return status
    return np.where(table["status"].isin(STATUSES), table["status"], status)


def check_store(path: Path, mark: str) -> None:
    """Refuse to continue a file that is no review of this map.

    Raises:
        S2cdError: with what to do instead.
    """
    try:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            found = base.execute(f"SELECT map_sha256 FROM {_MARK}").fetchone()  # noqa: S608
        finally:
            base.close()
    except sqlite3.Error as e:
        raise S2cdError(f"{path} is there and is no review. Name another file with --output") from e
    if found is None or found[0] != mark:
        raise S2cdError(f"{path} is the review of another map. Name another file with --output")
