"""Which backend ``auto`` is: the fast one where it is there, pays, and says what torch says."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.networks.openvino import has_openvino
from s2cd.networks.runtime import choose_device
from s2cd.scenes.pair import Pair, Window

if TYPE_CHECKING:
    from s2cd.networks.detector import Detector, Frozen
    from s2cd.networks.learned import FrozenNetwork

    Hearing = Callable[[FrozenNetwork], Frozen]

logger = logging.getLogger(__name__)

LEAST_PIXELS = 4_000_000
"""Below that, converting a network (about 4 s) and comparing (2 s) cost what they gain."""
LEAST_EQUAL = 0.999
"""Of the pixels must be on the same side of the threshold, and as likely within `NEAR`."""
NEAR = {"fp32": 0.005, "bf16": 0.05}
"""By precision: a step of the map; what rounding to 8 bits of a mantissa explains."""
_WINDOWS = 2
_SOUGHT = 25
_VERDICTS: dict[tuple[str, str, str], bool] = {}
"""What was found in this process, by network and precision."""


def why_not(device: str, pixels: int | None = None) -> str | None:
    """Why ``auto`` is torch without a comparison; None where OpenVINO is to be compared."""
    if choose_device(device) != "cpu":
        return "the device is cuda"
    if not has_openvino():
        return "OpenVINO is not installed (pip install 's2cd[openvino]')"
    if pixels is not None and pixels < LEAST_PIXELS:
        return f"fewer than {LEAST_PIXELS / 1e6:g} million pixels: not worth a conversion"
    return None


def choose_backend(
    frozen: "FrozenNetwork", heard: "Hearing", pair: Pair, detector: "Detector"
) -> str:
    """The backend for a pair: ``openvino`` or ``torch``; what is found is said once a process.

    Args:
        frozen: The network, as it has learned from the pair.
        heard: Gives the detector in which a network like it is heard, with its partner.
        pair: Both dates.
        detector: Of which these are.
    """
    if reason := why_not(frozen.device, pair.shape[0] * pair.shape[1]):
        logger.debug("backend torch: %s", reason)
        return "torch"
    key = (frozen.path, frozen.sha256, frozen.precision)
    if key not in _VERDICTS:
        if not (windows := list(_windows(pair, detector.window))):
            return "torch"  # nothing to compare on, and next to nothing to compute
        both = (
            heard(replace(frozen, precision="fp32", backend="torch")),
            heard(replace(frozen, backend="openvino")),
        )
        limits = detector.threshold, NEAR[frozen.precision]
        _VERDICTS[key] = _agrees(both, windows, limits)
    return "openvino" if _VERDICTS[key] else "torch"


def _agrees(
    both: "tuple[Frozen, Frozen]", windows: list[Window], limits: tuple[float, float]
) -> bool:
    """Whether OpenVINO gives the map of torch in fp32 on these windows; either way it is said."""
    try:
        equal = _equal(both, windows, *limits)
    except S2cdError as e:
        logger.warning("backend torch: %s", e)
        return False
    if equal < LEAST_EQUAL:
        logger.warning(
            "backend torch: OpenVINO agrees with it in %.2f %% of the pixels of this pair's "
            "windows only",
            100 * equal,
        )
        return False
    logger.info("backend openvino: agrees with torch in %.2f %% of the pixels", 100 * equal)
    return True


def _equal(
    both: "tuple[Frozen, Frozen]", windows: list[Window], threshold: float, near: float
) -> float:
    """The share of valid pixels where two backends say the same; 0 where nothing is valid."""
    same = count = 0
    for window in windows:
        dates = window.before[None], window.after[None]
        one, two = (frozen.predict(*dates) for frozen in both)
        close = np.abs(one - two) <= near  # not where either is NaN
        alike = (_any(one) >= threshold) == (_any(two) >= threshold)
        agreed = alike & (close.all(axis=1) if close.ndim == 4 else close)
        same += int(agreed[0][window.valid].sum())
        count += int(window.valid.sum())
    return same / count if count else 0.0


def _any(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of any change, of those by class."""
    return scores.sum(axis=1) if scores.ndim == 4 else scores


def _windows(pair: Pair, size: int) -> Iterator[Window]:
    """Windows from all over the pair, the first that are mostly valid; else any with a pixel."""
    spare: list[Window] = []
    found = 0
    order = np.random.default_rng(0).permutation(_SOUGHT)
    for row, column in (divmod(int(place), 5) for place in order):
        y, x = (
            max(0, length - size) * step // 4
            for length, step in zip(pair.shape, (row, column), strict=True)
        )
        window = pair.window(slice(y, y + size), slice(x, x + size))
        if window.valid.mean() > 0.5:
            found += 1
            yield window
        elif window.valid.any():
            spare.append(window)
        if found == _WINDOWS:
            return
    if not found:
        yield from spare[:_WINDOWS]
