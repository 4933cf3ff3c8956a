"""Where CDSE keeps the files of products: OData Nodes with a token, or S3 with keys."""

import os
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from s2cd.errors import S2cdError, SourceError
from s2cd.sources.cdse.signing import Keys, Signed
from s2cd.sources.endpoints import endpoint
from s2cd.sources.http import Client, Policy, Token, origin_of
from s2cd.sources.source import Found

_USER = ("CDSE_USERNAME", "CDSE_PASSWORD")
_CLIENT = ("SH_CLIENT_ID", "SH_CLIENT_SECRET")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_S3_URL = "S2CD_CDSE_S3_URL"
_HOSTS = tuple(
    f"https://{name}.dataspace.copernicus.eu" for name in ("download", "catalogue", "zipper")
)
"""Of CDSE's own, which send to each other, and take the same tokens."""


class Store(Protocol):
    """Reads single files of products."""

    @property
    def client(self) -> Client:
        """Who asks."""

    def url(self, found: Found, name: str) -> str:
        """Where a file of a product is, by its name in it, ``GRANULE/…/MTD_TL.xml``."""


@dataclass(frozen=True)
class Nodes:
    """Files by OData: one node a folder."""

    client: Client
    root: str

    def url(self, found: Found, name: str) -> str:
        """As `Store.url`."""
        parts = (f"{found.name}.SAFE", *name.split("/"))
        nodes = "/".join(f"Nodes({quote(part)})" for part in parts)
        return f"{self.root}/Products({found.place})/{nodes}/$value"


@dataclass(frozen=True)
class Bucket:
    """Files of the bucket ``eodata``."""

    client: Client
    root: str

    def url(self, found: Found, name: str) -> str:
        """As `Store.url`.

        Raises:
            SourceError: where the catalogue does not say where the product is.
        """
        path = found.extra.get("s3path", "")
        if not path:
            raise SourceError(f"CDSE says nothing of where {found.name} is. Unset {_KEYS[0]}")
        return f"{self.root}/{quote(f'{path}/{name}')}"


def store_by_environment(policy: Policy | None) -> Store | None:
    """OData by user, S3 by keys, or OData by client; None without credentials.

    The names of the keys are those of any S3: they count before a user only where the address of
    theirs is set too, and a session token, which CDSE has none of, is sent to such an address only.

    Raises:
        S2cdError: where an address is none that may be asked.
    """
    own = bool(os.environ.get(_S3_URL, "").strip())
    if (given := _given(_KEYS)) and (own or not _given(_USER)):
        root = endpoint(_S3_URL)
        session = os.environ.get("AWS_SESSION_TOKEN", "").strip() if own else ""
        signed = Signed(Keys(*given, session), root, said=", ".join(_KEYS))
        return Bucket(Client([root], policy, signed), root)
    grants = {
        _USER: ("password", "username", "password"),
        _CLIENT: ("client_credentials", "client_id", "client_secret"),
    }
    for words, (kind, first, second) in grants.items():
        if given := _given(words):
            grant = {"grant_type": kind, "client_id": "cdse-public"}
            grant |= {first: given[0], second: given[1]}
            return _nodes(grant, ", ".join(words), policy)
    return None


def no_credentials() -> S2cdError:
    """The error for a download without an account."""
    return S2cdError(
        "CDSE gives its files to whoever has a (free) account. Set CDSE_USERNAME and "
        "CDSE_PASSWORD, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for its S3, in the "
        "environment; --source google needs none"
    )


def _nodes(grant: dict[str, str], said: str, policy: Policy | None) -> Nodes:
    root, url = endpoint("S2CD_CDSE_DOWNLOAD_URL"), endpoint("S2CD_CDSE_TOKEN_URL")
    roots = _HOSTS if origin_of(root) in map(origin_of, _HOSTS) else (root,)
    token = Token(Client([url], policy), url, grant, roots, said)
    return Nodes(Client(roots, policy, token), root)


def _given(words: tuple[str, str]) -> tuple[str, str] | None:
    first, second = (os.environ.get(word, "").strip() for word in words)
    return (first, second) if first and second else None
