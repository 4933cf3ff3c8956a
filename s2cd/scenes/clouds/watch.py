"""Clouds of a stack found while it is written, so that no band is decoded twice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import xarray as xr

from s2cd.errors import S2cdError
from s2cd.scenes.clouds.flags import NEEDED, flags_of, missing_bands
from s2cd.scenes.clouds.lattice import FINE_BANDS, Array, CellSums, cell_means, lattice_of
from s2cd.scenes.clouds.sun import SunAngles
from s2cd.scenes.reader import span
from s2cd.scenes.stack import CHUNK, stack_array


@dataclass(frozen=True)
class _Watched:
    """A lazy stack (band, y, x) whose windows go into sums as they are computed."""

    data: Any
    sums: Mapping[int, CellSums]
    turn: Any = field(default_factory=Lock)

    ndim = 3
    dtype = np.dtype("float32")

    @property
    def shape(self) -> tuple[int, int, int]:
        bands, height, width = self.data.shape
        return bands, height, width

    def __getitem__(self, key: tuple[Any, Any, Any]) -> Array:
        (bands, pick_bands), (ys, pick_ys), (xs, pick_xs) = (
            span(index, size) for index, size in zip(key, self.shape, strict=True)
        )
        import dask

        part = self.data[bands, ys, xs].compute(scheduler=dask.get)
        values = np.asarray(part, np.float32)
        with self.turn:  # windows computed side by side share the cells at their edges
            for band, plane in zip(range(bands.start, bands.stop), values, strict=True):
                if band in self.sums:
                    self.sums[band].add(ys, xs, plane)
        picked: Array = values[:, pick_ys][..., pick_xs]
        return picked[pick_bands]


class CloudWatch:
    """Watches a stack being computed; when all of it is, says where its clouds are.

    ``write_stack(watch.stack, path, qa, later=watch.flags)`` writes the stack with its clouds and
    decodes each band once.

    Attributes:
        stack: The stack to compute, once and whole: (band, y, x), as it was.
    """

    def __init__(
        self, stack: xr.DataArray, others: Mapping[str, xr.DataArray], sun: SunAngles | None
    ) -> None:
        """Watch a stack.

        Args:
            stack: Reflectance (band, y, x), lazy, on the 10 m grid.
            others: Those of `NEEDED` that are not in the stack, each (y, x) on a grid of its own;
                they are read at the end.
            sun: Where the sun stands, if it is known.

        Raises:
            S2cdError: where a band is in neither.
        """
        import dask.array as da

        held = [str(name) for name in stack.band.values]
        if missing := missing_bands([*held, *others]):
            raise S2cdError(
                f"Clouds cannot be looked for without {', '.join(missing)}. Give all of "
                f"{' '.join(NEEDED)}, or say --no-clouds"
            )
        self._lattice, self._sun = lattice_of(stack.odc.geobox), sun
        self._sums = {
            name: CellSums(self._lattice, stack.odc.geobox, name in FINE_BANDS)
            for name in held
            if name in NEEDED
        }
        self._others = {n: b for n, b in others.items() if n in NEEDED and n not in self._sums}
        watched = _Watched(stack.data, {held.index(n): sums for n, sums in self._sums.items()})
        data = da.from_array(
            watched,
            chunks=(-1, CHUNK, CHUNK),
            name=False,
            asarray=False,
            inline_array=True,
            meta=np.empty((0, 0, 0), np.float32),
        )
        self.stack = stack_array(data, stack.odc.geobox, held)
        self.stack.attrs = dict(stack.attrs)

    def flags(self) -> xr.DataArray:
        """Flags as of `cloud_flags`, once the whole stack has been computed."""
        means = {name: sums.means() for name, sums in self._sums.items()}
        means |= cell_means(self._others, self._lattice)
        return flags_of(means, self._lattice, self._sun)
