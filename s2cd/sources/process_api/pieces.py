"""What is asked for: bands on grids, cut into pieces that one request may ask for."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from affine import Affine
from odc.geo.geobox import GeoBox

from s2cd.scenes.bands import BANDS
from s2cd.scenes.mosaic import joint_grid
from s2cd.sources.source import Cost, Order, Scene
from s2cd.sources.tiles import grid_of_tile

MOST_SIDE = 2500
"""Pixels at a side that one request may ask for."""
_UNIT_PIXELS, _UNIT_BANDS = 512 * 512, 3
_LEAST_AREA, _LEAST_UNITS = 0.01, 0.005
"""A processing unit, and the least that a request counts: docs.sentinel-hub.com, "Processing Unit
definition"."""


@dataclass(frozen=True)
class Layer:
    """Bands on one grid."""

    bands: tuple[str, ...]
    geobox: GeoBox


@dataclass(frozen=True)
class Piece:
    """A part of a layer: rows and columns of its grid."""

    layer: Layer
    rows: slice
    columns: slice

    @property
    def geobox(self) -> GeoBox:
        """Its own grid."""
        return self.layer.geobox[self.rows, self.columns]

    @property
    def size(self) -> int:
        """Bytes of its pixels and their mask, not compressed: about the most that comes."""
        height, width = self.geobox.shape
        return int(height) * int(width) * 2 * (len(self.layer.bands) + 1)


def layers_of(scene: Scene, order: Order) -> tuple[Layer, ...]:
    """The stack's bands on its 10 m grid, then what else clouds need, on the grids of their pixels.

    The grid is the one that `mosaic.open_date` makes of the products: of the tiles' UTM zone that
    covers most, cut to the area. The three bands of 60 m cost a thirty-sixth on their own grid.
    """
    tiles = [grid_of_tile(found.tile) for found in scene.products]
    grid = joint_grid(tiles, order.aoi)
    corner = next(tile.affine for tile in tiles if tile.crs == grid.crs)
    layers = [Layer(order.bands, grid)]
    more = [name for name in order.needed if name not in order.bands]
    for metres in sorted({BANDS[name].resolution for name in more}):
        names = tuple(name for name in more if BANDS[name].resolution == metres)
        layers.append(Layer(names, _around(grid, metres, (corner.c, corner.f))))
    return tuple(layers)


def pieces_of(layer: Layer) -> list[Piece]:
    """Pieces that cover a layer once, all about as large."""
    rows, columns = (_spans(side) for side in layer.geobox.shape)
    return [Piece(layer, ys, xs) for ys in rows for xs in columns]


def cost_of(pieces: Iterable[Piece]) -> Cost:
    """Bytes, at most, and processing units of some requests."""
    size, units = 0, 0.0
    for piece in pieces:
        height, width = piece.geobox.shape
        area = max(_LEAST_AREA, height * width / _UNIT_PIXELS)
        units += max(_LEAST_UNITS, area * len(piece.layer.bands) / _UNIT_BANDS)
        size += piece.size
    return Cost(size, units)


def _spans(side: int) -> list[slice]:
    count = -(-side // MOST_SIDE)
    return [slice(a, b) for a, b in pairwise(side * n // count for n in range(count + 1))]


def _around(grid: GeoBox, metres: int, corner: tuple[float, float]) -> GeoBox:
    """The pixels of a tile's lattice that hold a grid."""
    box = grid.boundingbox
    left, right = (box.left - corner[0]) // metres, -((corner[0] - box.right) // metres)
    top, bottom = (corner[1] - box.top) // metres, -((box.bottom - corner[1]) // metres)
    affine = Affine(metres, 0, corner[0] + left * metres, 0, -metres, corner[1] - top * metres)
    return GeoBox((int(bottom - top), int(right - left)), affine, grid.crs)
