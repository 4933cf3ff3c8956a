"""Data far larger than the memory it takes: labels, windows, and what training reads."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from memory import peak_of
from rasterio.enums import Resampling

SIZE = 10980
LIMIT = 2048
"""MiB that cutting, preparing and reading may take."""
POLYGONS = 100_000


@pytest.fixture(scope="session")
def drawn(stacks, tmp_path_factory):
    """A hundred thousand small polygons spread over a full tile, in degrees."""
    with rasterio.open(stacks(SIZE).before) as file:
        bounds, crs = file.bounds, file.crs.to_wkt()
    random = np.random.default_rng(0)
    x = random.uniform(bounds.left, bounds.right, POLYGONS)
    y = random.uniform(bounds.bottom, bounds.top, POLYGONS)
    angles = np.linspace(0, 2 * np.pi, 13)[:-1]
    radii = random.uniform(5, 90, (POLYGONS, 12))
    rings = np.stack([x[:, None] + radii * np.cos(angles), y[:, None] + radii * np.sin(angles)], 2)
    path = tmp_path_factory.mktemp("drawn") / "polygons.gpkg"
    pyogrio.raw.write(
        path, geometry=shapely.to_wkb(shapely.polygons(rings)), field_data=[], fields=[],
        geometry_type="Polygon", crs=crs,
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def labelled(stacks, drawn, tmp_path_factory):
    """A mask of the full tile, made by `s2cd label`; what it took."""
    out = tmp_path_factory.mktemp("label") / "label.tif"
    words = ["label", drawn, "--like", stacks(SIZE).before, "-o", out]
    return out, peak_of([sys.executable, "-m", "s2cd", *words])


def test_a_label_of_a_full_tile_takes_little_memory(labelled, figure):
    out, peak = labelled
    what = f"`label`, {POLYGONS} polygons on a full tile: peak memory"
    figure(what, f"{peak.mib:.0f} MiB, {peak.seconds:.0f} s", f"{LIMIT} MiB")
    with rasterio.open(out) as file:
        assert file.shape == (SIZE, SIZE)
        assert file.read(1, out_shape=(549, 549), resampling=Resampling.nearest).any()
    assert peak.mib < LIMIT


def test_windows_of_a_part_of_a_tile_take_little_memory(stacks, tmp_path):
    pair = stacks(2750)
    words = ["tile", pair.before, pair.after, "-o", tmp_path / "chips"]
    peak = peak_of([sys.executable, "-m", "s2cd", *words])
    count = len(list((tmp_path / "chips" / "A").glob("*.tif")))
    print(f"tile, {count} windows of 2750 x 2750: {peak.mib:.0f} MiB, {peak.seconds:.0f} s")
    assert count == 22**2
    assert peak.mib < LIMIT


_READ = """
import json, sys, time, resource
from pathlib import Path
from s2cd.learning.chips import Chips
from s2cd.learning.places import find_places, with_splits
from s2cd.learning.prepared import prepare
began = time.monotonic()
places = with_splits(find_places(Path(sys.argv[1])))
samples = [prepare(place, None, Path(sys.argv[2])) for place in places]
prepared = time.monotonic() - began
chips = Chips(tuple(s for s in samples if s.place.split == "train"))
chips.draw(0, 0)
began, steps = time.monotonic(), int(sys.argv[3])
for step, (dates, masks) in enumerate(chips.epoch(0, steps)):
    pass
drawn = (time.monotonic() - began) / steps
print(json.dumps({"prepare_s": prepared, "batch_s": drawn, "areas": len(samples)}))
"""


def test_what_training_reads_of_a_large_scene_takes_little_memory(
    stacks, labelled, tmp_path, figure
):
    """Twenty bands of a full tile are 9.6 GB as they are prepared."""
    import json

    pair, (label, _) = stacks(SIZE), labelled
    (tmp_path / "d.csv").write_text(f"before,after,label\n{pair.before},{pair.after},{label}\n")
    line = [sys.executable, "-c", _READ, tmp_path / "d.csv", tmp_path / "cache", 50]
    made = peak_of(line)
    child = subprocess.run([str(w) for w in line], capture_output=True, text=True, check=True)
    again = peak_of(line)
    facts = json.loads(child.stdout.splitlines()[-1])
    size = sum(p.stat().st_size for p in Path(tmp_path / "cache").rglob("*.bin"))
    print(
        f"training's data of {SIZE} x {SIZE} x 10, {size / 2**30:.1f} GiB prepared: {made.mib:.0f} "
        f"MiB while it is prepared ({made.seconds:.0f} s), {again.mib:.0f} MiB afterwards; "
        f"{facts['batch_s'] * 1000:.0f} ms a batch of 16 windows of 128"
    )
    what = "`train` on a full tile: peak memory while it is prepared, and afterwards"
    figure(what, f"{made.mib:.0f}, {again.mib:.0f} MiB", f"{LIMIT}, 1024 MiB")
    assert size > 9e9
    assert made.mib < LIMIT and again.mib < 1024


def test_the_loader_takes_a_small_part_of_a_training_step(stacks, tmp_path, figure):
    pair = stacks(2750)
    with rasterio.open(pair.before) as file:
        profile = {**file.profile, "count": 1, "dtype": "uint8", "nodata": 255, "predictor": 1}
        truth = (file.read(1) > file.read(1).mean()).astype(np.uint8)
    with rasterio.open(tmp_path / "l.tif", "w", **profile) as file:
        file.write(truth, 1)
    (tmp_path / "d.csv").write_text(f"before,after,label\n{pair.before},{pair.after},l.tif\n")
    words = ["train", "d.csv", "-o", "run", "--epochs", 1, "--steps", 20, "--json"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "s2cd", *map(str, words)], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    import json

    waited = json.loads(done.stdout)["waited"]
    print(f"\n20 steps of 16 windows, unet: {time.monotonic() - began:.0f} s in all")
    figure("`train`: share of a step that waits for data", f"{waited:.2%}", "5 %")
    assert waited <= 0.05
