"""A pair cut into windows on disk, for training elsewhere or for labelling."""

from s2cd.learning.tiling.folder import tile
from s2cd.learning.tiling.scene import Tiling

__all__ = ["Tiling", "tile"]
