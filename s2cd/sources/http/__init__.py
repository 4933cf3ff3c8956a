"""All HTTP of s2cd: `Client.send` is the one function that it passes."""

from s2cd.sources.http.client import Auth, Call, Client
from s2cd.sources.http.files import download_all, is_whole
from s2cd.sources.http.part import RemoteFile, download
from s2cd.sources.http.token import Token
from s2cd.sources.http.trust import check_url, origin_of, said_url
from s2cd.sources.http.wait import Policy

__all__ = [
    "Auth",
    "Call",
    "Client",
    "Policy",
    "RemoteFile",
    "Token",
    "check_url",
    "download",
    "download_all",
    "is_whole",
    "origin_of",
    "said_url",
]
