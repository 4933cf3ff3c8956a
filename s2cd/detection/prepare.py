"""What is done to a pair before a detector sees it: registered, and brought to one radiometry.

Training, evaluation and detection all come through here, so that a network never sees other
pixels than those it learned from.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from s2cd.errors import S2cdError
from s2cd.networks.classical.radiometry import radiometry_of
from s2cd.networks.detector import Detector
from s2cd.scenes.align import LEAST_SHIFT, Shift, aligned, shift_between
from s2cd.scenes.motion import KINDS, Motion, restored
from s2cd.scenes.pair import Pair
from s2cd.scenes.radiometry import METHODS, Radiometry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """What is to be done.

    Attributes:
        registration: How `after` is brought onto `before`, of `motion.KINDS`; ``none``: not.
        normalization: Of `radiometry.METHODS`; None: as the detector takes its dates.
    """

    registration: str = "translation"
    normalization: str | None = None

    def __post_init__(self) -> None:
        """Refuse what there is not, before anything is read."""
        for said, word, known in (
            ("registration", self.registration, ("none", *KINDS)),
            ("normalisation", self.normalization or "none", METHODS),
        ):
            if word not in known:
                raise S2cdError(f"There is no {said} {word!r}. Name one of {', '.join(known)}")


def asked(align: bool, registration: str, normalization: str | None) -> Preparation:
    """A preparation as commands ask for it: an unknown kind is refused though nothing is aligned.

    Raises:
        S2cdError: where there is no such registration or normalisation.
    """
    wanted = Preparation(registration, normalization)
    return wanted if align else replace(wanted, registration="none")


@dataclass(frozen=True)
class Prepared:
    """A pair with what was found out about it."""

    pair: Pair
    registration: str
    shift: Shift | None
    method: str

    def tags(self) -> dict[str, str]:
        """What a map says of its registration and radiometry."""
        said = {"NORMALIZATION": self.method, "REGISTRATION": "none: not asked for"}
        if self.registration != "none":
            said |= _shift_tags(self.shift, self.pair.motion)
        if self.pair.radiometry is not None:
            said["RADIOMETRY"] = json.dumps(self.pair.radiometry.numbers())
        return said

    def summary(self) -> dict[str, Any]:
        """The same for `s2cd detect --json`."""
        sure = self.shift is not None and self.shift.is_sure
        length = round(self.shift.length, 3) if self.shift is not None and sure else None
        return {"shift_px": length, "normalization": self.method}


class Memory(Protocol):
    """Keeps what has been found out, so that it is not measured twice."""

    def recall(self, key: str) -> Any: ...  # noqa: D102
    def note(self, key: str, value: Any) -> None: ...  # noqa: D102


class NoMemory:
    """Keeps nothing."""

    def recall(self, key: str) -> Any:
        """None, always."""
        return None

    def note(self, key: str, value: Any) -> None:
        """Nothing is kept."""


def prepared(
    pair: Pair, detector: Detector, wanted: Preparation, memory: Memory | None = None
) -> Prepared:
    """A pair made ready for a detector.

    Raises:
        S2cdError: where a date cannot be read, or a method is unknown.
    """
    kept = memory or NoMemory()
    shift = None
    if wanted.registration != "none":
        shift = _measured(pair, wanted.registration, kept)
        pair = registered(pair, shift)
    method = wanted.normalization or detector.normalization
    return Prepared(_normalized(pair, method, kept), wanted.registration, shift, method)


def registered(pair: Pair, shift: Shift | None) -> Pair:
    """The pair with `after` moved, where that is needed and the measurement is sure; says which."""
    if shift is None or not shift.is_sure:
        logger.warning("how the dates lie to each other could not be measured: left as they are")
        return pair
    said = f"after lies {shift.length:.2f} pixels off ({shift.windows} windows agree)"
    if shift.motion.farthest <= LEAST_SHIFT:
        logger.info("%s: left as it is", said)
        return pair
    kind = "" if shift.motion.kind == "translation" else f" at the centre ({shift.motion.kind})"
    logger.info("%s: moved by %+.2f rows, %+.2f columns%s", said, shift.rows, shift.columns, kind)
    return aligned(pair, shift)


def normalized(pair: Pair, method: str) -> Pair:
    """The pair with `after` in the radiometry of `before`, by a method of `METHODS`."""
    return _normalized(pair, method, NoMemory())


def motion_in(tags: Mapping[str, str], shape: tuple[int, int]) -> Motion | None:
    """How a map's tags say that `after` was moved; None where it was left as it was.

    Args:
        tags: The map's tags.
        shape: Height and width of the map.

    Raises:
        S2cdError: where they do not say it of such a map.
    """
    if "MOTION" not in tags:
        return None
    try:
        motion = restored(json.loads(tags["MOTION"]))
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise S2cdError("The map's tag MOTION is damaged. Make the map again") from e
    if motion.shape != tuple(shape):
        raise S2cdError("The map's tag MOTION is of another grid. Make the map again")
    return motion


def _measured(pair: Pair, kind: str, memory: Memory) -> Shift | None:
    """How the dates lie to each other, measured now or before an interruption."""
    known = memory.recall("shift")
    if known is None:
        shift = shift_between(pair, kind)
        known = {"shift": None if shift is None else shift.numbers()}
        memory.note("shift", known)
    return None if known["shift"] is None else Shift.restore(known["shift"])


def _normalized(pair: Pair, method: str, memory: Memory) -> Pair:
    if method == "none":
        return pair
    known = memory.recall("radiometry")
    if known is None:
        found = radiometry_of(pair, method)
        known = None if found is None else found.numbers()
        memory.note("radiometry", known)
    if known is None:
        return pair
    return pair.under(Radiometry(tuple(known["gain"]), tuple(known["offset"])))


def _shift_tags(shift: Shift | None, motion: Motion) -> dict[str, str]:
    if shift is None or not shift.is_sure:
        why = "nothing could be measured" if shift is None else "the measurement was unsure"
        return {"REGISTRATION": f"none: {why}"}
    moved = shift.motion.farthest > LEAST_SHIFT
    said = {
        "REGISTRATION": f"after {'moved' if moved else 'left as it was'}",
        "SHIFT_KIND": shift.motion.kind,
        "SHIFT_ROWS": f"{shift.rows:.3f}",
        "SHIFT_COLUMNS": f"{shift.columns:.3f}",
    }
    return said | ({"MOTION": json.dumps(motion.numbers())} if moved else {})
