"""Which two dates a source shall bring: found, looked at more closely, and chosen."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from s2cd.scenes.aoi import Aoi
from s2cd.sources.choice import (
    Pair,
    around,
    badness,
    choose_around,
    choose_latest,
    none_found,
    on_one_grid,
    scenes_of,
)
from s2cd.sources.plan import Request
from s2cd.sources.source import Scene, Search, Source

_LOOKED_AT = 8
"""Scenes of a search of months whose own cloud masks are read: the clearest by their metadata."""
Span = tuple[date, date]


def choose(source: Source, request: Request) -> Pair:
    """The two dates to fetch, by what a source has.

    Raises:
        S2cdError: where it has none; the line says what was searched.
    """
    aoi = request.order.aoi
    if request.dates is None:
        last = (request.today - timedelta(365), request.today)
        latest = _scenes(source, aoi, (last,))
        if not latest:
            raise none_found(Search(aoi, (last,)), source.name)
        pair = choose_latest(latest, lambda spans: _scenes(source, aoi, spans))
        return on_one_grid(pair, aoi)
    sides = []
    for day in request.dates:
        span = around(day, request.window_days)
        sides.append(_scenes(source, aoi, (span,), None))
        if not sides[-1]:
            raise none_found(Search(aoi, (span,)), source.name)
    return on_one_grid(choose_around(sides[0], sides[1], request.dates), aoi)


def looked_at(
    scenes: Sequence[Scene], source: Source, aoi: Aoi, most: int | None = _LOOKED_AT
) -> list[Scene]:
    """Scenes, the clearest first, by the cloud over the area where the products say it.

    The percentage in a product's metadata is of all its 110 x 110 km: where a product is half
    cloud, the area may be clear.

    Args:
        scenes: The clearest by their metadata first.
        source: Reads the masks.
        aoi: The area.
        most: Of how many scenes the masks are read; None for all.
    """
    first = scenes[:most]
    rest = scenes[len(first) :]
    parts = [(one, one.footprint.intersection(aoi.outline)) for s in first for one in s.products]
    known = dict(zip((one.name for one, _ in parts), source.clouds_over(parts), strict=True))
    areas = {one.name: part.area for one, part in parts}
    closer = [_with_cloud(scene, known, areas) for scene in first]
    return sorted([*closer, *rest], key=badness)


def _scenes(
    source: Source, aoi: Aoi, spans: tuple[Span, ...], most: int | None = _LOOKED_AT
) -> list[Scene]:
    return looked_at(scenes_of(source.find(Search(aoi, spans)), aoi), source, aoi, most)


def _with_cloud(scene: Scene, known: dict[str, float | None], areas: dict[str, float]) -> Scene:
    """A scene with the cloud over the area in place of that of its products, where it is known."""
    names = [one.name for one in scene.products]
    values = [known[name] for name in names]
    weights = [areas[name] for name in names]
    if any(value is None for value in values):
        return scene
    total = sum((value or 0.0) * w for value, w in zip(values, weights, strict=True))
    return replace(scene, cloud=total / sum(weights), looked_at=True)
