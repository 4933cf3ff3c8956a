"""What a map says of itself, and what is told of it."""

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import NOT_OBSERVED, Block
from s2cd.detection.changemap import CHANGED
from s2cd.detection.prepare import Prepared
from s2cd.networks.detector import Detector, Frozen


@dataclass
class Tally:
    """What was observed and what changed: pixels, and m2 where the grid has a place."""

    pixels: int = 0
    observed: int = 0
    changed: int = 0
    changed_area: float = 0.0

    def add(self, block: Block, classes: NDArray[np.uint8], areas: Any) -> None:
        """Count a block of the map."""
        changed = ((classes >= CHANGED) & (classes != NOT_OBSERVED)).sum(axis=1)
        self.pixels += classes.size
        self.observed += int((classes != NOT_OBSERVED).sum())
        self.changed += int(changed.sum())
        if areas is not None:
            self.changed_area += float(changed @ areas[block.ys])


def tags_of(
    detector: Detector, frozen: Frozen, threshold: float, ready: Prepared
) -> dict[str, str]:
    """What a map says of itself: no clock, host or path, so that equal inputs give equal bytes."""
    from s2cd import __version__

    pair, numbers = ready.pair, frozen.numbers()
    tags = {
        "MODEL": detector.name,
        "MODEL_SHA256": detector.sha256 or "none: it has no weights",
        "THRESHOLD": f"{threshold:g}",
        "BANDS": " ".join(pair.bands),
        "CALIBRATION": "calibrated" if detector.calibrated else "uncalibrated",
        "CHANGE_CLASSES": str(detector.classes),
        "FIT": json.dumps(numbers),
        "S2CD_VERSION": __version__,
        **ready.tags(),
    }
    if "backend" in numbers:
        tags |= {"BACKEND": numbers["backend"], "PRECISION": numbers["precision"]}
    for role, date in (("BEFORE", pair.before), ("AFTER", pair.after)):
        tags[role] = str(date.attrs.get("source", "an array"))
        for key in ("SENSING_TIME", "PRODUCT"):
            if key in date.attrs:
                tags[f"{role}_{key}"] = str(date.attrs[key])
    return tags


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """The stage ends now, and the next begins."""
        now = time.monotonic()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now
