"""Connections: one pool an origin, through the proxy of the environment where there is one."""

import os
import ssl
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
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
        return urllib3.PoolManager(num_pools=8, maxsize=connections, ssl_context=_tls())
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = f"{parts.scheme}://{parts.hostname}:{parts.port or 3128}"
    who = None
    if parts.username:
        user, password = unquote(parts.username), unquote(parts.password or "")
        who = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}")
    return urllib3.ProxyManager(
        address, 8, proxy_headers=who, maxsize=connections, ssl_context=_tls()
    )


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
