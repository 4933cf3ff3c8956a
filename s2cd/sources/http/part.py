"""Files that come in parts: what has come stays, and is gone on with, until all of it is right."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import urllib3

from s2cd.errors import S2cdError
from s2cd.output import publish, sync, write_errors
from s2cd.sources.http.client import Call, Client
from s2cd.sources.http.kinds import check_kind, check_type
from s2cd.sources.http.wait import Fault, short

_BLOCK = 1 << 20
_HASHES = {"md5": "md5", "sha256": "sha256", "sha3-256": "sha3_256"}
"""Hashes by the names that manifests and listings give them, and by Python's."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to be had.

    Attributes:
        url: Where from.
        path: Where to; its folder is made.
        size: In bytes, where it is known.
        checksum: Name of the hash (``md5``, ``sha256``, ``sha3-256``) and its hexadecimal digits;
            None where nobody says.
        kind: What it is: see `kinds`.
        check: Looks at the whole file under a temporary name, and raises S2cdError where it is
            not what it should be, such as a raster of another place.
        request: What to send where it is more than a GET of ``url``; it is not gone on with then.
        most: Bytes that it may have, where ``size`` is not known.
    """

    url: str
    path: Path
    size: int | None = None
    checksum: tuple[str, str] | None = None
    kind: str = "any"
    check: Callable[[Path], None] | None = None
    request: Call | None = None
    most: int | None = None


def download(
    client: Client, file: RemoteFile, told: Callable[[int], None] = lambda count: None
) -> None:
    """Bring a file, or what is missing of it; it gets its name when all of it is right and synced.

    Args:
        client: Who asks.
        file: What to bring.
        told: Is told of each piece's bytes as it comes; less than 0 where some were thrown away.

    Raises:
        SourceError: where it cannot be had.
        UnwritableError: where the disk is full or closed.
    """
    with write_errors(file.path):
        file.path.parent.mkdir(parents=True, exist_ok=True)
    part = Part(client, file, told)
    if not part.is_whole():
        client.send(part.call, part.take)
    part.keep()


def come_of(path: Path, size: int) -> int:
    """Bytes that have come of a file of some size: all, where it has its name, else its part."""
    with suppress(OSError):
        if path.stat().st_size == size:
            return size
    with suppress(OSError):
        return min(_part_of(path).stat().st_size, size)
    return 0


def digest_of(path: Path, name: str) -> str:
    """Hexadecimal digits of a file's hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _hash(name)).hexdigest()


