"""The name of a file that lies elsewhere, which passes for a path wherever paths are only named."""

import re
from pathlib import Path, PosixPath
from urllib.parse import urlsplit

from s2cd.errors import S2cdError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
_HERE = ("localhost", "127.0.0.1", "::1")


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
        from s2cd.remote.server import state

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
