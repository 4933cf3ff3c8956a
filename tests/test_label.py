"""Polygons to masks: by a rule that is exact, on the grid asked for, whatever the file."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from conftest import UTM, grid, landscape, refused
from pyproj import Transformer

from s2cd.errors import S2cdError
from s2cd.learning.labels import Choice, Drawing, write_label
from s2cd.scenes.mask import read_label
from s2cd.scenes.stack import stack_array, write_stack

SHAPE = (90, 120)
BOX = grid(SHAPE)


def boxes(*corners, box=BOX):
    """Rectangles (left, top, right, bottom) in pixels as polygons on the ground."""
    return [on_ground(shapely.box(*corner), box) for corner in corners]


def on_ground(shape, box=BOX):
    a = box.affine
    return shapely.transform(shape, lambda p: np.stack(a * (p[:, 0], p[:, 1]), axis=1))


def in_pixels(shape, box=BOX):
    a = ~box.affine
    return shapely.transform(shape, lambda p: np.stack(a * (p[:, 0], p[:, 1]), axis=1))


def projected(shapes, crs):
    move = Transformer.from_crs(UTM, crs, always_xy=True)
    return [
        shapely.transform(
            shapely.segmentize(s, 50.0), lambda p: np.stack(move.transform(*p.T), axis=1)
        )
        for s in shapes
    ]


@pytest.fixture
def draw(tmp_path):
    """Write shapes as a file that any GIS reads."""

    def write(shapes, name="p.gpkg", crs=UTM, layer=None, append=False, **columns):
        path = tmp_path / name
        pyogrio.raw.write(
            path,
            geometry=np.array([None if s is None else s.wkb for s in shapes], object),
            field_data=[np.array(v) for v in columns.values()],
            fields=list(columns),
            geometry_type="Unknown" if name.endswith("gpkg") else shapes[0].geom_type,
            crs=crs,
            driver="KML" if name.endswith("kml") else None,
            layer=layer,
            append=append,
        )
        return path

    return write


@pytest.fixture
def like(tmp_path):
    values = landscape(SHAPE, 2)
    values[:, 80:, :20] = np.nan
    write_stack(stack_array(values, BOX, ("B04", "B08")), tmp_path / "like.tif")
    return tmp_path / "like.tif"


@pytest.fixture
def plain(make_raster):
    """A grid that has data everywhere."""
    return make_raster("plain.tif", np.ones(SHAPE, np.uint8))


def masked(polygons, like, tmp_path, **options):
    out = tmp_path / "label.tif"
    facts = write_label(Drawing(polygons, like, **options), out, overwrite=True)
    with rasterio.open(out) as file:
        return file.read(1), file.tags(), facts


def by_hand(shapes, all_touched=False):
    """Each pixel compared with each shape: the last that holds it, counted from 1."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    result = np.zeros(SHAPE, int)
    for number, shape in enumerate(shapes, start=1):
        flat = in_pixels(shape)
        if all_touched:
            cells = shapely.box(columns, rows, columns + 1, rows + 1)
            inside = shapely.area(shapely.intersection(flat, cells)) > 1e-11
        else:
            inside = shapely.contains_xy(flat, columns + 0.5, rows + 0.5)
        result[inside] = number
    return result


def blobs(count, seed=0):
    random = np.random.default_rng(seed)
    found = []
    for x, y in random.uniform([5, 5], [115, 85], (count, 2)):
        angles = np.sort(random.uniform(0, 2 * np.pi, 9))
        lengths = random.uniform(0.4, 14, 9)
        points = np.stack([x + lengths * np.cos(angles), y + lengths * np.sin(angles)], axis=1)
        found.append(on_ground(shapely.make_valid(shapely.Polygon(points))))
    return [s for s in found if s.geom_type == "Polygon"]


@pytest.mark.parametrize("all_touched", [False, True])
def test_the_rule_is_kept_for_every_pixel(draw, plain, tmp_path, all_touched):
    shapes = blobs(25)
    path = draw(shapes, number=np.arange(1, len(shapes) + 1))
    values, tags, facts = masked(
        path, plain, tmp_path, touched=all_touched, choice=Choice(class_column="number")
    )
    assert len(shapes) > 15
    np.testing.assert_array_equal(values, by_hand(shapes, all_touched))
    assert tags["RULE"] == facts["rule"]
    assert ("any part" in facts["rule"]) is all_touched


