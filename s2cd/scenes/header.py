"""What a raster says of itself, before a pixel of it is read."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.scenes.bands import RGB, band_names, find_band

# Rasters without a place are told and handled here. A filter for the whole process, since those
# of `warnings.catch_warnings` are not safe among threads (rasterio's own leaks this warning).
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

MAX_PIXELS = 200_000 * 200_000
"""A header that claims more pixels than this in one band is taken for damage."""


@dataclass(frozen=True)
class Header:
    """A raster's bands, place and units.

    Reflectance is ``value * scale + shift``, and there is none where a value is ``nodata``.
    """

    path: Path
    geobox: GeoBox
    bands: tuple[str, ...]
    indexes: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    shift: float = 0.0
    nodata: float | None = None
    has_alpha: bool = False
    qa_index: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def only_qa(self) -> "Header":
        """The same raster with its QA band alone, as it is stored."""
        if self.qa_index is None:
            raise S2cdError(f"{self.path} has no QA band. Make it with `s2cd stack`")
        return replace(
            self, bands=("QA",), indexes=(self.qa_index,), scale=1.0, shift=0.0, nodata=None
        )


def read_header(path: Path, bands: Sequence[str] | None = None) -> Header:
    """What ``path`` says of itself, and what had to be assumed (``notes``).

    Args:
        path: Any raster that GDAL reads.
        bands: Bands to take, or, where the raster does not name its bands, what they are.

    Raises:
        S2cdError: where it is no raster, or its bands cannot be told.
    """
    with open_raster(path) as source:
        _check_size(source, path)
        named = _named_bands(source)
        chosen, band_notes = _choose(source, path, named, bands)
        scale, shift, nodata, unit_notes = _units(source, list(chosen.values()))
        return Header(
            path=path,
            geobox=grid_of(source, path),
            bands=tuple(chosen),
            indexes=tuple(chosen.values()),
            dtype=source.dtypes[next(iter(chosen.values())) - 1],
            scale=scale,
            shift=shift,
            nodata=nodata,
            has_alpha=_has_alpha(source),
            qa_index=named.get("QA"),
            tags=dict(source.tags()),
            notes=(*band_notes, *unit_notes),
        )


def open_raster(path: Path) -> Any:
    """Open a raster with rasterio, or say in one line why that cannot be.

    Raises:
        S2cdError: where there is no such file, or GDAL cannot read it.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if not path.exists():
        raise S2cdError(f"{path} does not exist. Check the name")
    if path.is_dir():
        raise S2cdError(
            f"{path} is a folder, not a raster. For a product: `s2cd stack {path} -o …`"
        )
    if path.stat().st_size == 0:
        raise S2cdError(f"{path} is empty. Fetch or make it again")
    try:
        return rasterio.open(path)
    except (RasterioError, OSError, ValueError, UnicodeDecodeError) as e:
        raise S2cdError(f"{path} cannot be read as a raster: {one_line(e)}. Is it damaged?") from e


def _check_size(source: Any, path: Path) -> None:
    if source.count == 0:
        raise S2cdError(f"{path} holds no raster band. Name one of its subdatasets")
    if source.height * source.width > MAX_PIXELS:
        raise S2cdError(
            f"{path} claims {source.width} x {source.height} pixels, more than s2cd reads. "
            "Is its header damaged?"
        )


def grid_of(source: Any, path: Path) -> GeoBox:
    """The grid of an open raster.

    Raises:
        S2cdError: where its transform or CRS makes no sense.
    """
    transform = source.transform
    values = np.array(transform[:6])
    if not np.isfinite(values).all() or transform.determinant == 0:
        raise S2cdError(f"{path} has a transform that maps pixels to no place. Repair it in GDAL")
    crs = source.crs
    try:
        return GeoBox(source.shape, transform, crs.to_wkt() if crs else None)
    except Exception as e:  # pyproj and odc-geo raise several unrelated types here
        raise S2cdError(f"{path} has a CRS that cannot be read: {one_line(e)}. Set it anew") from e


