"""Bodies of answers, piece by piece, with an eye on the clock."""

import re
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from threading import Event

import urllib3
from urllib3.exceptions import HTTPError

from s2cd.sources.http.connect import words
from s2cd.sources.http.wait import Fault

CHUNK = 1 << 18
_TELLING = 16
"""Characters of a secret that are too many to be shown."""
_MINUTE = 60.0
_MOMENT = 5.0
"""Seconds that an error's own words may take."""


def chunks(
    response: urllib3.BaseHTTPResponse, slowest: float, deadline: float, stopped: Event
) -> Iterator[bytes]:
    """The body, in pieces of at most 256 KiB.

    Raises:
        Fault: where it is cut, encoded, trickles, or the time is over.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise Fault("encoded on the way")
    began, counted = time.monotonic(), 0
    while True:
        try:
            piece = response.read1(CHUNK)
        except (HTTPError, ssl.SSLError, OSError, ValueError, AttributeError) as e:
            raise Fault("stopped" if stopped.is_set() else words(e)) from None
        if not piece:
            if response.length_remaining:
                raise Fault("cut short")
            return
        yield piece
        counted += len(piece)
        now = time.monotonic()
        if now > deadline or stopped.is_set():
            raise Fault("stopped")
        if now - began > _MINUTE:
            if counted < slowest * (now - began):
                raise Fault("it trickles")
            began, counted = now, 0


def excerpt(response: urllib3.BaseHTTPResponse, hidden: Iterable[str] = ()) -> str:
    """The first words of an error's text, where it is text, as ``: words``.

    Args:
        response: Not read yet.
        hidden: Headers that were sent; what stands in them is not shown, if a server says it.
    """
    kind = response.headers.get("Content-Type", "")
    if not any(word in kind for word in ("json", "text/plain", "xml")):
        return ""
    text = _blanked(_begin_of(response).decode("utf-8", "replace"), list(hidden))
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return f": {text[:200]}" if text else ""


def _begin_of(response: urllib3.BaseHTTPResponse) -> bytes:
    """What comes of a body in a moment, at most 600 bytes; nothing of an encoded one."""
    content, until = b"", time.monotonic() + _MOMENT
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return b""
    try:
        while len(content) < 600 and time.monotonic() < until:
            if not (piece := response.read1(600 - len(content))):
                break
            content += piece
    except (HTTPError, ssl.SSLError, OSError, ValueError, AttributeError):
        return b""
    return content


def _blanked(text: str, hidden: Sequence[str]) -> str:
    """A text without what was sent, nor any 16 characters of it, nor its begin where it is cut."""
    text = text.replace("\\/", "/")  # as JSON may write it
    secrets = sorted(_secrets(hidden), key=len, reverse=True)
    for secret in secrets:
        text = text.replace(secret, "...")
    parts = {value[n : n + _TELLING] for value in hidden for n in range(len(value) - _TELLING + 1)}
    shown = [True] * len(text)
    for n in range(len(text) - _TELLING + 1):
        if text[n : n + _TELLING] in parts:
            shown[n : n + _TELLING] = [False] * _TELLING
    for n in range(1, min(_TELLING, len(text) + 1)):
        if any(secret.startswith(text[-n:]) for secret in secrets):
            shown[-n:] = [False] * n
    pairs = zip(text, shown, strict=True)
    return "".join(
        "".join(c for c, _ in run) if seen else "..."
        for seen, run in groupby(pairs, key=lambda pair: pair[1])
    )


def _secrets(headers: Iterable[str]) -> set[str]:
    """Tokens, keys and signatures in the values of headers."""
    words: set[str] = set()
    for value in headers:
        words |= {word for word in value.split() if word not in ("Bearer", "Basic")}
        words |= set(re.findall(r"[\w.~+-]{16,}", value))
    return words
