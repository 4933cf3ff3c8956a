"""STAC items of maps, as pystac reads and validates them."""

import hashlib
import json
import re

import numpy as np
import pystac
import pytest
import shapely
from conftest import grid, refused
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension, ValueScaling
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict

from s2cd.detection.blocks import blocks
from s2cd.detection.changemap import change_raster, probability_raster, write_layers
from s2cd.errors import S2cdError
from s2cd.results.stac import Files, write_collection, write_item
from s2cd.results.stac.item import footprint

PRODUCT = "S2A_MSIL1C_20151120T054122_N0500_R005_T43QBF_20231008T183202"
TAGS = {
    "BEFORE_SENSING_TIME": "2015-11-20T05:41:22Z",
    "AFTER_SENSING_TIME": "2020-11-28T05:41:59Z",
    "BEFORE_PRODUCT": f"{PRODUCT}.SAFE, ../../etc/passwd",
    "MODEL": "irmad",
    "THRESHOLD": "0.5",
    "BANDS": "B02 B03",
    "S2CD_VERSION": "0.1.0",
}


@pytest.fixture
def make_map(tmp_path):
    def make(name="change.tif", tags=TAGS, shape=(60, 80), **place):
        box = grid(shape, **place)
        paths = tmp_path / f"p_{name}", tmp_path / name
        rasters = probability_raster(paths[0], box, tags), change_raster(paths[1], box, tags)
        values = np.zeros(shape, np.uint8)
        write_layers(rasters, [(b, (values[b.ys, b.xs],) * 2) for b in blocks(shape, 512)])
        return paths[1]

    return make


def validated(path) -> pystac.Item:
    """An item that the core of STAC accepts; schemas of extensions would come over the network."""
    value = json.loads(path.read_text())
    assert value["stac_version"] == "1.1.0"
    validate_dict({**value, "stac_extensions": []})
    return pystac.Item.from_file(str(path))


def test_an_item_is_valid_and_says_where_when_and_what(make_map, tmp_path):
    change = make_map()
    files = Files(change, change.with_name("p_change.tif"))
    write_item(files, tmp_path / "change.json")
    item = validated(tmp_path / "change.json")
    assert item.common_metadata.start_datetime.isoformat() == "2015-11-20T05:41:22+00:00"
    assert item.common_metadata.end_datetime.year == 2020
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:32643", [60, 80])
    assert projection.transform == [10, 0, 199980, 0, -10, 2600040]
    west, south, east, north = item.bbox
    assert 72.0 < west < east < 72.1 and 23.4 < south < north < 23.5
    assert shapely.is_ccw(shapely.geometry.shape(item.geometry).exterior)
    assert item.properties["processing:software"] == {"s2cd": "0.1.0"}
    assert "irmad" in item.properties["processing:lineage"]


def test_assets_are_found_and_told_unchanged(make_map, tmp_path):
    change = make_map()
    (tmp_path / "out").mkdir()
    write_item(Files(change, change.with_name("p_change.tif")), tmp_path / "out" / "item.json")
    item = validated(tmp_path / "out" / "item.json")
    for name, path in (("change", change), ("probability", change.with_name("p_change.tif"))):
        asset = item.assets[name]
        assert asset.get_absolute_href() == str(path)
        file = FileExtension.ext(asset)
        assert file.size == path.stat().st_size
        assert file.checksum == f"1220{hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert asset.media_type == pystac.MediaType.COG
    (band,) = item.assets["change"].extra_fields["bands"]
    assert [c["value"] for c in band["classification:classes"]] == [0, 1, 255]
    assert band["data_type"] == "uint8" and band["nodata"] == 255
    (band,) = item.assets["probability"].extra_fields["bands"]
    assert band["raster:scale"] == 0.005


def test_scenes_are_linked_by_names_that_are_product_names(make_map, tmp_path):
    change = make_map()
    write_item(Files(change), tmp_path / "i.json")
    item = validated(tmp_path / "i.json")
    assert [link.href.rsplit("/", 1)[1] for link in item.get_links("derived_from")] == [PRODUCT]