@pytest.mark.parametrize("all_touched", [False, True])
def test_a_mask_does_not_depend_on_the_blocks(draw, plain, tmp_path, all_touched):
    path = draw(blobs(60, seed=3))
    whole = masked(path, plain, tmp_path, touched=all_touched)[0]
    for size in (16, 37):
        part = masked(path, plain, tmp_path, touched=all_touched, block=size)[0]
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("all_touched", [False, True])
def test_a_polygon_drawn_on_the_grid_takes_its_pixels_and_no_others(
    draw, plain, tmp_path, all_touched
):
    values = masked(draw(boxes((10, 20, 30, 50))), plain, tmp_path, touched=all_touched)[0]
    expected = np.zeros(SHAPE, np.uint8)
    expected[20:50, 10:30] = 1
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("name", "crs"),
    [
        ("p.gpkg", UTM),
        ("p.gpkg", "EPSG:3857"),
        ("p.gpkg", "EPSG:32642"),
        ("p.geojson", "EPSG:4326"),
        ("p.shp", UTM),
        ("p.shp", "EPSG:4326"),
        ("p.fgb", UTM),
        ("p.kml", "EPSG:4326"),
    ],
)
def test_any_format_and_crs_gives_the_same_mask(draw, plain, tmp_path, name, crs):
    shapes = boxes((10, 20, 30, 50), (70.2, 3.1, 90.3, 77.2))
    path = draw(shapes if crs == UTM else projected(shapes, crs), name, crs)
    values = masked(path, plain, tmp_path)[0]
    expected = np.zeros(SHAPE, np.uint8)
    expected[20:50, 10:30] = 1
    expected[3:77, 70:90] = 1
    np.testing.assert_array_equal(values, expected)


def test_long_edges_are_straight_where_they_were_drawn(draw, make_raster, tmp_path):
    """An edge along a parallel of 60 km is bent by some 10 pixels in UTM."""
    shape = (600, 6000)
    like = make_raster("wide.tif", np.ones(shape, np.uint8), transform=grid(shape).affine)
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    box = grid(shape)
    corners = [to_degrees.transform(*(box.affine * c)) for c in ((-20, 300), (6020, 300))]
    south = min(c[1] for c in corners)
    polygon = shapely.box(corners[0][0], south - 1, corners[1][0], south)
    out = tmp_path / "label.tif"
    write_label(Drawing(draw([polygon], "p.geojson", "EPSG:4326"), like), out)
    values = rasterio.open(out).read(1)
    columns = np.arange(10, shape[1] - 10, 97)
    x, y = box.affine * (columns + 0.5, np.full(len(columns), 300.5))
    for column in columns:
        x, y = box.affine * (np.full(shape[0], column + 0.5), np.arange(shape[0]) + 0.5)
        expected = np.array(to_degrees.transform(x, y)[1]) < south
        assert (values[:, column] == expected).all()
    assert np.ptp(values.argmax(axis=0)) > 5


def test_what_was_not_looked_at_or_has_no_data_is_not_labelled(draw, like, tmp_path):
    within = draw(boxes((0, 0, 60, 90)), "within.gpkg")
    values, tags, facts = masked(draw(boxes((10, 20, 80, 50))), like, tmp_path, within=within)
    assert (values[:, 60:] == 255).all() and (values[80:, :20] == 255).all()
    assert (values[20:50, 10:60] == 1).all() and (values[50:80, :60] == 0).all()
    assert tags["WITHIN"] == "within.gpkg"
    assert facts["labelled_fraction"] == pytest.approx((60 * 90 - 200) / (90 * 120))
    assert (read_label(tmp_path / "label.tif", BOX) == values).all()


def test_a_map_is_followed_where_it_was_not_observed(draw, make_raster, tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    values[:, :50] = 255
    path = make_raster("change.tif", values, nodata=255)
    drawn = masked(draw(boxes((40, 0, 60, 90))), path, tmp_path)[0]
    assert (drawn[:, :50] == 255).all() and (drawn[:, 50:60] == 1).all()
    floats = np.full((2, *SHAPE), np.nan, np.float32)
    floats[1, :, 50:] = 0.2
    path = make_raster("floats.tif", floats)
    assert (masked(draw(boxes((40, 0, 60, 90))), path, tmp_path)[0] == drawn).all()


def test_names_of_classes_get_numbers_that_are_written_down(draw, plain, tmp_path):
    shapes = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (5000, 0, 5010, 10))
    path = draw(shapes, kind=np.array(["water", "built", "water", "arid"], object))
    values, tags, facts = masked(path, plain, tmp_path, choice=Choice(class_column="kind"))
    # a class that is drawn elsewhere only has its number all the same
    assert json.loads(tags["CLASSES"]) == {"1": "arid", "2": "built", "3": "water"}
    assert (values[0, 5], values[0, 25], values[0, 45]) == (3, 2, 3)
    assert facts["classes"] == {"built": 100, "water": 200} and facts["outside"] == 1
    choice = Choice(class_column="kind", names=("water", "built", "arid"))
    assert masked(path, plain, tmp_path, choice=choice)[0][0, 5] == 1
    out = tmp_path / "label.tif"
    assert set(np.unique(read_label(out, BOX, classes=True))) == {0, 1, 2}
    assert set(np.unique(read_label(out, BOX))) == {0, 1}


