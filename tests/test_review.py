"""The review: decisions made in a real browser are in the GeoPackage, and nobody else's are."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass

import geopandas
import numpy as np
import pytest
import rasterio
from browser import browser, opened, outside  # noqa: F401
from conftest import grid, refused

from s2cd.detection.blocks import blocks
from s2cd.detection.changemap import change_raster, write_layers
from s2cd.errors import S2cdError
from s2cd.results.polygons import Sources
from s2cd.results.report import Request
from s2cd.results.review import open_review
from s2cd.results.review.outline import outline
from s2cd.results.review.store import Store, create_store

SHAPE = (120, 150)


@dataclass
class Served:
    process: subprocess.Popen
    url: str
    file: object

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.url)[1])

    @property
    def token(self) -> str:
        return self.url.split("/")[3]

    def table(self):
        return geopandas.read_file(self.file, layer="changes").set_index("id")

    def ask(self, method: str, path: str, body: object = None, **headers: str):
        """The status and text of a request, with the page's own headers unless others are given."""
        own = {
            "Host": f"127.0.0.1:{self.port}",
            "Origin": f"http://127.0.0.1:{self.port}",
            "Content-Type": "application/json",
        }
        text = json.dumps(body) if not isinstance(body, str) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {k: v for k, v in {**own, **headers}.items() if v}
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Content-Length": str(len(text)), **sent}.items():
            connection.putheader(name, value)
        connection.endheaders(text.encode())
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found


