"""Factories: every raster in the tests is made here, by the real writers."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from starter import Starter

from s2cd.scenes.bands import BANDS, DEFAULT_BANDS
from s2cd.scenes.simulate import Sheet, write_metadata
from s2cd.scenes.stack import stack_array, write_stack

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
UTM = "EPSG:32643"
ORIGIN = (199980.0, 2600040.0)


def pytest_configure():
    """Share the processors among the workers of xdist, and hear Ctrl-C.

    Each process would take all of them, and its threads wait for each other in busy loops; where
    the tests run in the background of a script, what they start would not hear SIGINT.
    """
    if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        share = len(os.sched_getaffinity(0)) // int(workers)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def without_weights(tmp_path_factory, monkeypatch):
    """Tests go by `cva` where they name no model, whatever ships; see test_shipped.py."""
    monkeypatch.setenv("S2CD_WEIGHTS", str(tmp_path_factory.getbasetemp() / "no-weights"))


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED.resolve()


@pytest.fixture(scope="session")
def oscd() -> Path:
    if not (SHARED / "oscd").is_dir():
        pytest.skip("../shared/data/oscd is absent")
    return (SHARED / "oscd").resolve()


def grid(
    shape: tuple[int, int], origin=ORIGIN, size: float = 10.0, crs: str | None = UTM
) -> GeoBox:
    affine = Affine.translation(*origin) * Affine.scale(size, -size)
    return GeoBox(shape, affine, crs)


def landscape(shape: tuple[int, int], bands: int, seed: int = 0) -> np.ndarray:
    """Smooth reflectance (band, y, x) with texture, between 0.02 and 0.5."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    ground = gaussian_filter(random.normal(size=shape), 4) * 12
    slopes = random.uniform(0.4, 1.6, size=(bands, 1, 1))
    noise = random.normal(scale=0.002, size=(bands, *shape))
    return np.clip(0.15 + 0.04 * slopes * ground + noise, 0.02, 0.5).astype(np.float32)


@dataclass
class Place:
    """Two dates and their truth, in a folder."""

    before: Path
    after: Path
    truth: np.ndarray
    geobox: GeoBox
    folder: Path
    bands: tuple[str, ...] = field(default=DEFAULT_BANDS)


@pytest.fixture
def make_place(tmp_path: Path):
    """Write a pair of stacks with a few changed squares; the second date is brighter and noisy."""

    def make(
        shape: tuple[int, int] = (300, 340),
        bands: Sequence[str] = DEFAULT_BANDS,
        seed: int = 0,
        crs: str | None = UTM,
        hole: bool = False,
    ) -> Place:
        before = landscape(shape, len(bands), seed)
        random = np.random.default_rng(seed + 1)
        noise = random.normal(scale=0.004, size=before.shape).astype(np.float32)
        after = before * 1.08 + 0.01 + noise
        truth = np.zeros(shape, np.uint8)
        for y, x in random.integers(20, min(shape) - 40, size=(5, 2)):
            truth[y : y + 18, x : x + 22] = 1
        after[:, truth == 1] = 0.45
        if hole:
            after[:, 10:60, 20:90] = np.nan
        box = grid(shape, crs=crs)
        paths = tmp_path / "before.tif", tmp_path / "after.tif"
        for path, values in zip(paths, (before, after), strict=True):
            write_stack(stack_array(values, box, bands), path, overwrite=True)
        return Place(*paths, truth, box, tmp_path, tuple(bands))

    return make


@pytest.fixture
def place(make_place) -> Place:
    return make_place()


@pytest.fixture
def make_raster(tmp_path: Path):
    """Write any raster: values (band, y, x) or (y, x), and whatever rasterio's profile takes."""

    def make(name: str, values: np.ndarray, names: Sequence[str] | None = None, **profile) -> Path:
        values = values[None] if values.ndim == 2 else values
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        count, height, width = values.shape
        settings = {
            "driver": "GTiff",
            "crs": UTM,
            "transform": grid((height, width)).affine,
            "dtype": values.dtype,
            "count": count,
            "height": height,
            "width": width,
        }
        with rasterio.open(path, "w", **(settings | profile)) as target:
            target.write(values)
            if names is not None:
                target.descriptions = tuple(names)
        return path

    return make


def write_jp2(path, values, sheet, metres):
    height, width = values.shape
    transform = Affine(metres, 0, sheet.corner[0], 0, -metres, sheet.corner[1])
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "uint16"}
    with rasterio.MemoryFile() as memory, rasterio.Env(GDAL_PAM_ENABLED="NO"):
        with memory.open(**profile, crs=sheet.crs, transform=transform) as target:
            target.write(values, 1)
        rasterio.shutil.copy(
            memory.name, path, driver="JP2OpenJPEG", CODEC="JP2", QUALITY="100", REVERSIBLE="YES"
        )


