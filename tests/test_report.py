"""The page of a map: complete in itself, and usable, in a real browser."""

import base64
import csv
import gzip
import io
import json
import re
from datetime import date
from html.parser import HTMLParser

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from browser import browser, opened, outside  # noqa: F401
from conftest import grid, landscape, refused
from rasterio.features import rasterize

from s2cd.detection.detect import Request as Detection
from s2cd.detection.detect import detect_files
from s2cd.errors import S2cdError
from s2cd.results import views
from s2cd.results.polygons import Sources, write_polygons
from s2cd.results.report import Request, gather, packing, pictures, render, write_report
from s2cd.results.report import page as making
from s2cd.results.report.content import find_changes
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.stack import stack_array, write_stack

SHAPE = (260, 330)
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A pair with changes of several sizes and a part that was not observed, and its map."""
    folder = tmp_path_factory.mktemp("scene")
    before = landscape(SHAPE, len(DEFAULT_BANDS))
    after = before + np.random.default_rng(1).normal(scale=0.004, size=before.shape)
    for y, x, size in ((30, 40, 8), (60, 200, 20), (150, 90, 34), (200, 280, 12), (110, 20, 5)):
        after[:, y : y + size, x : x + size] = 0.45 + 0.2 * np.random.default_rng(y).random()
    after[[2, 6], 60:80, 200:220] = [[[0.04]], [[0.5]]]  # red and near infrared: vegetation
    after[:, 10:50, 250:300] = np.nan
    for name, values, day in (("before", before, 2015), ("after", after, 2020)):
        stack = stack_array(values.astype(np.float32), grid(SHAPE), DEFAULT_BANDS)
        tags = {"SENSING_TIME": f"{day}-11-20T05:41:22Z", "PRODUCT": HOSTILE}
        write_stack(stack, folder / f"{name}.tif", tags=tags)
    paths = {name: folder / f"{name}.tif" for name in ("before", "after", "change", "p")}
    request = Detection(paths["before"], paths["after"], paths["change"], paths["p"], model="cva")
    detect_files(request)
    return Sources(paths["change"], paths["p"], paths["before"], paths["after"])


@pytest.fixture(scope="module")
def page_file(scene):
    path, card = scene.change.with_name("report.html"), scene.change.with_name("card.md")
    card.write_text(f"# A model\n{HOSTILE}")
    write_report(Request(scene, title=HOSTILE, card=card), path)
    return path


@pytest.fixture
def page(browser, page_file):  # noqa: F811
    with opened(browser, page_file.as_uri()) as page:
        yield page
        assert page.troubles == []
        assert outside(page) == []


def packed_of(text: str) -> bytes:
    packed = re.search(r'<script type="application/gzip" id="data">(.*?)</script>', text)[1]
    return base64.b64decode(packed)


def data_of(text: str) -> dict:
    return json.loads(gzip.decompress(packed_of(text)))


class Links(HTMLParser):
    """What a page's own elements point to."""

    @classmethod
    def of(cls, text: str) -> list[str]:
        parser = cls()
        parser.found = []
        parser.feed(text)
        assert len(parser.found) > 1
        return parser.found

    def handle_starttag(self, tag, attrs):
        self.found += [
            value for name, value in attrs if name in ("src", "href", "srcset", "action")
        ]


def shown(page) -> list[str]:
    return page.locator("#table tbody tr[data-index] button").all_inner_texts()


def scale_of(page) -> float:
    """Metres of ground in a pixel of the screen, by the scale bar."""
    bar = page.locator("#scale .leaflet-control-scale-line")
    number, unit = bar.inner_text().split()
    return float(number) * {"m": 1, "km": 1000}[unit] / bar.bounding_box()["width"]


def test_the_page_holds_all_that_it_needs_and_its_policy_lets_nothing_else_in(page_file):
    text = page_file.read_text()
    assert [link for link in Links.of(text) if not link.startswith(("#", "data:"))] == []
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy
    assert page_file.stat().st_size < 1e6
    assert "contains modified Copernicus Sentinel data (2015, 2020)" in text.replace(
        "Contains", "contains"
    )


def test_what_a_map_says_of_itself_is_shown_and_never_run(page):
    assert page.title() == HOSTILE
    assert page.locator("h1").inner_text() == HOSTILE
    assert HOSTILE in page.locator(".origin").first.inner_text()
    page.get_by_text("The model's card").click()
    assert page.locator("pre").inner_text() == f"# A model\n{HOSTILE}"


