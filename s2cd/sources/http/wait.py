"""How long to wait, how often to ask again, and when to give up."""

import logging
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from s2cd.errors import SourceError, SpoiledError

logger = logging.getLogger(__name__)
_TOLD = 5
"""Failed tries in a row after which the user is told."""
_TRIES_UNKNOWN = 3
"""Of a server that has never answered: most often there is no network."""


@dataclass(frozen=True)
class Policy:
    """How patient a client is; times are in seconds.

    Attributes:
        connections: At most so many at once; CDSE allows an account 4.
        connect: To connect.
        read: Without a byte.
        tries: In a row that bring nothing new.
        spoiled: The same, where each of them brings something that it should not.
        most_tries: Of one request altogether.
        pause: Before the second try; it doubles from try to try, with jitter.
        longest_pause: See ``pause``.
        patience: Longest that a server may ask to wait.
        limit: Of all that a client does.
        slowest: Bytes a second, over a minute; what is slower is taken for hanging.
        retry_after_unit: Of a number in Retry-After: seconds (RFC 9110, 10.2.3), or 0.001 where a
            server counts milliseconds, as Sentinel Hub does.
    """

    connections: int = 4
    connect: float = 10
    read: float = 30
    tries: int = 20
    spoiled: int = 8
    most_tries: int = 100
    pause: float = 0.5
    longest_pause: float = 10
    patience: float = 600
    limit: float = 6 * 3600
    slowest: float = 512
    retry_after_unit: float = 1


class Fault(Exception):
    """One try that failed and may succeed when made again.

    Attributes:
        what: In a few words, without anything that a server sent.
        wait: Seconds that the server asks for; None where it does not.
        progress: Whether the try brought something new.
        spoiled: Whether an answer came, and was not what it should be.
        detail: More about it, for the last line.
    """

    def __init__(
        self,
        what: str,
        wait: float | None = None,
        progress: bool = False,
        spoiled: bool = False,
        detail: str = "",
    ) -> None:
        super().__init__(what)
        self.what, self.wait, self.progress, self.spoiled = what, wait, progress, spoiled
        self.detail = detail


class Effort:
    """The tries of one request: what failed, and how long to rest before the next."""

    def __init__(self, policy: Policy, said: str, began: float) -> None:
        self._policy, self._said, self._began = policy, said, began
        self._faults: Counter[str] = Counter()
        self._in_a_row = self._spoiled = 0

    def rest(self, fault: Fault, now: float, answered: bool) -> float:
        """Seconds to wait before another try.

        Args:
            fault: How the last one failed.
            now: When, on the clock of ``began``.
            answered: Whether the server has ever answered: one that has not is soon given up.

        Raises:
            SourceError: where there shall be none; the line names all that was tried.
        """
        self._faults[fault.what] += 1
        self._in_a_row = 0 if fault.progress else self._in_a_row + 1
        self._spoiled = self._spoiled + 1 if fault.spoiled else 0
        policy, made = self._policy, self._faults.total()
        if fault.wait is not None and fault.wait > policy.patience:
            raise self._end(now, f"it asks to wait {fault.wait:.0f} s", fault)
        tries = policy.tries if answered else min(_TRIES_UNKNOWN, policy.tries)
        over = self._in_a_row >= tries or self._spoiled >= policy.spoiled
        if over or made >= policy.most_tries:
            raise self._end(now, "", fault)
        if self._in_a_row == _TOLD:
            logger.info("%s: %d tries failed (%s); going on", self._said, made, self._seen())
        pause = min(policy.longest_pause, policy.pause * 2 ** max(0, self._in_a_row - 1))
        jittered = pause * random.uniform(0.5, 1)  # noqa: S311
        return max(jittered, fault.wait or 0)

    def _seen(self) -> str:
        return ", ".join(f"{n} x {what}" if n > 1 else what for what, n in self._faults.items())

    def _end(self, now: float, why: str, fault: Fault) -> SourceError:
        seen = self._seen() + (f"; at last: {fault.detail}" if fault.detail else "")
        made = self._faults.total()
        kind = SpoiledError if fault.spoiled else SourceError
        error = kind(
            f"{self._said} could not be had: {made} {'try' if made == 1 else 'tries'} in "
            f"{now - self._began:.0f} s ({seen}{'; ' if why else ''}{why}). "
            "Check the network, or give the same command later: it continues"
        )
        error.__cause__ = fault
        return error


def retry_after(headers: Mapping[str, str], unit: float) -> float | None:
    """Seconds that a server asks to wait; None where it does not say, or nothing that makes sense.

    A whole or broken number of ``unit``, or a date of HTTP, which is compared with the server's own
    ``Date``, since clocks differ.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text):
        seconds = float(text) * unit
    else:
        moment, now = _date(text), _date(headers.get("Date", "")) or datetime.now(UTC)
        if moment is None:
            return None
        seconds = (moment - now).total_seconds()
    return max(0.0, seconds)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def short(error: Exception) -> str:
    """An error's words, as a part of another's."""
    return " ".join(str(error).split())[:160].rstrip(".")
