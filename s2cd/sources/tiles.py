"""Sentinel-2 tiles that may meet an area, by MGRS arithmetic.

A tile is named by its 100 km square of the Military Grid Reference System (NGA.STND.0037, AA
lettering), and reaches 9.8 km beyond it to the east and the south, 20 m and 40 m to the others.
Which of them exist, and where they have data, only a product's footprint says.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from s2cd.errors import S2cdError
from s2cd.scenes.aoi import Aoi

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWXX"
_SOUTHERNMOST, _NORTHERNMOST = -80, 84
_SQUARE = 100_000
_WEST, _EAST, _SOUTH, _NORTH = -20, 109_780, -9_760, 100_040
"""Where a tile ends, in metres from the lower left corner of its square."""
_COARSE, _SIDE = 60, 10_980
_FALSE_NORTHING, _METRES_A_DEGREE = 10_000_000, 110_900
_TURNS = (-360, 0, 360)
_NEAR = 0.02
"""Degrees by which a square may miss its zone and still be a candidate."""
_NORWAY = {"32V": (3, 12), "31V": (0, 3)}
_SVALBARD = {31: (0, 9), 33: (9, 21), 35: (21, 33), 37: (33, 42)}
_NONE = (32, 34, 36)
"""Zones that do not exist in band X."""


def tiles_of(aoi: Aoi) -> tuple[str, ...]:
    """Names of the tiles that may meet an area, such as ``43QBF``, those in their zone first.

    Raises:
        S2cdError: where it lies beyond 80 degrees south or 84 degrees north.
    """
    import shapely

    outline = shapely.segmentize(aoi.outline, 0.1)
    _, south, _, north = outline.bounds
    if north < _SOUTHERNMOST or south > _NORTHERNMOST:
        raise S2cdError(
            f"The AOI {aoi.name} ({aoi.extent}) lies where Sentinel-2 has no tiles. Name one "
            "between 80 degrees south and 84 degrees north"
        )
    names = [
        name for zone in _zones(outline) for half in "NS" for name in _in_zone(outline, zone, half)
    ]
    return tuple(dict.fromkeys(names))


def grid_of_tile(tile: str) -> "GeoBox":
    """The 10 m grid of a tile: 10980 pixels at a side, with its corner on the 60 m lattice.

    The lattice begins at the equator and at the false easting's zero; the corner is the last of it
    before the square's own, to the west and to the north.

    Raises:
        S2cdError: where no tile has that name.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    zone, band, column, row = int(tile[:2]), tile[2], tile[3], tile[4]
    columns = _COLUMNS[(zone - 1) % 3]
    if not 1 <= zone <= 60 or band not in _BANDS or column not in columns or row not in _ROWS:
        raise S2cdError(f"There is no Sentinel-2 tile {tile}. Name one such as 43QBF")
    north, middle = band >= "N", _SOUTHERNMOST + 8 * _BANDS.index(band) + 4
    equator = 0 if north else _FALSE_NORTHING
    about = (middle * _METRES_A_DEGREE + equator) / _SQUARE
    index = _ROWS.index(row) - 5 * (zone % 2 == 0)
    number = index + 20 * round((about - index) / 20)
    west = (columns.index(column) + 1) * _SQUARE // _COARSE * _COARSE
    top = equator - (equator - (number + 1) * _SQUARE) // _COARSE * _COARSE
    return GeoBox(
        (_SIDE, _SIDE),
        Affine(10, 0, west, 0, -10, top),
        f"EPSG:{epsg_of(tile)}",
    )


def epsg_of(tile: str) -> int:
    """The CRS of a tile's UTM zone."""
    return (32600 if tile[2] >= "N" else 32700) + int(tile[:2])


