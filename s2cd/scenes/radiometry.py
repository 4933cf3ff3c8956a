"""What brings one date to the radiometry of another: a gain and an offset for each band."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("none", "linear", "ir-mad")
"""How gains and offsets are found: not at all, by medians and interquartile ranges, or by
regression where IR-MAD finds no change."""


@dataclass(frozen=True)
class Radiometry:
    """Of each band: what ``after`` is multiplied by, and what is added then, in reflectance."""

    gain: tuple[float, ...]
    offset: tuple[float, ...]

    def applied(self, date: NDArray[np.float32]) -> NDArray[np.float32]:
        """A date (band, height, width) with the radiometry of the other."""
        gain, offset = (
            np.array(values, np.float32)[:, None, None] for values in (self.gain, self.offset)
        )
        return date * gain + offset

    def numbers(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self)
