"""Small files of candidates, kept between searches: what a name stands for never changes."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from s2cd.errors import S2cdError

T = TypeVar("T")


def cache_folder() -> Path:
    """Where they are kept: ``s2cd`` in the user's cache folder (XDG_CACHE_HOME).

    Raises:
        FileNotFoundError: where the user has none: no home.
    """
    home = os.environ.get("XDG_CACHE_HOME", "").strip()
    try:
        return (Path(home) if home else Path.home() / ".cache") / "s2cd"
    except RuntimeError as e:
        raise FileNotFoundError("no home") from e


def cached(
    url: str, fetch: Callable[[Callable[[bytes], bytes]], bytes], parse: Callable[[bytes], T]
) -> T:
    """What a URL's answer says: from the cache where that is right, else asked for and kept.

    A cache that cannot be read or written is none; that is no error.

    Args:
        url: Whose content never changes.
        fetch: Asks for it, with a function that raises S2cdError where it is not right.
        parse: Makes of it what is wanted; raises S2cdError where it is not right.

    Raises:
        S2cdError: of ``fetch``.
    """
    with suppress(OSError, S2cdError):
        return parse(_whole(_path(url).read_bytes()))

    def checked(content: bytes) -> bytes:
        parse(content)
        return content

    content = fetch(checked)
    with suppress(OSError):
        path = _path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_bytes(hashlib.sha256(content).digest() + content)
        os.replace(draft, path)
    return parse(content)


def forget(url: str) -> None:
    """Ask for it the next time: what it says led to nothing."""
    with suppress(OSError):
        _path(url).unlink()


def _whole(kept: bytes) -> bytes:
    """What is kept behind its own digest."""
    digest, content = kept[:32], kept[32:]
    if hashlib.sha256(content).digest() != digest:
        raise S2cdError("The cache was changed. Remove it")
    return content


def _path(url: str) -> Path:
    digest = hashlib.sha256(url.encode()).hexdigest()
    return cache_folder() / "metadata" / digest[:2] / digest[2:]
