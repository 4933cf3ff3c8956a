"""Connections: one pool an origin, through the proxy of the environment where there is one."""

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from threading import Event, Timer
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from s2cd.errors import SourceError
from s2cd.sources.http.trust import is_loopback
from s2cd.sources.http.wait import Fault, Policy

_HEAD = 2.0
"""Time that an answer's status and headers may take, times that of a single byte of them."""


def pool_for(url: str, policy: Policy) -> urllib3.PoolManager:
    """The connections to the host of a URL."""
    host = urlsplit(url).hostname or ""
    proxy = None if is_loopback(host) or proxy_bypass(host) else getproxies().get("https")
    return _pool(proxy, policy.connections, os.getpid())


def said_error(error: Exception, said: str) -> Exception:
    """A failed connection in a few words: a `Fault`, or an error where no other try helps."""
    if isinstance(error, ProxyError):
        return Fault("the proxy does not connect")
    if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error):
        return SourceError(
            f"{said} shows a certificate that cannot be verified. Name the one to trust in "
            "SSL_CERT_FILE, or check what stands between"
        )
    return Fault(words(error))


def words(error: BaseException) -> str:
    """What broke, without what the error's text may hold (URLs, queries)."""
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return "no answer in time"
    if isinstance(error, NameResolutionError):
        return "host not found"
    if isinstance(error, NewConnectionError):  # a ConnectTimeoutError too
        return "no connection"
    if isinstance(error, ConnectTimeoutError):
        return "no connection in time"
    if isinstance(error, (SSLError, ssl.SSLError)):
        return "encryption failed"
    return "connection lost"


@lru_cache(maxsize=8)
def _pool(proxy: str | None, connections: int, _process: int) -> urllib3.PoolManager:
    if proxy is None:
        pool = urllib3.PoolManager(num_pools=8, maxsize=connections, ssl_context=_tls())
        return _with_heads_in_time(pool)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = f"{parts.scheme}://{parts.hostname}:{parts.port or 3128}"
    who = None
    if parts.username:
        user, password = unquote(parts.username), unquote(parts.password or "")
        who = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}")
    pool = urllib3.ProxyManager(
        address, 8, proxy_headers=who, maxsize=connections, ssl_context=_tls()
    )
    return _with_heads_in_time(pool)


def _tls() -> ssl.SSLContext:
    """The certificates of the environment, of the system, or else of certifi."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    if bundle and not Path(bundle).is_file():
        raise SourceError(f"SSL_CERT_FILE names {bundle}, which does not exist. Correct it")
    context = ssl.create_default_context(cafile=bundle or None)
    usual = ssl.get_default_verify_paths()
    if not bundle and usual.cafile is None and usual.capath is None:
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _with_heads_in_time(pool: urllib3.PoolManager) -> urllib3.PoolManager:
    pool.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return pool


class _Plain(HTTPConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        return _in_time(self, super().getresponse)


class _Tls(HTTPSConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        return _in_time(self, super().getresponse)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


def _in_time(
    connection: HTTPConnection, receive: Callable[[], urllib3.HTTPResponse]
) -> urllib3.HTTPResponse:
    """The answer's head: a timeout counts between two bytes, and headers may be dripped for hours.

    Raises:
        TimeoutError: where it does not come.
    """
    over = Event()

    def end() -> None:
        over.set()
        with suppress(OSError, AttributeError):  # it has ended by itself
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = Timer(_HEAD * float(connection.timeout or 0), end)
    timer.daemon = True
    timer.start()
    answer = None
    try:
        answer = receive()
    except (HTTPException, OSError):
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if answer is not None and not over.is_set():
        return answer
    if answer is not None:  # of half a head
        answer.close()
    raise TimeoutError("the head of the answer trickles")
