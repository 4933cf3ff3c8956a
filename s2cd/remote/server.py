"""What a server is asked beside pixels: by fsspec, and what it says is told in one line."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from s2cd.errors import RefusedError, ResultExistsError, S2cdError, SourceError
from s2cd.remote.path import Remote

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_VERSIONS = ("ETag", "LastModified", "Last-Modified")
"""What tells two versions of one size apart, the surest first."""
_NEEDED = "s3:GetObject, and for results s3:PutObject, s3:DeleteObject and s3:ListBucket"


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
            f"{path} needs credentials. Set {SECRETS[0]} and {SECRETS[1]} in the environment, or "
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
    url = endpoint() if path.scheme == "s3" else str(path)
    if url is None:
        return "AWS"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


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

    options = {**_options(folder), "max_concurrency": 1}  # else each chunk is asked for its size
    store = FsspecStore.from_url(str(folder), storage_options=options)
    store.fs.retries = 1
    return store


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

    system = fsspec.filesystem(path.scheme, **_options(path))
    system.retries = 1  # botocore tries again already
    return system


def _options(path: Remote) -> dict[str, Any]:
    """What fsspec is told of a server; credentials it finds by itself."""
    if path.scheme != "s3":
        return {"use_listings_cache": False}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {
        "anon": os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "1"),
        "requester_pays": os.environ.get("AWS_REQUEST_PAYER") == "requester",
        "endpoint_url": endpoint(),
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "connect_timeout": 10,
            "read_timeout": 20,
            "retries": {"total_max_attempts": 4, "mode": "standard"},
        },
        "use_listings_cache": False,
    }


def endpoint() -> str | None:
    """An S3 that is not AWS's, by AWS's own variables."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
