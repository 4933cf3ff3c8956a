"""A table of changes as the page takes it: small, and placed in pixels of the map."""

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.results.places import degrees_at, is_north_up, metres_in_pixel
from s2cd.results.polygons.read import NUMBERS
from s2cd.results.polygons.style import COLOURS

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

BUDGET = 700_000
"""Most bytes of the packed changes, before base64."""
_MOST = 20_000
"""Most changes on a page: more is no list that anybody reads."""
_DEGREE = 6
_SURE = 1e-6
"""Degrees, a tenth of a metre: places that the fit gives must be as good as this."""


def pack(table: "GeoDataFrame", geobox: GeoBox, rest: dict[str, Any]) -> tuple[str, int]:
    """The changes with the grid and whatever else the page needs, as base64 of gzip of JSON.

    Where they are too many for a page, the largest are taken.

    Returns:
        The text, and how many changes were left out.
    """
    largest = table.sort_values("area_m2", ascending=False, kind="stable")
    count = min(len(table), _MOST)
    while True:
        chosen = largest.iloc[:count].sort_index()
        value = {**rest, **packed_changes(chosen, geobox), "grid": grid_facts(geobox)}
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        data = gzip.compress(text.encode(), 9, mtime=0)
        if len(data) <= BUDGET or count == 0:
            return base64.b64encode(data).decode(), len(table) - count
        count = int(count * min(0.9, BUDGET / len(data)))


def packed_changes(table: "GeoDataFrame", geobox: GeoBox) -> dict[str, Any]:
    """Columns, kinds and outlines of changes, as the page's ``data.js`` unpacks them."""
    names = [name for name in NUMBERS if name in table.columns]
    columns: dict[str, list[Any]] = {name: _numbers(table[name]) for name in names}
    kinds = list(COLOURS)
    if "kind" in table.columns:
        columns["kind"] = [
            kinds.index(k) if isinstance(k, str) and k in kinds else None for k in table["kind"]
        ]
    else:
        columns["kind"] = [None] * len(table)
    if "status" in table.columns:
        columns["status"] = [str(status) for status in table["status"]]
    return {
        "columns": columns,
        "kinds": [{"name": name, "colour": colour} for name, colour in COLOURS.items()],
        "rings": rings_of(table.geometry.values, geobox),
    }


def _numbers(values: Any) -> list[float | int | None]:
    known = values.notna()
    return [value if there else None for value, there in zip(values.tolist(), known, strict=True)]


def boxes_of(table: "GeoDataFrame", geobox: GeoBox) -> NDArray[np.float64]:
    """Columns and rows that changes lie in, the largest change first: (n, 4)."""
    import shapely

    largest = table.sort_values("area_m2", ascending=False, kind="stable").geometry.values
    inverse = ~geobox.affine
    west, south, east, north = shapely.bounds(largest).reshape(-1, 4).T
    one, other = inverse * (west, north), inverse * (east, south)
    ends = np.stack([*one, *other], axis=1)
    return np.hstack([np.minimum(ends[:, :2], ends[:, 2:]), np.maximum(ends[:, :2], ends[:, 2:])])


def rings_of(polygons: Any, geobox: GeoBox) -> list[list[list[list[int]]]]:
    """Polygons, each as parts of rings of steps in tenths of a pixel: x, y, then dx, dy, ..."""
    import shapely

    inverse = ~geobox.affine

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points.T
        columns = inverse.a * x + inverse.b * y + inverse.c
        rows = inverse.d * x + inverse.e * y + inverse.f
        return np.rint(np.stack([columns, rows], axis=1) * 10)

    return [
        [_steps(part) for part in shapely.get_parts(polygon)]
        for polygon in shapely.transform(shapely.orient_polygons(polygons), place)
    ]


def _steps(polygon: Any) -> list[list[int]]:
    rings = [polygon.exterior, *polygon.interiors]
    places = [np.asarray(ring.coords)[:-1].astype(np.int64) for ring in rings]
    return [np.diff(p, axis=0, prepend=[[0, 0]]).ravel().tolist() for p in places]


def grid_facts(geobox: GeoBox) -> dict[str, Any]:
    """Size of the map, metres in a pixel, and polynomials to longitude and latitude."""
    height, width = geobox.shape
    return {
        "width": width,
        "height": height,
        "metres": [round(metres, 4) for metres in metres_in_pixel(geobox)],
        "north_up": is_north_up(geobox),
        "degree": _DEGREE,
        **_polynomials(geobox),
    }


def _polynomials(geobox: GeoBox) -> dict[str, list[float]]:
    """Longitude and latitude as polynomials of column and row, each scaled to -1..1."""
    height, width = geobox.shape
    nodes = np.cos(np.pi * (np.arange(2 * _DEGREE + 3) + 0.5) / (2 * _DEGREE + 3))
    u, v = (part.ravel() for part in np.meshgrid(nodes, nodes))
    lon, lat = degrees_at(geobox, (u + 1) * width / 2, (v + 1) * height / 2)
    lon = lon[0] + (lon - lon[0] + 180) % 360 - 180  # across the antimeridian
    terms = [u**i * v**j for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
    basis = np.stack(terms, axis=1)
    found = {}
    for name, values in (("lon", lon), ("lat", lat)):
        weights = np.linalg.lstsq(basis, values, rcond=None)[0]
        if not np.abs(basis @ weights - values).max() < _SURE:
            raise S2cdError(
                "The map covers too much ground for one page. Cut it, such as by gdal_translate "
                "-projwin"
            )
        found[name] = [float(f"{w:.12g}") for w in weights]
    return found
