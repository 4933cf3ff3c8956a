"""The two dates of a map, as they lay when it was made."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from odc.geo.geobox import GeoBox

from s2cd.detection.prepare import motion_in
from s2cd.errors import S2cdError
from s2cd.scenes.pair import Pair, make_pair
from s2cd.scenes.stack import open_stack


def dates_of_map(
    dates: tuple[Path, Path],
    geobox: GeoBox,
    tags: dict[str, str],
    needed: Sequence[str],
    bands: tuple[str, ...] | None = None,
) -> Pair:
    """Some bands of the dates of a map, registered to each other as its tags say they were.

    Args:
        dates: The earlier and the later one.
        geobox: The map's grid.
        tags: The map's tags.
        needed: The bands to take.
        bands: What the bands of the dates are, where they have no names.

    Raises:
        S2cdError: where a date lacks a band, or `before` does not lie on the map's grid.
    """
    stacks = [open_stack(path, bands) for path in dates]
    for path, stack in zip(dates, stacks, strict=True):
        if missing := [b for b in needed if b not in stack.band.values]:
            raise S2cdError(
                f"{path} has no band {', '.join(missing)}, of which indices are made. "
                "Leave --before and --after away, or give stacks of `s2cd stack`"
            )
    pair = make_pair(stacks[0], stacks[1], needed)
    if pair.geobox != geobox:
        raise S2cdError(f"{dates[0]} does not lie on the grid of the map. Name its own dates")
    return as_the_map_lay(pair, tags)


def as_the_map_lay(pair: Pair, tags: dict[str, str]) -> Pair:
    """The pair with `after` moved as a map's tags say that it was."""
    motion = motion_in(tags, pair.shape)
    return pair if motion is None else replace(pair, motion=motion)


def sensed(tags: dict[str, str], role: str) -> str | None:
    """The day a map's source was sensed, YYYY-MM-DD, as far as its tags tell.

    Args:
        tags: The map's tags.
        role: BEFORE or AFTER.
    """
    text = tags.get(f"{role}_SENSING_TIME", "")[:10]
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None
