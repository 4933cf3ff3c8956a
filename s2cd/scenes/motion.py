"""How the content of a date must move over a grid: a translation, an affine map, or a field."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

KINDS = ("translation", "affine", "local")
Array = NDArray[np.float64]
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Motion:
    """By how much content must move, in pixels, at nodes that are spread evenly over a grid.

    The value that belongs at a place p of the grid is found at p - motion(p). One node is a
    translation, 2 x 2 nodes are an affine map, and between more lies a bicubic spline.

    Attributes:
        rows: Pixels downwards at each node: (node row, node column).
        columns: Pixels to the right.
        shape: Height and width of the grid in pixels; the outer nodes lie on its edges.
    """

    rows: Rows
    columns: Rows
    shape: tuple[int, int]

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return KINDS[min(len(self.rows), 3) - 1]

    @property
    def is_linear(self) -> bool:
        """Whether a grid of its own expresses it (`view`)."""
        return self.kind != "local"

    @property
    def nodes(self) -> Array:
        """(2, node row, node column): rows, then columns."""
        return np.array([self.rows, self.columns])

    @property
    def length(self) -> float:
        """Mean length over the nodes, in pixels."""
        return float(np.hypot(*self.nodes).mean())

    @property
    def farthest(self) -> float:
        """Greatest length at a node, in pixels."""
        return float(np.hypot(*self.nodes).max())

    @property
    def centre(self) -> tuple[float, float]:
        """Rows and columns at the middle of the grid."""
        middle = self.at(*(np.array([n / 2]) for n in self.shape))[:, 0]
        return float(middle[0]), float(middle[1])

    def at(self, rows: Array, columns: Array) -> Array:
        """The motion (2, n) at places of the grid, in pixels from its upper left corner."""
        nodes = self.nodes
        if nodes.shape[1:] == (1, 1):
            return np.repeat(nodes.reshape(2, 1), len(rows), axis=1)
        return np.stack([spline(rows, columns, grid=False) for spline in _splines(self)])

    def over(self, ys: slice, xs: slice) -> Array:
        """The motion (2, rows, columns) at the centres of a window's pixels."""
        rows, columns = (np.arange(side.start, side.stop) + 0.5 for side in (ys, xs))
        if self.kind == "translation":
            return np.broadcast_to(self.nodes, (2, len(rows), len(columns)))
        return np.stack([spline(rows, columns) for spline in _splines(self)])

    def plus(self, other: "Motion") -> "Motion":
        """Both motions together, on the finer's nodes."""
        coarse, fine = sorted((self, other), key=lambda motion: len(motion.rows))
        nodes = fine.nodes
        places = np.meshgrid(*node_places(fine.shape, nodes.shape[1:]), indexing="ij")
        more = coarse.at(*(side.ravel() for side in places)).reshape(nodes.shape)
        return motion_of(nodes + more, fine.shape)

    def view(self, grid: GeoBox) -> GeoBox:
        """Where the grid's pixels find their values; of a linear motion.

        In the pixels of the grid, so that it holds for a date in any CRS.
        """
        nodes, (height, width) = self.nodes, self.shape
        first = nodes[:, 0, 0]
        by_row = (nodes[:, -1, 0] - first) / height
        by_column = (nodes[:, 0, -1] - first) / width
        back = Affine(
            1 - by_column[1], -by_row[1], -first[1], -by_column[0], 1 - by_row[0], -first[0]
        )
        return GeoBox(grid.shape, grid.affine * back, grid.crs)

    def numbers(self) -> dict[str, Any]:
        """Fit for JSON; `restored` takes it back."""
        return asdict(self)


def translation(rows: float, columns: float, shape: tuple[int, int]) -> Motion:
    """The same motion everywhere."""
    return Motion(((rows,),), ((columns,),), shape)


def motion_of(nodes: Array, shape: tuple[int, int]) -> Motion:
    """The motion with values at nodes: (2, node row, node column)."""
    rows, columns = (tuple(tuple(map(float, row)) for row in side) for side in nodes)
    return Motion(rows, columns, shape)


def restored(numbers: dict[str, Any]) -> Motion:
    """The motion that gave these `Motion.numbers`."""
    rows, columns = (tuple(map(tuple, numbers[side])) for side in ("rows", "columns"))
    height, width = numbers["shape"]
    return Motion(rows, columns, (height, width))


def node_places(shape: tuple[int, int], nodes: tuple[int, ...]) -> tuple[Array, Array]:
    """Rows and columns of nodes that are spread evenly over a grid."""
    return np.linspace(0, shape[0], nodes[0]), np.linspace(0, shape[1], nodes[1])


@lru_cache(maxsize=16)
def _splines(motion: Motion) -> tuple[Any, Any]:
    from scipy.interpolate import RectBivariateSpline

    nodes = motion.nodes
    places = node_places(motion.shape, (nodes.shape[1], nodes.shape[2]))
    degrees = [min(3, len(side) - 1) for side in places]
    one, other = (RectBivariateSpline(*places, n, kx=degrees[0], ky=degrees[1]) for n in nodes)
    return one, other
