"""Pixels of an area by the Process API: cut, checked, joined, and the offset taken off once."""

import json
import logging
import time
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
import shapely
from affine import Affine
from conftest import values_of
from hub import Hub, HubServers, serving_hub
from rasterio.warp import transform_bounds
from servers import PAGE, Fault, Reply, http_date, serving
from space import SECRETS
from typer.testing import CliRunner

from s2cd.cli.app import app
from s2cd.errors import RefusedError, S2cdError, SourceError
from s2cd.scenes.aoi import Aoi
from s2cd.scenes.bands import CLOUD_BANDS, DEFAULT_BANDS
from s2cd.scenes.mosaic import Wanted, open_date, stack_of
from s2cd.scenes.product import open_product
from s2cd.scenes.simulate import Sheet, Simulation, write_metadata, write_product
from s2cd.scenes.stack import encode, open_qa, open_stack
from s2cd.sources.choice import scenes_of
from s2cd.sources.decide import choose
from s2cd.sources.fetch import fetch, finished
from s2cd.sources.http import Policy
from s2cd.sources.plan import Request
from s2cd.sources.process_api import ProcessApi, pieces
from s2cd.sources.process_api.request import call_for
from s2cd.sources.registry import open_source
from s2cd.sources.source import Order, Scene, Search
from s2cd.sources.tiles import grid_of_tile

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
SIZE = 120
QUICK = Policy(pause=0.01, longest_pause=0.02, read=60, tries=6, spoiled=6)
DATES = date(2015, 11, 20), date(2020, 11, 28)
FINE = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Two products with pixels, of which the first has an offset, and metadata of another date."""
    folder = tmp_path_factory.mktemp("archive")
    simulation = Simulation(size=SIZE, seed=7)
    roots = [write_product(simulation, n, folder, b) for n, b in enumerate(("05.00", "02.09"))]
    sheet = Sheet(date(2020, 11, 18), SIZE, unit="C", cloud=35.5, orbit=105)
    roots.append(folder / f"{sheet.name}.SAFE")
    roots[-1].mkdir()
    write_metadata(roots[-1], sheet)
    return roots


@pytest.fixture
def servers(products, monkeypatch, tmp_path):
    with serving_hub(Hub(list(products))) as servers:
        for name, value in servers.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield servers


def area_of(product, rows: slice, columns: slice) -> Aoi:
    part = product.geobox[rows, columns]
    box = transform_bounds(part.crs.to_wkt(), "EPSG:4326", *part.boundingbox.bbox)
    return Aoi("middle", shapely.box(*box))


@pytest.fixture
def aoi(products) -> Aoi:
    return area_of(open_product(products[0]), slice(22, 97), slice(13, 101))


@pytest.fixture
def order(aoi, tmp_path) -> Order:
    return Order(aoi, tmp_path / "out", FINE, clouds=False)


def brought(order: Order) -> dict:
    source, request = ProcessApi(QUICK), Request(order, DATES)
    return fetch(source, request, choose(source, request), lambda count: None)


def scene_of(order: Order, day: date = DATES[0]) -> Scene:
    found = ProcessApi(QUICK).find(Search(order.aoi, ((day, day),)))
    (scene,) = scenes_of(found, order.aoi)
    return scene


def downloaded(order: Order, day: date = DATES[0]):
    source, scene = ProcessApi(QUICK), scene_of(order, day)
    kept = source.download([scene], order, lambda count: None)
    return source.open(scene, order), kept


def processed(servers: HubServers):
    return servers.service.asked("process")


def tree(folder) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_products_are_found_by_the_services_catalogue(servers, aoi, products):
    spans = ((date(2015, 1, 1), date(2020, 11, 20)), (date(2020, 11, 21), date(2020, 12, 1)))
    found = ProcessApi(QUICK).find(Search(aoi, spans))
    assert sorted(one.name for one in found) == sorted(root.stem for root in products)
    clear = ProcessApi(QUICK).find(Search(aoi, spans, max_cloud=20))
    assert sorted(one.day for one in clear) == list(DATES)
    assert not ProcessApi(QUICK).find(Search(Aoi("away", shapely.box(3, 3, 4, 4)), spans))


def test_a_datatake_that_began_before_midnight_is_of_that_day(servers, aoi, monkeypatch):
    monkeypatch.setattr("hub._LATER", timedelta(hours=20))
    (found,) = ProcessApi(QUICK).find(Search(aoi, ((DATES[0], DATES[0]),)))
    assert found.day == DATES[0] and found.extra["taken"].startswith("2015-11-21T01:41")
    after = DATES[0] + timedelta(1)
    assert not ProcessApi(QUICK).find(Search(aoi, ((after, after),)))


@pytest.mark.parametrize("index", [0, 1], ids=["offset -1000", "no offset"])
def test_the_stack_is_that_of_the_product_and_the_offset_is_taken_off_once(
    servers, order, products, index
):
    opened, _ = downloaded(order, DATES[index])
    wanted = Wanted(order.aoi, FINE)
    read, geobox = open_date([products[index]], wanted)
    stack, qa = stack_of(read, geobox, wanted)
    assert opened.stack.odc.geobox == geobox
    assert np.array_equal(encode(values_of(opened.stack)), encode(values_of(stack)))
    assert np.array_equal(values_of(opened.qa), values_of(qa))
    assert opened.stack.attrs["RADIO_ADD_OFFSET"] == "0"
    assert "harmonizeValues" in opened.stack.attrs["HARMONIZED"]
    for body in (asked.json for asked in processed(servers)):
        assert body["input"]["data"][0]["processing"]["harmonizeValues"] is True


def test_coarser_bands_are_brought_to_the_same_grid(servers, order, products):
    order = replace(order, bands=("B02", "B05", "B11", "B01"))
    opened, _ = downloaded(order)
    wanted = Wanted(order.aoi, order.bands)
    stack, _ = stack_of(*open_date([products[0]], wanted), wanted)
    apart = np.abs(values_of(opened.stack) - values_of(stack))
    assert np.nanmax(apart[0]) < 1e-6 and np.nanmedian(apart[1:]) < 5e-4


def test_pieces_put_together_are_the_whole(servers, order, monkeypatch):
    whole, _ = downloaded(order)
    expected, flags = values_of(whole.stack), values_of(whole.qa)
    assert len(processed(servers)) == 1
    monkeypatch.setattr(pieces, "MOST_SIDE", 33)
    parted = replace(order, folder=order.folder.with_name("parted"))
    opened, kept = downloaded(parted)
    assert len(kept) == 9 and len(processed(servers)) == 10
    assert (
        max(
            max(p.json["output"]["width"], p.json["output"]["height"])
            for p in processed(servers)[1:]
        )
        <= 33
    )
    assert np.array_equal(values_of(opened.stack), expected, equal_nan=True)
    assert np.array_equal(values_of(opened.qa), flags)


@pytest.mark.parametrize(("side", "count"), [(2500, 1), (2501, 2), (10980, 5), (1, 1)])
def test_pieces_cover_each_pixel_once_and_none_is_too_large(side, count):
    spans = pieces._spans(side)
    assert len(spans) == count and max(s.stop - s.start for s in spans) <= 2500
    assert [p for s in spans for p in range(s.start, s.stop)] == list(range(side))


def test_a_fetch_leaves_two_stacks_and_the_same_again_asks_for_nothing(servers, order, caplog):
    for name in ("s2cd", "urllib3", "sentinelhub"):
        caplog.set_level(logging.DEBUG, name)
    order = replace(order, bands=DEFAULT_BANDS, clouds=True)
    record = brought(order)
    before, after = (open_stack(order.folder / name) for name in ("before.tif", "after.tif"))
    assert before.shape == after.shape and before.odc.geobox == after.odc.geobox
    assert "CLOUD_FRACTION" in before.attrs and before.attrs["RADIO_ADD_OFFSET"] == "0"
    assert (open_qa(order.folder / "after.tif").values & 1).all()
    assert [file["url"] for file in record["before"]["files"]] == [
        f"{servers.service.url}/api/v1/process"
    ] * 2
    whole, asked = tree(order.folder), len(processed(servers))
    assert finished(Request(order, DATES)) is not None
    brought(order)
    assert tree(order.folder) == whole and len(processed(servers)) == asked == 4
    written = json.dumps(record) + caplog.text
    written += "".join(path.read_text("latin-1") for path in order.folder.glob("*.json"))
    assert not [secret for secret in (*SECRETS, *servers.hub.issued) if secret in written]


def test_what_is_broken_or_missing_comes_again_and_nothing_else(servers, order, monkeypatch):
    monkeypatch.setattr(pieces, "MOST_SIDE", 50)
    brought(order)
    whole, asked = tree(order.folder), len(processed(servers))
    files = sorted((order.folder / "products").rglob("*.tif"))
    files[0].unlink()
    content = bytearray(files[1].read_bytes())
    content[-3] ^= 1
    files[1].write_bytes(content)
    files[2].with_suffix(".sha256").unlink()
    (order.folder / "after.tif").unlink()
    brought(order)
    assert tree(order.folder) == whole and len(processed(servers)) == asked + 3


def test_the_bands_that_only_clouds_need_come_as_coarse_as_they_are(servers, order):
    order = replace(order, bands=DEFAULT_BANDS, clouds=True)
    _, kept = downloaded(order)
    sizes = sorted(
        (p.json["output"]["width"], p.json["output"]["height"]) for p in processed(servers)
    )
    layers = pieces.layers_of(scene_of(order), order)
    (height, width), (rows, columns) = (layer.geobox.shape for layer in layers)
    assert len(kept) == 2 and sizes == [(columns, rows), (width, height)]
    assert rows < height / 5 and layers[1].geobox.boundingbox.bbox[0] % 60 == 0
    assert layers[1].bands == ("B01", "B09", "B10")
    assert {*layers[0].bands, *layers[1].bands} >= set(CLOUD_BANDS)


def test_processing_units_are_counted_as_the_service_does(servers, order):
    scene, source = scene_of(order), ProcessApi(QUICK)
    units = source.cost(scene, replace(order, bands=DEFAULT_BANDS)).units
    height, width = pieces.layers_of(scene, order)[0].geobox.shape
    assert units == pytest.approx(height * width / 512**2 * 10 / 3)
    assert source.cost(scene, order).size == height * width * 2 * 5
    tile = grid_of_tile("43QBF")
    part = pieces.Layer(DEFAULT_BANDS, tile[:3000, :3000])
    assert round(pieces.cost_of(pieces.pieces_of(part)).units) == 114
    whole = pieces.cost_of(pieces.pieces_of(pieces.Layer(DEFAULT_BANDS, tile)))
    assert round(whole.units) == 1533
    dot = pieces.cost_of(pieces.pieces_of(pieces.Layer(("B02",), tile[:1, :1])))
    assert dot.units == pytest.approx(0.005)


def test_a_dry_run_tells_the_units_and_asks_for_no_pixel(servers, order, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    area = ",".join(f"{value:.6f}" for value in order.aoi.outline.bounds)
    line = ["fetch", "--aoi", area, "--dates", ",".join(map(str, DATES)), "--dry-run", "--json"]
    done = CliRunner().invoke(app, [*line, "--source", "process-api"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    request = replace(order, bands=DEFAULT_BANDS, clouds=True)
    one = ProcessApi(QUICK).cost(scene_of(order), request)
    assert said["processing_units"] == round(2 * one.units, 1) and said["bytes"] == 2 * one.size
    assert not processed(servers) and not (tmp_path / "data").exists()


def test_pieces_that_are_kept_cost_nothing(servers, order):
    plain = ProcessApi(QUICK).cost(scene_of(order), order)
    assert plain.there == 0 < plain.units
    downloaded(order)
    kept = ProcessApi(QUICK).cost(scene_of(order), order)
    assert (kept.size, kept.there, kept.units) == (plain.size, plain.size, 0)


def test_what_a_killed_fetch_left_of_an_answer_is_not_gone_on_with(servers, order):
    plain, _ = downloaded(order)
    expected = values_of(plain.stack)
    (path,) = (order.folder / "products").rglob("*.tif")
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(path.read_bytes()[:4000])
    path.unlink()
    opened, _ = downloaded(order)
    assert np.array_equal(values_of(opened.stack), expected, equal_nan=True)
    assert "Range" not in processed(servers)[-1].headers and not part.exists()


def test_more_than_a_month_has_is_said(servers, order, caplog, products):
    huge = replace(order, bands=DEFAULT_BANDS)
    tiles = [replace(scene_of(order).products[0], tile=name) for name in ("43QBF", "43QCF")]
    tiles += [replace(tiles[0], tile=f"43Q{c}{r}") for c in "BCD" for r in "EFG"]
    area = Aoi("large", shapely.box(72, 21, 75.4, 25.2))
    scene = Scene(tuple(tiles), 1.0, 0.0)
    assert ProcessApi(QUICK).cost(scene, replace(huge, aoi=area)).units > 10_000
    assert "more than a free account has in a month" in caplog.text


def wrong(**changed):
    """Spoils the first two answers."""

    def spoil(profile, number):
        if number < 2:
            profile.update(changed)

    return spoil


def resized(profile, number):
    if number < 2:
        profile["values"] = profile["values"][:, :-1]
        profile["height"] -= 1


def moved(profile, number):
    if number < 2:
        profile["transform"] = profile["transform"] * Affine.translation(1, 0)


def fewer(profile, number):
    if number < 2:
        profile["values"] = profile["values"][:-1]
        profile["count"] -= 1


@pytest.mark.parametrize(
    "spoil",
    [wrong(crs="EPSG:32642"), wrong(crs=None), wrong(dtype="float32"), resized, moved, fewer],
    ids=["crs", "no crs", "type", "size", "place", "bands"],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_answer_that_is_not_what_was_asked_for_is_not_kept(servers, order, spoil):
    servers.hub.spoil = spoil
    downloaded(order)
    assert servers.hub.answers == 3
    left = [path.name for path in (order.folder / "products").rglob("*") if path.is_file()]
    assert len(left) == 2 and sorted(name[-3:] for name in left) == ["256", "tif"]


def test_answers_that_stay_wrong_end_with_one_line(servers, order):
    servers.hub.spoil = lambda profile, number: profile.update(crs="EPSG:32642")
    with pytest.raises(SourceError, match=r"6 x not what it should be; at last: it lies elsewhere"):
        downloaded(order)
    assert not list((order.folder / "products").rglob("*.tif"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("html", "process", times=2),
        Fault("cut", "process", after=3000),
        Fault("short", "process", after=3000),
        Fault("corrupt", "process"),
        Fault("long", "process"),
        Fault("reset", "process"),
        Fault("gzip", "process"),
        Fault("status", "process", times=3, code=503),
        Fault("status", "process", code=429, headers={"Retry-After": "soon"}),
        Fault("status", "search", code=429, headers={"Retry-After": "12.5"}),
        Fault("html", "search"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.match}",
)
def test_faults_on_the_way_change_nothing(servers, order, fault):
    expected, _ = downloaded(replace(order, folder=order.folder.with_name("plain")))
    servers.service.plan(fault)
    opened, _ = downloaded(order)
    assert servers.service.left == 0
    assert np.array_equal(values_of(opened.stack), values_of(expected.stack), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "least"),
    [("400", 0.4), ("250.5", 0.25), (None, 0.9)],
    ids=["milliseconds", "fraction", "date"],
)
def test_a_busy_server_is_waited_for_as_it_asks(servers, order, text, least):
    scene, source = scene_of(order), ProcessApi(replace(QUICK, patience=3))
    headers = {"Retry-After": text or http_date(2), "Date": http_date(0)}
    servers.service.plan(Fault("status", "process", code=429, headers=headers))
    began = time.monotonic()
    source.download([scene], order, lambda count: None)
    assert time.monotonic() - began >= least and len(processed(servers)) == 2


def test_a_server_that_stays_busy_is_given_up(servers, order):
    servers.service.plan(Fault("status", "process", times=99, code=429))
    with pytest.raises(SourceError, match=r"6 tries in \d+ s \(6 x 429\)"):
        downloaded(order)


def test_a_token_that_expires_in_the_middle_is_renewed_once(servers, order, monkeypatch):
    monkeypatch.setattr(pieces, "MOST_SIDE", 40)
    gone = Fault("status", "process", code=401, also=lambda: servers.hub.issued.append("gone"))
    servers.service.plan(gone)
    downloaded(order)
    assert {asked.status for asked in processed(servers)} == {200, 401}
    kinds = [asked.form["grant_type"] for asked in servers.identity.seen]
    assert kinds[:3] == ["client_credentials", "client_credentials", "refresh_token"]


def test_a_second_401_is_final_and_shows_no_token(servers, order):
    scene, source = scene_of(order), ProcessApi(QUICK)

    class All(set):
        def __contains__(self, _token):
            return True

    servers.hub.refused = All()
    with pytest.raises(RefusedError, match=r"refuses the credentials \(401") as refused:
        source.download([scene], order, lambda count: None)
    assert "expired ..." in str(refused.value) and "token-0" not in str(refused.value)
    assert len(processed(servers)) == 2


def test_a_token_goes_to_no_other_host(servers, order):
    with serving(lambda asked: Reply(b"x")) as other:
        servers.service.plan(Fault("redirect", "process", times=99, location=f"{other.url}/x"))
        with pytest.raises(SourceError, match="302"):
            downloaded(order)
        assert not other.seen
    assert all(asked.form.keys() >= {"grant_type"} for asked in servers.identity.seen)
    assert not any("Authorization" in asked.headers for asked in servers.identity.seen)


def test_an_error_of_the_service_is_told_in_its_words(servers, order):
    scene, source = scene_of(order), ProcessApi(QUICK)

    def says(asked):
        if asked.path == "/token":
            return servers.hub.identity(asked)
        words = {"error": {"status": 400, "message": "Output size too large"}}
        return Reply(json.dumps(words).encode(), 400, kind="application/json")

    servers.service.app = says
    with pytest.raises(SourceError, match=r"answers 400: .*Output size too large"):
        source.download([scene], order, lambda count: None)


def test_wrong_credentials_are_told_by_their_names(servers, order, monkeypatch):
    monkeypatch.setenv("SH_CLIENT_SECRET", "wrong-and-hidden")
    with pytest.raises(RefusedError, match="refuses SH_CLIENT_ID, SH_CLIENT_SECRET") as refused:
        downloaded(order)
    assert "wrong-and-hidden" not in str(refused.value) and not processed(servers)


def test_without_credentials_it_says_what_to_set(servers, order, monkeypatch):
    monkeypatch.delenv("SH_CLIENT_SECRET")
    with pytest.raises(S2cdError, match="Set SH_CLIENT_ID and SH_CLIENT_SECRET"):
        ProcessApi(QUICK).find(Search(order.aoi, (DATES,)))


@pytest.mark.parametrize("name", ["S2CD_PROCESS_API_URL", "S2CD_PROCESS_API_TOKEN_URL"])
def test_plain_http_is_refused_but_on_this_machine(servers, monkeypatch, name):
    monkeypatch.setenv(name, "http://sh.example.com")
    with pytest.raises(S2cdError, match=f"{name}: .*not encrypted"):
        ProcessApi(QUICK)


def test_auto_takes_the_process_api_where_its_client_is_set(servers, monkeypatch):
    assert open_source("auto").name == "process-api"
    monkeypatch.delenv("SH_CLIENT_ID")
    monkeypatch.delenv("CDSE_USERNAME", raising=False)
    assert open_source("auto").name == "google"


def test_the_users_own_configuration_is_neither_read_nor_made(
    servers, order, monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    downloaded(order)
    assert not (tmp_path / ".config").exists()


@pytest.mark.parametrize(
    "body", [PAGE, b"[]", b"{}", b'{"features": [1]}', b'{"features": 1}', b"{"]
)
def test_a_catalogue_that_answers_nonsense_is_told(servers, order, body):
    servers.service.app = lambda asked: Reply(body, kind="application/json", ranges=False)
    with pytest.raises(SourceError, match="could not be had"):
        scene_of(order)


def test_a_catalogue_without_end_is_left(servers, order):
    page = json.dumps({"features": [{}], "context": {"next": 1}}).encode()
    servers.service.app = lambda asked: Reply(page, kind="application/json", ranges=False)
    with pytest.raises(SourceError, match="lists without end"):
        scene_of(order)


def test_saturated_and_dark_pixels_stay_what_they_are(servers, order):
    def extremes(profile, _number):
        profile["values"][:-1, 0, 0], profile["values"][:-1, 0, 1] = 64535, 0
        profile["values"][0, 0, 2], profile["values"][:, 0, 3] = 65535, 0

    servers.hub.spoil = extremes
    opened, _ = downloaded(order)
    stored = encode(values_of(opened.stack))[:, 0, :5]
    assert (stored[:, 0] == 65535).all() and (stored[:, 1] == 1).all()
    assert stored[0, 2] == 65535 and (stored[:, 3] == 0).all() and (stored[:, 4] > 1).all()
    assert list(values_of(opened.qa)[0, :5]) == [17, 1, 17, 0, 1]


def test_a_request_is_the_same_wherever_it_goes(servers, order, monkeypatch):
    scene = scene_of(order)
    (piece,) = pieces.pieces_of(pieces.layers_of(scene, order)[0])
    taken = [np.datetime64("2015-11-20T05:50:53").astype(object)]
    one = call_for(piece, taken, "https://sh.dataspace.copernicus.eu")
    other = call_for(piece, taken, "https://services.sentinel-hub.com")
    assert one.url == "https://sh.dataspace.copernicus.eu/api/v1/process"
    assert other.url == "https://services.sentinel-hub.com/api/v1/process"
    assert one.body == other.body and one.headers["accept"] == "image/tiff"


def test_the_grid_of_a_tile_is_that_of_its_metadata(shared):
    from s2cd.scenes.metadata import read_tile_xml

    seen = 0
    for path in (shared / "l1c-metadata").glob("*/GRANULE/*/MTD_TL.xml"):
        facts = read_tile_xml(path.read_bytes(), path.name)
        assert grid_of_tile(facts.tile) == facts.grids[10]
        seen += 1
    assert seen == 2


@pytest.mark.parametrize("name", ["00QBF", "61QBF", "43IBF", "43QJF", "43QBZ"])
def test_a_tile_that_does_not_exist_has_no_grid(name):
    with pytest.raises(S2cdError, match="There is no Sentinel-2 tile"):
        grid_of_tile(name)
