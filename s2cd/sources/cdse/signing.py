"""Requests to S3 signed with keys: AWS Signature Version 4.

After "Signature Version 4 signing process" and "Authenticating requests (AWS Signature Version 4)"
in the Amazon S3 API reference. botocore does it too, in 15 MB, and asks addresses on the network
for credentials where it finds none.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

from s2cd.sources.http import Call, check_url, origin_of

_REGION, _SERVICE = "default", "s3"
"""CDSE's S3 has one region, and takes any name for it."""
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Keys:
    """Access key, secret key, and the session token of temporary keys."""

    access: str = field(repr=False)
    secret: str = field(repr=False)
    session: str = field(default="", repr=False)


class Signed:
    """Signs requests to one origin; the secret key never leaves the process."""

    def __init__(
        self, keys: Keys, root: str, region: str = _REGION, said: str = "the S3 keys"
    ) -> None:
        """An `Auth` for the origin of a URL."""
        self._keys, self._region, self.said = keys, region, said
        self._origins = frozenset({origin_of(check_url(root))})

    @property
    def origins(self) -> frozenset[str]:
        """What the keys are for."""
        return self._origins

    def headers(self, call: Call, url: str) -> dict[str, str]:
        """Headers for a request, signed for this moment."""
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        more = {"X-Amz-Security-Token": self._keys.session} if self._keys.session else {}
        body = hashlib.sha256(call.body).hexdigest() if call.body else _EMPTY
        headers = {"X-Amz-Date": now, "X-Amz-Content-SHA256": body, **more}
        return {**headers, "Authorization": self.signature(call.method, url, headers)}

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Keys stay what they are."""
        return False

    def signature(self, method: str, url: str, headers: Mapping[str, str]) -> str:
        """The Authorization header of a request.

        Args:
            method: GET or POST.
            url: As it is sent, with its query.
            headers: All that are signed, but Host, with X-Amz-Date and X-Amz-Content-SHA256.
        """
        signed = {name.lower(): " ".join(text.split()) for name, text in headers.items()}
        signed["host"] = urlsplit(url).netloc
        names = ";".join(sorted(signed))
        moment = signed["x-amz-date"]
        scope = f"{moment[:8]}/{self._region}/{_SERVICE}/aws4_request"
        canonical = "\n".join(
            [
                method,
                *_place(url),
                *(f"{name}:{signed[name]}" for name in sorted(signed)),
                "",
                names,
                signed["x-amz-content-sha256"],
            ]
        )
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
        key = f"AWS4{self._keys.secret}".encode()
        for part in scope.split("/"):
            key = _mac(key, part)
        return (
            f"AWS4-HMAC-SHA256 Credential={self._keys.access}/{scope}, SignedHeaders={names}, "
            f"Signature={_mac(key, text).hex()}"
        )


def _place(url: str) -> tuple[str, str]:
    """The path as it is sent, and the query in the order of its names."""
    parts = urlsplit(url)
    query = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return parts.path or "/", "&".join(f"{name}={value}" for name, value in query)


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
