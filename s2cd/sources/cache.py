"""Small files of candidates, kept between searches: what a name stands for never changes."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from s2cd.errors import S2cdError


def cache_folder() -> Path:
    """Where they are kept: ``s2cd`` in the user's cache folder (XDG_CACHE_HOME)."""
    home = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(home) if home else Path.home() / ".cache") / "s2cd"


def cached(url: str, fetch: Callable[[], bytes], check: Callable[[bytes], object]) -> bytes:
    """What a URL answers with: from the cache where that is right, else fetched, checked and kept.

    A cache that cannot be read or written is none; that is no error.

    Args:
        url: Whose content never changes.
        fetch: Asks for it.
        check: Raises S2cdError where the content is not right.

    Raises:
        S2cdError: of ``fetch``, or of ``check`` where what was fetched is not right.
    """
    digest = hashlib.sha256(url.encode()).hexdigest()
    path = cache_folder() / "metadata" / digest[:2] / digest[2:]
    with suppress(OSError, S2cdError):
        content = path.read_bytes()
        check(content)
        return content
    content = fetch()
    check(content)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_bytes(content)
        os.replace(draft, path)
    return content
