"""The cloud over an area, by the mask that a product holds."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from conftest import ORIGIN, UTM
from pyproj import Transformer

from s2cd.errors import S2cdError
from s2cd.scenes.simulate.files import CORNER
from s2cd.sources.masks import cloud_in_mask, epsg_of, mask_among

GML = """<?xml version="1.0" encoding="UTF-8"?>
<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2">
<eop:maskMembers>{}</eop:maskMembers></eop:Mask>"""
CLOUD = """<eop:MaskFeature gml:id="OPAQUE.0"><eop:maskType>OPAQUE</eop:maskType><eop:extentOf>
<gml:Polygon><gml:exterior><gml:LinearRing><gml:posList srsDimension="2">{}</gml:posList>
</gml:LinearRing></gml:exterior></gml:Polygon></eop:extentOf></eop:MaskFeature>"""


def area(west: float, south: float, east: float, north: float):
    """A rectangle in metres from the tile's upper left corner, in degrees."""
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    box = shapely.box(ORIGIN[0] + west, ORIGIN[1] - south, ORIGIN[0] + east, ORIGIN[1] - north)
    return shapely.transform(
        box, lambda xy: np.stack(to_degrees.transform(xy[:, 0], xy[:, 1]), axis=1)
    )


def raster(cloudy: tuple[slice, slice], side: int = 60, bands: int = 3, dtype="uint8") -> bytes:
    flags = np.zeros((bands, side, side), dtype)
    flags[0][cloudy] = 1
    profile = {"driver": "GTiff", "width": side, "height": side, "count": bands, "dtype": dtype}
    place = Affine(60, 0, CORNER[0], 0, -60, CORNER[1])
    with rasterio.MemoryFile() as memory, rasterio.MemoryFile(ext=".jp2") as packed:
        with memory.open(**profile, crs=UTM, transform=place) as target:
            target.write(flags)
        options = {"CODEC": "JP2", "QUALITY": "100", "REVERSIBLE": "YES"}
        rasterio.shutil.copy(memory.name, packed.name, driver="JP2OpenJPEG", **options)
        return packed.read()


def gml(*rings: str) -> bytes:
    return GML.format("".join(CLOUD.format(ring) for ring in rings)).encode()


def ring(west: float, south: float, east: float, north: float) -> str:
    x, y = CORNER
    corners = [(west, north), (east, north), (east, south), (west, south), (west, north)]
    return " ".join(f"{x + dx:.0f} {y - dy:.0f}" for dx, dy in corners)


def test_a_raster_mask_counts_over_the_area_alone():
    content = raster((slice(0, 30), slice(0, 60)))  # the northern half of the tile
    for south, north, percent in ((1500, 600, 100), (3400, 2000, 0), (2400, 1200, 50)):
        found = cloud_in_mask(content, "MSK.jp2", "43QBF", area(600, south, 1800, north))
        assert found == pytest.approx(percent, abs=4)


def test_a_vector_mask_counts_over_the_area_alone():
    content = gml(ring(0, 1800, 3600, 0), ring(0, 1500, 3600, 100))
    for south, north, percent in ((1500, 600, 100), (3400, 2000, 0), (2400, 1200, 50)):
        found = cloud_in_mask(content, "MSK.gml", "43QBF", area(600, south, 1800, north))
        assert found == pytest.approx(percent, abs=1)
    assert cloud_in_mask(gml(), "MSK.gml", "43QBF", area(600, 1800, 1800, 600)) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.gml", gml("1 2 3")),
        ("m.gml", gml("a b c d")),
        ("m.gml", gml("199980 2600040 nan 2600040 209980 2590040 199980 2600040")),
        ("m.gml", gml("199980 2600040 1e999 2600040 209980 2590040 199980 2600040")),
        ("m.gml", b"<!DOCTYPE x><x/>"),
        ("m.jp2", b"no raster"),
        ("m.jp2", raster((slice(0), slice(0)), bands=1)),
        ("m.jp2", raster((slice(0), slice(0)), side=2)),
        ("m.jp2", raster((slice(0), slice(0)), dtype="uint16")),
    ],
)
def test_what_is_no_mask_is_refused(name, content):
    with pytest.raises(S2cdError):
        cloud_in_mask(content, name, "43QBF", area(600, 1800, 1800, 600))


def test_an_area_elsewhere_on_earth_is_refused():
    for place in (shapely.box(164, 0, 166, 1), shapely.box(70, -90, 170, 90)):
        with pytest.raises(S2cdError, match="far from EPSG:32643"):
            cloud_in_mask(gml(ring(0, 1800, 3600, 0)), "m.gml", "43QBF", place)


def test_the_raster_comes_before_the_vector_and_nothing_else_counts():
    start = "GRANULE/L1C_T43QBF_A1_2/QI_DATA/"
    old = f"{start}S2A_OPER_MSK_CLOUDS_MPS__20151120T100000_A002130_T43QBF_B00_MSIL1C.gml"
    assert mask_among([f"{start}MSK_CLOUDS_B00.gml", f"{start}MSK_CLASSI_B00.jp2"]).endswith("jp2")
    assert mask_among([f"{start}MSK_DETFOO_B00.gml", old]) == old
    assert mask_among(["x/MSK_CLOUDS_B00.gml", f"{start}MSK_CLASSI_B01.jp2"]) is None


def test_zones_of_both_hemispheres():
    assert epsg_of("43QBF") == 32643 and epsg_of("23KPQ") == 32723
