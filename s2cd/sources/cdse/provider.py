"""CDSE as a source: products found in its catalogue, and brought file by file."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from s2cd.errors import SpoiledError
from s2cd.sources.cache import cached, forget
from s2cd.sources.cdse.catalogue import Catalogue
from s2cd.sources.cdse.stores import Store, no_credentials, store_by_environment
from s2cd.sources.endpoints import endpoint
from s2cd.sources.http import Call, Client, Policy
from s2cd.sources.http.files import side_by_side
from s2cd.sources.manifest import read_manifest
from s2cd.sources.products import MANIFEST, Entry, bring, cloud_over, cost_in, open_products
from s2cd.sources.source import Cost, Found, Kept, Opened, Order, Scene, Search, Told

logger = logging.getLogger(__name__)

_MOST_MANIFEST = 4 << 20


class Cdse:
    """The archive of the Copernicus Data Space Ecosystem.

    A product's files are those that its ``manifest.safe`` lists, and are checked against it.
    """

    name = "cdse"

    def __init__(self, policy: Policy | None = None) -> None:
        """The source; nothing is asked yet."""
        root = endpoint("S2CD_CDSE_CATALOGUE_URL")
        self._catalogue = Catalogue(Client([root], policy), root, self.name)
        self._store = store_by_environment(policy)

    def find(self, search: Search) -> list[Found]:
        """Products whose footprint meets the AOI, and that are online."""
        return self._catalogue.find(search)

    def clouds_over(self, parts: Sequence[tuple[Found, Any]]) -> list[float | None]:
        """Percent of cloud over a part of each product, by the mask that it holds.

        Nothing is known without an account.
        """
        if (store := self._store) is None:
            return [None] * len(parts)

        def look(found: Found, part: Any) -> float | None:
            return cloud_over(store.client, found, self._entries(store, found), part)

        return side_by_side(store.client, [partial(look, *one) for one in parts])

    def cost(self, scene: Scene, order: Order) -> Cost:
        """Bytes of the files that are needed; without an account those of the whole products."""
        if (store := self._store) is None:
            logger.warning(
                "%s: the size is that of the whole products, since no credentials are set to ask "
                "for that of their bands",
                scene.day,
            )
            return Cost(sum(found.size or 0 for found in scene.products))
        return cost_in([(found, self._entries(store, found)) for found in scene.products], order)

    def download(self, scenes: Sequence[Scene], order: Order, told: Told) -> list[Kept]:
        """Bring scenes, band by band."""
        if (store := self._store) is None:
            raise no_credentials()
        products = [found for scene in scenes for found in scene.products]
        tasks = [partial(self._entries, store, found) for found in products]
        entries = side_by_side(store.client, tasks)
        try:
            return bring(store.client, list(zip(products, entries, strict=True)), order, told)
        except SpoiledError:  # it may be the manifest that is wrong
            for files in entries:
                forget(files[MANIFEST].url)
            raise

    def open(self, scene: Scene, order: Order) -> Opened:
        """The scene that `download` left."""
        return open_products(scene, order)

    def _entries(self, store: Store, found: Found) -> dict[str, Entry]:
        """The files of a product, as its manifest lists them."""
        found = self._placed(found)
        url, said = store.url(found, MANIFEST), f"{MANIFEST} of {found.name}"

        def fetch(checked: Callable[[bytes], bytes]) -> bytes:
            return store.client.read(Call(url), "xml", _MOST_MANIFEST, checked)

        def parse(content: bytes) -> dict[str, Entry]:
            files = read_manifest(content, said)
            entries = {name: Entry(store.url(found, name), *files[name]) for name in files}
            digits = hashlib.sha256(content).hexdigest()
            entries[MANIFEST] = Entry(url, len(content), ("sha256", digits))
            return entries

        return cached(url, fetch, parse)

    def _placed(self, found: Found) -> Found:
        """The product with what is needed to ask for its files."""
        return found
