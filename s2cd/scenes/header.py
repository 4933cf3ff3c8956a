"""What a raster says of itself, before a pixel of it is read."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import hypot
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

MAX_PIXELS = 100_000 * 100_000
"""A header that claims more pixels than this in one band is taken for damage."""
_MAX_RATIO = 33_000
"""Most bytes of pixels for a byte of a file. Zstandard holds 128 KiB of one value in four bytes;
other compressions of GeoTIFF, and sparse tiles, do not come near that."""
_A_SCENE = 11_000 * 11_000
"""As many pixels are believed of any file: a Sentinel-2 tile without data is small in JPEG 2000."""
_MAX_BLOCK = 2 << 30
"""Most bytes that GDAL may have to hold for one block of a file."""
_FARTHEST = 1e12
"""No coordinate on the ground is larger than this, in whatever unit."""
_CONTAINERS = (b"\x89HDF", b"CDF")
"""How HDF5 and netCDF files begin: they hold no band themselves, and the HDF5 library writes to
standard error what it finds wrong with them."""


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
    with reading(path) as source:
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


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """An open raster whose header can be believed; what GDAL says of it meanwhile is an S2cdError.

    Raises:
        S2cdError: where there is no such file, or GDAL cannot read it.
    """
    from rasterio.errors import RasterioError

    with gdal(), open_raster(path) as source:
        try:
            _check_size(source, path)
            yield source
        except UnicodeDecodeError as e:
            raise S2cdError(f"{path} holds names that are not text. Is it damaged?") from e
        except (RasterioError, MemoryError) as e:
            raise S2cdError(
                f"{path} cannot be read: {one_line(e)}. It is cut short or damaged"
            ) from e


def gdal() -> Any:
    """A context in which GDAL raises what it has to say, and takes half a picture for an error."""
    import rasterio

    return rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True)


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
    try:
        with path.open("rb") as file:
            begin = file.read(4)
        if not begin:
            raise S2cdError(f"{path} is empty. Fetch or make it again")
        if begin.startswith(_CONTAINERS):
            raise S2cdError(f"{path} is HDF5 or netCDF. Make a GeoTIFF of it: gdal_translate")
        with gdal():
            return rasterio.open(path)
    except (RasterioError, OSError, ValueError, MemoryError) as e:
        raise S2cdError(f"{path} cannot be read as a raster: {one_line(e)}. Is it damaged?") from e


def _check_size(source: Any, path: Path) -> None:
    from rasterio.enums import Interleaving

    if source.count == 0:
        raise S2cdError(f"{path} holds no raster band. Name one of its subdatasets")
    pixels = source.height * source.width
    depth = max(4 if name == "complex_int16" else np.dtype(name).itemsize for name in source.dtypes)
    there = _bytes_behind(source) if pixels > _A_SCENE else None
    if pixels > MAX_PIXELS or (there and pixels * source.count * depth > _MAX_RATIO * there):
        raise S2cdError(
            f"{path} claims {source.width} x {source.height} pixels, more than "
            f"{'s2cd reads' if pixels > MAX_PIXELS else 'it can hold'}. Is its header damaged?"
        )
    together = source.count if source.interleaving == Interleaving.pixel else 1
    height, width = max(source.block_shapes, key=lambda shape: shape[0] * shape[1])
    if height * width * depth * together > _MAX_BLOCK:
        raise S2cdError(
            f"{path} stores {width} x {height} pixels as one block, more than can be held. "
            "Store it in tiles: gdal_translate -co TILED=YES"
        )


def _bytes_behind(source: Any) -> int | None:
    """Bytes of the files of a raster; None where they cannot be told, as with nested VRT."""
    own, *others = (Path(name) for name in source.files)
    if not all(p.is_file() for p in others) or any(p.suffix.lower() == ".vrt" for p in others):
        return None
    return sum(p.stat().st_size for p in (own, *others) if p.is_file()) or None


def grid_of(source: Any, path: Path) -> GeoBox:
    """The grid of an open raster.

    Raises:
        S2cdError: where its transform or CRS makes no sense.
    """
    from odc.geo.crs import CRSError as OdcError
    from pyproj.exceptions import ProjError
    from rasterio.errors import CRSError

    transform = source.transform
    if not _places(transform, source.shape):
        raise S2cdError(f"{path} has a transform that maps pixels to no place. Repair it in GDAL")
    try:
        crs = source.crs
        geobox = GeoBox(source.shape, transform, crs.to_wkt() if crs else None)
    except (CRSError, OdcError, ProjError, ValueError) as e:
        raise S2cdError(f"{path} has a CRS that cannot be read: {one_line(e)}. Set it anew") from e
    _check_crs(geobox, path)
    line, turned = 1 in geobox.shape, not geobox.axis_aligned
    if (geobox.crs is None and (line or turned)) or (line and turned):  # odc-geo would lose it
        raise S2cdError(
            f"{path} is a single line of pixels or turned, {'with' if geobox.crs else 'without'} a "
            "CRS: its place would be lost. Make it north-up, with a CRS: gdalwarp"
        )
    return geobox


def _places(transform: Any, shape: tuple[int, int]) -> bool:
    """Whether a transform gives each pixel a place of its own, and none beyond all ground."""
    if not np.isfinite(transform[:6]).all():
        return False
    height, width = shape
    corners = [transform * corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    farthest = max(abs(value) for corner in corners for value in corner)
    one, other = hypot(transform.a, transform.d), hypot(transform.b, transform.e)
    apart = abs(transform.determinant) > 1e-9 * one * other and one * other > 0
    return bool(apart and 1e-11 * farthest < min(one, other) and farthest < _FARTHEST)


def _check_crs(geobox: GeoBox, path: Path) -> None:
    """Refuse a CRS that places nothing in a plane, or degrees that are none."""
    if geobox.crs is None:
        return
    if not (geobox.crs.geographic or geobox.crs.projected):
        raise S2cdError(
            f"{path} has a CRS that is neither geographic nor projected. Reproject it: gdalwarp"
        )
    box = geobox.boundingbox
    farthest, around = max(-box.bottom, box.top), box.right - box.left
    if geobox.crs.geographic and (farthest > 101 or around > 721):  # a pole is at 100 grads
        raise S2cdError(
            f"{path} has a CRS in degrees, but reaches from {box.bottom:g} to {box.top:g} north. "
            "Set the CRS that its coordinates are in: gdal_edit.py -a_srs"
        )


def _named_bands(source: Any) -> dict[str, int]:
    """Index of each band that the raster names, the QA band among them."""
    named: dict[str, int] = {}
    for index, text in enumerate(source.descriptions, start=1):
        name = "QA" if (text or "").strip().upper() == "QA" else find_band(text or "")
        if name == "QA" and np.dtype(source.dtypes[index - 1]).kind not in "iu":
            continue
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

    # as for GDAL itself, a no-data value comes before an alpha band
    return ColorInterp.alpha in source.colorinterp and source.nodata is None


def _units(source: Any, indexes: list[int]) -> tuple[float, float, float | None, list[str]]:
    """Scale, shift and no-data value of the bands at ``indexes``, and what was assumed."""
    first = indexes[0] - 1
    scale, shift = source.scales[first], source.offsets[first]
    dtype = _one_dtype(source, indexes)
    nodata = source.nodata
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


def _one_dtype(source: Any, indexes: list[int]) -> np.dtype[Any]:
    """The type of the values of the bands at ``indexes``."""
    names = sorted({source.dtypes[index - 1] for index in indexes})
    if any(name.startswith("complex") for name in names):
        raise S2cdError(f"{source.name} holds complex numbers. Give reflectance")
    if len(names) > 1:
        raise S2cdError(
            f"{source.name} holds bands of several types ({', '.join(names)}). Give them one: "
            "gdal_translate -ot"
        )
    return np.dtype(names[0])


def _typical(source: Any, index: int) -> float:
    """Median of the finite values of a band in a coarse look at it; 0 where there is none."""
    values = source.read(index, out_shape=(min(source.height, 256), min(source.width, 256)))
    with np.errstate(over="ignore"):
        known = np.isfinite(values) & (values != source.nodata)
        return float(np.median(values[known].astype(np.float64))) if known.any() else 0.0
