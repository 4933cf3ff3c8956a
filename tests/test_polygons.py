"""Polygons of a map: exact, valid, the same whatever the blocks, and readable elsewhere."""

import json
import sqlite3

import numpy as np
import pytest
import rasterio
import shapely
from conftest import grid, refused
from rasterio.features import rasterize

from s2cd.detection.blocks import blocks
from s2cd.detection.changemap import change_raster, probability_raster, write_layers
from s2cd.errors import S2cdError
from s2cd.results.polygons import Shaping, Sources, find_polygons, write_polygons
from s2cd.results.polygons.kinds import kinds_of

TAGS = {"BEFORE_SENSING_TIME": "2015-11-20T05:41:22Z", "AFTER_SENSING_TIME": "2020-11-28T05:41:22Z"}
EVERY = Shaping(min_area=0)


@pytest.fixture
def make_map(tmp_path):
    def make(classes, crs="EPSG:32643", origin=(199980.0, 2600040.0), size=10.0):
        classes = np.asarray(classes, np.uint8)
        box = grid(classes.shape, origin, size, crs)
        scores = np.where(classes == 255, 255, np.where(classes > 0, 150, 20)).astype(np.uint8)
        paths = tmp_path / "p.tif", tmp_path / "change.tif"
        rasters = probability_raster(paths[0], box, TAGS), change_raster(paths[1], box, TAGS)
        layers = [(b, (scores[b.ys, b.xs], classes[b.ys, b.xs])) for b in blocks(box.shape, 512)]
        write_layers(rasters, layers)
        return paths[1]

    return make


def noise(shape=(90, 110), share=0.5, seed=0):
    values = (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)
    values[5:12, 30:50] = 255
    return values


def back_in_pixels(table, like):
    with rasterio.open(like) as source:
        pairs = zip(table.geometry, table["class"], strict=True)
        return rasterize(pairs, source.shape, transform=source.transform)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.62, 0.9])
def test_polygons_of_noise_are_valid_and_give_back_the_map(make_map, share):
    classes = noise(share=share)
    path = make_map(classes)
    table = find_polygons(Sources(path), EVERY).table
    assert table.is_valid.all()
    assert (back_in_pixels(table, path) == (classes == 1)).all()
    assert table.area.sum() == (classes == 1).sum() * 100
    assert shapely.is_ccw(shapely.get_exterior_ring(table.geometry.values)).all()


@pytest.mark.parametrize("smooth", [False, True])
def test_polygons_do_not_depend_on_the_size_of_blocks(make_map, smooth):
    path = make_map(noise())
    shaping = Shaping(0, 300, smooth, 5.0 if smooth else 0)
    one, *others = [
        find_polygons(Sources(path, path.with_name("p.tif"), block=size), shaping).table
        for size in (1024, 32, 17)
    ]
    for other in others:
        assert one.equals(other)
        assert (one.geometry.to_wkb() == other.geometry.to_wkb()).all()


def test_changes_are_those_that_scipy_labels(make_map):
    from scipy import ndimage

    classes = noise(share=0.55)
    table = find_polygons(Sources(make_map(classes), block=32), EVERY).table
    labels, count = ndimage.label(classes == 1)
    assert len(table) == count
    pixels = np.bincount(labels.ravel())[1:]
    assert (table.area.to_numpy() == pixels * 100).all()  # both number in reading order


