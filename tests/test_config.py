"""Options in a TOML file; a cluster that is not there."""

import json

import pytest
import rasterio
from conftest import refused

from s2cd.detection.detect import Request, detect_files
from s2cd.detection.schedule import Workers
from s2cd.errors import S2cdError


def test_options_come_from_a_file_and_the_command_line_wins(place, run, tmp_path):
    (tmp_path / "s2cd.toml").write_text(
        'quiet = true\n[detect]\noutput = "c.tif"\nthreshold = 0.7\nbands = ["B02", "nir"]\n'
    )
    done = run("detect", place.before, place.after, "--config", "s2cd.toml", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["change"], said["threshold"], said["bands"]) == ("c.tif", 0.7, ["B02", "B08"])
    words = ("--config", "s2cd.toml", "--threshold", "0.4", "-o", "d.tif", "--json")
    said = json.loads(run("detect", place.before, place.after, *words).stdout)
    assert (said["change"], said["threshold"]) == ("d.tif", 0.4)
    with rasterio.open(tmp_path / "d.tif") as file:
        assert file.tags()["THRESHOLD"] == "0.4" and file.tags()["BANDS"] == "B02 B08"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("thresold = 0.5", "no option 'thresold'"), ("= 3", "cannot be read as TOML"), (None, "TOML")],
)
def test_a_bad_config_is_refused_in_one_line(place, run, tmp_path, text, expected):
    if text is not None:
        (tmp_path / "s2cd.toml").write_text(text)
    words = ("-o", "c.tif", "--config", "s2cd.toml")
    assert expected in refused(run("detect", place.before, place.after, *words))


@pytest.mark.enable_socket
def test_a_scheduler_that_does_not_answer_is_named(place):
    request = Request(
        place.before,
        place.after,
        place.folder / "c.tif",
        workers=Workers(scheduler="tcp://127.0.0.1:9"),
    )
    with pytest.raises(S2cdError, match=r"No dask scheduler answers at tcp://127\.0\.0\.1:9"):
        detect_files(request)
    assert not (place.folder / "c.tif").exists()
