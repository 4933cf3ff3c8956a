"""Products of the Copernicus Data Space: found, brought file by file, and checked."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import quote, quote_plus

import pystac
import pytest
import shapely
from rasterio.warp import transform_bounds
from servers import PAGE, Fault, Reply, serving
from space import CLIENT, KEYS, SECRETS, USER, Servers, Space, serving_space
from typer.testing import CliRunner

from s2cd.cli.app import app
from s2cd.errors import NotThereError, RefusedError, S2cdError, SourceError
from s2cd.scenes.aoi import Aoi
from s2cd.scenes.product import open_product
from s2cd.scenes.simulate import Sheet, Simulation, write_metadata, write_product
from s2cd.scenes.simulate.product import CORNER
from s2cd.scenes.stack import open_stack
from s2cd.sources.cdse import Cdse
from s2cd.sources.cdse.signing import Keys, Signed
from s2cd.sources.cdse.stores import Bucket, Nodes, store_by_environment
from s2cd.sources.choice import scenes_of
from s2cd.sources.decide import choose
from s2cd.sources.fetch import fetch
from s2cd.sources.http import Policy
from s2cd.sources.http.trust import redirected
from s2cd.sources.names import footprint_of, footprint_of_text, named
from s2cd.sources.plan import Request
from s2cd.sources.registry import open_source
from s2cd.sources.source import Order, Search
from s2cd.sources.stac_api import StacApi

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
SIZE = 120
QUICK = Policy(pause=0.01, longest_pause=0.02, read=60, tries=6, spoiled=6)
DATES = date(2015, 11, 20), date(2020, 11, 28)
YEARS = (date(2015, 1, 1), date(2021, 12, 31))


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Two products with pixels, and metadata of two on other dates."""
    folder = tmp_path_factory.mktemp("archive")
    simulation = Simulation(size=SIZE, seed=5)
    roots = [write_product(simulation, index, folder) for index in (0, 1)]
    for sheet in (
        Sheet(date(2015, 11, 30), SIZE, cloud=60.0),
        Sheet(date(2020, 11, 18), SIZE, unit="C", cloud=35.5, orbit=105),
    ):
        roots.append(folder / f"{sheet.name}.SAFE")
        roots[-1].mkdir()
        write_metadata(roots[-1], sheet)
    return roots