@pytest.mark.parametrize(
    ("crs", "origin", "size"),
    [
        ("EPSG:32643", (199980.0, 2600040.0), 10.0),
        ("EPSG:4326", (72.5, 23.1), 1e-4),
        ("EPSG:3857", (8070000.0, 8100000.0), 20.0),
    ],
)
def test_areas_are_those_of_the_ellipsoid(make_map, crs, origin, size):
    from pyproj import Geod, Transformer

    classes = np.zeros((200, 300), np.uint8)
    classes[20:180, 30:270] = 1
    classes[60:90, 60:90] = 0
    found = find_polygons(Sources(make_map(classes, crs, origin, size)), EVERY)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    polygon = shapely.segmentize(found.table.geometry.iloc[0], size)
    degrees = shapely.transform(polygon, lambda p: np.stack(to_degrees.transform(*p.T), axis=1))
    geod = Geod(ellps="WGS84")
    rings = [degrees.exterior, *degrees.interiors]
    parts = [geod.polygon_area_perimeter(*np.array(ring.coords).T) for ring in rings]
    area = abs(parts[0][0]) - sum(abs(part[0]) for part in parts[1:])
    length = sum(part[1] for part in parts)
    assert found.table["area_m2"].iloc[0] == pytest.approx(area, rel=1e-4)
    assert found.table["perimeter_m"].iloc[0] == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize(
    ("crs", "origin", "size"),
    [
        ("EPSG:32643", (199980.0, 2600040.0), 10.0),
        ("EPSG:4326", (72.5, 23.1), 1e-4),
        ("EPSG:3857", (8070000.0, 8100000.0), 20.0),
    ],
)
def test_areas_add_up_to_what_the_report_and_detect_say_of_the_map(make_map, crs, origin, size):
    from s2cd.detection.ground import ground_of
    from s2cd.results.report.pictures import look_at_map

    path = make_map(noise((300, 400), share=0.3), crs, origin, size)
    table = find_polygons(Sources(path), EVERY).table
    seen = look_at_map(path)
    assert table["area_m2"].sum() == pytest.approx(seen.changed, rel=1e-4)
    with rasterio.open(path) as source:
        values = source.read(1)
    ground = ground_of(grid(values.shape, origin, size, crs))
    assert seen.changed == pytest.approx(ground.area(values == 1))
    assert seen.unseen == pytest.approx(ground.area(values == 255))


def test_small_changes_are_left_out_and_small_holes_filled(make_map):
    classes = np.zeros((40, 40), np.uint8)
    classes[2:12, 2:12] = 1
    classes[5, 5] = 0
    classes[8:11, 8:11] = 0
    classes[20, 20:23] = 1
    classes[30, 20:24] = 1
    found = find_polygons(Sources(make_map(classes)), Shaping(400, 500))
    assert found.table.area.tolist() == [9100, 400]
    assert found.left_out == (1, 3)
    assert found.pixels == (classes == 1).sum()
    assert found.table["id"].tolist() == [1, 2]


@pytest.mark.parametrize("smooth", [False, True])
def test_a_hole_in_which_another_change_lies_is_not_filled(make_map, smooth):
    classes = np.zeros((40, 40), np.uint8)
    classes[5:35, 5:35] = 1
    classes[10:20, 10:20] = 0
    classes[13:17, 13:17] = 1
    classes[24:28, 24:28] = 0
    table = find_polygons(Sources(make_map(classes)), Shaping(0, 1e6, smooth)).table
    outer, inner = table.geometry
    assert len(outer.interiors) == 1 and outer.intersection(inner).area == 0
    assert outer.area + inner.area == pytest.approx(100 * (900 - 100 + 16), 1e-2)
    alone = find_polygons(Sources(make_map(classes)), Shaping(2000, 1e6, smooth)).table
    assert [len(p.interiors) for p in alone.geometry] == [0]  # what is left out is in nobody's way


def test_specks_are_counted_alike_whatever_the_blocks(make_map):
    classes = noise((200, 230), share=0.2)
    every = find_polygons(Sources(make_map(classes)), EVERY).table
    small, large = every[every.area < 400], every[every.area >= 400]
    for size in (16, 64, 4096):
        found = find_polygons(Sources(make_map(classes), block=size), Shaping(400))
        assert found.left_out == (len(small), small.area.sum() / 100)
        assert found.pixels == (classes == 1).sum()
        assert found.table.geometry.to_wkb().tolist() == large.geometry.to_wkb().tolist()


def test_blocks_are_never_larger_than_memory_allows(make_map, monkeypatch):
    from s2cd.results.polygons import find

    asked = []
    monkeypatch.setattr(find, "_LARGEST_BLOCK", 32)
    kept = find.find_components
    monkeypatch.setattr(
        find, "find_components", lambda layers, least: asked.append(layers.size) or kept(layers)
    )
    find_polygons(Sources(make_map(noise()), block=100_000))
    assert asked == [32]


def test_smoothing_and_simplifying_keep_what_is_apart_apart(make_map):
    path = make_map(noise(share=0.6, seed=3))
    exact = find_polygons(Sources(path), EVERY).table
    drawn = find_polygons(Sources(path), Shaping(0, 0, True, 8)).table
    assert drawn.is_valid.all()
    assert not drawn.is_empty.any()
    holes = shapely.get_num_interior_rings
    assert (holes(drawn.geometry.values) == holes(exact.geometry.values)).all()
    assert shapely.union_all(drawn.geometry).area == pytest.approx(drawn.area.sum(), rel=1e-9)
    assert (drawn["area_m2"] == exact["area_m2"]).all()
    points = shapely.get_num_coordinates
    assert points(drawn.geometry.values).sum() < points(exact.geometry.values).sum()


