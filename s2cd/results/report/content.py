"""All that a page shows, gathered from a map and what belongs to it."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError
from s2cd.networks.checkpoint import read_spec
from s2cd.networks.shipped import card_of, made_by
from s2cd.results.dates import dates_of_map
from s2cd.results.polygons import Found, Shaping, Sources, find_polygons
from s2cd.results.polygons.kinds import NEEDED
from s2cd.results.polygons.read import read_polygons
from s2cd.results.report.facts import place
from s2cd.results.report.packing import boxes_of
from s2cd.results.report.pictures import (
    Picture,
    Seen,
    date_pictures,
    look_at_map,
)
from s2cd.results.views import picture_bands
from s2cd.scenes.header import grid_of, read_header
from s2cd.scenes.raster import reading

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

logger = logging.getLogger(__name__)

_LONGEST_CARD = 50_000
"""Most characters of a card on a page."""


@dataclass(frozen=True)
class Request:
    """What a page is to show.

    Attributes:
        sources: The map, and where given its probabilities and dates.
        polygons: Changes in a file of `s2cd polygons` or `s2cd review`; found anew by default.
        min_area: Smaller changes are left out, in m2, where they are found anew.
        title: The heading; where the map lies by default.
        card: The model's card, as `s2cd train` leaves it beside the weights; that of a network that
            ships with s2cd is found by itself.
    """

    sources: Sources
    polygons: Path | None = None
    min_area: float = 400.0
    title: str | None = None
    card: Path | None = None


@dataclass(frozen=True)
class Content:
    """What a page shows.

    Attributes:
        change: The map's file.
        title: The heading.
        geobox: The map's grid.
        tags: What the map says of itself.
        table: One row a change, in the map's CRS.
        seen: The map's areas, and pictures of it.
        dates: Pictures of both dates, where they were given.
        min_area: Smaller changes are not in the table, in m2; None where a file was given.
        card: The text of the model's card, where it is at hand.
        licence: What the model's weights are for, where that is known and not anything.
    """

    change: Path
    title: str
    geobox: GeoBox
    tags: dict[str, str]
    table: "GeoDataFrame"
    seen: Seen
    dates: tuple[Picture, ...]
    min_area: float | None
    card: str = ""
    licence: str = ""


def gather(request: Request, table: "GeoDataFrame | None" = None) -> Content:
    """Everything that a page about a map shows.

    Args:
        request: The map and what belongs to it.
        table: Its changes, where they are in hand.

    Raises:
        S2cdError: where a file is no such map, or does not belong to it.
    """
    sources = request.sources
    if (sources.before is None) != (sources.after is None):
        raise S2cdError("A swipe needs both dates. Give --before and --after")
    with reading(sources.change) as source:
        geobox, tags = grid_of(source, sources.change), dict(source.tags())
    table = _table(request, geobox) if table is None else table
    seen = look_at_map(sources.change)
    title = request.title or f"Land-cover change at {place(geobox)}"
    least = request.min_area if request.polygons is None else None
    dates = _pictures(sources, geobox, tags, table)
    card, licence = _model(request.card, tags)
    return Content(sources.change, title, geobox, tags, table, seen, dates, least, card, licence)


def _model(card: Path | None, tags: dict[str, str]) -> tuple[str, str]:
    """The card of the model that made a map, and what its weights are for, as far as known."""
    path = made_by(tags)
    if path is None:
        return ("" if card is None else _card(card)), ""
    text = card_of(path)[:_LONGEST_CARD] if card is None else _card(card)
    return text, read_spec(path).licence


def _card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")[:_LONGEST_CARD]
    except (OSError, UnicodeDecodeError) as e:
        raise S2cdError(f"{path} cannot be read as a model's card. Give its card.md") from e


def map_grid(request: Request) -> GeoBox:
    """The grid of the map that a page is about."""
    with reading(request.sources.change) as source:
        return grid_of(source, request.sources.change)


def _table(request: Request, geobox: GeoBox) -> "GeoDataFrame":
    if request.polygons is not None:
        return read_polygons(request.polygons, geobox)
    return find_changes(request.sources, request.min_area).table


def find_changes(sources: Sources, min_area: float) -> Found:
    """The changes of a map with slopes for stairs; kinds only where the bands for them are there.

    A slope cuts no pixel's middle off: what is drawn rasterises to the pixels it was made of.
    """
    if sources.before is not None and sources.after is not None:
        held = [read_header(p, sources.bands).bands for p in (sources.before, sources.after)]
        if missing := [b for b in NEEDED if not all(b in bands for bands in held)]:
            logger.warning("no kinds of change: the dates have no %s", ", ".join(missing))
            sources = replace(sources, before=None, after=None)
    return find_polygons(sources, Shaping(min_area, smooth=True))


def _pictures(
    sources: Sources, geobox: GeoBox, tags: dict[str, str], table: "GeoDataFrame"
) -> tuple[Picture, ...]:
    if sources.before is None or sources.after is None:
        return ()
    dates = sources.before, sources.after
    first, second = (read_header(path, sources.bands).bands for path in dates)
    bands = picture_bands([b for b in first if b in second])
    pair = dates_of_map(dates, geobox, tags, bands, sources.bands)
    return date_pictures(pair, boxes_of(table, geobox))


def names_of(content: Content) -> dict[str, Any]:
    """The days of both dates as the map's tags tell, for the columns of exported files."""
    from s2cd.results.dates import sensed

    return {
        "date_before": sensed(content.tags, "BEFORE"),
        "date_after": sensed(content.tags, "AFTER"),
    }