def test_the_later_polygon_wins_and_class_0_is_no_change(draw, plain, tmp_path):
    shapes = boxes((0, 0, 40, 40), (10, 10, 20, 20), (50, 0, 60, 10))
    path = draw(shapes, code=np.array([2.0, 0.0, 1.0]))
    values = masked(path, plain, tmp_path, choice=Choice(class_column="code"))[0]
    assert (values[5, 5], values[15, 15], values[5, 55]) == (2, 0, 1)


def test_verdicts_of_a_review_are_followed(draw, plain, tmp_path):
    shapes = boxes(
        (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10), (45, 0, 49, 9)
    )
    words = ["accepted", "rejected", None, "added", "accepted"]
    path = draw(shapes, status=np.array(words, object))
    values, _, facts = masked(path, plain, tmp_path)
    assert [values[5, x] for x in (5, 25, 42, 65)] == [1, 0, 1, 1]
    assert (facts["accepted"], facts["rejected"], facts["unreviewed"]) == (3, 1, 1)
    values = masked(path, plain, tmp_path, choice=Choice(unreviewed="unlabelled"))[0]
    assert [values[5, x] for x in (5, 25, 42, 46, 65)] == [1, 0, 255, 1, 1]
    typo = draw(shapes, "typo.gpkg", status=np.array([*words[:4], "acepted"], object))
    with pytest.raises(S2cdError, match="'acepted' is none of"):
        masked(typo, plain, tmp_path)
    other = draw(shapes, "other.gpkg", status=np.array(["planned"] * 5, object))
    assert masked(other, plain, tmp_path)[0][5, 25] == 1


def polygons_of(change, path):
    from s2cd.results.polygons import Shaping, Sources, find_polygons, write_polygons

    write_polygons(find_polygons(Sources(change), Shaping(min_area=0)), path)
    return path


