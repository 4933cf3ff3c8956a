"""What ``auto`` is: the fastest way to compute a network that says what torch says in fp32."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.networks.openvino import forget, has_openvino
from s2cd.networks.runtime import has_native_bf16
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
_VERDICTS: dict[tuple[str, str, str, str], bool] = {}
"""What was found in this process, by network, backend and precision."""


class Way(NamedTuple):
    """A backend and a precision, by the names of `networks.runtime`."""

    backend: str
    precision: str

    def __str__(self) -> str:
        """As it is said to users."""
        return f"{self.backend} in {self.precision}"


def ways(backend: str, precision: str, device: str) -> list[Way]:
    """What was asked for may be, the fastest first; the last is sound without a comparison.

    Args:
        backend: One of `runtime.BACKENDS`.
        precision: One of `runtime.PRECISIONS`, or ``auto``.
        device: ``cpu`` or ``cuda``.
    """
    native = ["bf16"] if has_native_bf16(device) else []
    precisions = [*native, "fp32"] if precision == "auto" else [precision]
    there = ["openvino"] if device == "cpu" and has_openvino() else []
    backends = [*there, "torch"] if backend == "auto" else [backend]
    return [Way(*both) for both in ((b, p) for b in backends for p in precisions)]


def choose_way(
    possible: list[Way], heard: "Hearing", parts: "tuple[FrozenNetwork, Pair, Detector]"
) -> Way:
    """The first that gives the map of torch in fp32 on the pair, else the last; it is said.

    Args:
        possible: Of `ways`.
        heard: Gives the detector in which a network like it is heard, with its partner.
        parts: The network as it has learned from the pair, the pair, and the detector.
    """
    frozen, pair, detector = parts
    *quick, plain = possible
    if not quick or pair.shape[0] * pair.shape[1] < LEAST_PIXELS:
        return plain
    windows: list[Window] = []
    for way in quick:
        key = (frozen.path, frozen.sha256, *way)
        if key not in _VERDICTS:
            windows = windows or list(_windows(pair, detector.window))
            if not windows:
                return plain  # nothing to compare on, and next to nothing to compute
            both = [
                heard(replace(frozen, backend=b, precision=p))
                for b, p in (Way("torch", "fp32"), way)
            ]
            _VERDICTS[key] = _agrees(way, both, windows, detector.threshold)
        if _VERDICTS[key]:
            return way
    return plain


def _agrees(way: Way, both: "list[Frozen]", windows: list[Window], threshold: float) -> bool:
    """Whether a way gives the map of torch in fp32 on these windows; either way it is said."""
    try:
        equal = _equal(both, windows, threshold, NEAR[way.precision])
    except S2cdError as e:
        logger.warning("not %s: %s", way, e)
        return False
    finally:
        forget()  # the threads that compute the blocks have copies of their own
    said = f"{100 * equal:.2f} % of the pixels of this pair's windows"
    if equal < LEAST_EQUAL:
        logger.warning("not %s: it agrees with torch in fp32 in %s only", way, said)
        return False
    logger.info("%s: agrees with torch in fp32 in %s", way, said)
    return True


def _equal(both: "list[Frozen]", windows: list[Window], threshold: float, near: float) -> float:
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