@pytest.mark.parametrize(
    ("crs", "origin"),
    [("EPSG:32643", (199980.0, 2600040.0)), ("EPSG:4326", (10.0, 60.0)), ("+proj=laea", (0, 0))],
)
def test_a_projection_has_a_code_or_its_wkt(make_map, tmp_path, crs, origin):
    size = 1e-4 if crs == "EPSG:4326" else 10.0
    write_item(Files(make_map(crs=crs, origin=origin, size=size)), tmp_path / "i.json")
    properties = validated(tmp_path / "i.json").properties
    if crs.startswith("EPSG"):
        assert properties["proj:code"] == crs
    else:
        assert properties["proj:code"] is None and "Azimuthal" in properties["proj:wkt2"]


def test_a_footprint_across_the_antimeridian_is_cut_there():
    geometry, bbox = footprint(grid((1000, 1000), (179.95, 65.0), 1e-4, "EPSG:4326"))
    assert geometry["type"] == "MultiPolygon"
    shape = shapely.geometry.shape(geometry)
    assert shape.bounds[0] == -180 and shape.bounds[2] == 180
    assert shape.area == pytest.approx(0.01)
    assert bbox == [179.95, 64.9, -179.95, 65.0]


def test_the_network_of_a_map_has_an_item_of_its_own(make_map, tmp_path):
    from s2cd.networks.build import build
    from s2cd.networks.checkpoint import save_checkpoint, sha256_of
    from s2cd.networks.spec import Spec

    spec = Spec("fc-siam-diff", "", "diff", ("B02", "B03", "B04"), stride=16)
    save_checkpoint(tmp_path / "net.safetensors", spec, build(spec))
    model = tmp_path / "net.safetensors"
    own = {**TAGS, "MODEL": "net", "MODEL_SHA256": sha256_of(model)}
    change = make_map(tags=own)
    write_item(Files(change, model=model), tmp_path / "change.json")
    item = validated(tmp_path / "change.json")
    assert "./net.json" in [link.href for link in item.get_links("derived_from")]
    network = validated(tmp_path / "net.json")
    follows_mlm(network)
    described = MLMExtension.ext(network)
    assert described.architecture == "fc-siam-diff" and described.framework == "PyTorch"
    assert described.input[0].bands == ["B02", "B03", "B04"]
    assert described.output[0].result.shape == [-1, 1, 512, 512]
    assert network.assets["model"].roles[0] == "mlm:model"
    with pytest.raises(S2cdError, match="did not make this map"):
        write_item(Files(make_map("other.tif"), model=model), tmp_path / "other.json")
    (tmp_path / "net.json").write_text("mine")
    with pytest.raises(S2cdError, match="--overwrite"):
        write_item(Files(change, model=model), tmp_path / "again.json")
    assert (tmp_path / "net.json").read_text() == "mine"


def follows_mlm(item) -> None:
    """What the schema of MLM 1.4 and 1.5 asks beyond types; the schema itself is on the network."""
    properties = item.properties
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", properties["mlm:name"])
    assert [band["name"] for band in properties["bands"]] == properties["mlm:input"][0]["bands"]
    for part, of in (("mlm:input", "input"), ("mlm:output", "result")):
        for value in properties[part]:
            order = value[of]["dim_order"]
            assert ("bands" in order) == bool(value.get("bands"))  # named bands have a dimension
            assert len(order) == len(value[of]["shape"])
    for scaling in properties["mlm:input"][0]["value_scaling"] or []:
        assert set(ValueScaling.get_required_props(scaling["type"])) < set(scaling)
    models = [a for a in item.assets.values() if "mlm:model" in a.roles]
    assert models and all("mlm:artifact_type" in a.extra_fields for a in models)


