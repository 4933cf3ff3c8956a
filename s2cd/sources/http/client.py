"""One function that all HTTP passes: it waits, asks again, follows, renews, and gives up."""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import urllib3
from urllib3.exceptions import HTTPError

from s2cd.errors import NotThereError, RefusedError, S2cdError, SourceError
from s2cd.sources.http.body import chunks, excerpt
from s2cd.sources.http.connect import pool_for, said_error
from s2cd.sources.http.kinds import check_kind, check_type
from s2cd.sources.http.trust import check_url, origin_of, redirected, said_url
from s2cd.sources.http.wait import Effort, Fault, Policy, retry_after, short

logger = logging.getLogger(__name__)
T = TypeVar("T")
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504, 507, *range(520, 525))
"""The last are those of proxies that do not reach the server, or not in time."""
_MOST_HOPS = 6


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        url: With its query.
        method: GET or POST.
        headers: Without those of an `Auth`.
        body: Of a POST.
        private: Whether nothing that comes back may be shown: a token's answer.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    private: bool = False


class Auth(Protocol):
    """Who asks: headers for the origins that they are for, and for no other.

    Attributes:
        said: Where the credentials come from, for messages.
    """

    said: str

    @property
    def origins(self) -> frozenset[str]:
        """See `origin_of`."""

    def headers(self, call: Call, url: str) -> dict[str, str]:
        """Headers for a request to ``url``, one of its origins."""

    def renew(self, refused: Mapping[str, str]) -> bool:
        """After a 401 to these headers: whether there are other ones now."""


