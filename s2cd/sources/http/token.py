"""Bearer tokens that expire and are renewed (OAuth 2: RFC 6749, RFC 6750)."""

import json
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from s2cd.errors import RefusedError, SourceError
from s2cd.sources.http.client import Call, Client
from s2cd.sources.http.trust import check_url, origin_of, said_url

_EARLY = 30.0
"""Seconds before its end that a token is renewed."""
_LONGEST = 86_400.0
"""Seconds that a token is believed to last, at most."""
_MOST_BYTES = 1 << 20


class Token:
    """A token for some origins, from a token endpoint; it can be used from several threads."""

    def __init__(
        self, client: Client, url: str, grant: Mapping[str, str], roots: Iterable[str], said: str
    ) -> None:
        """A token that is asked for when it is first needed.

        Args:
            client: Talks to the token endpoint, and to nothing else.
            url: The token endpoint.
            grant: The form to send: ``grant_type`` and what belongs to it.
            roots: URLs whose origins the token is for.
            said: Where the credentials come from, for messages: ``CDSE_USERNAME, CDSE_PASSWORD``.
        """
        self._client, self._url, self._grant, self.said = client, check_url(url), grant, said
        self._origins = frozenset(origin_of(check_url(root)) for root in roots)
        self._turn = threading.Lock()
        self._access, self._refresh, self._ends = "", "", 0.0

    @property
    def origins(self) -> frozenset[str]:
        """What the token is for."""
        return self._origins

    def headers(self, call: Call, url: str) -> dict[str, str]:
        """The header with the token, which is had or renewed first where it has to be."""
        with self._turn:
            if time.monotonic() >= self._ends - _EARLY or not self._access:
                self._obtain()
            return {"Authorization": f"Bearer {self._access}"}

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Have another token in place of the one that was refused, unless a thread just had."""
        with self._turn:
            if refused.get("Authorization") == f"Bearer {self._access}":
                self._obtain()
            return True

    def _obtain(self) -> None:
        """By the refresh token where there is one that still counts, else by the grant."""
        if self._refresh:
            rest = {k: v for k, v in self._grant.items() if k in ("client_id", "client_secret")}
            form = {**rest, "grant_type": "refresh_token", "refresh_token": self._refresh}
            self._refresh = ""
            try:
                return self._take(self._ask(form))
            except (RefusedError, SourceError):
                pass  # it has expired; the grant still counts
        self._take(self._ask(self._grant))

    def _ask(self, form: Mapping[str, str]) -> Any:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        call = Call(self._url, "POST", headers, urlencode(form).encode(), private=True)
        try:
            return self._client.read(call, "json", _MOST_BYTES, json.loads)
        except RefusedError as e:
            raise RefusedError(f"{said_url(self._url)} refuses {self.said}. Check them") from e

    def _take(self, answer: Any) -> None:
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise SourceError(f"{said_url(self._url)} gives no token. Check the URL")
        lasts, refresh = answer.get("expires_in"), answer.get("refresh_token")
        seconds = min(lasts, _LONGEST) if isinstance(lasts, (int, float)) else 60.0
        self._access, self._ends = token, time.monotonic() + max(seconds, _EARLY + 1)
        self._refresh = refresh if isinstance(refresh, str) else ""
