"""Google's public bucket of Level-1C products: over HTTPS, without an account."""

import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any
from urllib.parse import quote, urlencode

from s2cd.errors import NotThereError, SourceError, SpoiledError
from s2cd.scenes.metadata import parse_xml
from s2cd.sources.cache import cached
from s2cd.sources.endpoints import endpoint
from s2cd.sources.facts import found_in
from s2cd.sources.http import Call, Client, Policy, said_url
from s2cd.sources.http.files import side_by_side
from s2cd.sources.names import Named, named
from s2cd.sources.products import PRODUCT_XML, Entry, bring, cloud_over, cost_in, open_products
from s2cd.sources.source import Cost, Found, Kept, Opened, Order, Scene, Search, Told
from s2cd.sources.tiles import tiles_of

logger = logging.getLogger(__name__)

_MANY = 40
"""Candidates whose metadata takes a while to read, for the first time."""
_MOST_LIST, _MOST_PAGES, _MOST_METADATA = 8 << 20, 200, 4 << 20


class Google:
    """The bucket ``gcp-public-data-sentinel-2``, or what S2CD_GOOGLE_URL names."""

    name = "google"

    def __init__(self, policy: Policy | None = None) -> None:
        """The source; nothing is asked yet."""
        self._root = endpoint("S2CD_GOOGLE_URL")
        self.client = Client([self._root], policy)
        self._listed: dict[str, dict[str, Entry]] = {}

    def find(self, search: Search) -> list[Found]:
        """Products whose footprint meets the AOI; each candidate's metadata is read, or cached."""
        tiles = tiles_of(search.aoi)
        listed = side_by_side(self.client, [partial(self._candidates, tile) for tile in tiles])
        tasks = [
            partial(self._facts, group)
            for candidates in listed
            for group in candidates
            if search.holds(group[0][1].sensed.date())
        ]
        level = logging.INFO if len(tasks) > _MANY else logging.DEBUG
        logger.log(level, "reading what %d products of %s say", len(tasks), ", ".join(tiles))
        groups = side_by_side(self.client, tasks)
        return [one for group in groups for one in group if search.keeps(one)]

    def clouds_over(self, parts: Sequence[tuple[Found, Any]]) -> list[float | None]:
        """Percent of cloud over a part of each product, by the mask that it holds."""
        return side_by_side(self.client, [partial(self._cloud, *part) for part in parts])

    def cost(self, scene: Scene, order: Order) -> Cost:
        """Bytes of the files that are needed, as the bucket lists them."""
        return cost_in([(found, self._entries(found)) for found in scene.products], order)

    def download(self, scenes: Sequence[Scene], order: Order, told: Told) -> list[Kept]:
        """Bring scenes, band by band."""
        products = [found for scene in scenes for found in scene.products]
        entries = side_by_side(self.client, [partial(self._entries, found) for found in products])
        return bring(self.client, list(zip(products, entries, strict=True)), order, told)

    def open(self, scene: Scene, order: Order) -> Opened:
        """The scene that `download` left."""
        return open_products(scene, order)

    def _candidates(self, tile: str) -> list[list[tuple[str, Named]]]:
        """Products of a tile by key and name, those of one datatake together, the latest first."""
        prefix = f"tiles/{tile[:2]}/{tile[2]}/{tile[3:]}/"
        groups: dict[tuple[str, int], list[tuple[str, Named]]] = {}
        for key, entry in self._list(prefix, "/"):
            name = named(key.removeprefix(prefix).rstrip("/"))
            if entry is None and name is not None and name.tile == tile:
                groups.setdefault((name.datatake, name.orbit), []).append((key, name))
        for group in groups.values():
            group.sort(key=lambda one: (one[1].baseline, one[1].made), reverse=True)
        return list(groups.values())

    def _facts(self, group: Sequence[tuple[str, Named]]) -> list[Found]:
        """The products of the highest baseline whose metadata is there: one for each datastrip."""
        for _, same in groupby(group, key=lambda one: one[1].baseline):
            facts = [self._fact(key, name) for key, name in same]
            if found := [one for one in facts if one is not None]:
                return found
        return []

    def _fact(self, key: str, name: Named) -> Found | None:
        """A product by its metadata; None where there is none."""
        url = self._url(f"{key}{PRODUCT_XML}")
        read = partial(found_in, said=said_url(url), source=self.name, place=key, tile=name.tile)
        fetch = partial(self.client.read, Call(url), "xml", _MOST_METADATA)
        try:
            return cached(url, fetch, read)
        except NotThereError:
            logger.debug("google: %s has no %s", key, PRODUCT_XML)
        except SpoiledError as e:
            logger.warning("%s is left out: %s", key, e)
        return None

    def _cloud(self, found: Found, part: Any) -> float | None:
        return cloud_over(self.client, found, self._entries(found), part)

    def _entries(self, found: Found) -> dict[str, Entry]:
        """The files of a product."""
        key = found.place
        if key not in self._listed:
            self._listed[key] = {
                name.removeprefix(key): entry
                for name, entry in self._list(key, "")
                if entry is not None and not name.endswith(("/", "_$folder$"))
            }
        return self._listed[key]

    def _list(self, prefix: str, delimiter: str) -> Iterator[tuple[str, Entry | None]]:
        """Keys and, without an entry, common prefixes: the XML API, version 1 of its lists."""
        marker = ""
        for _ in range(_MOST_PAGES):
            query = {"prefix": prefix, "delimiter": delimiter, "marker": marker}
            url = f"{self._root}?{urlencode({k: v for k, v in query.items() if v})}"
            parse = partial(parse_xml, said=said_url(url))
            page = self.client.read(Call(url), "xml", _MOST_LIST, parse)
            keys: list[str] = []
            for element in page:
                key = element.findtext("Key") or element.findtext("Prefix") or ""
                if element.tag not in ("Contents", "CommonPrefixes") or not key.startswith(prefix):
                    continue
                keys.append(key)
                yield key, (self._entry(key, element) if element.tag == "Contents" else None)
            following = page.findtext("NextMarker") or (max(keys) if keys else "")
            if page.findtext("IsTruncated") != "true" or following <= marker:
                return
            marker = following
        raise SourceError(f"{said_url(self._root)} lists {prefix} without end. Check the URL")

    def _entry(self, key: str, element: "object") -> Entry:
        text = {child.tag: child.text or "" for child in element}  # type: ignore[attr-defined]
        size = int(text["Size"]) if re.fullmatch(r"[0-9]{1,12}", text.get("Size", "")) else None
        digits = text.get("ETag", "").strip('"')
        md5 = ("md5", digits) if re.fullmatch(r"[0-9a-f]{32}", digits) else None
        return Entry(self._url(key), size, md5)

    def _url(self, key: str) -> str:
        return f"{self._root}/{quote(key)}"
