"""Areas of interest: every way to name one, and what is refused."""

import json
import zipfile

import numpy as np
import pyogrio
import pytest
import shapely
from conftest import ORIGIN, UTM, refused
from pyproj import Transformer

from s2cd.errors import S2cdError
from s2cd.scenes.aoi import open_aoi, shipped
from s2cd.scenes.mosaic import Wanted, open_date, stack_of
from s2cd.scenes.safe import open_folder
from s2cd.scenes.simulate import Simulation, write_product

DEGREES = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return write_product(Simulation(size=420, seed=1), 0, tmp_path_factory.mktemp("product"))


def inside(west=1005, north=1003, width=900, height=700):
    """A rectangle in metres from the tile's corner, as UTM polygon."""
    x, y = ORIGIN[0] + west, ORIGIN[1] - north
    return shapely.box(x, y - height, x + width, y)


def in_degrees(polygon):
    return shapely.transform(polygon, lambda c: np.stack(DEGREES.transform(c[:, 0], c[:, 1]), 1))


def save(path, shape, crs="EPSG:4326", **options):
    kind = {"Polygon": "Polygon", "Point": "Point", "LineString": "LineString"}[shape.geom_type]
    pyogrio.raw.write(
        path,
        geometry=np.array([shape.wkb], object),
        field_data=[],
        fields=[],
        geometry_type=kind,
        driver={".kml": "KML"}.get(path.suffix),
        crs=crs,
        **options,
    )
    return path


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "shp", "kml"])
def test_every_format_names_the_same_area(ending, tmp_path):
    polygon = in_degrees(inside())
    aoi = open_aoi(str(save(tmp_path / f"a.{ending}", polygon)))
    assert aoi.name == f"a.{ending}"
    np.testing.assert_allclose(aoi.outline.bounds, polygon.bounds, atol=1e-6)


def test_another_crs_is_understood(tmp_path):
    aoi = open_aoi(str(save(tmp_path / "a.gpkg", inside(), UTM)))
    np.testing.assert_allclose(aoi.outline.bounds, in_degrees(inside()).bounds, atol=1e-6)