def test_the_policy_stops_a_script_that_is_not_the_page_s_own(browser, page_file):  # noqa: F811
    with opened(browser, page_file.as_uri()) as page:
        page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.taken=1';"
            " document.head.append(s); }"
        )
        assert page.evaluate("window.taken") is None
        assert any("Content Security Policy" in trouble for trouble in page.troubles)


def test_figures_and_origin_are_those_of_the_map(page, scene):
    with rasterio.open(scene.change) as source:
        values = source.read(1)
    figures = page.locator(".figures").inner_text()
    assert f"{(values == 1).sum() / 100:.1f} ha" in figures
    assert f"{(values == 255).mean():.1%}".replace("%", " %") in figures
    body = page.locator("body").inner_text()
    assert "What changed between 20 Nov 2015 and 20 Nov 2020" in body
    assert "EPSG:32643" in body and "cva: change vector analysis" in body


def test_the_swipe_moves_by_mouse_and_by_keys(page):
    edge = "document.querySelector('.leaflet-after-pane').style.clipPath.match(/-?[\\d.]+/)[0]"
    left = lambda: float(page.evaluate(edge))  # noqa: E731
    began, frame = left(), page.locator("#map-frame").bounding_box()
    middle = (frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 200, middle[1], steps=4)
    page.mouse.up()
    assert left() == pytest.approx(began - 200, abs=8)
    page.locator("#swipe-range").focus()
    page.keyboard.press("Home")
    assert page.locator("#swipe-range").get_attribute("aria-valuetext").startswith("0 %")
    page.get_by_role("radio", name="Before").check()
    assert page.locator("#swipe").is_hidden()
    assert left() == pytest.approx(began + frame["width"] / 2, abs=3)


def test_both_dates_are_seen_on_their_side_of_the_swipe(page):
    from PIL import Image

    page.locator("#show-outlines").uncheck()
    looks = {}
    for view in ("Before", "After", "Swipe"):
        page.get_by_role("radio", name=view).check()
        picture = Image.open(io.BytesIO(page.locator("#map").screenshot()))
        looks[view] = np.asarray(picture.convert("RGB"), float)
    height, width = looks["Swipe"].shape[:2]
    rows, apart = slice(60, height - 120), width // 2
    left, right = (rows, slice(0, apart - 40)), (rows, slice(apart + 40, width - 60))
    assert np.abs(looks["Swipe"][left] - looks["Before"][left]).mean() < 0.5
    assert np.abs(looks["Swipe"][right] - looks["After"][right]).mean() < 0.5
    assert np.abs(looks["Before"] - looks["After"]).mean() > 2


def test_a_click_on_a_row_zooms_to_its_change_and_tells_of_it(page, scene):
    whole = scale_of(page)
    row = page.locator("#table tbody tr").nth(1)
    number = row.locator("button").inner_text()
    row.click()
    assert page.locator("#detail-title").inner_text().startswith(f"{number}:")
    assert scale_of(page) < whole / 2
    assert row.get_attribute("aria-current") == "true"
    page.keyboard.press("Escape")
    assert page.locator("#detail").is_hidden()
    page.get_by_role("button", name="Whole map").click()
    assert scale_of(page) == pytest.approx(whole, rel=0.05)


def test_the_swipe_goes_across_what_is_chosen(page):
    line = "document.querySelector('#swipe-line').getBoundingClientRect().left"
    frame, card = page.locator("#map-frame").bounding_box(), 300
    page.locator("#swipe-range").press("Home")
    page.locator("#table tbody tr").first.click()
    beside = frame["x"] + (card + frame["width"]) / 2
    assert page.evaluate(line) == pytest.approx(beside, abs=60)


def test_a_click_on_an_outline_chooses_its_row(page):
    row = page.locator("#table tbody tr").first
    row.click()
    page.keyboard.press("Escape")
    frame, card = page.locator("#map-frame").bounding_box(), 300
    page.locator("#swipe-range").press("Home")
    beside = frame["x"] + (card + frame["width"]) / 2  # the card covers the left of the map
    page.mouse.click(beside, frame["y"] + frame["height"] / 2)
    assert page.locator("#detail").is_visible()
    assert row.get_attribute("aria-current") == "true"


