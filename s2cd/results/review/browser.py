"""A page opened in the user's browser without its address on a command line, which others see."""

import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path


@contextmanager
def opened(url: str, wanted: bool = True) -> Iterator[None]:
    """Open an address, while the block runs, by a file that only this user can read."""
    if not wanted:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="s2cd-") as folder:  # mode 0700
        page = Path(folder) / "review.html"
        page.write_text(
            '<!doctype html><meta charset="utf-8"><title>s2cd review</title>'
            f'<meta http-equiv="refresh" content="0;url={escape(url)}">'
        )
        webbrowser.open(page.as_uri())
        yield