def _named_bands(source: Any) -> dict[str, int]:
    """Index of each band that the raster names, the QA band among them."""
    named: dict[str, int] = {}
    for index, text in enumerate(source.descriptions, start=1):
        name = "QA" if (text or "").strip().upper() == "QA" else find_band(text or "")
        if name is not None:
            named.setdefault(name, index)
    return named


def _choose(
    source: Any, path: Path, named: dict[str, int], bands: Sequence[str] | None
) -> tuple[dict[str, int], list[str]]:
    """Bands to read with their indexes, and what was assumed about them."""
    wanted = None if bands is None else band_names(bands)
    spectral = {name: index for name, index in named.items() if name != "QA"}
    if spectral:
        if wanted is None:
            return spectral, []
        if missing := [name for name in wanted if name not in spectral]:
            raise S2cdError(
                f"{path} has no band {', '.join(missing)}. It holds {', '.join(spectral)}"
            )
        return {name: spectral[name] for name in wanted}, []
    if wanted is not None:
        if len(wanted) != source.count:
            raise S2cdError(
                f"{path} has {source.count} bands without names, and {len(wanted)} were named. "
                "Name all of them, in their order, with --bands"
            )
        return {name: index for index, name in enumerate(wanted, start=1)}, []
    return _rgb(source, path)


def _rgb(source: Any, path: Path) -> tuple[dict[str, int], list[str]]:
    if source.count in (3, 4) and set(source.dtypes) == {"uint8"}:
        note = "assumed: bands 1 to 3 are red, green and blue"
        return {name: index for index, name in enumerate(RGB, start=1)}, [note]
    said = ", ".join(text for text in source.descriptions if text) or "none"
    said = re.sub(r"\s+", " ", said)[:200]
    raise S2cdError(
        f"The bands of {path} cannot be told ({source.count} bands; names: {said}). "
        "Name them in their order, such as --bands B02,B03,B04,B08"
    )


def _has_alpha(source: Any) -> bool:
    from rasterio.enums import ColorInterp

    return ColorInterp.alpha in source.colorinterp


def _units(source: Any, indexes: list[int]) -> tuple[float, float, float | None, list[str]]:
    """Scale, shift and no-data value of the bands at ``indexes``, and what was assumed."""
    first = indexes[0] - 1
    scale, shift = source.scales[first], source.offsets[first]
    dtype = np.dtype(source.dtypes[first])
    nodata = source.nodata
    if dtype.kind == "c":
        raise S2cdError(f"{source.name} holds complex numbers. Give reflectance")
    if (scale, shift) != (1.0, 0.0) and np.isfinite([scale, shift]).all() and scale != 0:
        return scale, shift, nodata, []
    if dtype == np.uint8:
        return 1 / 255, 0.0, nodata, ["assumed: 8-bit values, 255 = brightest"]
    if dtype.kind in "iu":
        notes = ["assumed: reflectance = value / 10000"]
        if nodata is None:
            notes.append("assumed: 0 is no data")
        return 1e-4, 0.0, 0.0 if nodata is None else nodata, notes
    if _typical(source, indexes[0]) > 3:
        return 1e-4, 0.0, nodata, ["assumed: reflectance = value / 10000"]
    return 1.0, 0.0, nodata, ["assumed: values are reflectance"]


def _typical(source: Any, index: int) -> float:
    """Median of the finite values of a band in a coarse look at it; 0 where there is none."""
    from rasterio.errors import RasterioError

    shape = (min(source.height, 256), min(source.width, 256))
    try:
        values = source.read(index, out_shape=shape)
    except (RasterioError, MemoryError) as e:
        raise S2cdError(
            f"{source.name} cannot be read: {one_line(e)}. It is cut short or damaged"
        ) from e
    values = values[np.isfinite(values)]
    if source.nodata is not None:
        values = values[values != source.nodata]
    return float(np.median(values)) if values.size else 0.0
