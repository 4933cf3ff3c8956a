"""What is written here, read by other people's software."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from conftest import grid

from s2cd.detection.blocks import blocks
from s2cd.detection.changemap import change_raster, probability_raster, write_layers
from s2cd.results.polygons import Shaping, Sources, find_polygons, write_polygons

SHAPE = (700, 900)
TAGS = {"AFTER_SENSING_TIME": "2020-11-28T05:41:22Z", "MODEL": "cva"}
SYSTEM = shutil.which("python3", path="/usr/bin:/bin")
"""Debian's own Python, which has QGIS where it is installed."""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A folder with a map, its probabilities, and its changes in every format."""
    folder = tmp_path_factory.mktemp("results")
    random = np.random.default_rng(0)
    classes = np.kron(random.random((35, 45)) < 0.08, np.ones((20, 20))).astype(np.uint8)
    classes[:100, :150] = 255
    scores = np.where(classes == 255, 255, np.where(classes == 1, 160, 10)).astype(np.uint8)
    box = grid(SHAPE)
    paths = folder / "p.tif", folder / "change.tif"
    rasters = probability_raster(paths[0], box, TAGS), change_raster(paths[1], box, TAGS)
    layers = [(b, (scores[b.ys, b.xs], classes[b.ys, b.xs])) for b in blocks(SHAPE, 512)]
    write_layers(rasters, layers)
    found = find_polygons(Sources(paths[1], paths[0]), Shaping(smooth=True))
    for ending in ("gpkg", "geojson", "fgb", "parquet"):
        write_polygons(found, folder / f"changes.{ending}")
    return folder