def test_the_list_sorts_and_filters(page, scene):
    table = find_changes(scene, 400).table
    by_area = table.sort_values("area_m2", ascending=False)["id"].astype(str).tolist()
    assert shown(page) == by_area
    page.get_by_role("button", name="Area, ha").click()
    assert shown(page) == by_area[::-1]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Area")
    slider = page.get_by_label("Area, at least")
    slider.fill("150")
    page.wait_for_selector("#reset:not([disabled])")
    kept = shown(page)
    assert 0 < len(kept) < len(by_area) and kept == by_area[::-1][-len(kept) :]
    assert f"{len(kept)} of {len(by_area)} changes" in page.locator("#count").inner_text()
    page.get_by_role("button", name="Clear filters").click()
    score = page.get_by_label("Score, at least")
    score.fill("100")
    page.wait_for_selector("#reset:not([disabled])")
    least = float(page.locator("#facet-probability output").inner_text())
    passing = table[table["probability_mean"] >= least - 0.005]["id"].astype(str)
    assert 0 < len(shown(page)) < len(by_area) and set(shown(page)) <= set(passing)


def test_kinds_can_be_left_out(page):
    chips = page.locator("#kinds label")
    assert chips.count() >= 2
    every = len(shown(page))
    chips.first.click()
    assert len(shown(page)) < every


def test_what_is_shown_is_exported(page, scene, tmp_path):
    table = find_changes(scene, 400).table
    files = {}
    for name in ("CSV", "GeoJSON"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).click()
        files[name] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(files[name])
    assert files["CSV"].name == "change-changes.csv"
    rows = list(csv.DictReader(files["CSV"].read_text().splitlines()))
    assert {int(row["id"]): float(row["area_m2"]) for row in rows} == dict(
        zip(table["id"], table["area_m2"], strict=True)
    )
    assert {row["date_before"] for row in rows} == {"2015-11-20"}
    exported = geopandas.read_file(files["GeoJSON"]).set_index("id")
    expected = table.to_crs("EPSG:4326").set_index("id")
    for number, row in expected.iterrows():
        other = exported.loc[number]
        assert row.geometry.hausdorff_distance(other.geometry) < 1e-6  # 0.1 m
        assert other.geometry.exterior.is_ccw
        assert other["kind"] == row["kind"]