@pytest.mark.parametrize("name", ["oscd10", "oscdrgb"])
def test_a_map_of_a_network_that_ships_leads_to_it(make_map, run, monkeypatch, tmp_path, name):
    from s2cd.networks.checkpoint import sha256_of
    from s2cd.networks.shipped import shipped

    monkeypatch.delenv("S2CD_WEIGHTS")
    path = shipped()[name]
    change = make_map(tags={**TAGS, "MODEL": name, "MODEL_SHA256": sha256_of(path)})
    assert run("stac", change).returncode == 0
    links = validated(tmp_path / "change.json").get_links("derived_from")
    assert f"./{name}.json" in [link.href for link in links]
    network = validated(tmp_path / f"{name}.json")
    follows_mlm(network)
    assert network.assets["model"].get_absolute_href() == str(path)
    assert network.properties["license"] == "other"
    assert "non-commercial" in network.properties["description"]
    other = make_map("o.tif", tags={**TAGS, "MODEL": name, "MODEL_SHA256": "0" * 64})
    item = write_item(Files(other), tmp_path / "o.json")
    assert not [link for link in item["links"] if link["href"].startswith("./")]


def test_networks_are_named_as_mlm_allows():
    from s2cd.results.stac.model import _name

    names = [_name(stem) for stem in ("oscd10", "7 best (é)", "_", "a", "best-")]
    assert names == ["oscd10", "net-7-best", "net-work", "net-a", "best"]


def test_a_map_of_classes_names_each(make_map, tmp_path):
    change = make_map(tags={**TAGS, "CHANGE_CLASSES": "3"})
    write_item(Files(change), tmp_path / "i.json")
    item = validated(tmp_path / "i.json")
    (band,) = item.assets["change"].extra_fields["bands"]
    classes = band["classification:classes"]
    assert [c["value"] for c in classes] == [0, 1, 2, 3, 255]
    assert all(re.fullmatch("[0-9A-Za-z-_]+", c["name"]) for c in classes)
    assert "1 to 3 classes of change" in item.properties["description"]


def test_several_maps_make_a_collection(make_map, run, tmp_path):
    later = {**TAGS, "AFTER_SENSING_TIME": "2024-11-28T05:41:59Z"}
    paths = make_map("one.tif"), make_map("two.tif", later, origin=(299980.0, 2600040.0))
    done = run("stac", *paths, "-o", "collection.json", "--json")
    assert done.returncode == 0, done.stderr
    validate_dict(json.loads((tmp_path / "collection.json").read_text()))
    collection = pystac.Collection.from_file(str(tmp_path / "collection.json"))
    items = {item.id: item for item in collection.get_items()}
    assert set(items) == {"one", "two"}
    assert items["two"].get_collection().id == collection.id
    assert collection.extent.temporal.intervals[0][1].year == 2024
    assert len(collection.extent.spatial.bboxes) == 3
    validated(tmp_path / "one.json")
    write_collection([tmp_path / "one.json"], tmp_path / "collection.json", overwrite=True)
    assert len(json.loads((tmp_path / "one.json").read_text())["links"]) == 3


def test_what_makes_no_item_is_refused(make_map, run, tmp_path):
    silent = make_map("silent.tif", {"MODEL": "cva"})
    assert "--dates" in refused(run("stac", silent))
    with pytest.raises(S2cdError, match="is no day"):
        write_item(Files(silent, dates=("2015", "x")), tmp_path / "i.json")
    with pytest.raises(S2cdError, match="later than after"):
        write_item(Files(silent, dates=("2021-01-01", "2020-01-01")), tmp_path / "i.json")
    with pytest.raises(S2cdError, match="no CRS"):
        write_item(Files(make_map("flat.tif", crs=None)), tmp_path / "i.json")
    with pytest.raises(S2cdError, match="There is no file"):
        write_item(Files(make_map(), report=tmp_path / "none.html"), tmp_path / "i.json")
    assert not (tmp_path / "i.json").exists()
    assert run("stac", silent, silent).returncode == 2
    write_item(Files(silent, dates=("2015-01-01", "2020-01-01")), tmp_path / "i.json")
    assert validated(tmp_path / "i.json").properties["end_datetime"] == "2020-01-01T00:00:00Z"