def called(*words: object, **environment: str) -> str:
    done = subprocess.run(
        [str(w) for w in words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: apt-get install gdal-bin")
    return found


@pytest.mark.parametrize("name", ["change.tif", "p.tif"])
def test_rio_cogeo_finds_maps_cloud_optimized(results, name):
    from rio_cogeo import cog_validate

    valid, errors, warnings = cog_validate(results / name, strict=True)
    assert (valid, errors, warnings) == (True, [], [])


def test_rio_cogeo_s_description_is_that_of_the_map(results):
    from rio_cogeo import cog_info

    info = cog_info(results / "change.tif")
    assert info.COG and info.Profile.Nodata == 255 and info.Profile.Dtype == "uint8"
    assert info.GEO.CRS == "EPSG:32643" and info.GEO.Resolution == (10.0, -10.0)
    assert len(info.IFD) >= 2  # the map and an overview at least


def test_gdal_s_own_programs_read_the_map(results):
    said = json.loads(called(program("gdalinfo"), "-json", "-stats", results / "change.tif"))
    (results / "change.tif.aux.xml").unlink(missing_ok=True)
    assert said["size"] == [900, 700]
    band = said["bands"][0]
    assert band["noDataValue"] == 255 and band["colorInterpretation"] == "Palette"
    assert (band["minimum"], band["maximum"]) == (0, 1)
    assert said["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    assert said["metadata"][""]["MODEL"] == "cva"


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "fgb"])
def test_gdal_s_own_programs_read_the_changes(results, ending):
    said = called(program("ogrinfo"), "-ro", "-so", "-al", results / f"changes.{ending}")
    expected = len(pyogrio.read_dataframe(results / "changes.gpkg", layer="changes"))
    assert f"Feature Count: {expected}" in said
    assert "Geometry: Polygon" in said
    assert "area_m2: Real" in said
    assert "Layer name: changes\n" in said


def test_pyogrio_reads_the_same_changes_in_every_format(results):
    tables = {
        "gpkg": pyogrio.read_dataframe(results / "changes.gpkg", layer="changes"),
        "geojson": pyogrio.read_dataframe(results / "changes.geojson"),
        "fgb": pyogrio.read_dataframe(results / "changes.fgb"),
        "parquet": geopandas.read_parquet(results / "changes.parquet"),
    }
    for ending in ("geojson", "fgb"):
        assert pyogrio.list_layers(results / f"changes.{ending}")[:, 0].tolist() == ["changes"]
    first = tables["gpkg"].sort_values("id", ignore_index=True)
    assert len(first) > 50 and first.is_valid.all()
    for table in tables.values():
        same = table.sort_values("id", ignore_index=True)
        assert same["area_m2"].tolist() == first["area_m2"].tolist()
        apart = same.to_crs(first.crs).geometry.hausdorff_distance(first.geometry)
        assert apart.max() < 0.02  # GeoJSON has seven decimals of a degree


def test_geoparquet_is_version_1_1_and_can_be_cut_by_its_boxes(results):
    import pyarrow.parquet

    metadata = json.loads(pyarrow.parquet.read_schema(results / "changes.parquet").metadata[b"geo"])
    assert {"version", "primary_column", "columns"} <= set(metadata)
    assert metadata["version"] == "1.1.0"
    column = metadata["columns"][metadata["primary_column"]]
    assert {"encoding", "geometry_types", "crs", "bbox", "covering"} <= set(column)
    assert column["encoding"] == "WKB" and column["geometry_types"] == ["Polygon"]
    assert column["crs"]["type"] == "ProjectedCRS"  # PROJJSON
    assert set(column["covering"]["bbox"]) == {"xmin", "ymin", "xmax", "ymax"}
    table = geopandas.read_parquet(results / "changes.parquet")
    assert column["bbox"] == pytest.approx(table.total_bounds.tolist())
    west, south, east, north = table.total_bounds
    corner = (west, south, (west + east) / 2, (south + north) / 2)
    part = geopandas.read_parquet(results / "changes.parquet", bbox=corner)
    assert 0 < len(part) < len(table)


def test_a_map_is_read_in_part_at_each_level(results):
    with rasterio.open(results / "change.tif") as source:
        levels = source.overviews(1)
        window = source.read(1, window=((0, 100), (0, 150)))
    assert (window == 255).all() and levels
    with rasterio.open(results / "change.tif", overview_level=0) as source:
        assert set(np.unique(source.read(1))) == {0, 1, 255}  # by mode: no class in between


QGIS = """
import sys
from qgis.core import (QgsApplication, QgsMapRendererParallelJob, QgsMapSettings,
    QgsRasterLayer, QgsRenderContext, QgsVectorLayer)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
QgsApplication.setPrefixPath("/usr", True)
app = QgsApplication([], False)
app.initQgis()

def draw(layers, size, picture):
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[-1].crs())
    settings.setExtent(layers[-1].extent())
    settings.setOutputSize(QSize(*size))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    assert not job.errors(), [e.message for e in job.errors()]
    job.renderedImage().save(picture)
    return settings
"""


def drawn_by_qgis(script: str, *words: object, home: Path) -> list[str]:
    """What a script says that QGIS runs, word by word; skips where there is no QGIS."""
    asked = [SYSTEM, "-c", "import qgis.core"]
    if SYSTEM is None or subprocess.run(asked, capture_output=True, check=False, env={}).returncode:
        pytest.skip("there is no QGIS: apt-get install python3-qgis")
    (home / "draw.py").write_text(QGIS + script)
    environment = {
        "QT_QPA_PLATFORM": "offscreen",
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "XDG_RUNTIME_DIR": str(home),
    }
    done = subprocess.run(
        [SYSTEM, str(home / "draw.py"), *(str(word) for word in words)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=home,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "may only be partially supported" not in done.stderr
    return done.stdout.split()


RESULTS = """
folder, picture = sys.argv[1:3]
change = QgsRasterLayer(folder + "/change.tif", "change")
changes = QgsVectorLayer(folder + "/changes.gpkg|layername=changes", "changes", "ogr")
assert change.isValid() and changes.isValid()
assert change.renderer().type() == "paletted", change.renderer().type()
said, done = changes.loadDefaultStyle()
assert done, said
colour = changes.renderer().symbols(QgsRenderContext())[0].color().name()
beside = QgsVectorLayer(folder + "/changes.fgb", "beside", "ogr")
assert beside.loadNamedStyle(folder + "/changes.qml")[1]
print(changes.featureCount(), changes.renderer().type(), colour, changes.crs().authid())
draw([changes, change], (900, 700), picture)
"""


def test_qgis_loads_map_changes_and_style_and_draws_them(results, tmp_path):
    said = drawn_by_qgis(RESULTS, results, tmp_path / "drawn.png", home=tmp_path)
    count, renderer, colour, crs = said[-4:]
    table = pyogrio.read_dataframe(results / "changes.gpkg", layer="changes")
    assert int(count) == len(table)
    assert (renderer, colour, crs) == ("singleSymbol", "#d61820", "EPSG:32643")
    with rasterio.open(tmp_path / "drawn.png") as picture:
        drawn = picture.read([1, 2, 3]).astype(int)
    with rasterio.open(results / "change.tif") as source:
        classes = source.read(1)
    red = (drawn[0] > 150) & (drawn[1] < 110)
    assert (red == (classes == 1)).mean() > 0.97
    assert (drawn[:, classes == 255] == 255).mean() > 0.9  # what was not observed is not drawn


COLOURED = """
for path in sys.argv[1:]:
    changes = QgsVectorLayer(path + "|layername=changes", "changes", "ogr")
    assert changes.isValid()
    print(changes.renderer().type(), changes.renderer().classAttribute())
    settings = draw([changes], (880, 680), path + ".png")
    shown = settings.visibleExtent()
    print(shown.xMinimum(), shown.yMaximum(), settings.mapUnitsPerPixel())
"""


def test_qgis_takes_the_style_in_the_file_by_itself_and_draws_what_has_no_kind(results, tmp_path):
    """Kinds, or classes, each in its colour; also a change that a reviewer has added."""
    from dataclasses import replace

    from s2cd.detection.changemap import class_colours
    from s2cd.results.polygons.style import COLOURS

    found = find_polygons(Sources(results / "change.tif"), Shaping())
    kinds = [*COLOURS, None]
    table = found.table.assign(kind=[kinds[i % 8] for i in range(len(found.table))])
    write_polygons(replace(found, table=table), tmp_path / "kinds.gpkg")
    classes = found.table.assign(**{"class": np.arange(len(table), dtype=np.int32) % 3 + 1})
    write_polygons(replace(found, table=classes), tmp_path / "classes.gpkg")
    paths = tmp_path / "kinds.gpkg", tmp_path / "classes.gpkg"
    said = drawn_by_qgis(COLOURED, *paths, home=tmp_path)
    assert said[:2] == ["categorizedSymbol", "kind"] and said[5:7] == ["categorizedSymbol", "class"]
    palette = class_colours(3)
    wanted = [
        [COLOURS.get(kind, "#d61820") for kind in table["kind"]],
        ["#{:02x}{:02x}{:02x}".format(*palette[c]) for c in classes["class"]],
    ]
    for path, colours, (west, north, size) in zip(
        paths, wanted, (said[2:5], said[7:10]), strict=True
    ):
        with rasterio.open(f"{path}.png") as picture:
            drawn = picture.read([1, 2, 3]).astype(int)
        points = table.geometry.representative_point()
        xs = ((points.x - float(west)) / float(size)).astype(int)
        ys = ((float(north) - points.y) / float(size)).astype(int)
        for colour, there in zip(colours, drawn[:, ys, xs].T, strict=True):
            full = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
            assert np.abs(there - (255 + (full - 255) * 70 / 255)).max() < 6, colour
