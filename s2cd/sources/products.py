"""Products that come file by file: the metadata first, then the bands that are wanted."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from s2cd.errors import NotThereError, SourceError, SpoiledError
from s2cd.scenes.bands import BANDS, band_of_file
from s2cd.scenes.metadata import MOST_XML, read_product_xml, read_tile_xml
from s2cd.sources.cache import cached
from s2cd.sources.http import Call, Client, RemoteFile, download_all, is_whole, said_url
from s2cd.sources.http.files import side_by_side
from s2cd.sources.http.part import come_of, digest_of
from s2cd.sources.manifest import is_safe, read_manifest
from s2cd.sources.masks import MOST_MASK, cloud_in_mask, mask_among
from s2cd.sources.source import Cost, Found, Kept, Opened, Order, Scene, Told

logger = logging.getLogger(__name__)

FOLDER = "products"
"""Below the folder of a fetch: the products' own."""
MANIFEST, PRODUCT_XML, TILE_XML = "manifest.safe", "MTD_MSIL1C.xml", "MTD_TL.xml"
_TILE_XML = re.compile(r"GRANULE/[^/]+/MTD_TL\.xml")
_BAND = re.compile(r"GRANULE/[^/]+/IMG_DATA/[^/]+\.jp2")
_MOST_MANIFEST = 4 << 20
_MOST = {"jp2": 1 << 30, "xml": MOST_XML}
"""Bytes by kind: a band of a full tile has up to 150 MB."""


@dataclass(frozen=True)
class Entry:
    """A file of a product where a source keeps it.

    Attributes:
        url: Where from.
        size: Bytes, where the source says.
        checksum: As of `RemoteFile`, where the source says.
    """

    url: str
    size: int | None = None
    checksum: tuple[str, str] | None = None


Entries = Mapping[str, Entry]
"""Files of a product by their names in it, ``GRANULE/…/MTD_TL.xml``."""


def needed_of(entries: Entries, bands: Sequence[str], said: str) -> dict[str, str]:
    """Names of the files to bring, and of which band each is; empty for metadata.

    Args:
        entries: What the source has; names that lead out of the product are refused.
        bands: Wanted.
        said: The product, for messages.

    Raises:
        SourceError: where the source lacks one of them, or has it twice.
    """
    if odd := [name for name in entries if not is_safe(name)]:
        raise SourceError(f"{said} has a file with a strange name ({odd[0][:80]!r}). Take another")
    needed = {name: "" for name in entries if name in (MANIFEST, PRODUCT_XML)}
    needed |= {name: "" for name in entries if _TILE_XML.fullmatch(name)}
    files = {
        name: band_of_file(PurePosixPath(name).stem) for name in entries if _BAND.fullmatch(name)
    }
    needed |= {name: band for name, band in files.items() if band is not None and band in bands}
    there = Counter(band or PurePosixPath(name).name for name, band in needed.items())
    wanted = (*bands, MANIFEST, PRODUCT_XML, TILE_XML)
    if wrong := [f"{what} is {_often(there[what])}" for what in wanted if there[what] != 1]:
        raise SourceError(
            f"{said} is not complete where it was looked for: {', '.join(wrong)}. "
            "Give other --dates, or another --source"
        )
    return needed


def cost_in(products: Sequence[tuple[Found, Entries]], order: Order) -> Cost:
    """Bytes of the files that are needed of some products, and those that the folder has.

    Raises:
        SourceError: where the source lacks one of them.
    """
    size = there = 0
    for found, entries in products:
        for name in needed_of(entries, order.needed, found.name):
            whole = entries[name].size or 0
            size, there = size + whole, there + come_of(folder_of(found, order) / name, whole)
    return Cost(size, there=there)


def _often(count: int) -> str:
    return "missing" if count == 0 else f"there {count} times"


def bring(
    client: Client,
    wanted: Sequence[tuple[Found, Entries]],
    order: Order,
    told: Told,
) -> list[Kept]:
    """Bring products into ``order.folder``: what is there and right is not asked for again.

    The manifest is checked against what the source says of it, all other files against the
    manifest, and each raster's size and place against MTD_TL.xml before it gets its name.

    Args:
        client: Who asks.
        wanted: Products with their files where the source keeps them.
        order: Which bands, and where to.
        told: Is told of bytes as they come.

    Raises:
        SourceError: where one cannot be had.
    """
    tasks = [partial(_begin, client, found, entries, order, told) for found, entries in wanted]
    begun = side_by_side(client, tasks)
    missing = [file for _, files in begun for file in files if not is_whole(file)]
    for file in (f for _, files in begun for f in files if f not in missing):
        told(file.size or 0)
    download_all(client, missing, told)
    return [
        _kept(found, file)
        for (found, _), (heads, files) in zip(wanted, begun, strict=True)
        for file in (*heads, *files)
    ]