@pytest.fixture
def make_product(tmp_path):
    """Write a product of constant bands, or of DN by band; the metadata is the simulation's."""

    def make(dn=1500, size=120, folder=tmp_path, **sheet):
        sheet = Sheet(**({"day": date(2020, 11, 28), "size": size} | sheet))
        root = folder / f"{sheet.name}.SAFE"
        (root / sheet.granule / "IMG_DATA").mkdir(parents=True)
        for name, band in BANDS.items():
            side = -(-size * 10 // band.resolution)
            values = dn.get(name, 1500) if isinstance(dn, dict) else dn
            values = np.broadcast_to(np.asarray(values, np.uint16), (side, side))
            write_jp2(root / sheet.band_file(name), np.array(values), sheet, band.resolution)
        write_metadata(root, sheet)
        return root

    return make


@pytest.fixture(scope="session")
def starter():
    with Starter() as starter:
        yield starter


@pytest.fixture
def run(tmp_path: Path, starter: Starter):
    """Run the command line in a new process: its exit code and what it said.

    One with an environment of its own starts from nothing, as a user's does; others begin where all
    have imported what they need, which takes seconds each time.
    """

    def call(*words: object, cwd: Path | None = None, **environment: str):
        if not environment:
            return starter.run(words, cwd or tmp_path)
        return subprocess.run(
            [sys.executable, "-m", "s2cd", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=cwd or tmp_path,
            env={**os.environ, **environment},
            check=False,
        )

    return call


@pytest.fixture
def disk(tmp_path):
    """A disk of its own; gives its folder and a function that sets its size in bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "s2cd-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("a disk cannot be mounted here")

    def resize(size):
        size = max(4096, int(size))
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    yield folder, resize
    subprocess.run(["umount", "-l", str(folder)], check=True)


def refused(done) -> str:
    """The one line of a command that refused with exit 1."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return lines[0]


def values_of(stack: xr.DataArray) -> np.ndarray:
    return stack.values


@pytest.fixture
def real_windows(oscd, tmp_path) -> Path:
    """A CSV of two windows of 64 x 64 pixels of OSCD, each with a tenth of change or more."""
    from s2cd.scenes.mask import read_label
    from s2cd.scenes.pair import make_pair
    from s2cd.scenes.safe import open_folder

    lines = ["name,before,after,label,split"]
    for city in ("beihai", "rennes"):
        dates = [open_folder(oscd / "Images" / city / f"imgs_{n}", None) for n in (1, 2)]
        pair = make_pair(*dates)
        mask = next((oscd / "Train Labels" / city / "cm").glob("*-cm.tif"))
        label = read_label(mask, pair.geobox)
        corners = [(y, x) for y in range(0, label.shape[0] - 64, 32)
                   for x in range(0, label.shape[1] - 64, 32)]  # fmt: skip
        y, x = max(corners, key=lambda at: label[at[0] : at[0] + 64, at[1] : at[1] + 64].sum())
        ys, xs = slice(y, y + 64), slice(x, x + 64)
        assert label[ys, xs].mean() > 0.1
        window, folder = pair.window(ys, xs), tmp_path / city
        folder.mkdir()
        for name, values in (("before", window.before), ("after", window.after)):
            stack = stack_array(values, pair.geobox[ys, xs], pair.bands)
            write_stack(stack, folder / f"{name}.tif")
        profile = {"width": 64, "height": 64, "count": 1, "dtype": "uint8"}
        with rasterio.open(folder / "label.png", "w", driver="PNG", **profile) as file:
            file.write(label[None, ys, xs] * 255)
        files = (f"{city}/{name}" for name in ("before.tif", "after.tif", "label.png"))
        lines.append(",".join([city, *files, "train"]))
    path = tmp_path / "windows.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def learned_by_heart(real_windows, tmp_path):
    """Train a network on two real windows, and give its F1 on these very windows."""

    def learn(**recipe) -> float:
        from s2cd.learning.evaluate import Options, evaluate_data
        from s2cd.learning.recipe import Recipe
        from s2cd.learning.train import train

        usual = {"validation": 0.0, "augment": "none", "batch": 2, "size": 64, "epochs": 1}
        usual |= {"window": 64, "halo": 0, "loss": "bce+dice"}
        train(real_windows, tmp_path / "run", Recipe(**{**usual, **recipe}))
        options = Options("train", cache=tmp_path / ".prepared")
        return evaluate_data(real_windows, str(tmp_path / "run/best.safetensors"), options)["f1"]

    return learn
