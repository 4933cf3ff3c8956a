"""Masks of change drawn by people, in the codes that people use."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.scenes.grid import regrid, whole_offset
from s2cd.scenes.header import grid_of
from s2cd.scenes.raster import reading

logger = logging.getLogger(__name__)

UNLABELLED = 255
"""Stored where nobody said whether it changed."""
CODES_TAG = "LABEL_CODES"
"""The tag of masks made here: 0 = no change, 1..n = class, 255 = not labelled, and nothing else."""


def read_label(path: Path, like: GeoBox, classes: bool = False) -> NDArray[np.uint8]:
    """A mask of change on the grid ``like``: (height, width), 1 = change, 0 = none, 255 = unknown.

    Understands 0/1, 1/2 (OSCD) and 0/255 (pictures, with or without colour and alpha), a
    declared no-data value, and the masks of `s2cd label` and `s2cd tile`, which say what they
    hold. Without a CRS it must have the size of ``like``, pixel for pixel; with one it is brought
    there by nearest neighbour.

    Args:
        path: The mask.
        like: The grid to bring it to.
        classes: Whether the classes 1..n of a mask that has several are kept apart.

    Raises:
        S2cdError: where the mask cannot be read, understood or placed.
    """
    values, geobox, nodata, said = _read(path)
    if said:
        mask = _checked(values, path)
    else:
        mask, assumed = _decode(values, nodata, path)
        logger.info("%s: assumed: %s", path.name, assumed)
    if not classes:
        mask[(mask > 1) & (mask != UNLABELLED)] = 1
    return _placed(mask, geobox, like, path)


def _read(path: Path) -> tuple[NDArray[np.generic], GeoBox, float | None, bool]:
    with reading(path) as source:
        said = CODES_TAG in source.tags() and source.count == 1
        if source.count < 3:
            values = source.read(1)
        else:
            values = source.read([1, 2, 3]).max(axis=0)
        return values, grid_of(source, path), source.nodata, said


def _checked(values: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    """A mask that says that it was made here."""
    if values.dtype != np.uint8:
        raise S2cdError(f"{path} says that it is a mask of s2cd, but holds {values.dtype}")
    return values.astype(np.uint8)


def _decode(
    values: NDArray[np.generic], nodata: float | None, path: Path
) -> tuple[NDArray[np.uint8], str]:
    unknown = np.zeros(values.shape, bool) if nodata is None else values == nodata
    found = set(np.unique(values[~unknown]).tolist())
    codes = {
        "0 = no change, 1 = change": ({0, 1}, 1),
        "1 = no change, 2 = change": ({1, 2}, 2),
        "0 = no change, 255 = change": ({0, 255}, 255),
        "0 = no change, 1 = change, 255 = not labelled": ({0, 1, 255}, 1),
    }
    for assumed, (known, change) in codes.items():
        if found <= known and found != {1}:
            mask = (values == change).astype(np.uint8)
            if len(known) == 3:
                unknown = unknown | (values == UNLABELLED)
            mask[unknown] = UNLABELLED
            return mask, assumed
    if found and values.dtype == np.uint8 and min(found) < 64 and max(found) > 191:
        mask = (values >= 128).astype(np.uint8)  # type: ignore[operator]
        mask[unknown] = UNLABELLED
        return mask, "a picture, 128 and brighter = change"
    said = ", ".join(f"{value:g}" for value in sorted(found)[:6]) or "nothing"
    raise S2cdError(
        f"{path} cannot be understood as a mask of change: it holds {said}. "
        "Code it 0 = no change, 1 = change; classes of change are drawn by `s2cd label`"
    )


def _placed(mask: NDArray[np.uint8], geobox: GeoBox, like: GeoBox, path: Path) -> NDArray[np.uint8]:
    if geobox.crs is None or like.crs is None:
        if mask.shape != like.shape:
            raise S2cdError(
                f"{path} has {mask.shape[1]} x {mask.shape[0]} pixels and no CRS to place it, "
                f"the map has {like.shape[1]} x {like.shape[0]}. Give a mask of the map's size"
            )
        return mask
    if mask.shape == like.shape and whole_offset(geobox, like) == (0, 0):
        return mask
    values = np.where(mask == UNLABELLED, np.nan, mask).astype(np.float32)[None]
    window = slice(0, like.shape[0]), slice(0, like.shape[1])
    placed = regrid(lambda ys, xs: values[:, ys, xs], (geobox, like), window, "nearest")[0]
    if np.isnan(placed).all():
        raise S2cdError(f"{path} does not meet the map on the ground. Give the mask of its place")
    return np.where(np.isnan(placed), UNLABELLED, placed).astype(np.uint8)
