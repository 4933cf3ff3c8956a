"""Tiles that an area may need."""

import re

import pytest
import shapely

from s2cd.errors import S2cdError
from s2cd.scenes.aoi import Aoi, open_aoi
from s2cd.sources.tiles import tiles_of, zone_of


def near(longitude: float, latitude: float, side: float = 0.05) -> Aoi:
    return Aoi("near", shapely.box(longitude, latitude, longitude + side, latitude + side))


def test_ahmedabad_lies_in_43qbf_and_its_neighbours():
    tiles = tiles_of(open_aoi("ahmedabad.geojson"))
    assert "43QBF" in tiles and len(tiles) <= 4
    assert all(tile.startswith(("43Q", "42Q")) for tile in tiles)


KNOWN = [
    ("43QBF", 72.6, 23.05), ("31UDQ", 2.35, 48.85), ("32TPQ", 11.3, 44.5), ("18TWL", -73.98, 40.75),
    ("56HLH", 151.2, -33.87), ("33XVG", 13.5, 78.2), ("32VNM", 10.7, 59.9), ("23KPQ", -43.2, -22.9),
    ("01LAC", -179.8, -16.0), ("37MBU", 36.8, -1.3), ("29RNQ", -8.0, 31.6), ("32VKM", 5.3, 60.0),
]  # fmt: skip


@pytest.mark.parametrize(("tile", "longitude", "latitude"), KNOWN, ids=[k[0] for k in KNOWN])
def test_well_known_tiles_are_found(tile, longitude, latitude):
    tiles = tiles_of(near(longitude, latitude, 0.02))
    assert tile in tiles and len(tiles) <= 12
    assert all(
        re.fullmatch(r"(0[1-9]|[1-5]\d|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", t) for t in tiles
    )


def test_real_products_footprints_name_their_own_tile(shared):
    from xml.etree import ElementTree

    seen = 0
    for path in (shared / "l1c-metadata").glob("*/MTD_MSIL1C.xml"):
        tile = re.search(r"_T(\w{5})_", path.parent.name)[1]
        text = ElementTree.parse(path).getroot().findtext(".//EXT_POS_LIST")
        numbers = [float(word) for word in text.split()]
        points = list(zip(numbers[1::2], numbers[::2], strict=True))
        if max(x for x, _ in points) - min(x for x, _ in points) > 180:
            points = [(x, y) for x, y in points if x < 0]
            points.append((-179.9, points[0][1]))
        inside = shapely.convex_hull(shapely.MultiPoint(points)).buffer(-0.01)
        assert tile in tiles_of(Aoi(tile, inside))
        seen += 1
    assert seen == 2


def test_an_area_across_the_date_line_has_tiles_on_both_sides():
    both = shapely.union_all(
        [shapely.box(179.8, -17, 180, -16.8), shapely.box(-180, -17, -179.8, -16.8)]
    )
    tiles = tiles_of(Aoi("fiji", both))
    assert {tile[:2] for tile in tiles} == {"60", "01"}


def test_an_area_across_two_zones_has_tiles_of_both():
    assert {tile[:2] for tile in tiles_of(near(71.98, 23.0))} == {"42", "43"}


def test_the_poles_have_none():
    with pytest.raises(S2cdError, match="has no tiles"):
        tiles_of(near(10, 88))


def test_zones():
    assert [zone_of(x) for x in (-180, -174.01, 0, 72.6, 179.9)] == [1, 1, 31, 43, 60]
