"""A simulated scene as files: single-band rasters as a product holds them, and the truth."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS
from s2cd.scenes.simulate.lattice import Floats
from s2cd.scenes.simulate.scene import Simulation, changes, observe, tiles_of
from s2cd.scenes.simulate.sensor import OF_RESOLUTION, TILE

Driver = Literal["GTiff", "JP2OpenJPEG"]

MGRS_TILE = "43QBF"
CRS = "EPSG:32643"
CORNER = (199980, 2600040)
"""Easting and northing of the tile's upper left corner, a multiple of 60 m as ESA's are."""

SENSING_TIME = "T054122"
_ENDINGS = {"GTiff": ".tif", "JP2OpenJPEG": ".jp2"}
_COMPRESSED = {"driver": "GTiff", "tiled": True, "compress": "zstd", "zstd_level": 1}
_LOSSLESS = {
    "CODEC": "JP2",  # else the temporary name's ending makes it a bare codestream, without place
    "QUALITY": "100",
    "REVERSIBLE": "YES",
}
_JP2_BLOCK = {10: 1024, 20: 640, 60: 192}
"""Side of the blocks of ESA's own files by the size of their pixels in metres."""


def write_band_files(
    simulation: Simulation,
    date_index: int,
    folder: Path,
    driver: Driver = "GTiff",
    offset: int = 0,
) -> dict[str, Path]:
    """Writes one date's 13 bands at their own pixel sizes, and gives their paths by band.

    DN = 10000 reflectance - ``offset``, within 1..65535; 0 is no data. The files share their
    upper left corner; a size that 2 or 6 does not divide is rounded up, as pixels are whole.

    Args:
        simulation: the pair.
        date_index: 0 for the first date, 1 for the second.
        folder: where to; it must exist.
        driver: GTiff, or JP2OpenJPEG for lossless JPEG 2000.
        offset: what a reader adds to DN; -1000 since processing baseline 04.00.

    Raises:
        S2cdError: where the folder does not exist.
    """
    _require_folder(folder)
    stem = f"T{MGRS_TILE}_{simulation.dates[date_index]:%Y%m%d}{SENSING_TIME}"
    paths = {name: folder / f"{stem}_{name}{_ENDINGS[driver]}" for name in BANDS}
    with ExitStack() as stack:
        drafts = {name: stack.enter_context(_draft(path)) for name, path in paths.items()}
        _write_tiles(simulation, date_index, drafts, offset, 0 if driver == "GTiff" else None)
        for name, path in paths.items():
            if driver == "JP2OpenJPEG":
                _encode(drafts[name], _JP2_BLOCK[BANDS[name].resolution])
            os.replace(drafts[name], path)
    return paths


def write_truth(simulation: Simulation, path: Path) -> None:
    """Writes where something was built: a GeoTIFF, uint8, 1 or 0, on the grid of 10 m.

    Raises:
        S2cdError: where the folder does not exist.
    """
    _require_folder(path.parent)
    with _draft(path) as draft:
        with rasterio.open(draft, "w", **_profile(simulation.size, 10, "uint8")) as target:
            for tile in tiles_of(simulation.size):
                _put(target, changes(simulation, tile), tile)
        os.replace(draft, path)


def numbers_of(reflectance: Floats, offset: int) -> NDArray[np.uint16]:
    """Digital numbers of reflectance: 0 where NaN, else within 1..65535."""
    seen = np.isfinite(reflectance)
    scaled = np.rint(np.where(seen, reflectance, 0) * np.float32(10000)) - offset
    return np.where(seen, np.clip(scaled, 1, 65535), 0).astype(np.uint16)


def _write_tiles(
    simulation: Simulation,
    date_index: int,
    drafts: dict[str, Path],
    offset: int,
    nodata: int | None,
) -> None:
    """Writes all bands side by side, tile by tile, so that a tile is made once."""
    with ExitStack() as stack:
        targets = [
            stack.enter_context(
                rasterio.open(
                    drafts[band.name],
                    "w",
                    **_profile(simulation.size, band.resolution, "uint16"),
                    nodata=nodata,
                )
            )
            for band in BANDS.values()
        ]
        for tile in tiles_of(simulation.size):
            seen = observe(simulation, date_index, tile)
            for metres, bands in OF_RESOLUTION.items():
                for band, values in zip(bands, numbers_of(seen[metres], offset), strict=True):
                    _put(targets[band], values, tile)


def _put(target: Any, values: NDArray[Any], tile: tuple[int, int]) -> None:
    """Writes the part of a tile that lies inside a raster."""
    row, column = (at * values.shape[0] for at in tile)
    inside = values[: target.height - row, : target.width - column]
    target.write(inside, 1, window=Window(column, row, inside.shape[1], inside.shape[0]))


def _encode(draft: Path, block: int) -> None:
    """Makes a band lossless JPEG 2000 in place; GDAL writes that from another raster only."""
    blocks = {"BLOCKXSIZE": str(block), "BLOCKYSIZE": str(block)}
    with _draft(draft) as encoded:
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):  # no .aux.xml beside it
            rasterio.shutil.copy(draft, encoded, driver="JP2OpenJPEG", **_LOSSLESS, **blocks)
        os.replace(encoded, draft)


def _profile(size: int, metres: int, dtype: str) -> dict[str, Any]:
    """How to create a raster whose blocks are the simulation's tiles."""
    side, block = -(-size * 10 // metres), TILE * 10 // metres
    return _COMPRESSED | {
        "width": side,
        "height": side,
        "count": 1,
        "dtype": dtype,
        "crs": CRS,
        "transform": Affine(metres, 0, CORNER[0], 0, -metres, CORNER[1]),
        "blockxsize": block,
        "blockysize": block,
        "predictor": 2,
    }


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A temporary name beside a path, gone at the end if it still stands."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise S2cdError(f"There is no folder {folder} to write to. Create it first")
