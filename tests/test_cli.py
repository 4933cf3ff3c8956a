"""The command line as a user meets it."""

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import rasterio
from conftest import refused


def test_help_lists_the_commands_in_the_order_of_the_work(run):
    said = run("--help").stdout
    places = [said.index(f" {name} ") for name in ("stack", "detect", "evaluate", "plot", "demo")]
    assert places == sorted(places)
    assert "1. Scenes" in said


def test_every_command_explains_itself(run):
    for name in ("stack", "detect", "evaluate", "plot", "demo"):
        done = run(name, "--help")
        assert done.returncode == 0 and "Usage: s2cd" in done.stdout


def test_wrong_usage_exits_with_2(run):
    assert run("detect").returncode == 2
    assert run("nonsense").returncode == 2
    assert run("detect", "a", "b", "-o", "c", "--workers", "0").returncode == 2


def test_version_is_said(run):
    assert run("--version").stdout.startswith("s2cd 0.")


def test_debug_shows_the_traceback(run):
    done = run("detect", "a.tif", "b.tif", "-o", "c.tif", S2CD_DEBUG="1")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_quiet_says_nothing_and_verbose_more(place, run):
    done = run("detect", place.before, place.after, "-o", "q.tif", "-q")
    assert (done.stdout, done.stderr) == ("", "")
    assert "changed" in run("detect", place.before, place.after, "-o", "v.tif", "-v").stderr


def test_help_is_about_as_quick_as_a_bare_typer_program(tmp_path):
    bare = tmp_path / "bare.py"
    bare.write_text(
        "import typer\napp = typer.Typer()\n"
        "@app.command()\ndef one(name: str) -> None:\n    '''Do one.'''\n"
        "@app.command()\ndef two(name: str) -> None:\n    '''Do two.'''\napp()\n"
    )

    def seconds(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *words, "--help"], check=True, capture_output=True)
        return time.perf_counter() - began

    seconds(str(bare))
    ratios = [seconds("-m", "s2cd") / seconds(str(bare)) for _ in range(7)]
    print(f"s2cd --help takes {statistics.median(ratios):.2f} x a bare Typer program")
    assert statistics.median(ratios) <= 1.5, ratios


def test_plot_draws_a_panel_for_each_thing_given(place, run):
    run("detect", place.before, place.after, "-o", "c.tif")
    assert run("plot", place.before, place.after, "c.tif", "-o", "r.png").returncode == 0
    assert run("plot", place.before, place.after, "-o", "two.png").returncode == 0
    with (
        rasterio.open(place.folder / "r.png") as three,
        rasterio.open(place.folder / "two.png") as two,
    ):
        assert three.width > 1.4 * two.width
        picture = three.read([1, 2, 3])
    assert np.unique(picture.reshape(3, -1), axis=1).shape[1] > 1000
    assert "--overwrite" in refused(run("plot", place.before, place.after, "-o", "r.png"))


def test_the_demo_runs_real_commands_and_is_idempotent(run, tmp_path):
    done = run("demo", "d", "--size", "300")
    assert done.returncode == 0, done.stderr
    assert "$ s2cd detect d/before.tif d/after.tif -o d/change.tif" in done.stdout
    assert "f1 " in done.stdout
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "d").iterdir()}
    assert {"change.tif", "score.tif", "results.png", "truth.tif"} <= set(made)
    assert {"changes.gpkg", "report.html"} <= set(made)
    again = run("demo", "d", "--size", "300")
    assert again.returncode == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "d").iterdir()} == made
    assert "another demo" in refused(run("demo", "d", "--size", "400"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("x")
    assert "something else" in refused(run("demo", "mine"))


def test_earth_engine_exports_work_as_they_are(shared, run):
    folder = shared / "gee-export"
    done = run("detect", folder / "before.tif", folder / "after.tif", "-o", "c.tif", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["bands"]) == 10 and 0.5 < said["observed_fraction"] < 0.6
    assert "assumed: values are reflectance" in done.stderr


def test_pictures_without_a_place_work_as_they_are(shared, run, tmp_path):
    folder = shared / "levir-samples"
    name = "val_27_0000_0256.png"
    done = run("detect", folder / "A" / name, folder / "B" / name, "-o", "c.tif", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["changed_area_m2"] is None
    words = ("--prediction", "c.tif", "--label", folder / "label" / name, "--json")
    assert json.loads(run("evaluate", *words).stdout)["evaluated_fraction"] == 1
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.crs is None and file.shape == (256, 256)


def test_a_real_pair_whose_dates_differ_in_size_works(oscd, run, tmp_path):
    folder = oscd / "Images" / "hongkong"
    for images, stack in (("imgs_1", "before.tif"), ("imgs_2", "after.tif")):
        assert run("stack", folder / images, "-o", stack).returncode == 0
    done = run("detect", "before.tif", "after.tif", "-o", "c.tif", "--json")
    assert done.returncode == 0, done.stderr
    label = oscd / "Train Labels" / "hongkong" / "cm" / "hongkong-cm.tif"
    words = ("--prediction", "c.tif", "--label", label, "--json")
    assert json.loads(run("evaluate", *words).stdout)["f1"] > 0.3
    assert os.listdir(tmp_path)
