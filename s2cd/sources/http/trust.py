"""Which addresses are talked to, and how messages speak of them."""

import ipaddress
from collections.abc import Collection
from urllib.parse import SplitResult, urljoin, urlsplit

from s2cd.errors import SourceError

_PORTS = {"https": 443, "http": 80}


def check_url(url: str) -> str:
    """The URL, once it is seen to be one that may be asked: https, or http on this machine.

    Raises:
        SourceError: where it is not.
    """
    parts = _split(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise SourceError(
            f"{said_url(url)} is not encrypted, and would show what is sent. Give an https:// URL"
        )
    return url


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: what a secret is for."""
    parts = _split(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}"


def said_url(url: str) -> str:
    """A URL for messages: without query and user, where secrets stand."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "a malformed URL"
    text = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
    return "".join(c if c.isprintable() and c != " " else "?" for c in text)[:300]


def redirected(url: str, location: str, trusted: Collection[str]) -> str:
    """Where an answer of ``url`` sends to.

    Raises:
        SourceError: where that is no address within the same trust.
    """
    try:
        target = urljoin(url, location)
    except ValueError as e:
        raise SourceError(f"{said_url(url)} sends to no URL. Check what stands between") from e
    origin = origin_of(check_url(target))
    if origin != origin_of(url) and origin not in trusted:
        raise SourceError(
            f"{said_url(url)} sends to another host, {said_url(target)}, which is not trusted. "
            "Check the URL, and what stands between (a proxy, a log-in page)"
        )
    return target


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise SourceError(f"{said_url(url)} is no URL that s2cd can ask. Give an https:// URL")
    if parts.username is not None or parts.password is not None:
        raise SourceError(
            f"{said_url(url)} holds a user or a password. Give them in the environment instead"
        )
    return parts
