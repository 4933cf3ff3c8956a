"""The OData catalogue: Level-1C products by area and date, without an account."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from s2cd.errors import NotThereError, S2cdError, SourceError
from s2cd.sources.http import Call, Client, said_url
from s2cd.sources.http.files import side_by_side
from s2cd.sources.names import footprint_of, footprint_of_text, named, percentage
from s2cd.sources.source import Found, Search

logger = logging.getLogger(__name__)

_PAGE, _MOST_PAGES, _MOST_BYTES = 200, 100, 32 << 20
_MOST_SIZE = 1 << 40
_PLAIN = "()/:;,='.$"
"""What stands in a query as it is."""
_ID = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_PATH = re.compile(r"/?eodata(?:/[\w-][\w.-]*){1,12}", re.ASCII | re.IGNORECASE)
_ATTRIBUTE = "Attributes/OData.CSC.{0}Attribute/any(a:a/Name eq '{1}' and a/OData.CSC.{0}Attribute"
_TYPE = f"{_ATTRIBUTE.format('String', 'productType')}/Value eq 'S2MSI1C')"


class Catalogue:
    """Products of the archive, as its OData interface lists them."""

    def __init__(self, client: Client, root: str, source: str) -> None:
        """A catalogue at a URL; what it finds is said to be of ``source``."""
        self._client, self._root, self._source = client, root, source

    def find(self, search: Search) -> list[Found]:
        """Products whose footprint meets the AOI; those that are not online are left out, and said.

        Raises:
            SourceError: where the catalogue does not answer as it should.
        """
        filters = [
            _filter(span, _polygon(box), search.max_cloud)
            for span in search.spans
            for box in search.boxes
        ]
        tasks = [partial(self._all, text) for text in filters]
        records = [record for page in side_by_side(self._client, tasks) for record in page]
        found = {one.name: one for one in map(self._found, records) if one is not None}
        return _online([one for one in found.values() if search.keeps(one)])

    def named(self, name: str) -> Found:
        """The product of a name.

        Raises:
            NotThereError: where the catalogue has none.
        """
        for record in self._records(f"Name eq '{name}.SAFE'"):
            if (found := self._found(record)) is not None and found.name == name:
                return found
        raise NotThereError(
            f"{said_url(self._root)} has no product {name}. Give other --dates, or another --source"
        )

    def _all(self, text: str) -> list[Mapping[str, Any]]:
        return list(self._records(text))

    def _records(self, text: str) -> Iterator[Mapping[str, Any]]:
        """The entries that a filter leaves, page by page."""
        url = (
            f"{self._root}/Products?$filter={quote(text, safe=_PLAIN)}&$expand=Attributes"
            f"&$orderby=ContentDate/Start&$top={_PAGE}"
        )
        seen: set[str] = set()
        while url not in seen and len(seen) < _MOST_PAGES:
            seen.add(url)
            page = self._client.read(Call(url), "json", _MOST_BYTES, _page)
            yield from page["value"]
            following = page.get("@odata.nextLink")
            if not following:
                return
            url = str(following)
        raise SourceError(f"{said_url(self._root)} lists without end. Check the URL")

    def _found(self, record: Mapping[str, Any]) -> Found | None:
        """A product of the catalogue; None for what is none, or not described."""
        name, key = named(record.get("Name")), str(record.get("Id", ""))
        if name is None or not _ID.fullmatch(key):
            return None
        try:
            footprint = _footprint(record, name.name)
        except S2cdError as e:
            logger.warning("%s is left out: %s", name.name, e)
            return None
        size, path = record.get("ContentLength"), str(record.get("S3Path", ""))
        return Found(
            source=self._source,
            **vars(name),
            cloud=percentage(_attributes(record).get("cloudCover")),
            footprint=footprint,
            size=size if isinstance(size, int) and 0 < size < _MOST_SIZE else None,
            place=key,
            extra={
                "s3path": path.strip("/") if _PATH.fullmatch(path) else "",
                "online": "no" if record.get("Online") is False else "yes",
            },
        )


def _filter(span: tuple[date, date], area: str, max_cloud: float) -> str:
    """Level-1C of some days (UTC, both included) that meets an area."""
    start, end = span[0], span[1] + timedelta(1)
    parts = [
        "Collection/Name eq 'SENTINEL-2'",
        _TYPE,
        f"ContentDate/Start ge {start}T00:00:00.000Z",
        f"ContentDate/Start lt {end}T00:00:00.000Z",
        f"OData.CSC.Intersects(area=geography'SRID=4326;{area}')",
    ]
    if max_cloud < 100:
        cloud = _ATTRIBUTE.format("Double", "cloudCover")
        parts.append(f"{cloud}/Value le {max_cloud:.2f})")
    return " and ".join(parts)


def _polygon(box: tuple[float, float, float, float]) -> str:
    west, south, east, north = (f"{value:.6f}" for value in box)
    corners = f"{west} {south},{east} {south},{east} {north},{west} {north},{west} {south}"
    return f"POLYGON(({corners}))"


def _page(content: bytes) -> dict[str, Any]:
    """A page of a list, or a single list of what it says to be wrong."""
    page = json.loads(content)
    value = page.get("value") if isinstance(page, dict) else None
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise ValueError("it is no list of products")
    return {"value": value, "@odata.nextLink": page.get("@odata.nextLink")}


def _footprint(record: Mapping[str, Any], said: str) -> Any:
    """As GeoJSON where it is there, else as text."""
    if record.get("GeoFootprint") is None:
        return footprint_of_text(record.get("Footprint"), said)
    return footprint_of(record["GeoFootprint"], said)


def _attributes(record: Mapping[str, Any]) -> dict[str, Any]:
    listed = record.get("Attributes")
    if not isinstance(listed, list):
        return {}
    return {str(a["Name"]): a.get("Value") for a in listed if isinstance(a, dict) and "Name" in a}


def _online(found: list[Found]) -> list[Found]:
    """Those that can be read at once; the others are named."""
    away = [one.name for one in found if one.extra["online"] == "no"]
    if away:
        logger.warning(
            "offline at CDSE, and left out, since they would have to be ordered there first: %s%s; "
            "--source google may have them",
            ", ".join(away[:3]),
            f" and {len(away) - 3} more" if len(away) > 3 else "",
        )
    return [one for one in found if one.extra["online"] == "yes"]
