"""A whole tile to a stack: hardly longer than its decoding; an area: its share of the tile."""

import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from memory import peak_of, seconds_of

from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.product import open_product

SIZE = 10980
AREA = 3000
"""Side of the area in 10 m pixels: 30 km."""
PLACES = ((0, 0), (3333, 4444), (SIZE - AREA, SIZE - AREA))
"""Upper left corners: on a corner of blocks, across blocks, at the tile's end."""


def decoded(path: str) -> int:
    """Pixels of a file, decoded in the order of its own blocks."""
    with rasterio.Env(GDAL_CACHEMAX=64, GDAL_NUM_THREADS="1"), rasterio.open(path) as source:
        return sum(source.read(1, window=window).size for _, window in source.block_windows(1))


def bare_decode(root: Path) -> float:
    """Seconds for the ten bands, one process a processor."""
    product = open_product(root)
    files = [product.open_file(band).source for band in DEFAULT_BANDS]
    began = time.monotonic()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        assert sum(pool.map(decoded, files)) == 4 * SIZE**2 + 6 * (SIZE // 2) ** 2
    return time.monotonic() - began


def area_of(root: Path, row: int, column: int, path: Path) -> Path:
    """An area as a file: a square of the tile's grid."""
    grid = open_product(root).geobox[row : row + AREA, column : column + AREA]
    pyogrio.raw.write(
        path,
        geometry=np.array([shapely.box(*grid.boundingbox.bbox).wkb], object),
        field_data=[],
        fields=[],
        geometry_type="Polygon",
        crs=f"EPSG:{grid.crs.epsg}",
    )
    return path


def test_a_tile_takes_1_35_of_its_decoding_clouds_0_25_more_and_an_area_0_22(
    products, tmp_path, figure
):
    root = products(SIZE)
    cpu = [_cpu()]
    bare = bare_decode(root)
    cpu.append(_cpu())
    command = [sys.executable, "-m", "s2cd", "stack", root, "-o"]
    whole = seconds_of([*command, tmp_path / "whole.tif", "--no-clouds"])
    cpu.append(_cpu())
    print(
        f"bare decode {bare:.1f} s ({cpu[1] - cpu[0]:.0f} s of processor), stack "
        f"{whole:.1f} s ({cpu[2] - cpu[1]:.0f} s): {whole / bare:.2f} x"
    )
    clouds = seconds_of([*command, tmp_path / "clouds.tif", "--clouds"])
    cpu.append(_cpu())
    more = clouds / whole - 1
    print(f"with clouds {clouds:.1f} s ({cpu[3] - cpu[2]:.0f} s): {more:.2f} x more")
    peak = peak_of([*command, tmp_path / "peak.tif", "--clouds"]).mib
    print(f"peak, with clouds: {peak:.0f} MiB (PSS, sampled in another run)")
    shares = []
    for number, (row, column) in enumerate(PLACES):
        out = tmp_path / f"area{number}.tif"
        aoi = area_of(root, row, column, tmp_path / f"area{number}.gpkg")
        area = seconds_of([*command, out, "--aoi", aoi, "--no-clouds"])
        shares.append(area / whole)
        with rasterio.open(out) as source:
            shape = source.shape
        print(
            f"area at {row}, {column}: {shape[1]} x {shape[0]} pixels, {area:.1f} s, "
            f"{shares[-1]:.3f} x the whole"
        )
    figure("`stack`, a tile: time, to decoding its ten bands", f"{whole / bare:.2f}", "1.35")
    figure("`stack --clouds`, a tile: what clouds add", f"{more:.2f}", "0.25")
    figure("`stack --aoi`, 30 km: time, to the whole tile's", f"{max(shares):.2f}", "0.22")
    figure("`stack --clouds`, a tile: peak memory (PSS)", f"{peak:.0f} MiB", "2048 MiB")
    assert whole <= 1.35 * bare
    assert more <= 0.25
    assert max(shares) <= 0.22
    assert peak < 2048


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
