"""What a body claims to be and what it is: a page of HTML with status 200 is no band."""

import urllib3

from s2cd.sources.http.wait import Fault

_STARTS: dict[str, tuple[bytes, ...]] = {
    "jp2": (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "zip": (b"PK\x03\x04",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "json": (b"{", b"["),
    "xml": (b"<",),
    "any": (b"",),
}
"""First bytes by kind: ISO/IEC 15444-1 annex I.5.1 and A.4.1, TIFF 6.0 and BigTIFF, and so on."""
_PAGE = (b"<!doctype html", b"<html")


def check_type(response: urllib3.BaseHTTPResponse, kind: str) -> None:
    """Raise `Fault` where an answer says that it is a page."""
    named = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind != "html" and named in ("text/html", "application/xhtml+xml"):
        raise Fault("a page of HTML", spoiled=True)


def check_kind(head: bytes, kind: str) -> None:
    """Raise `Fault` where a body does not begin as its kind does."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:14].lower().startswith(_PAGE):
        raise Fault("a page of HTML", spoiled=True)
    begin = text if kind in ("json", "xml") else head
    if not begin.startswith(_STARTS[kind]):
        raise Fault(f"no {kind.upper()}", spoiled=True)