def test_classes_that_touch_are_changes_of_their_own(make_map):
    classes = np.zeros((30, 30), np.uint8)
    classes[4:20, 4:12], classes[8:25, 12:20] = 1, 2
    path = make_map(classes)
    for smooth in (False, True):
        table = find_polygons(Sources(path, block=16), Shaping(0, 0, smooth)).table
        assert table["class"].tolist() == [1, 2]
        one, other = table.geometry
        assert one.intersection(other).area == 0
        assert one.intersection(other).length == pytest.approx(120)


def test_a_map_without_change_gives_an_empty_table_in_every_format(make_map, tmp_path):
    found = find_polygons(Sources(make_map(np.zeros((20, 20)))))
    assert len(found.table) == 0
    for ending in ("gpkg", "geojson", "fgb", "parquet"):
        write_polygons(found, tmp_path / f"none.{ending}")


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "fgb", "parquet"])
def test_what_is_written_is_read_back(make_map, tmp_path, ending):
    import geopandas

    path = make_map(noise(share=0.3))
    found = find_polygons(Sources(path, path.with_name("p.tif")))
    target = tmp_path / f"changes.{ending}"
    write_polygons(found, target)
    layer = {"layer": "changes"} if ending == "gpkg" else {}
    read = geopandas.read_parquet if ending == "parquet" else geopandas.read_file
    table = read(target, **layer).sort_values("id")
    assert table["id"].tolist() == found.table["id"].tolist()
    assert table["area_m2"].tolist() == found.table["area_m2"].tolist()
    assert {str(day)[:10] for day in table["date_before"]} == {"2015-11-20"}
    assert set(table["probability_mean"]) == {0.75}
    assert table["kind"].isna().all()
    assert table.crs.to_epsg() == (4326 if ending == "geojson" else 32643)
    assert target.with_suffix(".qml").read_text().startswith("<!DOCTYPE qgis")
    left = sorted(p.suffix for p in tmp_path.iterdir())
    assert left == sorted([".tif", ".tif", ".qml", f".{ending}"])