def test_what_ships_is_found_by_name_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "ahmedabad.geojson" in shipped()
    aoi = open_aoi("ahmedabad.geojson")
    assert aoi.outline.bounds == open_aoi("ahmedabad").outline.bounds
    west, south, east, north = aoi.outline.bounds
    assert 72 < west < east < 73 and 22.5 < south < north < 23.5
    (tmp_path / "ahmedabad.geojson").write_text(
        json.dumps({"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2], [1, 1]]]})
    )
    assert open_aoi("ahmedabad.geojson").outline.bounds == (1, 1, 2, 2)  # one's own comes first


def test_a_box_in_degrees():
    assert open_aoi("-84.5,33,-84,34.25").outline.bounds == (-84.5, 33, -84, 34.25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10,20,5,30", "is empty"),
        ("10,20,10,30", "is empty"),
        ("170,10,190,20", "beyond the Earth"),
        ("10,80,20,95", "beyond the Earth"),
        ("1,2,3", "There is no AOI"),
        ("nowhere.geojson", "There is no AOI nowhere.geojson"),
        ("nan,0,1,1", "There is no AOI"),
        ("1e999,0,1e999,1", "is empty"),
        ("../aoi", "There is no AOI"),
    ],
)
def test_bad_words_are_refused(text, said):
    with pytest.raises(S2cdError, match=said) as caught:
        open_aoi(text)
    assert "\n" not in str(caught.value)


def test_bad_files_are_refused(tmp_path):
    def expect(name, said, content=None):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        with pytest.raises(S2cdError, match=said) as caught:
            open_aoi(str(path))
        assert name in str(caught.value) and "\n" not in str(caught.value)

    expect("empty.geojson", "is empty", '{"type": "FeatureCollection", "features": []}')
    expect("text.geojson", "cannot be read as an AOI", "no json")
    expect("nothing.gpkg", "cannot be read as an AOI", "")
    expect("a.txt", "name a file that ends in", "1,2,3,4")
    point = {"type": "Point", "coordinates": [1, 2]}
    expect("point.geojson", "holds Point, not only polygons", json.dumps(point))
    far = {"type": "Polygon", "coordinates": [[[1, 1], [900, 1], [900, 2], [1, 1]]]}
    expect("far.geojson", "beyond the Earth", json.dumps(far))
    flat = {"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [3, 1], [1, 1]]]}
    expect("flat.geojson", "no area|empty", json.dumps(flat))
    save(tmp_path / "bare.shp", inside(), UTM)
    (tmp_path / "bare.prj").unlink()
    expect("bare.shp", "no CRS")
    entity = '<!DOCTYPE kml [<!ENTITY a "aaaa">]><kml>&a;</kml>'
    expect("hostile.kml", "cannot be read|no geometry|empty", entity)


def test_the_result_is_cut_to_the_ten_metre_grid(product, tmp_path, run):
    area = save(tmp_path / "a.geojson", in_degrees(inside()))
    done = run("stack", product, "-o", "s.tif", "--aoi", area, "--bands", "B02,B05")
    assert done.returncode == 0, done.stderr
    from s2cd.scenes.stack import open_stack

    stack = open_stack(tmp_path / "s.tif")
    affine = stack.odc.geobox.affine
    # 1005 to 1905 m east and 1003 to 1703 m south, outward to whole pixels
    assert (affine.c - ORIGIN[0], ORIGIN[1] - affine.f) == (1000, 1000)
    assert stack.shape == (2, 71, 91) and "a.geojson" in stack.attrs["AOI"]
    products, geobox = open_date([product], Wanted())
    whole, _ = stack_of(products, geobox, Wanted(bands=("B02", "B05")))
    expected = whole[:, 100:171, 100:191].values
    np.testing.assert_allclose(stack.values, expected, atol=1e-4)


def test_a_missed_area_is_refused_with_both_extents(product, tmp_path, run):
    line = refused(run("stack", product, "-o", "s.tif", "--aoi", "10.5,45,10.6,45.25"))
    assert "W 10.5000 S 45.0000 E 10.6000 N 45.2500" in line and "W 72." in line
    assert not (tmp_path / "s.tif").exists()
    touching = in_degrees(inside(4200, 0, 100, 100))  # the next tile's
    refused(run("stack", product, "-o", "s.tif", "--aoi", save(tmp_path / "t.gpkg", touching)))


def test_an_area_larger_than_the_product_gives_the_product(product):
    wanted = Wanted(aoi=open_aoi("60,10,80,30"))
    assert open_date([product], wanted)[1] == open_date([product], Wanted())[1]
    world = Wanted(aoi=open_aoi("-180,-90,180,90"))
    assert open_date([product], world)[1] == open_date([product], Wanted())[1]


def test_a_folder_of_band_files_is_cut_too(product, tmp_path, run):
    bands = tmp_path / "bands"
    bands.mkdir()
    for path in product.glob("GRANULE/*/IMG_DATA/*_B0[25].jp2"):
        (bands / path.name).write_bytes(path.read_bytes())
    area = save(tmp_path / "a.gpkg", inside(), UTM)
    words = ["stack", bands, "-o", "s.tif", "--aoi", area, "--bands", "B02,B05", "--offset=-1000"]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert run("stack", product, "-o", "p.tif", *words[4:8]).returncode == 0
    import rasterio

    with rasterio.open(tmp_path / "s.tif") as s, rasterio.open(tmp_path / "p.tif") as p:
        assert s.transform == p.transform and s.shape == p.shape
        apart = s.read().astype(int) - p.read()
    assert np.abs(apart).max() <= 1 and (apart[0] == 0).all()  # a cubic's halves round either way
    with pytest.raises(S2cdError, match="lies outside"):
        open_folder(bands, ["B02"], aoi=open_aoi("1,1,2,2"))


def test_the_wheel_holds_the_areas(tmp_path):
    from pathlib import Path

    hatchling = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is absent")
    root = Path(__file__).parents[1]
    builder = hatchling.WheelBuilder(str(root))
    wheel = next(builder.build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        assert "s2cd/aoi/ahmedabad.geojson" in archive.namelist()
