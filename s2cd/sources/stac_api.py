"""CDSE searched through its STAC API; the products that it finds are brought as `Cdse` does."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from pystac_client import ItemSearch
from pystac_client.stac_api_io import StacApiIO

from s2cd.errors import S2cdError, SourceError
from s2cd.sources.cdse import Cdse
from s2cd.sources.endpoints import endpoint
from s2cd.sources.http import Call, Client, Policy, said_url
from s2cd.sources.http.files import side_by_side
from s2cd.sources.names import footprint_of, named, percentage
from s2cd.sources.source import Found, Search

logger = logging.getLogger(__name__)

_COLLECTION = "sentinel-2-l1c"
_PAGE, _MOST_PAGES, _MOST_BYTES = 100, 100, 64 << 20
_PATH = re.compile(r"s3://(eodata(?:/[\w-][\w.-]*){1,12}?\.SAFE)(?:/.*)?", re.ASCII | re.IGNORECASE)


class StacApi(Cdse):
    """The archive of CDSE, by its STAC API."""

    name = "stac"

    def __init__(self, policy: Policy | None = None) -> None:
        """The source; nothing is asked yet."""
        super().__init__(policy)
        self._root = endpoint("S2CD_STAC_URL")
        self._client = Client([self._root], policy)
        self._known: dict[str, Found] = {}

    def find(self, search: Search) -> list[Found]:
        """Products whose footprint meets the AOI."""
        tasks = [partial(self._items, span, box) for span in search.spans for box in search.boxes]
        items = [item for page in side_by_side(self._client, tasks) for item in page]
        found = {one.name: one for one in map(self._found, items) if one is not None}
        return [one for one in found.values() if search.keeps(one)]

    def _items(self, span: tuple[date, date], box: tuple[float, ...]) -> list[dict[str, Any]]:
        """All items of some days, and of the next (begun before midnight), that meet a box."""
        asked = ItemSearch(
            url=f"{self._root}/search",
            stac_io=_Io(self._client),
            collections=[_COLLECTION],
            bbox=box,
            datetime=f"{span[0]}/{span[1] + timedelta(1)}",
            limit=_PAGE,
        )
        return list(asked.items_as_dicts())

    def _found(self, item: Mapping[str, Any]) -> Found | None:
        """A product by its item; None for what is none, or not described."""
        name, properties = named(item.get("id")), item.get("properties")
        if name is None or not isinstance(properties, dict):
            return None
        try:
            footprint = footprint_of(item.get("geometry"), name.name)
        except S2cdError as e:
            logger.warning("%s is left out: %s", name.name, e)
            return None
        cloud = percentage(properties.get("eo:cloud_cover"))
        path = {"s3path": _path(item, name.name), "online": "yes"}
        return Found(source=self.name, **vars(name), cloud=cloud, footprint=footprint, extra=path)

    def _placed(self, found: Found) -> Found:
        """The product as the catalogue has it, whose id an item lacks."""
        if found.name not in self._known:
            there = self._catalogue.named(found.name)
            path = found.extra.get("s3path") or there.extra["s3path"]
            self._known[found.name] = replace(there, extra={**there.extra, "s3path": path})
        return self._known[found.name]


class _Io(StacApiIO):
    """What pystac-client asks, by our own HTTP: bounded, within one trust, and asked again."""

    def __init__(self, client: Client) -> None:
        super().__init__(max_retries=None)
        self._client, self._pages = client, 0

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The text of an answer; headers that a server's links name are not sent."""
        self._pages += 1
        if self._pages > _MOST_PAGES:
            raise SourceError(f"{said_url(href)} lists without end. Check the URL")
        if (method or "GET").upper() == "POST":
            body = json.dumps(parameters or {}).encode()
            call = Call(href, "POST", {"Content-Type": "application/json"}, body)
        else:
            query = urlencode(parameters or {})
            call = Call(f"{href}{'&' if '?' in href else '?'}{query}" if query else href)
        return self._client.read(call, "json", _MOST_BYTES, _page).decode()


def _page(content: bytes) -> bytes:
    """A page of items, or a single list of what it says to be wrong."""
    page = json.loads(content)
    items = page.get("features") if isinstance(page, dict) else None
    links = page.get("links", []) if isinstance(page, dict) else None
    right = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    if not right or not isinstance(links, list):
        raise ValueError("it is no list of STAC items")
    if not all(isinstance(link, dict) and {"rel", "href"} <= link.keys() for link in links):
        raise ValueError("it has links that are none")
    return content


def _path(item: Mapping[str, Any], name: str) -> str:
    """Where the bucket has the product: bucket and key, by the first of its files."""
    assets = item.get("assets")
    for asset in assets.values() if isinstance(assets, dict) else ():
        match = _PATH.fullmatch(str(asset.get("href", ""))) if isinstance(asset, dict) else None
        if match is not None and match[1].endswith(f"/{name}.SAFE"):
            return match[1]
    return ""
