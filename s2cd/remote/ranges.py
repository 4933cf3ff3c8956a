"""Pixels of a file that lies elsewhere: GDAL reads the ranges of it that a window needs."""

import os
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any

from s2cd.errors import S2cdError, SourceError
from s2cd.remote.path import Remote
from s2cd.remote.server import SECRETS, endpoint, state

_opened: dict[str, tuple[Any, ...]] = {}
"""Of each file the version that GDAL has seen of it in this process."""
_turns: Counter[str] = Counter()
"""How often GDAL has been made to forget a file."""
_opening = Lock()


def unreadable(path: Path, words: str) -> S2cdError:
    """Why GDAL could not read ``path``, by what it said.

    Raises:
        SourceError: where the server says why.
    """
    if not isinstance(path, Remote):
        return S2cdError(f"{path} cannot be read: {words}. It is cut short or damaged")
    try:
        state(path)
    except FileNotFoundError:
        return S2cdError(f"{path} was removed while it was read. Put it back")
    for name in SECRETS:
        words = words.replace(os.environ.get(name) or "\0", "…")
    return SourceError(f"{path} cannot be read: {words}. Where it is whole, try again")


def gdal_name(path: Path) -> str:
    """How GDAL names a file, forgetting what it has read of another version of it."""
    if not isinstance(path, Remote):
        return str(path)
    name = f"/vsis3/{'/'.join(path.parts[1:])}" if path.scheme == "s3" else f"/vsicurl/{path}"
    version = state(path)
    with _opening:
        if _opened.setdefault(name, version) != version:
            _drop(name)
            _opened[name] = version
            _turns[str(path)] += 1
    return name


def drop_kept(path: Path) -> bool:
    """Have GDAL drop what it keeps of a file that it could not read; whether there may be some.

    What a server cut short stays there, and is taken for the file.
    """
    if not isinstance(path, Remote):
        return False
    name = gdal_name(path)
    with _opening:
        _drop(name)
        _turns[str(path)] += 1
    return True


def turn_of(path: Path) -> int:
    """How often another version of a file has been seen here.

    Open handles of earlier turns are of no use, even where a version comes back: what GDAL keeps of
    a name is that of the latest.
    """
    return _turns[str(path)]


def _drop(name: str) -> None:
    """Open and close a file: on closing, GDAL drops what it has kept of it (`gdal_options`)."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        rasterio.open(name, driver="GTiff").close()
    except RasterioError:  # of the version that it kept, which is gone by now
        return


def gdal_options(path: Path | None) -> dict[str, Any]:
    """GDAL's settings to read a file: none of one of this machine.

    Source: gdal.org/user/virtual_file_systems.html.
    """
    if not isinstance(path, Remote):
        return {}
    settings: dict[str, Any] = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # nor asks for what may lie beside it
        "CPL_VSIL_CURL_NON_CACHED": "/vsis3/:/vsicurl/",
        "GDAL_HTTP_MAX_RETRY": 3,
        "GDAL_HTTP_RETRY_DELAY": 1,
        "GDAL_HTTP_CONNECTTIMEOUT": 10,
        "GDAL_HTTP_LOW_SPEED_TIME": 60,
        "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    }
    if (url := endpoint()) is not None:
        scheme, _, host = url.rstrip("/").rpartition("://")
        settings |= {
            "AWS_S3_ENDPOINT": host,
            "AWS_HTTPS": scheme != "http",
            "AWS_VIRTUAL_HOSTING": False,  # as botocore has it at an address of one's own
        }
    return settings
