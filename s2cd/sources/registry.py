"""The sources by name, and which one is taken where none is named."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from s2cd.errors import UsageError
from s2cd.sources.source import Source


@dataclass(frozen=True)
class _Kind:
    """Where a source stands, and the variables that hold its credentials: any of the groups."""

    module: str
    maker: str
    credentials: tuple[tuple[str, ...], ...] = ()


_USER, _CLIENT = ("CDSE_USERNAME", "CDSE_PASSWORD"), ("SH_CLIENT_ID", "SH_CLIENT_SECRET")
_KINDS: Mapping[str, _Kind] = {
    "google": _Kind("s2cd.sources.google", "Google"),
    "cdse": _Kind("s2cd.sources.cdse", "Cdse", (_USER,)),
    "process-api": _Kind("s2cd.sources.process_api", "ProcessApi", (_CLIENT,)),
    "stac": _Kind("s2cd.sources.stac_api", "StacApi", (_USER,)),
}
_PREFERRED = ("process-api", "cdse", "google")
"""The order of ``auto``: the first whose credentials are there."""

NAMES = ("auto", *_KINDS)


def open_source(name: str) -> Source:
    """A source by its name; ``auto`` is the public bucket, unless another's credentials are set.

    Raises:
        UsageError: where there is none of that name.
    """
    if name == "auto":
        name = next(kind for kind in _PREFERRED if kind in _KINDS and has_credentials(kind))
    if name not in _KINDS:
        raise UsageError(f"There is no source {name!r}. Name one of {', '.join(NAMES)}")
    kind = _KINDS[name]
    source: Source = getattr(importlib.import_module(kind.module), kind.maker)()
    return source


def has_credentials(name: str) -> bool:
    """Whether the environment holds what a source needs; nothing is shown of it."""
    groups = _KINDS[name].credentials
    given = {word for group in groups for word in group if os.environ.get(word, "").strip()}
    return not groups or any(given.issuperset(group) for group in groups)
