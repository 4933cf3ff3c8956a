"""Files that lie elsewhere: ``s3://BUCKET/KEY``, and ``https://…`` to be read.

- A `Remote` is a path by name only, so that what names files takes it as well; whatever would open
  it as a file of this machine is refused in one line.
- Pixels are read by GDAL, range by range; all else goes by fsspec (the extra ``[s3]``).
- Who asks is told by AWS's own environment variables, in each process and so in each worker:
  ``AWS_ACCESS_KEY_ID`` and its kin, ``AWS_ENDPOINT_URL``, ``AWS_NO_SIGN_REQUEST``. Nothing of it
  is ever part of a name, a message or what is sent to workers.
- A version of a file is its size with its ETag, or its time. GDAL keeps what it has read of a name,
  so what it keeps is dropped when another version is seen.
- An object store has no locks that a killed process gives back. What is written while a result is
  made bears a digest of what it depends on, so that two runs at once cannot mix; the result is
  uploaded whole, and on the condition that none is there where none is to be replaced.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from s2cd.errors import RefusedError, ResultExistsError, S2cdError, SourceError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
_HERE = ("localhost", "127.0.0.1", "::1")
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_VERSIONS = ("ETag", "LastModified", "Last-Modified")
"""What tells two versions of one size apart, the surest first."""
_NEEDED = "s3:GetObject, and for results s3:PutObject, s3:DeleteObject and s3:ListBucket"
_opened: dict[str, tuple[Any, ...]] = {}
_opening = Lock()


class Remote(PosixPath):
    """A file behind a URL, with as much of a path as detection asks of one; see `path_of`."""

    __slots__ = ()

    def __str__(self) -> str:
        scheme, *rest = self.parts
        return f"{scheme}//{'/'.join(rest)}"

    def __fspath__(self) -> str:
        raise S2cdError(f"{self} is not on this machine, as it has to be here. Fetch it first")

    @property
    def scheme(self) -> str:
        """``s3``, ``https`` or ``http``."""
        return self.parts[0].removesuffix(":")

    def absolute(self) -> "Remote":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "Remote":
        """Itself."""
        return self

    def exists(self) -> bool:
        """Whether there is such a file.

        Raises:
            SourceError: where its server does not say.
        """
        try:
            state(self)
        except FileNotFoundError:
            return False
        return True

    def is_file(self) -> bool:
        """As `exists`."""
        return self.exists()

    def is_dir(self) -> bool:
        """False: there are no folders, only names that begin alike."""
        return False


def path_of(text: str | Path) -> Path:
    """The path of a file of this machine, or the `Remote` of a URL.

    Raises:
        S2cdError: where it is a URL that is not taken; what stands in it may be a secret.
    """
    scheme = None if isinstance(text, Path) else _SCHEME.match(text)
    if scheme is None:
        return Path(text) if isinstance(text, str) else text
    kind, rest = scheme[1].lower(), str(text)[scheme.end() :]
    host, _, key = rest.partition("/")
    if kind not in ("s3", "https", "http"):
        raise S2cdError(f"{kind}:// is not known. Name a file, s3://BUCKET/KEY or https://…")
    if re.search(r"[@?#]", rest) or not rest.isprintable():
        raise S2cdError(
            f"A {kind}:// address with @, ? or # is not taken, since secrets stand there. Set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or fetch the file"
        )
    if not _HOST.fullmatch(host) or set(key.split("/")) & {"", ".", ".."}:
        raise S2cdError(f"{kind}://{rest} names no file. Give s3://BUCKET/KEY or https://HOST/PATH")
    if kind == "http" and urlsplit(f"http://{host}").hostname not in _HERE:
        raise S2cdError(f"{kind}://{rest} is not encrypted. Give an https:// address")
    return Remote(f"{kind}://{rest}")


def state(path: Path) -> tuple[Any, ...]:
    """Size in bytes, and what tells this version of a file from another.

    Raises:
        FileNotFoundError: where there is none.
        SourceError: where a server does not say.
    """
    if not isinstance(path, Remote):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    with told(path):
        facts = _system(path).info(str(path))
        if facts["type"] != "file" or facts.get("size") is None:
            raise FileNotFoundError(str(path))
    versions = [str(facts[name]) for name in _VERSIONS if facts.get(name)]
    return int(facts["size"]), *versions[:1]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file, open to read its bytes."""
    if not isinstance(path, Remote):
        with path.open("rb") as file:
            yield file
        return
    with told(path), _system(path).open(str(path), "rb", block_size=1 << 16) as file:
        yield file


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what a server says of ``path`` into one line; of this machine's files nothing.

    That there is no such file stays a FileNotFoundError, with its name.

    Raises:
        SourceError: where it refuses, or does not answer.
    """
    if not isinstance(path, Remote):
        yield
        return
    try:
        from aiohttp import ClientError
        from botocore.exceptions import BotoCoreError
    except ImportError as e:
        raise S2cdError(f"To reach {path}, install what it takes: pip install 's2cd[s3]'") from e
    try:
        yield
    except (BotoCoreError, ClientError, PermissionError, ConnectionError, TimeoutError) as e:
        raise _said(path, e) from e
    except FileNotFoundError as e:
        if isinstance(e.__cause__, ClientError):  # how fsspec wraps all that HTTP says
            if getattr(e.__cause__, "status", 0) not in (404, 410):
                raise _said(path, e.__cause__) from e
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from e
    except OSError as e:
        if isinstance(e.__cause__, Exception) and hasattr(e.__cause__, "response"):
            raise _said(path, e.__cause__) from e
        raise


def _said(path: Remote, error: BaseException) -> SourceError:
    """What went wrong with a server, in one line, without its own words: they may tell secrets."""
    code, kind = _code_of(error), type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return RefusedError(
            f"{path} needs credentials. Set {_SECRETS[0]} and {_SECRETS[1]} in the environment, or "
            "AWS_NO_SIGN_REQUEST=YES for what is public"
        )
    if isinstance(error, PermissionError) or code in ("401", "403"):
        return RefusedError(
            f"{path} is refused{f' ({code})' if code else ''}. Check the credentials in the "
            f"environment, and that they may there: {_NEEDED}"
            if path.scheme == "s3"
            else f"{path} is refused ({code}). Give what is public, or fetch it"
        )
    return SourceError(
        f"{path} cannot be had: {_server(path)} does not answer as it should ({code or kind}). "
        "Check it and the network, and the same command continues"
    )


def _code_of(error: BaseException) -> str:
    """What a server calls an error, in letters and figures alone."""
    for one in (error, error.__cause__):
        answer = getattr(one, "response", None)
        if isinstance(answer, dict):
            return re.sub(r"\W", "", str(answer.get("Error", {}).get("Code", "")))[:40]
    return str(getattr(error, "status", "") or "")


def _server(path: Remote) -> str:
    """Who serves a file, without user and path."""
    url = _endpoint() if path.scheme == "s3" else str(path)
    if url is None:
        return "AWS"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def unreadable(path: Path, words: str) -> S2cdError:
    """Why GDAL could not read ``path``, by what it said.

    Raises:
        SourceError: where the server says why.
    """
    if not isinstance(path, Remote):
        return S2cdError(f"{path} cannot be read: {words}. It is cut short or damaged")
    with told(path):
        _system(path).info(str(path))
    for name in _SECRETS:
        words = words.replace(os.environ.get(name) or "\0", "…")
    return SourceError(f"{path} cannot be read: {words}. Where it is whole, try again")


def gdal_name(path: Path) -> str:
    """How GDAL names a file, forgetting what it has read of another version of it."""
    if not isinstance(path, Remote):
        return str(path)
    name = f"/vsis3/{'/'.join(path.parts[1:])}" if path.scheme == "s3" else f"/vsicurl/{path}"
    with _opening:
        version = state(path)
        if _opened.setdefault(name, version) != version:
            _forget(name)
            _opened[name] = version
    return name


def _forget(name: str) -> None:
    """Open and close a file: on closing, GDAL drops what it has kept of it (`gdal_options`)."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        rasterio.open(name, driver="GTiff").close()
    except RasterioError:  # of the version that it kept, which is gone by now
        return


