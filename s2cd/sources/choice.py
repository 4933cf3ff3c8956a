"""Which dates to take: scenes of an area, the clearest first, and two that go together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import product
from typing import Any

from s2cd.errors import S2cdError
from s2cd.scenes.aoi import Aoi
from s2cd.sources.source import Found, Scene, Search, whole_days
from s2cd.sources.tiles import epsg_of, tiles_of, zone_of

WINDOW_DAYS = 15
"""Days around a date in which its scene is looked for."""
ORBIT_WORTH = 10.0
"""Points of cloud that one relative orbit for both dates is worth: the mission promises 5 m between
refined dates of one orbit only."""
SEASON_DAYS = 30
"""Days of the year by which the dates may differ: crops and shadows do, beyond."""
YEARS = 5
"""Years between the dates where none are asked for."""
FIRST_DAY = date(2015, 7, 4)
"""Of the archive: Sentinel-2A's first products."""
CLEAR = 20.0
"""Percent of cloud above which a scene is taken with a warning only."""
_WORTH_A_TILE = 0.001
"""Share of an area for which another tile is fetched."""
_SEASONS = 6
"""Scenes of the last year that are tried where an earlier one of their season is cloudy."""


@dataclass(frozen=True)
class Pair:
    """Two dates, and why these.

    Attributes:
        before: The earlier scene.
        after: The later one.
        notes: What speaks against them, for the user.
    """

    before: Scene
    after: Scene
    notes: tuple[str, ...] = ()


def scenes_of(found: Iterable[Found], aoi: Aoi) -> list[Scene]:
    """Products as scenes of an area, the clearest first.

    Of one datatake in several baselines the highest is taken, and of its tiles those that add to
    what is covered. Products that miss the area are left out.
    """
    by_datatake: dict[tuple[str, int, date], list[Found]] = {}
    for one in _newest(found, aoi):
        by_datatake.setdefault((one.datatake, one.orbit, one.day), []).append(one)
    scenes = [_scene(tiles, aoi) for tiles in by_datatake.values()]
    return sorted((scene for scene in scenes if scene is not None), key=badness)


def badness(scene: Scene) -> tuple[float, int]:
    """How bad a scene is: percent of the area that is cloud or missing; the later one wins."""
    return spoiled(scene), -scene.day.toordinal()


def spoiled(scene: Scene) -> float:
    """Percent of an area that a scene does not show, to a tenth; unknown cloud counts as half."""
    cloud = 50.0 if scene.cloud is None else scene.cloud
    return round(100 - scene.coverage * (100 - cloud), 1)


def choose_around(
    before: Sequence[Scene], after: Sequence[Scene], wanted: tuple[date, date]
) -> Pair:
    """The two scenes that together show most, of those around two dates.

    Args:
        before: Scenes around the first date.
        after: Scenes around the second.
        wanted: The dates asked for.

    Raises:
        S2cdError: where there is none for one of them.
    """
    pairs = [(a, b) for a, b in product(before, after) if a.day < b.day]
    if not pairs:
        raise S2cdError(
            f"No scene around {wanted[0]} comes before one around {wanted[1]}. Give --dates "
            "BEFORE,AFTER that lie farther apart, or a smaller --window-days"
        )
    season = [pair for pair in pairs if season_gap(pair[0].day, pair[1].day) <= SEASON_DAYS]
    return _noted(*_one_orbit(season or pairs, wanted))


def choose_latest(
    latest: Sequence[Scene], earlier: Callable[[tuple[tuple[date, date], ...]], list[Scene]]
) -> Pair:
    """The clearest scene of late, and the clearest of its season at least five years before.

    Args:
        latest: Scenes to take the later date from, the clearest first.
        earlier: Gives the scenes in some spans, the clearest first.

    Raises:
        S2cdError: where there is no such pair.
    """
    best: tuple[Scene, Scene] | None = None
    for after in _of_several_seasons(latest):
        before = earlier(seasons_before(after.day))
        if not before:
            continue
        pair = _one_orbit([(scene, after) for scene in before], None)
        if best is None or _sum(pair) < _sum(best):
            best = pair
        if spoiled(pair[0]) <= CLEAR:
            break
    if best is None:
        raise S2cdError(
            f"No scene of the same season was found at least {YEARS} years before "
            f"{', '.join(str(scene.day) for scene in latest[:3])}. Give --dates BEFORE,AFTER"
        )
    return _noted(*best)


def on_one_grid(pair: Pair, aoi: Aoi) -> Pair:
    """A pair whose dates are of one zone, where tiles that both have cover as much.

    The stacks of two zones lie on two grids, and one would have to be warped.
    """
    scenes = (pair.before, pair.after)
    tiles = [{one.tile: one for one in (*s.products, *s.spare)} for s in scenes]
    if len({epsg_of(s.products[0].tile) for s in scenes}) == 1:
        return pair
    both = [name for name in tiles[0] if name in tiles[1]]
    changed = []
    for scene, named in zip(scenes, tiles, strict=True):
        other = _scene([named[name] for name in both], aoi)
        if other is None or round(other.coverage - scene.coverage, 3) < 0:
            return pair
        cloud = scene.cloud if scene.looked_at else other.cloud
        changed.append(replace(other, cloud=cloud, looked_at=scene.looked_at))
    return replace(pair, before=changed[0], after=changed[1])


def seasons_before(day: date) -> tuple[tuple[date, date], ...]:
    """The spans within 30 days in the year, at least five years before a day, latest first."""
    spans = []
    last_day = _years_before(day, YEARS)
    for years in range(YEARS, day.year - FIRST_DAY.year + 2):
        middle = _years_before(day, years)
        start = max(middle - timedelta(SEASON_DAYS), FIRST_DAY)
        end = min(middle + timedelta(SEASON_DAYS), last_day)
        if start <= end:
            spans.append((start, end))
    return tuple(spans)


