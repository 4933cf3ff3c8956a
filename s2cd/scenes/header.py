"""What a raster says of itself, before a pixel of it is read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.output import one_line
from s2cd.scenes.bands import RGB, band_names, find_band
from s2cd.scenes.raster import reading

_FARTHEST = 1e12
"""No coordinate on the ground is larger than this, in whatever unit."""


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