def gdal_options(path: Path) -> dict[str, Any]:
    """GDAL's settings to read a file: none of one of this machine.

    Source: gdal.org/user/virtual_file_systems.html.
    """
    if not isinstance(path, Remote):
        return {}
    from rasterio.session import DummySession

    settings: dict[str, Any] = {
        "session": DummySession(),  # GDAL reads AWS's variables itself
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # nor asks for what may lie beside it
        "CPL_VSIL_CURL_NON_CACHED": "/vsis3/:/vsicurl/",
        "GDAL_HTTP_MAX_RETRY": 3,
        "GDAL_HTTP_RETRY_DELAY": 1,
        "GDAL_HTTP_CONNECTTIMEOUT": 10,
        "GDAL_HTTP_LOW_SPEED_TIME": 60,
        "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    }
    if (url := _endpoint()) is not None:
        scheme, _, host = url.rstrip("/").rpartition("://")
        settings |= {
            "AWS_S3_ENDPOINT": host,
            "AWS_HTTPS": scheme != "http",
            "AWS_VIRTUAL_HOSTING": False,  # as botocore has it at an address of one's own
        }
    return settings


def upload(file: Path, result: Remote, replace: bool) -> None:
    """Send a file; it appears under its name whole, or not at all.

    Raises:
        ResultExistsError: where there is one by now, and it is not to be replaced.
    """
    with told(result):
        try:
            _system(result).put_file(
                str(file), str(result), mode="overwrite" if replace else "create"
            )
        except FileExistsError as e:
            raise ResultExistsError(
                f"{result} has come to be meanwhile. Give --overwrite to replace it"
            ) from e


def zarr_store(folder: Path) -> Any:
    """Where zarr keeps an array."""
    if not isinstance(folder, Remote):
        return str(folder)
    from zarr.storage import FsspecStore

    _system(folder)  # says what is not installed
    return FsspecStore.from_url(str(folder), storage_options=_options(folder))


def remove_all(folder: Remote) -> bool:
    """Remove all files whose names begin with that of a folder; whether there were some."""
    with told(folder):
        try:
            _system(folder).rm(str(folder), recursive=True)
        except FileNotFoundError:
            return False
    return True


def _system(path: Remote) -> Any:
    """The file system of fsspec that a file is in."""
    import fsspec

    return fsspec.filesystem(path.scheme, **_options(path))


def _options(path: Remote) -> dict[str, Any]:
    """What fsspec is told of a server; credentials it finds by itself."""
    if path.scheme != "s3":
        return {"use_listings_cache": False}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {
        "anon": os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "1"),
        "requester_pays": os.environ.get("AWS_REQUEST_PAYER") == "requester",
        "endpoint_url": _endpoint(),
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "connect_timeout": 10,
            "read_timeout": 60,
            "retries": {"max_attempts": 3, "mode": "standard"},
        },
        "use_listings_cache": False,
    }


def _endpoint() -> str | None:
    """An S3 that is not AWS's, by AWS's own variables."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
