"""Where a raster has data, whatever it holds: it need not tell its bands."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.scenes.header import grid_of
from s2cd.scenes.raster import reading

Observed = Callable[[slice, slice], NDArray[np.bool_]]
"""Gives for rows and columns whether any band has data there."""


@contextmanager
def observed_in(path: Path) -> Iterator[tuple[GeoBox, Observed]]:
    """The grid of a raster, and where it has data: a stack by its QA band, others by no data.

    Raises:
        S2cdError: where it is no raster.
    """
    with reading(path) as source:
        yield grid_of(source, path), _reader(source)


def _reader(source: Any) -> Observed:
    from rasterio.windows import Window

    names = [(text or "").strip().upper() for text in source.descriptions]
    if "QA" in names and np.dtype(source.dtypes[names.index("QA")]).kind in "iu":
        index = names.index("QA") + 1
        return lambda ys, xs: source.read(index, window=Window.from_slices(ys, xs)) != 0

    def observed(ys: slice, xs: slice) -> NDArray[np.bool_]:
        window = Window.from_slices(ys, xs)
        seen: NDArray[np.bool_] = source.dataset_mask(window=window) != 0
        kind = np.dtype(source.dtypes[0]).kind
        if kind == "f":
            seen &= np.isfinite(source.read(window=window)).any(axis=0)
        elif source.nodata is None and source.dtypes[0] != "uint8":  # as `read_header` assumes
            seen &= (source.read(window=window) != 0).any(axis=0)
        return seen

    return observed