def test_geojson_is_that_of_rfc_7946(make_map, tmp_path):
    write_polygons(find_polygons(Sources(make_map(noise()))), tmp_path / "c.geojson")
    value = json.loads((tmp_path / "c.geojson").read_text())
    assert "crs" not in value
    for feature in value["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert shapely.LinearRing(ring).is_ccw
        assert (abs(ring) <= [180, 90]).all()
        assert (np.round(ring, 7) == ring).all()


def test_geoparquet_says_what_1_1_asks(make_map, tmp_path):
    import pyarrow.parquet

    write_polygons(find_polygons(Sources(make_map(noise()))), tmp_path / "c.parquet")
    schema = pyarrow.parquet.read_schema(tmp_path / "c.parquet")
    geo = json.loads(schema.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"][geo["primary_column"]]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert column["crs"]["id"]["code"] == 32643


def test_a_geopackage_holds_its_style_as_the_default(make_map, tmp_path):
    import xml.etree.ElementTree as ET

    write_polygons(find_polygons(Sources(make_map(noise()))), tmp_path / "c.gpkg")
    with sqlite3.connect(tmp_path / "c.gpkg") as base:
        ((name, style, default),) = base.execute(
            "SELECT f_table_name, styleQML, useAsDefault FROM layer_styles"
        ).fetchall()
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    base.close()
    assert (name, default) == ("changes", 1)
    assert style == (tmp_path / "c.qml").read_text()
    assert ET.fromstring(style).find("renderer-v2") is not None


SPECTRA = {  # blue, green, red, nir, swir16 at the top of the atmosphere, of changes looked at
    "water": (0.10, 0.08, 0.05, 0.03, 0.02),  # the sea at beirut
    "shade": (0.14, 0.11, 0.10, 0.09, 0.08),  # winter at bercy
    "vegetation": (0.11, 0.11, 0.11, 0.27, 0.22),
    "burned": (0.10, 0.08, 0.08, 0.10, 0.13),
    "bare": (0.19, 0.22, 0.29, 0.34, 0.45),  # the desert at lasvegas
    "graded": (0.23, 0.26, 0.36, 0.40, 0.47),
    "built-up": (0.17, 0.17, 0.20, 0.21, 0.24),
    "wet soil": (0.139, 0.122, 0.139, 0.20, 0.23),  # a field at saclay_e
    "roof": (0.28, 0.29, 0.33, 0.38, 0.41),  # pisa
}
UNEVEN = {"built-up": (0.85, 1.15)}


def means_of(*names):
    from s2cd.results.polygons.kinds import _held

    held = []
    for name in names:
        pixels = np.outer(SPECTRA[name], UNEVEN.get(name, (1, 1))).astype(np.float32)
        held.append(_held(pixels[:, None]).mean(axis=(1, 2)))
    return np.concatenate(held)


def test_kinds_follow_the_rules():
    cases = {
        ("vegetation", "built-up"): "vegetation to built-up",
        ("bare", "built-up"): "bare to built-up",
        ("vegetation", "bare"): "vegetation lost",
        ("bare", "vegetation"): "vegetation gained",
        ("vegetation", "water"): "water gained",
        ("water", "built-up"): "water lost",
        ("built-up", "built-up"): "other",
        ("shade", "built-up"): "other",
        ("built-up", "shade"): "other",
        ("bare", "graded"): "other",
        ("vegetation", "burned"): "vegetation lost",
        ("vegetation", "wet soil"): "vegetation lost",
        ("bare", "wet soil"): "other",
        ("vegetation", "roof"): "vegetation to built-up",
        ("bare", "roof"): "bare to built-up",
    }
    means = np.stack([means_of(*pair) for pair in cases], axis=1).astype(np.float64)
    areas = np.full(len(cases), 5000.0)
    assert dict(zip(cases, kinds_of(means, areas), strict=True)) == cases
    assert (kinds_of(means, areas / 5)[4:6] == ["vegetation lost", "other"]).all()
    means[0, 0] = np.nan
    assert kinds_of(means, areas)[0] is None


@pytest.mark.parametrize(
    ("city", "least", "most"),
    [
        ("saclay_e", {"vegetation to built-up": 8}, {"vegetation to built-up": 16}),
        ("bercy", {}, {"water lost": 1, "water gained": 0}),
        ("lasvegas", {"bare to built-up": 80}, {"water lost": 0, "water gained": 0}),
    ],
)
def test_kinds_of_real_changes_are_as_they_look(oscd, tmp_path, city, least, most):
    """Shade at bercy is no water; desert at lasvegas becomes houses (looked at one by one)."""
    from s2cd.detection.detect import Request, detect_files
    from s2cd.scenes.safe import open_folder
    from s2cd.scenes.stack import write_stack

    dates = tmp_path / "before.tif", tmp_path / "after.tif"
    for path, images in zip(dates, ("imgs_1", "imgs_2"), strict=True):
        write_stack(open_folder(oscd / "Images" / city / images), path)
    detect_files(Request(*dates, tmp_path / "c.tif", model="irmad"))
    found = find_polygons(Sources(tmp_path / "c.tif", None, *dates))
    counts = found.table["kind"].value_counts()
    assert all(counts.get(kind, 0) >= number for kind, number in least.items()), counts
    assert all(counts.get(kind, 0) <= number for kind, number in most.items()), counts


def test_indices_are_taken_of_the_dates(place, run, tmp_path):
    import geopandas

    made = run("detect", place.before, place.after, "-o", "change.tif")
    assert made.returncode == 0, made.stderr
    dates = ("--before", place.before, "--after", place.after)
    done = run("polygons", "change.tif", *dates, "-o", "c.gpkg", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    table = geopandas.read_file(tmp_path / "c.gpkg", layer="changes")
    assert facts["count"] == len(table) > 0
    assert table["ndvi_change"].notna().all()
    assert table["kind"].notna().all()
    again = run("polygons", "change.tif", "-o", "c.gpkg")
    assert "--overwrite" in refused(again)


def test_what_cannot_be_is_refused(make_map, make_raster, tmp_path, run):
    path = make_map(noise())
    assert ".gpkg" in refused(run("polygons", path, "-o", "c.shp"))
    with pytest.raises(S2cdError, match="Name the map"):
        find_polygons(Sources(path.with_name("p.tif")))
    plain = make_raster("plain.tif", np.zeros((5, 5), np.uint8), crs=None)
    with pytest.raises(S2cdError, match="no CRS"):
        find_polygons(Sources(plain))
    strange = make_raster("strange.tif", np.full((5, 5), 130, np.uint8))
    with pytest.raises(S2cdError, match="it holds 130"):
        find_polygons(Sources(strange))
    with pytest.raises(S2cdError, match="both dates"):
        find_polygons(Sources(path, before=path))
    assert not list(tmp_path.glob("c.*"))