def test_all_can_be_done_with_the_keyboard(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.locator("#table tbody button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#detail").is_visible()
    assert page.evaluate("document.activeElement.closest('tr').getAttribute('aria-current')")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input')].filter((e) => !(e.ariaLabel ||"
        " e.innerText.trim() || [...(e.labels ?? [])].some((l) => l.innerText.trim())))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    roles = [page.get_by_role(role).count() for role in ("main", "banner", "contentinfo", "table")]
    assert roles == [1, 1, 1, 3] or min(roles) >= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button(browser, page_file, scheme):  # noqa: F811
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    with opened(browser, page_file.as_uri(), color_scheme=scheme) as page:
        assert (page.evaluate(ground) < 100) == (scheme == "dark")
        button = page.get_by_role("button", name="Colours")
        button.click()
        assert page.evaluate(ground) > 100
        button.click()
        assert page.evaluate(ground) < 100


def test_it_fits_a_phone(browser, page_file):  # noqa: F811
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with opened(browser, page_file.as_uri(), **phone) as page:
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
        page.locator("#table tbody tr").first.tap()
        assert page.locator("#detail").is_visible()
        frame = page.locator("#map-frame").bounding_box()
        assert -1 <= frame["y"] and frame["y"] + frame["height"] <= 741
        assert page.troubles == []


def test_without_dates_there_is_a_map_and_a_list(browser, scene, tmp_path):  # noqa: F811
    write_report(Request(Sources(scene.change)), tmp_path / "r.html")
    with opened(browser, (tmp_path / "r.html").as_uri()) as page:
        assert page.locator("#views").is_hidden() and page.locator("#swipe").is_hidden()
        assert len(shown(page)) > 3
        assert page.locator("#kinds").is_hidden() and page.locator("#facet-probability").is_hidden()
        assert (page.troubles, outside(page)) == ([], [])


def test_the_card_and_licence_of_a_network_that_ships_are_there_by_themselves(
    make_raster, monkeypatch
):
    from s2cd.networks.checkpoint import sha256_of
    from s2cd.networks.shipped import shipped

    monkeypatch.delenv("S2CD_WEIGHTS")
    path = make_raster("m.tif", np.zeros((60, 80), np.uint8))
    with rasterio.open(path, "r+") as target:
        target.update_tags(MODEL="oscd10", MODEL_SHA256=sha256_of(shipped()["oscd10"]))
    text = render(gather(Request(Sources(path))))
    assert "# oscd10" in text and "The model's weights are for non-commercial use" in text
    with rasterio.open(path, "r+") as target:
        target.update_tags(MODEL_SHA256="0" * 64)
    text = render(gather(Request(Sources(path))))
    assert "# oscd10" not in text and "weights are for" not in text


def test_classes_are_told_apart_where_there_are_several(browser, make_raster, tmp_path):  # noqa: F811
    values = np.zeros((60, 80), np.uint8)
    values[10:20, 10:20], values[30:45, 30:45], values[20:30, 60:70] = 1, 2, 7
    write_report(Request(Sources(make_raster("c.tif", values, nodata=255))), tmp_path / "r.html")
    with opened(browser, (tmp_path / "r.html").as_uri()) as page:
        page.get_by_role("button", name="Class").click()
        rows = page.locator("#table tbody tr[data-index]").all_inner_texts()
        assert [row.split()[2] for row in rows] == ["7", "2", "1"]
        assert page.troubles == []


def test_a_map_without_change_says_so(browser, make_raster, tmp_path):  # noqa: F811
    values = np.zeros((60, 80), np.uint8)
    write_report(Request(Sources(make_raster("none.tif", values))), tmp_path / "r.html")
    with opened(browser, (tmp_path / "r.html").as_uri()) as page:
        assert "No change was found" in page.locator("#list").inner_text()
        assert page.troubles == []


def test_changes_are_taken_from_a_file_without_those_that_were_rejected(scene, tmp_path):
    found = find_changes(scene, 400)
    write_polygons(found, tmp_path / "c.gpkg")
    same = gather(Request(scene, tmp_path / "c.gpkg")).table
    assert same["id"].tolist() == found.table["id"].tolist()
    assert same["area_m2"].tolist() == found.table["area_m2"].tolist()
    status = ["rejected", *["accepted"] * (len(same) - 1)]
    same.assign(status=status).to_file(tmp_path / "seen.geojson")
    kept = gather(Request(scene, tmp_path / "seen.geojson")).table
    assert kept["id"].tolist() == found.table["id"].tolist()[1:]
    assert data_of(render(gather(Request(scene, tmp_path / "seen.geojson"))))["columns"]["status"]


def test_slopes_for_stairs_keep_every_pixel(scene):
    with rasterio.open(scene.change) as source:
        values, transform = source.read(1), source.transform
    table = find_changes(scene, 0).table
    back = rasterize(
        zip(table.geometry, table["class"], strict=True), values.shape, transform=transform
    )
    assert (back == (values == 1)).all()


@pytest.mark.parametrize(
    ("crs", "origin", "size"),
    [
        ("EPSG:32643", (199980.0, 2600040.0), 10.0),
        ("EPSG:32733", (199980.0, 9000040.0), 10.0),
        ("EPSG:4326", (179.5, 65.0), 9e-5),
        ("EPSG:3857", (8070000.0, 8100000.0), 20.0),
    ],
)
def test_places_of_a_whole_tile_are_those_of_proj(crs, origin, size):
    from pyproj import Transformer

    box = grid((10980, 10980), origin, size, crs)
    facts = packing.grid_facts(box)
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(0, 10980, 23), np.linspace(0, 10980, 23)))
    u, v = 2 * x / 10980 - 1, 2 * y / 10980 - 1
    terms = [u**i * v**j for i in range(7) for j in range(7 - i)]
    found = [np.dot(facts[name], terms) for name in ("lon", "lat")]
    to_degrees = Transformer.from_crs(box.crs.to_wkt(), "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(*(box.affine * (x, y)))
    assert np.abs((found[0] - lon + 180) % 360 - 180).max() < 1e-6
    assert np.abs(found[1] - lat).max() < 1e-6


def test_too_many_changes_for_a_page_leave_the_largest_and_say_so(scene, monkeypatch):
    content = gather(Request(scene))
    whole = packed_of(render(content))
    monkeypatch.setattr(packing, "BUDGET", len(whole) - 60)
    text = render(content)
    drawn = data_of(text)["columns"]["area_m2"]
    table = content.table["area_m2"].sort_values(ascending=False)
    assert 0 < len(drawn) < len(table)
    assert sorted(drawn, reverse=True) == table.tolist()[: len(drawn)]
    assert f"draws the largest {len(drawn)}" in text


def test_pictures_stay_within_their_budget():
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    data = pictures._webp(noise, 20_000)
    assert len(data) <= 20_000
    assert Image.open(io.BytesIO(data)).size[0] in (400, 200, 100)
    assert len(pictures._png((noise[..., 0] > 127).astype(np.uint8), (9, 9, 9), 5_000)) <= 5_000


def test_all_budgets_together_leave_a_page_below_5_mb():
    dates, others = 2 * pictures.BUDGETS["date"], ("details", "class", "unseen")
    most = dates + sum(pictures.BUDGETS[name] for name in others) + packing.BUDGET
    assert most * 4 / 3 + 250_000 < 5e6  # in base64, with the page's own code
    code = sum(len(text) for text in (*making._scripts(True), *making._styles(True)))
    assert code < 230_000


def test_a_scene_that_is_thinned_shows_its_changes_in_all_pixels(scene, monkeypatch):
    monkeypatch.setattr(pictures, "LONGEST", 100)
    content = gather(Request(scene))
    whole, details = content.dates[:2], content.dates[2:]
    assert whole[0].box == (0, 0, 332, 260)  # four pixels to one
    assert len(details) >= 2 and [d.layer for d in details[:2]] == ["before", "after"]
    largest = packing.boxes_of(content.table, content.geobox)[0]
    assert largest.tolist() == [90, 150, 124, 184]
    assert details[0].box == (78, 138, 136, 196)
    monkeypatch.setitem(pictures.BUDGETS, "details", 0)
    assert len(gather(Request(scene)).dates) == 2


def test_means_are_of_what_has_data():
    values = np.arange(30, dtype=np.float32).reshape(1, 5, 6)
    values[0, 0, 0] = np.nan
    values[0, 2:4, 2:4] = np.nan
    means = views.means(values, 2)
    assert means.shape == (1, 3, 3)
    assert means[0, 0, 0] == pytest.approx((1 + 6 + 7) / 3)
    assert np.isnan(means[0, 1, 1])
    assert means[0, 2, 2] == pytest.approx((28 + 29) / 2)


def test_a_polygon_that_crosses_itself_is_mended(scene, tmp_path, recwarn):
    box = find_changes(scene, 400).table.geometry.iloc[0].bounds
    west, south, east, north = box
    bow = shapely.Polygon([(west, south), (east, north), (east, south), (west, north)])
    table = geopandas.GeoDataFrame({"kind": ["<b>odd</b>"]}, geometry=[bow], crs=32643)
    table.to_file(tmp_path / "bow.gpkg")
    content = gather(Request(scene, tmp_path / "bow.gpkg"))
    (shape,) = content.table.geometry
    assert shape.is_valid and shape.area == pytest.approx((east - west) * (north - south) / 2)
    assert content.table["area_m2"].iloc[0] == pytest.approx(shape.area, rel=0.01)
    text = render(content)
    assert "<b>odd" not in text and "nan" not in text.lower().split("<script")[0]
    assert not recwarn.list


def test_what_cannot_be_shown_is_refused(scene, make_raster, run, tmp_path):
    with pytest.raises(S2cdError, match="both dates"):
        gather(Request(Sources(scene.change, before=scene.before)))
    with pytest.raises(S2cdError, match="no CRS"):
        gather(Request(Sources(make_raster("plain.tif", np.zeros((9, 9), np.uint8), crs=None))))
    elsewhere = geopandas.GeoDataFrame(
        geometry=geopandas.points_from_xy([1], [1]).buffer(1), crs=4326
    )
    elsewhere.to_file(tmp_path / "else.gpkg")
    with pytest.raises(S2cdError, match="lies elsewhere"):
        gather(Request(scene, tmp_path / "else.gpkg"))
    elsewhere.assign(area_m2="large").to_file(tmp_path / "text.gpkg")
    with pytest.raises(S2cdError, match="holds text in its column area_m2"):
        gather(Request(scene, tmp_path / "text.gpkg"))
    (tmp_path / "r.html").write_text("mine")
    assert "--overwrite" in refused(run("report", scene.change, "-o", "r.html"))
    assert (tmp_path / "r.html").read_text() == "mine"
    done = run("report", scene.change, "-o", "r.html", "--overwrite", "--json", "--title", "Here")
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "r.html").stat().st_size
    assert "<h1>Here</h1>" in (tmp_path / "r.html").read_text()


def test_days_are_written_as_people_do():
    from s2cd.results.report.facts import day

    assert day(date(2015, 11, 5).isoformat()) == "5 Nov 2015"
    assert day(None) is None