def cloud_over(client: Client, found: Found, entries: Entries, part: Any) -> float | None:
    """Percent of cloud over a part of a product, by the mask that it holds; None without one.

    Raises:
        SourceError: where the server cannot be reached.
    """
    if part.area == 0 or (name := mask_among(list(entries))) is None:
        return None
    url, kind = entries[name].url, "jp2" if name.endswith(".jp2") else "xml"
    fetch = partial(client.read, Call(url), kind, MOST_MASK)
    try:
        read = partial(cloud_in_mask, name=name, tile=found.tile, area=part)
        return cached(url, fetch, read)
    except (NotThereError, SpoiledError) as e:
        logger.debug("%s: its mask of clouds is left out: %s", found.name, e)
        return None


def folder_of(found: Found, order: Order) -> Path:
    """Where a product is put."""
    return order.folder / FOLDER / f"{found.name}.SAFE"


def open_products(scene: Scene, order: Order) -> Opened:
    """A scene of products that were brought."""
    from s2cd.scenes.clouds import watch_products
    from s2cd.scenes.mosaic import Wanted, open_date, stack_of

    wanted = Wanted(order.aoi, order.bands)
    products, geobox = open_date([folder_of(found, order) for found in scene.products], wanted)
    lazy, qa = stack_of(products, geobox, wanted)
    watch = watch_products(products, lazy, True) if order.clouds else None
    if watch is None:
        return Opened(lazy, qa)
    return Opened(watch.stack, qa, watch.flags)


def _begin(
    client: Client, found: Found, entries: Entries, order: Order, told: Told
) -> tuple[list[RemoteFile], list[RemoteFile]]:
    """Bring a product's metadata; the files of its bands are still to be had."""
    root, needed = folder_of(found, order), needed_of(entries, order.needed, found.name)
    head = _remote(root, MANIFEST, entries, None, _checker(read_manifest, MANIFEST, found))
    _have(client, head, told)
    sums = read_manifest(head.path.read_bytes(), f"{MANIFEST} of {found.name}")
    heads = [head]
    for name in (name for name, band in needed.items() if not band and name != MANIFEST):
        read = read_tile_xml if name != PRODUCT_XML else partial(read_product_xml, folder=root.name)
        heads.append(_remote(root, name, entries, sums, _checker(read, name, found)))
        _have(client, heads[-1], told)
    (tile_xml,) = (file.path for file in heads if file.path.name == TILE_XML)
    content = tile_xml.read_bytes()
    grids = read_tile_xml(content, f"{TILE_XML} of {found.name}").grids
    files = []
    for name, band in ((name, band) for name, band in needed.items() if band):
        grid = grids[BANDS[band].resolution]
        files.append(_remote(root, name, entries, sums, partial(_check_raster, grid=grid)))
    return heads, files


def _have(client: Client, file: RemoteFile, told: Told) -> None:
    if is_whole(file):
        told(file.size or 0)
    else:
        download_all(client, [file], told)


def _remote(
    root: Path,
    name: str,
    entries: Entries,
    sums: Mapping[str, tuple[int | None, tuple[str, str]]] | None,
    check: Callable[[Path], None] | None,
) -> RemoteFile:
    """A file with all that is known of it: the manifest counts more than the source's listing."""
    entry = entries[name]
    size, checksum = (entry.size, entry.checksum)
    if sums is not None and name in sums:
        noted, checksum = sums[name]
        if noted is not None and size is not None and noted != size:
            raise SourceError(
                f"{said_url(entry.url)} has {size} bytes, and the product's manifest says {noted}. "
                "Give other --dates, or another --source"
            )
        size = size if noted is None else noted
    kind = "jp2" if name.endswith(".jp2") else "xml"
    most = _MOST_MANIFEST if name == MANIFEST else _MOST[kind]
    if size is not None and size > most:
        raise SourceError(
            f"{said_url(entry.url)} has {size} bytes, as no file of its kind has. "
            "Give other --dates, or another --source"
        )
    return RemoteFile(entry.url, root / name, size, checksum, kind, check, most=most)


def _checker(
    read: Callable[[bytes, str], object], name: str, found: Found
) -> Callable[[Path], None]:
    """A check of a file: it can be read as what it is."""

    def check(path: Path) -> None:
        read(path.read_bytes(), f"{name} of {found.name}")

    return check


def _check_raster(path: Path, grid: Any) -> None:
    """Refuse a band of another size, type or place than MTD_TL.xml gives it."""
    from s2cd.scenes.decode import open_band

    open_band(str(path), path.name, path, grid)


def _kept(found: Found, file: RemoteFile) -> Kept:
    checksum = file.checksum or ("sha256", digest_of(file.path, "sha256"))
    size = file.path.stat().st_size
    return Kept(found.name, file.path, said_url(file.url), size, checksum)
