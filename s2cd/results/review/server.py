"""The review's page on 127.0.0.1, for this user's browser alone.

The page's address holds a random token; each request must name this host, and each that writes
must come from the page itself: a page from elsewhere can neither read nor write, nor can a name
that somebody points at 127.0.0.1.
"""

import hmac
import json
import logging
import re
import secrets
import threading
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError
from s2cd.results.polygons.read import read_polygons
from s2cd.results.report.content import Content, Request, gather, map_grid
from s2cd.results.report.facts import digest
from s2cd.results.report.packing import packed_changes
from s2cd.results.report.page import render
from s2cd.results.review.outline import outline
from s2cd.results.review.store import Store, check_store, create_store

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_MOST_BYTES = 1 << 20
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class Review:
    """A review that is being served.

    Attributes:
        store: Its GeoPackage.
        url: Where the page is; whoever knows it may write.
        server: Its server; `serve` runs it.
    """

    store: Store
    url: str
    server: ThreadingHTTPServer

    def serve(self) -> dict[str, int]:
        """Answer until the page says that it is finished; give how many changes are what.

        Ctrl-C ends it as well, as it ends every command; what was decided is kept.
        """
        try:
            self.server.serve_forever(poll_interval=0.2)
            return self.store.counts()
        finally:
            self.server.server_close()
            self.store.close()


def open_review(request: Request, path: Path, port: int = 0) -> Review:
    """Begin a review of a map, or continue the one that ``path`` holds.

    Args:
        request: The map and what belongs to it.
        path: The GeoPackage of the review.
        port: Where to listen; any free one by default.

    Raises:
        S2cdError: where the file is no review of this map, or the port is taken.
    """
    mark = digest(request.sources.change)
    if path.exists():
        check_store(path, mark)
        content = gather(request, read_polygons(path, map_grid(request), rejected=True))
    else:
        content = gather(request)
        create_store(content.table, path, mark)
    store = Store(path, content.geobox)
    token = secrets.token_urlsafe(24)
    try:
        server = _Server((HOST, port), _Handler)
    except OSError as e:
        store.close()
        raise S2cdError(f"Port {port} cannot be used: {e.strerror}. Leave --port away") from e
    server.site = _Site(store, token, content, f"{HOST}:{server.server_address[1]}")
    return Review(store, f"http://{server.site.host}/{token}/", server)


@dataclass(frozen=True)
class _Site:
    store: Store
    token: str
    content: Content
    host: str

    def page(self) -> bytes:
        """The page with the decisions of now."""
        return render(replace(self.content, table=self.store.table()), review=True).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: _Site


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30
    server_version, sys_version = "s2cd", ""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: an address holds the token."""

    def do_GET(self) -> None:
        """The page."""
        rest = self._path()
        if rest == "":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.site.page())
        elif rest is not None:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here")

    def do_POST(self) -> None:
        """A decision."""
        rest = self._path()
        if rest is None or not self._from_the_page():
            return
        try:
            said = self._said()
            self._answer_json(HTTPStatus.OK, self._decided(rest, said))
        except S2cdError as e:
            self._answer_json(HTTPStatus.BAD_REQUEST, {"error": str(e)})
            return
        if rest == "finish":  # once it is answered; from another thread, or it waits for itself
            threading.Thread(target=self.server.shutdown).start()

    def _path(self) -> str | None:
        """What follows the token; None, and refused, where host or token are not ours."""
        site = self.server.site
        _, token, *rest = [*self.path.split("/"), ""]
        ours = hmac.compare_digest(token.encode(), site.token.encode())
        if self.headers.get("Host") != site.host or not ours:
            self._refuse(HTTPStatus.FORBIDDEN, "This page is for the browser that s2cd opened")
            return None
        return "/".join(rest).strip("/")

    def _from_the_page(self) -> bool:
        plain = self.headers.get("Content-Type", "").split(";")[0].strip() == "application/json"
        if self.headers.get("Origin") == f"http://{self.server.site.host}" and plain:
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "Only the page itself may write")
        return False

    def _said(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MOST_BYTES:
            raise S2cdError("The request is too long. Draw with fewer points")
        try:
            said = json.loads(self.rfile.read(int(length)))
        except ValueError as e:
            raise S2cdError("The request is no JSON. Load the page anew") from e
        if not isinstance(said, dict):
            raise S2cdError("The request is no object. Load the page anew")
        return said

    def _decided(self, rest: str, said: dict[str, Any]) -> dict[str, Any]:
        store = self.server.site.store
        if rest == "finish":
            return {"counts": store.counts()}
        match = re.fullmatch(r"changes(?:/(\d{1,9}))?", rest)
        if match is None:
            raise S2cdError("There is nothing here. Load the page anew")
        if match[1] is None:
            return _packed(store, store.add(outline(said.get("places"), store.geobox)))
        number = int(match[1])
        if "places" in said:
            store.redraw(number, outline(said["places"], store.geobox))
        else:
            store.decide(number, str(said.get("status")))
        return _packed(store, number)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True
        self._answer(status, "text/plain; charset=utf-8", text.encode())

    def _answer_json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(value, allow_nan=False).encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **_HEADERS}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _packed(store: Store, number: int) -> dict[str, Any]:
    """A change as the page takes it, and how many there are of each status."""
    table = store.table(number)
    return {"counts": store.counts(), **packed_changes(table, store.geobox)}