class Client:
    """Talks to some origins, over at most four connections at once.

    It can be used from several threads. `stop` ends whatever they wait for.
    """

    def __init__(
        self, roots: Iterable[str], policy: Policy | None = None, auth: Auth | None = None
    ) -> None:
        """A client for the origins of some URLs.

        Args:
            roots: URLs; what lies at their origins may be asked, and redirects may lead there.
            policy: How patient it is.
            auth: Who asks; nobody by default.

        Raises:
            SourceError: where a root is not encrypted, or holds a password.
        """
        self.policy, self.auth = policy or Policy(), auth
        self.origins = {origin_of(check_url(root)) for root in roots}
        self._slots = threading.BoundedSemaphore(self.policy.connections)
        self._stopped = threading.Event()
        self._deadline = time.monotonic() + self.policy.limit
        self._not_before: dict[str, float] = {}
        self._answered: set[str] = set()
        self._open: set[urllib3.BaseHTTPResponse] = set()

    def send(self, make: Callable[[], Call], use: Callable[[urllib3.BaseHTTPResponse], T]) -> T:
        """What ``use`` makes of the answer to a request.

        Args:
            make: Gives the request, anew for each try.
            use: Takes the answer, whose status is 2xx (or 416 to a Range) and whose body is not
                read yet; raises `Fault` where the request shall be made again.

        Raises:
            SourceError: where it cannot be had; the line names what was tried.
            NotThereError: where the server says that there is no such thing (404, 410).
            RefusedError: where the server does not want whoever asks (401, 403).
        """
        effort = Effort(self.policy, said_url(make().url), time.monotonic())
        while True:
            call = make()
            try:
                with self._slot(origin_of(call.url)):
                    return self._exchange(call, use)
            except Fault as fault:
                origin = origin_of(call.url)
                rest = effort.rest(fault, time.monotonic(), origin in self._answered)
                logger.debug("%s: %s; again in %.1f s", said_url(call.url), fault.what, rest)
                if fault.wait is not None:  # the server is busy for every thread
                    self._not_before[origin] = time.monotonic() + rest
                self._sleep(rest, call.url)

    def read(self, call: Call, kind: str, most: int, parse: Callable[[bytes], T]) -> T:
        """What ``parse`` makes of a short answer.

        Args:
            call: The request.
            kind: What it is: see `kinds`.
            most: Bytes that it may have.
            parse: Raises S2cdError or ValueError where the answer is not what it should be; it is
                asked for again then.

        Raises:
            SourceError: as `send`, and where it is longer.
            SpoiledError: where it stays what it should not be.
        """

        def use(response: urllib3.BaseHTTPResponse) -> T:
            check_type(response, kind)
            content = bytearray()
            for chunk in self.chunks(response):
                content += chunk
                if len(content) > most:
                    raise SourceError(
                        f"{said_url(call.url)} answers with more than {most >> 10} KiB, which "
                        "nothing of its kind has. Check the URL"
                    )
            check_kind(bytes(content[:64]), kind)
            try:
                return parse(bytes(content))
            except (S2cdError, ValueError, RecursionError) as e:
                raise Fault("not what it should be", spoiled=True, detail=short(e)) from e

        return self.send(lambda: call, use)

    def chunks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """The body of an answer, piece by piece, while there is time; raises `Fault`."""
        return chunks(response, self.policy.slowest, self._deadline, self._stopped)

    def stop(self) -> None:
        """End all that is under way in any thread."""
        self._stopped.set()
        for response in list(self._open):
            try:
                response.shutdown()
            except (AttributeError, ValueError, OSError, RuntimeError):
                continue  # it has ended by itself

    def _exchange(self, call: Call, use: Callable[[urllib3.BaseHTTPResponse], T]) -> T:
        """One try: redirects followed, a token renewed once."""
        url, renewed = call.url, False
        for _ in range(_MOST_HOPS):
            who = self._who(call, url)
            with self._opened(call, url, who) as response:
                if response.status in _REDIRECTS and call.method == "GET":
                    url = redirected(url, response.headers.get("Location", ""), self._trusted())
                elif response.status == 401 and who and not renewed and self._renew(who):
                    renewed = True
                else:
                    self._check_status(response, call, url, who)
                    return use(response)
        raise SourceError(f"{said_url(call.url)} is redirected without end. Check the URL")

    @contextmanager
    def _opened(
        self, call: Call, url: str, who: Mapping[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        from s2cd import __version__

        if origin_of(check_url(url)) not in self._trusted():
            raise SourceError(f"{said_url(url)} is at a host that is not trusted. Check the source")
        headers = {"User-Agent": f"s2cd/{__version__}", "Accept-Encoding": "identity"}
        try:
            response = pool_for(url, self.policy).request(
                call.method,
                url,
                body=call.body,
                headers={**headers, **call.headers, **who},
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=self.policy.connect, read=self.policy.read),
            )
        except (HTTPError, ssl.SSLError, OSError) as e:
            raise said_error(e, said_url(url)) from None  # its text may hold the URL's query
        self._answered.add(origin_of(url))
        self._open.add(response)
        try:
            yield response
        finally:
            self._open.discard(response)
            _let_go(response)

    def _check_status(
        self, response: urllib3.BaseHTTPResponse, call: Call, url: str, who: Mapping[str, str]
    ) -> None:
        """Go on with 2xx; raise `Fault` where it may be asked again, else the error."""
        status, said = response.status, said_url(url)
        if 200 <= status < 300 or (status == 416 and "Range" in call.headers):
            return
        if status in _AGAIN:
            raise Fault(str(status), retry_after(response.headers, self.policy.retry_after_unit))
        why = "" if call.private else excerpt(response, who.values())
        if status in (404, 410):
            raise NotThereError(f"{said} does not exist ({status}{why}). Check the URL")
        if status in (401, 403) or (status == 400 and call.private):
            if self.auth is None:
                asked, check = "a request without credentials", "the source"
            else:
                asked, check = "the credentials", self.auth.said
            raise RefusedError(
                f"{said} refuses {asked} ({status}{why}). Check {check}, and the URL"
            )
        raise SourceError(f"{said} answers {status}{why}. Check the URL and what was asked")

    def _who(self, call: Call, url: str) -> dict[str, str]:
        """Headers of whoever asks, where ``url`` is what they are for."""
        if self.auth is None or origin_of(url) not in self.auth.origins:
            return {}
        return self.auth.headers(call, url)

    def _renew(self, refused: Mapping[str, str]) -> bool:
        return self.auth is not None and self.auth.renew(refused)

    def _trusted(self) -> set[str]:
        return self.origins | (self.auth.origins if self.auth is not None else frozenset())

    @contextmanager
    def _slot(self, origin: str) -> Iterator[None]:
        """One of the connections, once the server is not busy."""
        while (wait := self._not_before.get(origin, 0) - time.monotonic()) > 0:
            self._sleep(wait, origin)
        with self._slots:
            self._check_going(origin)
            yield

    def _sleep(self, seconds: float, url: str) -> None:
        self._stopped.wait(max(0, min(seconds, self._deadline - time.monotonic())))
        self._check_going(url)

    def _check_going(self, url: str) -> None:
        if self._stopped.is_set():
            raise SourceError(f"{said_url(url)} was given up: another part failed")
        if time.monotonic() >= self._deadline:
            raise SourceError(
                f"{said_url(url)} could not be had within {self.policy.limit:.0f} s altogether. "
                "Give the same command again: it continues"
            )


def _let_go(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back where the answer was read whole, else close it."""
    if response.length_remaining == 0 or getattr(response, "_fp", None) is None:
        response.release_conn()
    else:
        response.close()