class Part:
    """What has come of a file, beside its name, and a note of what it is a part of."""

    def __init__(self, client: Client, file: RemoteFile, told: Callable[[int], None]) -> None:
        self._client, self._file, self._told = client, file, told
        self._part = _part_of(file.path)
        self._note = file.path.with_name(f".{file.path.name}.part.json")
        self._farthest = self._length()
        told(self._farthest)

    def is_whole(self) -> bool:
        """Whether all has come already, is right, and only the name is missing."""
        file = self._file
        if file.checksum is None or self._length() != file.size:
            return False
        if digest_of(self._part, file.checksum[0]) != file.checksum[1].lower():
            return False
        try:
            self._look()
        except Fault:
            return False
        return True

    def call(self) -> Call:
        """The request for what is missing."""
        if self._file.request is not None:
            return self._file.request
        begin = self._length()
        version = self._noted().get("version")
        if begin and not version and self._file.checksum is None:
            begin = 0
        if self._file.size is not None and begin >= self._file.size:
            begin = 0  # it was whole and not right, or never looked at
        if not begin:
            return Call(self._file.url)
        headers = {"Range": f"bytes={begin}-"}
        if version:
            headers["If-Range"] = str(version)
        return Call(self._file.url, headers=headers)

    def take(self, response: urllib3.BaseHTTPResponse) -> None:
        """Add an answer's body, and look at the whole; raises `Fault` where it is not right."""
        if response.status == 416:  # nothing lies beyond what has come: that is of another file
            self._forget()
            raise Fault("416")
        check_type(response, self._file.kind)
        with write_errors(self._file.path):
            begin = self._begin(response)
            digest = self._digest_so_far(begin)
            got = 0
            try:
                with self._part.open("r+b", buffering=0) as out:
                    out.seek(begin)
                    for piece in self._client.chunks(response):
                        self._check_room(begin + got + len(piece))
                        _write(out, piece)
                        digest.update(piece)
                        got += len(piece)
                        self._told(len(piece))
            except Fault as fault:
                further = begin + got > self._farthest
                self._farthest = max(self._farthest, begin + got)
                raise Fault(
                    fault.what, fault.wait, further and not fault.spoiled, fault.spoiled
                ) from None
            self._check(digest)

    def keep(self) -> None:
        """Sync it and give it its name."""
        with write_errors(self._file.path):
            sync(self._part)
            self._note.unlink(missing_ok=True)  # before the name: killed between, none is left
            publish(self._part, self._file.path)

    def _begin(self, response: urllib3.BaseHTTPResponse) -> int:
        """Where the body of an answer goes; an answer with the whole begins anew."""
        version = _version(response)
        if response.status == 206:
            begin = self._length()
            span = re.fullmatch(
                r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)",
                response.headers.get("Content-Range", "").strip(),
            )
            if span is None or int(span[1]) != begin or begin == 0:
                self._forget()
                raise Fault("another range than asked")
            noted = self._noted().get("version")
            if noted and version and version != noted:
                self._forget()
                raise Fault("changed on the way")
            self._check_size(None if span[3] == "*" else int(span[3]))
            return begin
        self._check_size(response.length_remaining)
        self._forget()
        self._part.touch()
        if version:
            self._note.write_text(json.dumps({"version": version}), encoding="utf-8")
        return 0

    def _check_size(self, total: int | None) -> None:
        size = self._file.size
        if size is not None and total is not None and total != size:
            self._forget()
            raise Fault(f"{total} bytes instead of {size}", spoiled=True)

    def _check_room(self, length: int) -> None:
        most = self._file.most if self._file.size is None else self._file.size
        if most is not None and length > most:
            self._forget()
            raise Fault(f"more than {most} bytes", spoiled=True)

    def _check(self, digest: Any) -> None:
        """Size, checksum, and all that `_look` does."""
        file, size = self._file, self._length()
        if file.size is not None and size != file.size:
            self._forget()
            raise Fault(f"{size} bytes instead of {file.size}", spoiled=True)
        if file.checksum is not None and digest.hexdigest() != file.checksum[1].lower():
            self._forget()
            raise Fault(f"another {file.checksum[0].upper()}", spoiled=True)
        self._look()

    def _look(self) -> None:
        """Kind, and what the file's own check says."""
        file = self._file
        try:
            with self._part.open("rb") as content:
                check_kind(content.read(64), file.kind)
            if file.check is not None:
                file.check(self._part)
        except Fault:
            self._forget()
            raise
        except S2cdError as e:
            self._forget()
            raise Fault("not what it should be", spoiled=True, detail=short(e)) from e

    def _digest_so_far(self, begin: int) -> Any:
        digest = hashlib.new(_hash(self._file.checksum[0] if self._file.checksum else "md5"))
        if begin:
            with self._part.open("rb") as content:
                while block := content.read(_BLOCK):
                    digest.update(block)
        return digest

    def _length(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def _noted(self) -> dict[str, Any]:
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}

    def _forget(self) -> None:
        """Drop what has come; first the bytes, so that a note never stands beside others'."""
        self._told(-self._length())
        if self._part.exists():
            os.truncate(self._part, 0)
        self._note.unlink(missing_ok=True)


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _write(out: RawIOBase, piece: bytes) -> None:
    """All of a piece: an unbuffered write may take less, and says so."""
    rest = memoryview(piece)
    while rest:
        rest = rest[out.write(rest) or 0 :]


def _version(response: urllib3.BaseHTTPResponse) -> str | None:
    """What tells this content from a later one: a strong ETag (RFC 9110, 8.8.3), or None."""
    tag = response.headers.get("ETag", "").strip()
    return tag if re.fullmatch(r'"[\x21\x23-\x7e]*"', tag) else None


def _hash(name: str) -> str:
    if name.lower() not in _HASHES:
        raise S2cdError(f"s2cd knows no hash {name[:20]!r}. It knows {', '.join(_HASHES)}")
    return _HASHES[name.lower()]