def test_a_mask_leads_to_polygons_and_back(draw, plain, tmp_path):
    shapes = blobs(12, seed=5)
    path = draw(shapes, number=np.arange(len(shapes)) % 3 + 1)
    first = masked(path, plain, tmp_path, choice=Choice(class_column="number"))[0]
    back = polygons_of(tmp_path / "label.tif", tmp_path / "back.gpkg")
    again = masked(back, plain, tmp_path, choice=Choice(class_column="class"))[0]
    assert set(np.unique(first)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(again, first)


def test_a_map_corrected_in_a_gis_is_what_was_corrected(place, run, tmp_path):
    import geopandas
    import pandas
    from scipy import ndimage

    assert run("detect", place.before, place.after, "-o", "change.tif").returncode == 0
    found = rasterio.open(tmp_path / "change.tif").read(1)
    path = polygons_of(tmp_path / "change.tif", tmp_path / "changes.gpkg")
    table = geopandas.read_file(path, layer="changes")
    assert len(table) > 2
    removed = int(table.area.idxmax())
    gone = in_pixels(table.geometry[removed], place.geobox).representative_point()
    table = table.drop(index=removed)
    added = table.iloc[:1].set_geometry(boxes((3, 3, 9, 8), box=place.geobox), crs=table.crs)
    pandas.concat([table, added]).to_file(tmp_path / "corrected.gpkg", layer="changes")
    done = run("label", "corrected.gpkg", "--like", "change.tif", "-o", "label.tif", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["polygons"] == len(table) + 1
    label = read_label(tmp_path / "label.tif", place.geobox)
    assert found[int(gone.y), int(gone.x)] == 1 and label[int(gone.y), int(gone.x)] == 0
    assert (label[3:8, 3:9] == 1).all()
    kept = ndimage.label(found == 1)[0]
    kept = kept != kept[int(gone.y), int(gone.x)]
    kept[3:8, 3:9] = False
    assert (label == found)[kept].all()


def test_layers_are_chosen_and_shapes_that_cross_themselves_repaired(draw, plain, tmp_path, run):
    bow = on_ground(shapely.Polygon([(10, 10), (30, 30), (30, 10), (10, 30)]))
    flat = on_ground(shapely.Polygon([(50, 50), (60, 60), (50, 50)]))
    path = draw([bow, flat, None], layer="one")
    draw(boxes((0, 0, 5, 5)), layer="two", append=True)
    assert "one, two). Choose one" in refused(run("label", path, "--like", plain, "-o", "l.tif"))
    done = run("label", path, "--like", plain, "-o", "l.tif", "--layer", "one")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2 and "Self-intersection" in warnings[0]
    values = rasterio.open(tmp_path / "l.tif").read(1)
    assert values[20, 11] == 1 and values[20, 29] == 1 and values[12, 20] == 0
    assert values.sum() == pytest.approx(200, abs=25)
    with pytest.raises(S2cdError, match="no layer 'three'"):
        masked(path, plain, tmp_path, choice=Choice("three"))


def test_a_polygon_smaller_than_a_pixel_is_told(draw, plain, tmp_path):
    path = draw(boxes((10.1, 10.1, 10.4, 10.4), (20, 20, 30, 30)))
    assert masked(path, plain, tmp_path)[2]["without_pixels"] == 1
    values, _, facts = masked(path, plain, tmp_path, touched=True)
    assert facts["without_pixels"] == 0 and values[10, 10] == 1


def test_a_raster_across_180_degrees_finds_its_polygons(draw, make_raster, tmp_path):
    crs, box = "EPSG:32601", grid(SHAPE, (300000.0, 6700000.0), 1000.0, "EPSG:32601")
    like = make_raster("edge.tif", np.ones(SHAPE, np.uint8), crs=crs, transform=box.affine)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    pair = []
    for column in (2, 60):
        polygon = on_ground(shapely.box(column, 30, column + 5, 35), box)
        pair.append(
            shapely.transform(polygon, lambda p: np.stack(to_degrees.transform(*p.T), axis=1))
        )
    assert pair[0].bounds[0] > 170 and pair[1].bounds[0] < -170
    out = tmp_path / "label.tif"
    write_label(Drawing(draw(pair, "p.geojson", "EPSG:4326"), like), out)
    values = rasterio.open(out).read(1)
    assert (values[30:35, 2:7] == 1).all() and (values[30:35, 60:65] == 1).all()
    assert values.sum() == 50


BAD = {
    "miss": (lambda d: d(boxes((9000, 0, 9010, 10))), "miss the raster (W 72.0"),
    "no CRS": (lambda d: d(boxes((0, 0, 9, 9)), crs=None), "has no CRS"),
    "empty": (lambda d: d([]), "is empty"),
    "points": (lambda d: d([shapely.Point(200000, 2600000)]), "holds Point, not only polygons"),
    "lines": (
        lambda d: d([shapely.LineString([(200000, 2600000), (200100, 2600000)])], "p.shp"),
        "holds LineString, not only polygons",
    ),
    "infinite": (
        lambda d: d([shapely.Polygon([(2e5, 26e5), (np.inf, 26e5), (2e5, 2599e3)])]),
        "coordinates that are no numbers",
    ),
    "another name": (
        lambda d: (p := d(boxes((0, 0, 9, 9)))).rename(p.with_suffix(".gml")),
        "that ends in .gpkg",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_polygon_on_the_raster_is_refused(draw, plain, tmp_path, kind):
    make, said = BAD[kind]
    with pytest.raises(S2cdError) as found:
        masked(make(draw), plain, tmp_path)
    assert said in str(found.value) and "\n" not in str(found.value)
    assert not list(tmp_path.glob("*label.tif*"))
    if kind == "miss":
        assert "(W 72.9" in str(found.value) or "(W 73." in str(found.value)  # both extents


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("kind", [300, 1], "has the class 300. Number classes 1 to 100"),
        ("kind", [-1, 1], "has the class -1"),
        ("kind", [1.5, 1], "has the class 1.5"),
        ("kind", [np.nan, 1], "has no class in 'kind'"),
        ("kind", ["", "a"], "has no class in 'kind'"),
        ("other", [1, 1], "no column 'kind'. It has other"),
    ],
)
def test_classes_that_are_none_are_refused(draw, plain, tmp_path, column, values, said):
    kinds = np.array(values, object if isinstance(values[1], str) else None)
    path = draw(boxes((0, 0, 9, 9), (20, 20, 30, 30)), **{column: kinds})
    with pytest.raises(S2cdError, match=said):
        masked(path, plain, tmp_path, choice=Choice(class_column="kind"))
    assert not (tmp_path / "label.tif").exists()


def test_damaged_files_and_rasters_without_a_place_are_refused(draw, make_raster, tmp_path, plain):
    nowhere = make_raster("nowhere.png", np.ones(SHAPE, np.uint8), driver="PNG", crs=None,
                          transform=None)  # fmt: skip
    path = draw(boxes((0, 0, 9, 9)))
    with pytest.raises(S2cdError, match="no CRS, so polygons have no place"):
        masked(path, nowhere, tmp_path)
    (tmp_path / "d.gpkg").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(S2cdError, match="cannot be read as polygons"):
        masked(tmp_path / "d.gpkg", plain, tmp_path)
    (tmp_path / "d.geojson").write_text('{"type": "FeatureCollection", "features": [')
    with pytest.raises(S2cdError, match="cannot be read as polygons"):
        masked(tmp_path / "d.geojson", plain, tmp_path)
    with pytest.raises(S2cdError, match="does not exist"):
        masked(tmp_path / "no.gpkg", plain, tmp_path)
