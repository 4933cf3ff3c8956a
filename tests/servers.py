"""A real HTTP server on a real socket of this machine, with faults that a test plans.

    with serving(bucket(files)) as server:
        server.plan(Fault("cut", match=r"B02", times=2, after=1000))
        ... server.url ... server.seen ...

Run as a program it serves a folder as the bucket, in a process of its own:
``python tests/servers.py FOLDER [--rate BYTES_A_SECOND] [--faults N]``; each line of input is
answered with what has happened.
"""

import argparse
import email.utils
import gzip
import hashlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
_PIECE = 1 << 16


@dataclass
class Asked:
    """A request as the server saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    status: int = 0
    sent: int = 0

    @property
    def form(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(self.body.decode()).items()}

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Reply:
    """What an application answers; with status 200, ranges of it can be asked for."""

    body: bytes | Path = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "application/octet-stream"
    ranges: bool = True

    @property
    def size(self) -> int:
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)

    @property
    def etag(self) -> str:
        return f'"{md5_of(self.body)}"'

    def part(self, start: int, length: int) -> bytes:
        if isinstance(self.body, bytes):
            return self.body[start : start + length]
        with self.body.open("rb") as file:
            file.seek(start)
            return file.read(length)


@dataclass
class Fault:
    """Something that goes wrong, ``times`` times, with requests whose path and query match.

    Kinds: ``status`` (code, headers) · ``hang`` (seconds; before any answer) · ``stall`` (after;
    then nothing for seconds) · ``cut`` (after; then the socket is closed) · ``reset`` (as cut, at
    once, with RST) · ``html`` (a page with 200) · ``short`` (after; says so and sends no more) ·
    ``long`` (extra bytes) · ``corrupt`` (a byte is turned) · ``gzip`` (encoded) · ``other`` (other
    content with another ETag, whole) · ``redirect`` (location, code) · ``norange`` (200 for a
    range) · ``wrongrange`` (another range than asked for). ``also`` is called when it has happened.
    """

    kind: str
    match: str = ""
    times: int = 1
    code: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int = 0
    seconds: float = 30.0
    location: str = ""
    method: str = ""
    also: Callable[[], None] = lambda: None


App = Callable[[Asked], Reply | None]


class Server(ThreadingHTTPServer):
    """Serves an application; notes what it saw."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, app: App, rate: float | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.app, self.rate = app, rate
        self.seen: list[Asked] = []
        self.faults: list[Fault] = []
        self.most_a_path, self.met = 10**9, Counter[str]()
        self.at_once = self.most_at_once = self.connections = 0
        self.turn, self.ended = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def plan(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def fault_for(self, asked: Asked) -> Fault | None:
        target = asked.path + "?" + "&".join(f"{k}={v}" for k, v in asked.query.items())
        with self.turn:
            if self.met[target] >= self.most_a_path:
                return None
            for fault in self.faults:
                right = fault.times > 0 and fault.method in ("", asked.method)
                right &= "range" not in fault.kind or "Range" in asked.headers
                if right and re.search(fault.match, target):
                    fault.times -= 1
                    self.met[target] += 1
                    return fault
        return None

    def asked(self, match: str = "") -> list[Asked]:
        """What was seen whose path matches."""
        return [one for one in list(self.seen) if re.search(match, one.path)]

    @property
    def left(self) -> int:
        """Planned faults that have not happened, without those that wait for a range."""
        return sum(fault.times for fault in self.faults if "range" not in fault.kind)

    def handle_error(self, request, client_address) -> None:
        """Clients that go away are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.server.turn:
            self.server.connections += 1

    def log_message(self, *_args) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_HEAD = do_GET

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, unquote(parts.path), query, dict(self.headers), body)
        server = self.server
        with server.turn:
            server.seen.append(asked)
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            fault = server.fault_for(asked)
            if fault is not None and fault.kind == "status":
                fault.also()  # before who asked can act on the refusal
            self._send(asked, fault)
            if fault is not None and fault.kind != "status":
                fault.also()
        except OSError:
            self.close_connection = True
        finally:
            with server.turn:
                server.at_once -= 1

    def _send(self, asked: Asked, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        if kind == "hang":
            self.server.ended.wait(fault.seconds)
            self.close_connection = True
            return
        if kind == "reset":
            self._reset()
            return
        if kind == "status":
            reply = Reply(b"{}", fault.code, fault.headers, "application/json")
        elif kind == "redirect":
            code = fault.code if 300 < fault.code < 400 else 302
            reply = Reply(b"", code, {"Location": fault.location})
        elif kind == "html":
            reply = Reply(PAGE, kind="text/html; charset=utf-8", ranges=False)
        else:
            reply = self.server.app(asked) or Reply(b"", 404)
        if kind == "gzip":
            packed = gzip.compress(reply.part(0, reply.size))
            reply = Reply(packed, headers={"Content-Encoding": "gzip"}, ranges=False)
        if kind == "other":
            reply = Reply(bytes(reply.size), ranges=False)
        self._write(asked, reply, fault)

    def _write(self, asked: Asked, reply: Reply, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        start, stop = 0, reply.size
        asked.status = reply.status
        extra = {}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        whole = asked.headers.get("If-Range", reply.etag) != reply.etag
        if reply.status == 200 and reply.ranges and span and not whole and kind != "norange":
            start = int(span[1])
            stop = min(reply.size, int(span[2]) + 1) if span[2] else reply.size
            if start >= reply.size:
                asked.status, stop = 416, start
                extra["Content-Range"] = f"bytes */{reply.size}"
            else:
                asked.status = 206
                if kind == "wrongrange":
                    start = max(0, start - 5)
                extra["Content-Range"] = f"bytes {start}-{stop - 1}/{reply.size}"
        length = stop - start
        after = fault.after % length if fault and length else 0
        if kind == "short":
            length = after
        if kind == "long":
            length += 7
        self.send_response(asked.status)
        headers = {"Content-Type": reply.kind, "Content-Length": str(length)}
        if reply.status == 200 and reply.ranges:
            headers |= {"ETag": reply.etag, "Accept-Ranges": "bytes"}
        for name, value in {**headers, **extra, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if asked.method != "HEAD":
            self._body(asked, reply, (start, stop, length), (fault, after))

    def _body(
        self,
        asked: Asked,
        reply: Reply,
        span: tuple[int, int, int],
        how: tuple[Fault | None, int],
    ) -> None:
        (start, stop, length), (fault, after) = span, how
        kind = fault.kind if fault else ""
        end = after if kind in ("cut", "stall") else length
        began = time.monotonic()
        while asked.sent < end:
            piece = reply.part(start + asked.sent, min(_PIECE, end - asked.sent))
            if start + asked.sent >= stop:
                piece = b"x" * (end - asked.sent)
            if kind == "corrupt" and asked.sent == 0 and piece:
                middle = len(piece) // 2
                piece = piece[:middle] + bytes([piece[middle] ^ 255]) + piece[middle + 1 :]
            self.wfile.write(piece)
            asked.sent += len(piece)
            if self.server.rate:
                ahead = asked.sent / self.server.rate - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
        if kind == "stall":
            self.wfile.flush()
            self.server.ended.wait(fault.seconds)
        if kind in ("cut", "stall"):
            self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


@contextmanager
def serving(app: App, rate: float | None = None):
    """A server while the block lasts."""
    server = Server(app, rate)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def files_app(files: Mapping[str, bytes | Path]) -> App:
    """Serves files by their paths; the mapping may be changed meanwhile."""

    def app(asked: Asked) -> Reply | None:
        body = files.get(asked.path.lstrip("/"))
        return None if body is None else Reply(body, kind=_kind(asked.path))

    return app


def bucket(files: Mapping[str, bytes | Path], page: int = 1000) -> App:
    """Serves files as Google's bucket does: ``GET root?prefix=…&delimiter=/`` lists."""
    plain = files_app(files)

    def app(asked: Asked) -> Reply | None:
        if asked.path not in ("", "/"):
            return plain(asked)
        body = listing(files, asked.query, page)
        return Reply(body.encode(), kind="application/xml; charset=UTF-8", ranges=False)

    return app


def listing(files: Mapping[str, bytes | Path], query: Mapping[str, str], page: int) -> str:
    """The XML of Google's ``ListBucketResult`` (XML API, version 1)."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    marker = query.get("marker", "")
    entries: dict[str, str | None] = {}
    for key in sorted(files):
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            entries[prefix + rest[: rest.index(delimiter) + len(delimiter)]] = None
        else:
            entries[key] = key
    names = [name for name in entries if name > marker]
    shown, more = names[:page], len(names) > page
    parts = []
    for name in shown:
        if entries[name] is None:
            parts.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
        else:
            size = files[name].stat().st_size if isinstance(files[name], Path) else len(files[name])
            parts.append(
                f"<Contents><Key>{escape(name)}</Key><Generation>1</Generation>"
                f"<Size>{size}</Size><ETag>&quot;{md5_of(files[name])}&quot;</ETag></Contents>"
            )
    next_marker = f"<NextMarker>{escape(shown[-1])}</NextMarker>" if more else ""
    return (
        "<?xml version='1.0' encoding='UTF-8'?>"
        "<ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'><Name>bucket</Name>"
        f"<Prefix>{escape(prefix)}</Prefix><Marker>{escape(marker)}</Marker>{next_marker}"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{''.join(parts)}</ListBucketResult>"
    )


def bucket_files(products: list[Path]) -> dict[str, Path]:
    """``.SAFE`` folders by the keys that they have in Google's bucket."""
    files: dict[str, Path] = {}
    for root in products:
        tile = re.search(r"_T(\d{2})([A-Z])([A-Z]{2})_", root.name)
        start = f"tiles/{tile[1]}/{tile[2]}/{tile[3]}/{root.name}"
        for path in sorted(root.rglob("*")):
            if path.is_file():
                files[f"{start}/{path.relative_to(root).as_posix()}"] = path
    return files


_HASHES: dict[tuple[str, int, int], str] = {}


def md5_of(body: bytes | Path) -> str:
    if isinstance(body, bytes):
        return hashlib.md5(body).hexdigest()
    status = body.stat()
    key = (str(body), status.st_size, status.st_mtime_ns)
    if key not in _HASHES:
        with body.open("rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "md5").hexdigest()
    return _HASHES[key]


def http_date(seconds: float) -> str:
    """A moment so many seconds from now, as HTTP writes it."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def unused_url() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def some_faults(count: int, seed: int = 0, match: str = "") -> list[Fault]:
    """So many faults of every kind that passes, in a fixed random order, and some of ranges."""
    draw = random.Random(seed)
    kinds = ["status", "cut", "reset", "html", "short", "long", "corrupt", "gzip", "other"]
    kinds += ["stall", "hang"]
    faults = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        after, code = draw.randrange(1, 60_000), draw.choice([429, 500, 502, 503, 504])
        headers = draw.choice([{}, {"Retry-After": "0"}, {"Retry-After": "0.05"}])
        faults.append(Fault(kind, match, 1, code, headers, after, seconds=0.2))
    faults += [Fault(kind, match, max(1, count // 20)) for kind in ("norange", "wrongrange")]
    draw.shuffle(faults)
    return faults


def _kind(path: str) -> str:
    if path.endswith((".xml", ".safe")):
        return "application/xml"
    return "image/jp2" if path.endswith(".jp2") else "application/octet-stream"


def main() -> None:
    """Serve a folder of .SAFE products as the bucket, until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--most", type=int, default=5, help="Faults that one path may meet.")
    options = parser.parse_args()
    files = bucket_files(sorted(options.folder.glob("*.SAFE")))
    for path in files.values():
        md5_of(path)
    with serving(bucket(files), options.rate) as server:
        server.plan(*some_faults(options.faults))
        server.most_a_path = options.most
        print(server.url, flush=True)
        with suppress(EOFError):
            while input() != "end":
                print(json.dumps({"left": server.left, "most": server.most_at_once}), flush=True)


def key_url(root: str, key: str) -> str:
    """The URL of a key."""
    return f"{root}/{quote(key)}"


if __name__ == "__main__":
    main()