def around(day: date, days: int) -> tuple[date, date]:
    """The span of days around one."""
    return day - timedelta(days), day + timedelta(days)


def season_gap(one: date, other: date) -> int:
    """Days by which two dates differ in the year, the short way round."""
    apart = abs(_in_year(one) - _in_year(other))
    return min(apart, 366 - apart)


def none_found(search: Search, source: str) -> S2cdError:
    """The error for a search without a result: what was searched, and what would help."""
    cloud = "" if search.max_cloud >= 100 else f" with at most {search.max_cloud:g} % cloud"
    tiles = ", ".join(tiles_of(search.aoi))
    return S2cdError(
        f"No Level-1C product{cloud} of the AOI {search.aoi.name} ({search.aoi.extent}) was found "
        f"from {whole_days(search.spans)} in {source} (tiles {tiles}). "
        "Give other dates, a larger window, or another source"
    )


def _newest(found: Iterable[Found], aoi: Aoi) -> list[Found]:
    """Of each datatake and tile the product of the highest baseline that covers most, made last.

    One tile of one datatake may come in two datastrips, each of which has a part of it.
    """
    best: dict[tuple[str, str], Found] = {}

    def rank(one: Found) -> tuple[str, float, str]:
        covered = one.footprint.intersection(aoi.outline).area / aoi.outline.area
        return one.baseline, round(covered, 4), one.made

    for one in found:
        key = (one.datatake, one.tile)
        if key not in best or rank(one) > rank(best[key]):
            best[key] = one
    return list(best.values())


def _scene(tiles: list[Found], aoi: Aoi) -> Scene | None:
    """The tiles of one datatake that are needed: the one that covers most, then what adds to it.

    Among those that cover as much, a tile of the area's own zone: beyond it grids are turned.
    """
    area, zone = aoi.outline.area, zone_of(aoi.outline.centroid.x)
    rest = sorted(tiles, key=lambda one: (int(one.tile[:2]) != zone, one.tile))
    chosen: list[Found] = []
    shares: list[float] = []
    missing: Any = aoi.outline
    while rest:
        gains = [missing.intersection(one.footprint).area / area for one in rest]
        most = max(range(len(rest)), key=lambda n: round(gains[n], 4))
        if gains[most] < (_WORTH_A_TILE if chosen else 1e-9):
            break
        taken = rest.pop(most)
        missing = missing.difference(taken.footprint)
        chosen.append(taken)
        shares.append(gains[most])
    if not chosen:
        return None
    coverage = min(1.0, sum(shares))
    clouds = [one.cloud for one in chosen]
    cloud = None
    if all(value is not None for value in clouds):
        weighted = zip(clouds, shares, strict=True)
        cloud = sum((value or 0.0) * share for value, share in weighted) / sum(shares)
    return Scene(tuple(chosen), coverage, cloud, spare=tuple(rest))


def _one_orbit(
    pairs: Sequence[tuple[Scene, Scene]], wanted: tuple[date, date] | None
) -> tuple[Scene, Scene]:
    """The best pair: of one relative orbit, unless that costs more than 10 points of cloud."""

    def rank(pair: tuple[Scene, Scene]) -> tuple[float, ...]:
        off = 0
        if wanted is not None:
            off = sum(abs((s.day - day).days) for s, day in zip(pair, wanted, strict=True))
        return (_sum(pair), season_gap(pair[0].day, pair[1].day) + off, -pair[1].day.toordinal())

    best = min(pairs, key=rank)
    same = [pair for pair in pairs if pair[0].orbit == pair[1].orbit]
    if same:
        clearest = min(same, key=rank)
        if _sum(clearest) - _sum(best) <= ORBIT_WORTH:
            return clearest
    return best


def _of_several_seasons(scenes: Sequence[Scene]) -> list[Scene]:
    """The clearest scenes that lie in different seasons."""
    chosen: list[Scene] = []
    for scene in scenes:
        if all(season_gap(scene.day, other.day) > SEASON_DAYS for other in chosen):
            chosen.append(scene)
    return chosen[:_SEASONS]


def _noted(before: Scene, after: Scene) -> Pair:
    """A pair with what speaks against it."""
    notes = []
    if before.orbit != after.orbit:
        notes.append(
            f"the dates are of two relative orbits ({before.orbit}, {after.orbit}): one orbit "
            f"would cost over {ORBIT_WORTH:g} points of cloud, or has nothing"
        )
    if (gap := season_gap(before.day, after.day)) > SEASON_DAYS:
        notes.append(f"the dates lie {gap} days apart in the year: expect changes of season")
    for scene in (before, after):
        if scene.cloud is None:
            notes.append(f"{scene.day}: nobody says how much of it is cloud")
        elif scene.cloud > CLEAR:
            what = "the area" if scene.looked_at else "its products"
            notes.append(f"{scene.day}: {scene.cloud:.0f} % of {what} is cloud")
        if scene.coverage < 0.9995:
            notes.append(f"{scene.day}: only {100 * scene.coverage:.1f} % of the area is covered")
    return Pair(before, after, tuple(notes))


def _sum(pair: tuple[Scene, Scene]) -> float:
    return spoiled(pair[0]) + spoiled(pair[1])


def _in_year(day: date) -> int:
    """Day of a year with a 29th of February."""
    return day.replace(year=2016).timetuple().tm_yday


def _years_before(day: date, years: int) -> date:
    if (day.month, day.day) == (2, 29):
        day = day.replace(day=28)
    return day.replace(year=day.year - years)
