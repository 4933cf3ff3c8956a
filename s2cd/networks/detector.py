"""What every detector can do: learn from a pair (`fit`), then score windows (`predict`)."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2cd.scenes.pair import Pair

NOTHING_VALID = (
    "No pixel has data in both dates (no data, clouds or no overlap). "
    "Choose other dates or a larger area"
)
"""Why a detector can learn nothing from a pair."""


class Frozen(Protocol):
    """A detector that has learned from a pair; it can be pickled and is never changed."""

    def predict(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores of windows: (n, height, width) within 0..1, from (n, band, height, width).

        Of a detector of several classes: (n, class, height, width), which add up to 1 at most.
        The values of pixels without data are of no meaning, and never reach others further away
        than the detector's halo.
        """
        ...

    def numbers(self) -> dict[str, Any]:
        """What was learned, fit for JSON: it goes into tags, and back through `restore`."""
        ...


class Detector(Protocol):
    """A way to tell change from no change.

    Attributes:
        name: What the user calls it.
        sha256: Of its weights; None without.
        bands: The bands it takes, in this order; None where any will do.
        window: Height and width of the windows it takes, in pixels.
        halo: Pixels at each side of a window whose score is not to be used.
        threshold: Scores from here on are change.
        classes: Classes of change that it tells apart; 1: change from no change.
        calibrated: Whether a score is a probability.
        normalization: To what radiometry `after` is brought first, of `radiometry.METHODS`;
            ``none`` where a gain and an offset of a band change nothing, or were learned.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str | None: ...  # noqa: D102
    @property
    def bands(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def window(self) -> int: ...  # noqa: D102
    @property
    def halo(self) -> int: ...  # noqa: D102
    @property
    def threshold(self) -> float: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102
    @property
    def calibrated(self) -> bool: ...  # noqa: D102
    @property
    def normalization(self) -> str: ...  # noqa: D102

    def fit(self, pair: Pair) -> Frozen:
        """Learn what must be known of this pair first."""
        ...

    def restore(self, numbers: dict[str, Any]) -> Frozen:
        """The frozen detector that gave these `Frozen.numbers`."""
        ...