@pytest.fixture
def change(tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    for y, x, size in ((10, 10, 20), (60, 20, 12), (20, 90, 15), (80, 100, 8)):
        values[y : y + size, x : x + size] = 1
    box = grid(SHAPE)
    raster = change_raster(tmp_path / "change.tif", box, {"AFTER_SENSING_TIME": "2020-11-28"})
    write_layers((raster,), [(b, (values[b.ys, b.xs],)) for b in blocks(SHAPE, 512)])
    return raster.path


@pytest.fixture
def serve(change):
    """Start `s2cd review` as a user does, without opening a browser."""
    running = []

    def start(*words: str) -> Served:
        process = subprocess.Popen(
            [sys.executable, "-m", "s2cd", "review", str(change), "--no-open", "--json", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        running.append(process)
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", line)
        assert url, line + process.stderr.read()
        return Served(process, url[0], change.with_name("change-review.gpkg"))

    yield start
    for process in running:
        process.kill()
        process.communicate()


def choose(page, number: int) -> None:
    page.get_by_role("button", name=f"Show change {number} on the map", exact=True).click()


def draw(page, places) -> None:
    """Click around the middle of the map, at offsets in pixels of the screen."""
    frame = page.locator("#map-frame").bounding_box()
    middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    for x, y in places:
        page.mouse.click(middle[0] + x, middle[1] + y)


def until(page, text: str) -> None:
    page.locator("#review-count", has_text=text).wait_for()


def test_decisions_in_the_browser_are_in_the_file_at_once(browser, serve):  # noqa: F811
    served = serve()
    before = served.table()
    assert set(before["status"]) == {"unreviewed"} and len(before) == 4
    with opened(browser, served.url) as page:
        choose(page, 1)
        page.get_by_role("button", name="Accept").click()
        until(page, "1 of 4 reviewed")
        assert served.table()["status"][1] == "accepted"
        choose(page, 2)
        page.keyboard.press("r")
        until(page, "2 of 4 reviewed")
        assert served.table()["status"][2] == "rejected"
        choose(page, 3)
        page.keyboard.press("d")
        draw(page, [(80, -60), (200, -60), (200, 60)])  # beside the card, as the change is
        page.keyboard.press("Enter")
        until(page, "3 of 4 reviewed")
        page.get_by_role("button", name="Whole map").click()
        page.get_by_role("button", name="Add a change").click()
        draw(page, [(-90, 90), (-40, 90), (-40, 150), (-90, 150)])
        page.get_by_role("button", name="Done").click()
        until(page, "4 of 5 reviewed")
        rows = page.locator("#table tbody tr[data-index]")
        assert sorted(text.split()[0] for text in rows.all_inner_texts()) == list("12345")
        assert (page.troubles, outside(page)) == ([], [served.url + p for p in sent(page)])
        page.reload()
        page.wait_for_selector("html[data-ready]")
        until(page, "4 of 5 reviewed")
        page.get_by_label("Show changes that are").select_option("rejected")
        assert page.locator("#table tbody tr[data-index]").count() == 1
        page.get_by_role("button", name="Finish").click()
        page.get_by_text("The review is kept").wait_for()
    out, err = served.process.communicate(timeout=60)
    assert served.process.returncode == 0, err
    counts = json.loads(out)
    assert {k: counts[k] for k in ("accepted", "rejected", "added", "unreviewed")} == {
        "accepted": 2,
        "rejected": 1,
        "added": 1,
        "unreviewed": 1,
    }
    table = served.table()
    assert table["status"].tolist() == ["accepted", "rejected", "accepted", "unreviewed", "added"]
    assert table["redrawn"].tolist() == [0, 0, 1, 0, 0]
    assert table.geometry[[1, 2, 4]].equals(before.geometry[[1, 2, 4]])
    drawn = table.geometry[3]
    assert len(drawn.exterior.coords) == 4 and not drawn.equals(before.geometry[3])
    assert drawn.intersection(before.geometry[3]).area > 0.4 * before.geometry[3].area
    assert table["area_m2"][3] == pytest.approx(drawn.area, rel=0.01)
    assert table["class"].tolist() == [1] * 5


def sent(page) -> list[str]:
    return [url.split("/", 4)[4] for url in page.asked if "changes" in url]


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_killed_review_has_lost_nothing_and_continues(serve, change):
    served = serve()
    assert served.ask("POST", f"/{served.token}/changes/2", {"status": "accepted"})[0] == 200
    served.process.send_signal(signal.SIGKILL)
    served.process.communicate()
    assert served.table()["status"][2] == "accepted"
    again = serve()
    assert '"accepted"' in again.ask("POST", f"/{again.token}/changes/1", {"status": "rejected"})[1]
    assert served.table()["status"].tolist()[:2] == ["rejected", "accepted"]
    again.process.send_signal(signal.SIGINT)
    out, err = again.process.communicate(timeout=60)
    assert again.process.returncode == 130 and out == "" and "Traceback" not in err
    assert [p.name for p in sorted(change.parent.iterdir())] == ["change-review.gpkg", "change.tif"]


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_decisions_sent_side_by_side_are_all_kept_though_the_review_is_killed(serve):
    """Two copies of SQLite in one process take each other's locks: only one may have the file."""
    import sqlite3
    from concurrent.futures import ThreadPoolExecutor

    served = serve()
    words = ("accepted", "rejected", "unreviewed")

    def decide(number: int) -> str:
        for turn in range(20):
            path, word = f"/{served.token}/changes/{number}", words[(number + turn) % 3]
            status, said = served.ask("POST", path, {"status": word})
            assert status == 200 and json.loads(said)["columns"]["status"] == [word], said
        return word

    with ThreadPoolExecutor(4) as pool:
        last = list(pool.map(decide, (1, 2, 3, 4)))
    served.process.send_signal(signal.SIGKILL)
    served.process.communicate()
    assert served.table()["status"].tolist() == last
    with sqlite3.connect(served.file) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    base.close()


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_what_was_reviewed_is_labelled_and_learned_from_and_detects(make_place, run, tmp_path):
    """Detection, review, training, and detection again, by the commands."""
    pytest.importorskip("torch")
    from s2cd.detection.detect import Request as Detection
    from s2cd.detection.detect import detect_files
    from s2cd.scenes.mask import read_label

    place = make_place((160, 176), bands=("B02", "B03", "B04", "B08"))
    change, review = tmp_path / "change.tif", tmp_path / "review.gpkg"
    detect_files(Detection(place.before, place.after, change, model="cva"))
    served = open_review(Request(Sources(change)), review)
    store = served.store
    numbers = store.table()["id"].tolist()
    for number in numbers:
        store.decide(number, "accepted")
    store.decide(numbers[0], "rejected")
    store.add(outline([[100, 120], [120, 120], [120, 140], [100, 140]], store.geobox))
    wrong = store.table(numbers[0]).geometry.iloc[0].representative_point()
    served.server.server_close()
    store.close()
    done = run("label", review, "--like", place.before, "-o", "label.tif", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["rejected"], facts["accepted"]) == (1, len(numbers))  # with the added one
    mask = read_label(tmp_path / "label.tif", place.geobox)
    x, y = ~place.geobox.affine * (wrong.x, wrong.y)
    assert mask[int(y), int(x)] == 0 and (mask[120:140, 100:120] == 1).all()
    row = "before.tif,after.tif,label.tif"
    (tmp_path / "pairs.csv").write_text(f"before,after,label\n{row}\n")
    whole = ("--validation", 0, "--threshold", 0.3)
    tiny = ("--arch", "fc-ef", "--batch", 4, "--steps", 2, "--size", 64, "--window", 128)
    done = run("train", "pairs.csv", "-o", "runs/a", "--epochs", 1, "--halo", 32, *tiny, *whole)
    assert done.returncode == 0, done.stderr
    network = tmp_path / "runs/a/best.safetensors"
    detect_files(Detection(place.before, place.after, tmp_path / "b.tif", model=str(network)))
    with rasterio.open(tmp_path / "b.tif") as source:
        assert source.tags()["MODEL"] == "best"


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_only_the_page_itself_may_read_and_write(serve):
    served = serve()
    path, decision = f"/{served.token}/changes/1", {"status": "rejected"}
    strangers = [
        ("GET", f"/{served.token}/", {"Host": "evil.example"}),
        ("GET", f"/{served.token}/", {"Host": f"localhost:{served.port}"}),
        ("GET", "/", {}),
        ("GET", f"/{'x' * 32}/", {}),
        ("POST", path, {"Host": f"evil.example:{served.port}"}),
        ("POST", path, {"Origin": "http://evil.example"}),
        ("POST", path, {"Origin": "null"}),
        ("POST", path, {"Origin": ""}),
        ("POST", path, {"Content-Type": "text/plain"}),
        ("POST", path, {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST", "/wrong/changes/1", {}),
        ("POST", "/wrong/finish", {}),
    ]
    for method, where, headers in strangers:
        status, said = served.ask(method, where, decision, **headers)
        assert status == 403, (method, where, headers, said)
        assert served.token not in said
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert served.ask(method, path, decision)[0] == 501
    assert set(served.table()["status"]) == {"unreviewed"}
    assert served.ask("GET", f"/{served.token}/../../etc/passwd")[0] == 404
    assert served.ask("POST", path, decision)[0] == 200


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_what_makes_no_sense_is_answered_in_one_line_and_changes_nothing(serve):
    served = serve()
    here = f"/{served.token}/changes"
    square = [[10, 10], [20, 10], [20, 20]]
    for path, body, said in [
        (f"{here}/99", {"status": "accepted"}, "no change 99"),
        (f"{here}/1", {"status": "added"}, "no decision"),
        (f"{here}/1", {"status": "x'; DROP TABLE changes; --"}, "no decision"),
        (f"{here}/1", {}, "no decision"),
        (f"{here}/1", "[1", "no JSON"),
        (f"{here}/1", [1], "no object"),
        (f"{here}/1/2", {"status": "accepted"}, "nothing here"),
        (here, {"places": square[:2]}, "3 to 5000 points"),
        (here, {"places": "all"}, "3 to 5000 points"),
        (here, {"places": [["a", 1]] * 3}, "no numbers"),
        (here, {"places": [[1, 2, 3]] * 3}, "no pairs"),
        (here, {"places": [[1, None]] * 3}, "no pairs"),
        (here, {"places": [*square[:2], [20, 1e9]]}, "beyond the map"),
        (here, {"places": [[1, 1], [9, 9], [9, 1], [1, 9]]}, "crosses itself"),
        (here, {"places": [[1, 1], [5, 5], [9, 9]]}, "crosses itself"),
    ]:
        status, text = served.ask("POST", path, body)
        error = json.loads(text)["error"]
        assert status == 400 and said in error and "\n" not in error, (path, body, text)
    status, text = served.ask("POST", here, {}, **{"Content-Length": "2000000"})
    assert status == 400 and "too long" in text
    assert set(served.table()["status"]) == {"unreviewed"} and len(served.table()) == 4
    status, text = served.ask("POST", here, {"places": square})
    assert status == 200 and json.loads(text)["columns"]["id"] == [5]


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_other_programs_read_what_is_kept(change, tmp_path):
    import sqlite3

    import pyogrio

    review = open_review(Request(Sources(change)), tmp_path / "r.gpkg")
    store = review.store
    number = store.add(outline([[30, 40], [50, 40], [50, 55.5]], store.geobox))
    store.decide(number - 1, "rejected")
    assert store.counts() == {"unreviewed": 3, "accepted": 0, "rejected": 1, "added": 1}
    review.server.server_close()
    store.close()
    assert pyogrio.read_info(tmp_path / "r.gpkg", layer="changes")["features"] == 5
    table = geopandas.read_file(tmp_path / "r.gpkg", layer="changes").set_index("id")
    assert table.crs.to_epsg() == 32643 and table.is_valid.all()
    with rasterio.open(change) as source:
        expected = source.transform * (30, 40), source.transform * (50, 55.5)
    assert table.geometry[number].bounds == (
        expected[0][0],
        expected[1][1],
        expected[1][0],
        expected[0][1],
    )
    with sqlite3.connect(tmp_path / "r.gpkg") as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert base.execute("SELECT count(*) FROM layer_styles").fetchone() == (1,)
    base.close()


def test_a_file_that_is_no_review_of_this_map_is_left_alone(change, run, tmp_path):
    (tmp_path / "mine.gpkg").write_text("mine")
    assert "is no review" in refused(run("review", change, "-o", "mine.gpkg", "--no-open"))
    assert (tmp_path / "mine.gpkg").read_text() == "mine"
    with rasterio.open(change) as source:
        box = source.profile
    table = geopandas.GeoDataFrame({"id": [1]}, geometry=[None], crs=box["crs"])
    create_store(table.assign(area_m2=1.0), tmp_path / "other.gpkg", "another map")
    with pytest.raises(S2cdError, match="review of another map"):
        open_review(Request(Sources(change)), tmp_path / "other.gpkg")
    assert Store(tmp_path / "other.gpkg", grid(SHAPE)).counts()["unreviewed"] == 1