def zone_of(longitude: float) -> int:
    """The UTM zone of a meridian, without the exceptions of Norway and Svalbard."""
    return int((longitude + 180) // 6) % 60 + 1


def _zones(outline: Any) -> list[int]:
    """The UTM zones that an outline meets, and their neighbours."""
    zones: list[int] = []
    for part in getattr(outline, "geoms", [outline]):
        west, _, east, _ = part.bounds
        first = int((west + 180) // 6)
        last = max(first, math.ceil((east + 180) / 6) - 1)
        zones += [number % 60 + 1 for number in range(first, last + 1)]
    beside = [(zone - 1 + step) % 60 + 1 for zone in zones for step in (-1, 1)]
    return list(dict.fromkeys([*zones, *beside]))


def _in_zone(outline: Any, zone: int, half: str) -> Iterator[str]:
    """Tiles of one zone in one hemisphere that meet an outline."""
    import shapely
    from pyproj import Transformer

    near = _near(outline, zone, half)
    if near.is_empty:
        return
    code = 32600 + zone if half == "N" else 32700 + zone
    to_metres = Transformer.from_crs("EPSG:4326", f"EPSG:{code}", always_xy=True)
    shape = shapely.transform(near, lambda xy: _apply(to_metres, xy))
    west, south, east, north = shape.bounds
    for column in range(max(1, _index(west, _EAST)), min(8, _index(east, _WEST)) + 1):
        for row in range(_index(south, _NORTH), _index(north, _SOUTH) + 1):
            x, y = column * _SQUARE, row * _SQUARE
            tile = shapely.box(x + _WEST, y + _SOUTH, x + _EAST, y + _NORTH)
            if shape.intersects(tile):
                yield from _names(zone, column, row, to_metres)


def _near(outline: Any, zone: int, half: str) -> Any:
    """The part of an outline around a zone: 12 degrees, since tiles reach far at high latitudes."""
    import shapely

    middle = zone * 6 - 183
    south, north = (-1, _NORTHERNMOST) if half == "N" else (_SOUTHERNMOST, 1)
    boxes = [shapely.box(middle + turn - 12, south, middle + turn + 12, north) for turn in _TURNS]
    return shapely.intersection(outline, shapely.union_all(boxes))


def _names(zone: int, column: int, row: int, to_metres: Any) -> Iterator[str]:
    """The names of a square: two where it lies in two bands of latitude; none outside the zone."""
    letters = f"{_COLUMNS[(zone - 1) % 3][column - 1]}{_ROWS[(row + 5 * (zone % 2 == 0)) % 20]}"
    across = [column * _SQUARE + part * _SQUARE / 4 for part in range(5)]
    found: set[str] = set()
    for y in (row * _SQUARE + 1, (row + 1) * _SQUARE - 1):
        points = [to_metres.transform(x, y, direction="INVERSE") for x in across]
        for longitude, latitude in points:
            band = _band(latitude)
            if band is None or band in found:
                continue
            first, last = _span(zone, band)
            off = (longitude - first + 180) % 360 - 180
            if -_NEAR <= off <= last - first + _NEAR and not (band == "X" and zone in _NONE):
                found.add(band)
    yield from (f"{zone:02d}{band}{letters}" for band in sorted(found))


def _band(latitude: float) -> str | None:
    if not _SOUTHERNMOST <= latitude <= _NORTHERNMOST:
        return None
    return _BANDS[int((latitude - _SOUTHERNMOST) // 8)]


def _span(zone: int, band: str) -> tuple[float, float]:
    """West and east of a zone in a band of latitude, in degrees."""
    usual = zone * 6 - 186, zone * 6 - 180
    if band == "X":
        return _SVALBARD.get(zone, usual)
    return _NORWAY.get(f"{zone}{band}", usual)


def _index(metres: float, edge: float) -> int:
    """Number of the last square whose edge, at that distance from its corner, lies before."""
    return math.floor((metres - edge) / _SQUARE)


def _apply(transformer: Any, points: Any) -> Any:
    import numpy as np

    return np.stack(transformer.transform(points[:, 0], points[:, 1]), axis=1)