@pytest.fixture
def servers(products, monkeypatch, tmp_path):
    with serving_space(Space(list(products))) as servers:
        for name, value in servers.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for name in ("SH_CLIENT_ID", "AWS_ACCESS_KEY_ID", "CDSE_USERNAME", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield servers


@pytest.fixture
def user(servers, monkeypatch) -> Servers:
    monkeypatch.setenv("CDSE_USERNAME", USER["username"])
    monkeypatch.setenv("CDSE_PASSWORD", USER["password"])
    return servers


@pytest.fixture
def keys(servers, monkeypatch) -> Servers:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret"])
    return servers


@pytest.fixture
def aoi(products) -> Aoi:
    middle = open_product(products[0]).geobox[20:100, 20:100]
    box = transform_bounds(middle.crs.to_wkt(), "EPSG:4326", *middle.boundingbox.bbox)
    return Aoi("middle", shapely.box(*box))


@pytest.fixture
def order(aoi, tmp_path) -> Order:
    return Order(aoi, tmp_path / "out", ("B02", "B11"), clouds=False)


def brought(order: Order, source=None) -> dict:
    source, request = source or Cdse(QUICK), Request(order, DATES)
    return fetch(source, request, choose(source, request), lambda count: None)


def tree(folder) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def files_of(order: Order) -> dict[str, bytes]:
    return tree(order.folder / "products")


def test_products_are_found_page_by_page_without_an_account(servers, aoi, products):
    found = Cdse(QUICK).find(Search(aoi, (YEARS,)))
    assert sorted(one.name for one in found) == sorted(root.stem for root in products)
    assert len(servers.catalogue.seen) == 2 and not servers.identity.seen
    first = next(one for one in found if one.day == DATES[0])
    assert (first.tile, first.orbit, first.baseline, first.cloud) == ("43QBF", 5, "05.00", 0.0)
    assert first.datatake == "S2A_20151120T054122" and first.size > 10_000


def test_a_search_leaves_out_clouds_other_days_and_other_places(servers, aoi):
    spans = ((date(2015, 11, 1), date(2015, 11, 20)), (date(2020, 11, 18), date(2020, 12, 1)))
    found = Cdse(QUICK).find(Search(aoi, spans, max_cloud=20))
    assert sorted(one.day for one in found) == list(DATES)
    away = Aoi("away", shapely.box(10, 50, 10.1, 50.1))
    assert not Cdse(QUICK).find(Search(away, spans))


def test_products_that_are_offline_are_left_out_and_said(servers, aoi, products, caplog):
    servers.space.offline.add(products[0].name)
    found = Cdse(QUICK).find(Search(aoi, (YEARS,)))
    assert len(found) == 3 and products[0].stem not in {one.name for one in found}
    assert "offline at CDSE, and left out" in caplog.text and products[0].stem in caplog.text


@pytest.mark.parametrize("way", ["user", "client", "keys"])
def test_an_area_becomes_two_stacks_by_any_credentials(
    servers, order, products, way, monkeypatch, caplog, request
):
    for name in ("s2cd", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    if way == "client":
        monkeypatch.setenv("SH_CLIENT_ID", CLIENT["client_id"])
        monkeypatch.setenv("SH_CLIENT_SECRET", CLIENT["client_secret"])
    else:
        request.getfixturevalue(way)
    record = brought(order)
    for root in products[:2]:
        whole = {f"{root.name}/{name}": content for name, content in tree(root).items()}
        mine = {k: v for k, v in files_of(order).items() if k.startswith(root.name)}
        assert mine.items() <= whole.items() and len(mine) == 5
    assert (order.folder / "before.tif").exists() and (order.folder / "after.tif").exists()
    asked = servers.bucket if way == "keys" else servers.nodes
    assert asked.seen and asked.most_at_once <= 4
    written = json.dumps(record) + caplog.text
    written += "".join(path.read_text("latin-1") for path in order.folder.glob("*.json"))
    assert not [secret for secret in (*SECRETS, *servers.space.issued) if secret in written]


def test_the_same_again_brings_nothing_and_what_is_broken_comes_again(user, order):
    brought(order)
    before, asked = tree(order.folder), len(user.nodes.seen)
    brought(order)
    assert tree(order.folder) == before and len(user.nodes.seen) == asked
    band = next((order.folder / "products").rglob("*_B11.jp2"))
    band.write_bytes(band.read_bytes()[:-5])
    brought(order)
    assert tree(order.folder) == before and len(user.nodes.seen) == asked + 1


def test_the_cost_is_that_of_the_bands_and_without_an_account_of_the_products(
    servers, order, products, caplog, request
):
    scene = scenes_of(Cdse(QUICK).find(Search(order.aoi, (YEARS,))), order.aoi)[-1]
    whole = Cdse(QUICK).cost(scene, order)
    assert whole.size == sum(one.size for one in scene.products)
    assert "the size is that of the whole products" in caplog.text
    request.getfixturevalue("user")
    scene = scenes_of(Cdse(QUICK).find(Search(order.aoi, (DATES,))), order.aoi)[0]
    root = next(root for root in products if root.stem == scene.products[0].name)
    wanted = [p for p in root.rglob("*") if p.name.endswith(("_B02.jp2", "_B11.jp2"))]
    wanted = [p for p in wanted if "IMG_DATA" in p.parts] + [
        *root.glob("MTD_*.xml"),
        *root.rglob("MTD_TL.xml"),
        root / "manifest.safe",
    ]
    assert Cdse(QUICK).cost(scene, order).size == sum(p.stat().st_size for p in wanted)


def test_the_cloud_over_an_area_is_that_of_the_products_masks(servers, order, products, request):
    found = Cdse(QUICK).find(Search(order.aoi, (YEARS,)))
    cloudy = next(one for one in found if one.cloud == 60)
    parts = [(cloudy, cloudy.footprint), (found[0], found[0].footprint)]
    assert Cdse(QUICK).clouds_over(parts) == [None, None] and not servers.nodes.seen
    request.getfixturevalue("user")
    half = with_mask(next(root for root in products if root.stem == cloudy.name), order)
    servers.space.products = [half if root.name == half.name else root for root in products]
    known, unknown = Cdse(QUICK).clouds_over(parts)
    assert unknown is None and known == pytest.approx(50, abs=3)


def with_mask(root: Path, order: Order) -> Path:
    """A copy of a product whose mask takes the west half for cloud."""
    copy = order.folder.parent / "masked" / root.name
    shutil.copytree(root, copy)
    (granule,) = (copy / "GRANULE").iterdir()
    west, north = CORNER
    middle, south = west + SIZE * 5, north - SIZE * 10
    ring = f"{west} {north} {middle} {north} {middle} {south} {west} {south} {west} {north}"
    mask = f"<m><g:Polygon xmlns:g='g'><g:posList>{ring}</g:posList></g:Polygon></m>"
    (granule / "QI_DATA" / "MSK_CLOUDS_B00.gml").write_text(mask, encoding="utf-8")
    manifest = (copy / "manifest.safe").read_text(encoding="utf-8")
    name = f"./{granule.relative_to(copy)}/QI_DATA/MSK_CLOUDS_B00.gml"
    entry = (
        f"<dataObject><byteStream size='{len(mask)}'><fileLocation href='{name}'/>"
        f"<checksum checksumName='MD5'>{hashlib.md5(mask.encode()).hexdigest()}</checksum>"
        "</byteStream></dataObject></dataObjectSection>"
    )
    text = manifest.replace("</dataObjectSection>", entry)
    assert text != manifest
    (copy / "manifest.safe").write_text(text, encoding="utf-8")
    return copy


def test_without_an_account_a_download_says_what_to_set(servers, order):
    with pytest.raises(S2cdError, match="Set CDSE_USERNAME and CDSE_PASSWORD, or AWS_ACCESS_KEY"):
        brought(order)


def test_a_token_that_expires_in_the_middle_is_renewed(user, order):
    user.nodes.plan(
        *(Fault("status", "_B11", code=401, also=lambda: user.space.issued.append("gone")),) * 2
    )
    brought(order)
    kinds = [asked.form["grant_type"] for asked in user.identity.seen]
    assert kinds[0] == "password" and "refresh_token" in kinds[1:]
    tokens = {asked.headers["Authorization"] for asked in user.nodes.seen}
    assert len(tokens) >= 2


def test_a_short_lived_token_is_renewed_before_it_ends(user, order):
    user.space.lasts = 31
    source = Cdse(QUICK)
    token = source._store.client.auth
    pair = choose(source, Request(order, DATES))
    before = len(user.identity.seen)
    token._ends -= 5
    source.download((pair.before,), order, lambda count: None)
    assert {asked.status for asked in user.nodes.seen} == {200}
    assert len(user.identity.seen) == before + 1


def test_a_second_401_is_final_and_shows_no_token(user, order):
    user.nodes.plan(Fault("status", times=1000, code=401))
    with pytest.raises(RefusedError, match=r"refuses the credentials \(401"):
        brought(order)
    assert len(user.identity.seen) <= 3


def test_what_a_server_says_of_a_token_is_not_shown(user, order):
    class All(set):
        def __contains__(self, _token):
            return True

    user.space.refused = All()
    with pytest.raises(RefusedError) as refused:
        brought(order)
    assert "Expired signature of ..." in str(refused.value) and "token-0" not in str(refused.value)


def test_wrong_credentials_are_told_by_their_names(user, order, monkeypatch, caplog):
    for name in ("s2cd", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setenv("CDSE_PASSWORD", "wrong-and-secret")
    with pytest.raises(RefusedError, match="refuses CDSE_USERNAME, CDSE_PASSWORD") as refused:
        brought(order)
    assert "wrong-and-secret" not in str(refused.value) + caplog.text
    assert USER["username"] not in str(refused.value) + caplog.text


def test_a_user_counts_before_keys_that_may_be_of_another_s3(user, keys, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-s3")
    assert isinstance(store_by_environment(QUICK), Bucket)  # its address is set
    assert store_by_environment(QUICK).client.auth._keys.session == "of-another-s3"
    monkeypatch.delenv("S2CD_CDSE_S3_URL")
    assert isinstance(store_by_environment(QUICK), Nodes)
    monkeypatch.delenv("CDSE_PASSWORD")
    assert store_by_environment(QUICK).client.auth._keys.session == ""


def test_keys_that_s3_refuses_are_not_shown(keys, order, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANOTHERKEY0123456789")
    with pytest.raises(RefusedError, match=r"refuses the credentials \(403") as refused:
        brought(order)
    assert "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and" in str(refused.value)
    assert "ANOTHERKEY" not in str(refused.value) and "<Message>... ..." in str(refused.value)


def test_a_token_goes_to_no_other_host(user, order, products):
    def elsewhere(_asked):
        return Reply(b"x")

    with serving(elsewhere) as other:
        user.nodes.plan(Fault("redirect", "manifest", times=99, location=f"{other.url}/x"))
        with pytest.raises(SourceError, match="sends to another host"):
            brought(order)
        assert not other.seen
    asked = [*user.catalogue.seen, *user.bucket.seen]
    assert asked and not any("Authorization" in one.headers for one in asked)


def test_a_next_page_elsewhere_is_not_followed(user, aoi, monkeypatch):
    def lying(asked):
        page = {"value": [], "@odata.nextLink": f"{user.nodes.url}/odata/v1/Products"}
        return Reply(json.dumps(page).encode(), kind="application/json")

    with serving(lying) as other:
        monkeypatch.setenv("S2CD_CDSE_CATALOGUE_URL", other.url)
        with pytest.raises(SourceError, match="not trusted"):
            Cdse(QUICK).find(Search(aoi, (YEARS,)))
        assert not user.nodes.seen


def test_a_catalogue_that_leads_in_circles_is_left(user, aoi, monkeypatch):
    def circle(asked):
        following = f"http://{asked.headers['Host']}/Products?$skip=1"
        page = {"value": [], "@odata.nextLink": following}
        return Reply(json.dumps(page).encode(), kind="application/json")

    with serving(circle) as other:
        monkeypatch.setenv("S2CD_CDSE_CATALOGUE_URL", other.url)
        with pytest.raises(SourceError, match="lists without end"):
            Cdse(QUICK).find(Search(aoi, (YEARS,)))


@pytest.mark.parametrize("body", [PAGE, b"[1]", b'{"value": 3}', b'{"value": [1]}', b"{"])
def test_a_catalogue_that_answers_nonsense_is_told(user, aoi, monkeypatch, body):
    with serving(lambda asked: Reply(body, kind="application/json")) as other:
        monkeypatch.setenv("S2CD_CDSE_CATALOGUE_URL", other.url)
        with pytest.raises(SourceError, match="could not be had"):
            Cdse(QUICK).find(Search(aoi, (YEARS,)))


def test_a_catalogue_that_says_boundless_sizes_is_not_believed(servers, aoi, monkeypatch):
    plain = Space.record
    monkeypatch.setattr(
        Space, "record", lambda space, root: {**plain(space, root), "ContentLength": 10**400}
    )
    assert {one.size for one in Cdse(QUICK).find(Search(aoi, (YEARS,)))} == {None}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "B11", code=429, headers={"Retry-After": "0"}),
        Fault("html", "B11", times=2),
        Fault("short", "B11", after=500),
        Fault("cut", "B11", after=500),
        Fault("corrupt", "B11"),
        Fault("corrupt", "manifest"),
        Fault("other", "MTD_TL"),
    ],
    ids=lambda fault: fault.kind,
)
@pytest.mark.parametrize("way", ["user", "keys"])
def test_faults_on_the_way_change_nothing(servers, order, products, way, fault, request):
    request.getfixturevalue(way)
    server = servers.bucket if way == "keys" else servers.nodes
    server.plan(replace(fault))
    source = Cdse(QUICK)
    pair = choose(source, Request(order, DATES))
    kept = source.download((pair.before,), order, lambda count: None)
    assert server.left == 0 and len(kept) == 5
    root = products[0]
    got = {k.removeprefix(f"{root.name}/"): v for k, v in files_of(order).items()}
    assert len(got) == 5 and got.items() <= tree(root).items()


def test_s3_goes_on_where_a_file_was_cut(keys, order):
    keys.bucket.plan(Fault("cut", "B11", after=900))
    brought(order)
    assert 206 in {asked.status for asked in keys.bucket.asked("B11")}


def test_a_product_that_is_not_its_manifest_is_refused(user, order, products, tmp_path):
    copy = tmp_path / products[0].name
    shutil.copytree(products[0], copy)
    band = next(copy.rglob("*_B11.jp2"))
    band.write_bytes(band.read_bytes()[:-1] + b"x")
    user.space.products[0] = copy
    with pytest.raises(SourceError, match="another SHA3-256"):
        brought(order)
    assert not list((order.folder / "products" / copy.name).rglob("*_B11.jp2"))


def test_a_manifest_that_was_wrong_is_asked_for_again(user, order, products, tmp_path):
    copy = tmp_path / products[0].name
    shutil.copytree(products[0], copy)
    manifest = copy / "manifest.safe"
    text, digits = (
        manifest.read_text(),
        hashlib.sha3_256(next(copy.rglob("*_B11.jp2")).read_bytes()),
    )
    manifest.write_text(text.replace(digits.hexdigest(), "0" * 64))
    assert manifest.read_text() != text
    user.space.products[0] = copy
    with pytest.raises(SourceError, match="another SHA3-256"):
        brought(order)
    manifest.write_text(text)
    assert brought(order)["source"] == "cdse"


def test_a_fetch_by_the_command_line_and_a_search_as_stac_items(user, order, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    area = ",".join(f"{value:.6f}" for value in order.aoi.outline.bounds)
    line = ["search", "--aoi", area, "--start", "2015-11-01", "--end", "2015-12-31", "--json"]
    done = CliRunner().invoke(app, [*line, "--source", "stac"])
    assert done.exit_code == 0, done.output
    items = json.loads(done.stdout)["features"]
    assert [item["properties"]["s2cd:source"] for item in items] == ["stac"]
    assert pystac.Item.from_dict(items[0]).datetime.date() == DATES[0]
    dates = ",".join(map(str, DATES))
    line = ["fetch", "--aoi", area, "--dates", dates, "--bands", "B02", "--no-clouds"]
    done = CliRunner().invoke(app, [*line, "--source", "cdse", "-o", "out", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["source"] == "cdse" and open_stack(said["after"]).shape[0] == 1
    assert not [secret for secret in (*SECRETS, *user.space.issued) if secret in done.output]


@pytest.mark.parametrize(
    ("way", "loud", "fails"),
    [
        ("user", "-v", False),
        ("user", "debug", True),
        ("keys", "-v", True),
        ("keys", "debug", False),
    ],
)
def test_no_secret_is_shown_however_loud(servers, order, tmp_path, request, way, loud, fails):
    request.getfixturevalue(way)
    if fails:
        asked = servers.identity if way == "user" else servers.bucket
        asked.plan(Fault("status", code=401 if way == "user" else 403, times=10**6))
    area = ",".join(f"{value:.6f}" for value in order.aoi.outline.bounds)
    line = ["fetch", "--aoi", area, "--dates", ",".join(map(str, DATES)), "--source", "cdse"]
    line += ["--bands", "B02", "--no-clouds", "-o", "out", *(["-v"] if loud == "-v" else [])]
    done = subprocess.run(
        [sys.executable, "-m", "s2cd", *line],
        cwd=tmp_path,
        env={**os.environ, "S2CD_DEBUG": "1" if loud == "debug" else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if fails else 0), done.stderr
    assert not fails or ("Traceback" in done.stderr) == (loud == "debug")
    written = done.stdout + done.stderr
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        written += path.read_bytes().decode("latin-1")
    secrets = {form for one in SECRETS for form in (one, quote(one), quote_plus(one))}
    assert not [one for one in (*secrets, *servers.space.issued) if one in written]


def test_the_stac_api_finds_the_same_and_brings_it(user, order, products):
    search = Search(order.aoi, (YEARS,))
    by_stac, by_odata = StacApi(QUICK).find(search), Cdse(QUICK).find(search)
    assert {one.name for one in by_stac} == {one.name for one in by_odata}
    assert {one.name: one.cloud for one in by_stac} == {one.name: one.cloud for one in by_odata}
    assert len(user.stac.seen) == 2
    record = brought(order, StacApi(QUICK))
    assert record["source"] == "stac" and (order.folder / "after.tif").exists()
    with pytest.raises(NotThereError, match="has no product"):
        StacApi(QUICK)._placed(replace(by_stac[0], name=f"{by_stac[0].name[:-1]}9"))


@pytest.mark.parametrize(
    "answer",
    [{}, {"features": [3]}, {"features": [], "links": [{"rel": "next"}]}, [], {"features": 1}],
)
def test_a_stac_api_that_answers_nonsense_is_told(servers, aoi, monkeypatch, answer):
    body = json.dumps(answer).encode()
    with serving(lambda asked: Reply(body, kind="application/json")) as other:
        monkeypatch.setenv("S2CD_STAC_URL", other.url)
        with pytest.raises(SourceError, match="could not be had"):
            StacApi(QUICK).find(Search(aoi, (YEARS,)))


def test_stac_pages_lead_nowhere_else_and_end(servers, aoi, monkeypatch):
    def endless(asked):
        link = {"rel": "next", "href": links[0], "method": "POST", "body": {}}
        page = {"features": [{"id": "x"}], "links": [link]}
        return Reply(json.dumps(page).encode(), kind="application/json")

    with serving(endless) as other:
        monkeypatch.setenv("S2CD_STAC_URL", other.url)
        links = [servers.nodes.url]
        with pytest.raises(SourceError, match="not trusted"):
            StacApi(QUICK).find(Search(aoi, (YEARS,)))
        links = [f"{other.url}/search"]
        with pytest.raises(SourceError, match="lists without end"):
            StacApi(QUICK).find(Search(aoi, (YEARS,)))
        assert not servers.nodes.seen


@pytest.mark.parametrize(
    "name",
    ["S2CD_CDSE_CATALOGUE_URL", "S2CD_CDSE_DOWNLOAD_URL", "S2CD_CDSE_TOKEN_URL"],
)
def test_plain_http_is_refused_but_on_this_machine(user, monkeypatch, name):
    monkeypatch.setenv(name, "http://example.com/odata")
    with pytest.raises(S2cdError, match=f"{name}: .*not encrypted"):
        Cdse(QUICK)


@pytest.mark.parametrize(("name", "kind"), [("S2CD_CDSE_S3_URL", Cdse), ("S2CD_STAC_URL", StacApi)])
def test_plain_http_is_refused_of_s3_and_stac_too(keys, monkeypatch, name, kind):
    monkeypatch.setenv(name, "http://example.com/s3")
    with pytest.raises(S2cdError, match=f"{name}: .*not encrypted"):
        kind(QUICK)


def test_hosts_of_cdse_may_send_to_each_other_and_others_to_none(user, monkeypatch):
    assert len(store_by_environment(QUICK).client.origins) == 1
    monkeypatch.setenv(
        "S2CD_CDSE_DOWNLOAD_URL", "https://catalogue.dataspace.copernicus.eu/odata/v1"
    )
    client = store_by_environment(QUICK).client
    assert client.origins == client.auth.origins
    url, sent = "https://{}.dataspace.copernicus.eu/odata/v1/x", "https://{}/odata/v1/x"
    for name in ("download", "zipper"):
        assert redirected(url.format("catalogue"), url.format(name), client.origins)
    for name in ("download.example.com", "identity.dataspace.copernicus.eu"):
        with pytest.raises(SourceError, match="not trusted"):
            redirected(url.format("catalogue"), sent.format(name), client.origins)


def test_a_blank_user_is_none(user, monkeypatch):
    monkeypatch.setenv("CDSE_USERNAME", "  ")
    assert open_source("auto").name == "google" and store_by_environment(QUICK) is None


def test_auto_takes_cdse_where_its_user_is_set(user, servers, monkeypatch):
    assert open_source("auto").name == "cdse" and open_source("stac").name == "stac"
    monkeypatch.delenv("CDSE_PASSWORD")
    assert open_source("auto").name == "google"


def test_signatures_are_those_of_amazons_examples():
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    root = "https://examplebucket.s3.amazonaws.com"
    signed, empty = (
        Signed(keys, root, "us-east-1"),
        "e3b0c44298fc1c149afbf4c8996fb924" + ("27ae41e4649b934ca495991b7852b855"),
    )
    headers = {"x-amz-content-sha256": empty, "x-amz-date": "20130524T000000Z"}
    ranged = signed.signature("GET", f"{root}/test.txt", {"Range": "bytes=0-9", **headers})
    assert ranged.endswith("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
    listed = signed.signature("GET", f"{root}/?max-keys=2&prefix=J", headers)
    assert listed.endswith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
    assert "wJalr" not in repr(keys) and "AKIA" not in repr(keys)


@pytest.mark.parametrize(
    "name",
    [
        None,
        3,
        "",
        "S2A_MSIL2A_20151120T054122_N0500_R005_T43QBF_20231008T183202",
        "S2A_MSIL1C_20151320T054122_N0500_R005_T43QBF_20231008T183202.SAFE",
        "S2A_OPER_PRD_MSIL1C_PDMC_20151120T183202",
        "../S2A_MSIL1C_20151120T054122",
    ],
)
def test_what_is_no_level_1c_name_is_none(name):
    assert named(name) is None


def test_footprints_may_cross_180_degrees_and_nonsense_is_refused():
    ring = [[179, 0], [181, 0], [181, 1], [179, 1], [179, 0]]
    crossing = footprint_of({"type": "Polygon", "coordinates": [ring]}, "x")
    assert crossing.bounds == (-180, 0, 180, 1) and crossing.area == pytest.approx(2)
    text = "geography'SRID=4326;POLYGON((179 0,-179 0,-179 1,179 1,179 0))'"
    assert footprint_of_text(text, "x").equals(crossing)
    for bad in ("", None, "POLYGON((0 0,1 0,1 1,0 0))", "geography'SRID=4326;POLYGON((0 0'"):
        with pytest.raises(S2cdError, match="footprint that is none"):
            footprint_of_text(bad, "x")
    for bad in (
        None,
        {},
        {"type": "Point", "coordinates": [1, 2]},
        "POLYGON",
        [1],
        {"type": "Polygon", "coordinates": [[[0, 0], [999, 0], [0, 1], [0, 0]]]},
    ):
        with pytest.raises(S2cdError, match="footprint that is none"):
            footprint_of(bad, "x")
