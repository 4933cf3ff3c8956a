"""Commands that look for products and bring them."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2cd.cli.options import Bands, Config, Json, Quiet, Verbose, print_json, progress, say, split
from s2cd.cli.scenes import GROUP
from s2cd.errors import UsageError

if TYPE_CHECKING:
    from s2cd.sources.choice import Pair
    from s2cd.sources.source import Cost, Scene, Source


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(search)
    app.command(rich_help_panel=GROUP)(fetch)


AreaText = Annotated[
    str,
    typer.Option(
        "--aoi",
        help="The area: a GeoJSON, GeoPackage, Shapefile or KML file, W,S,E,N in degrees, or the "
        "name of one that ships with s2cd, such as ahmedabad.geojson.",
    ),
]
SourceName = Annotated[
    str,
    typer.Option(
        "--source",
        help="Where from: google (public, no account), cdse, stac (CDSE too, found by its STAC "
        "API) or process-api (pixels of the area alone); auto is the first of process-api, cdse "
        "and google whose credentials are set.",
    ),
]


def search(
    aoi: AreaText,
    start: Annotated[
        str | None, typer.Option(help="First date, YYYY-MM-DD; a year before --end by default.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last date; today by default.")] = None,
    max_cloud: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of cloud over a product, at most.")
    ] = 20,
    source: SourceName = "auto",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """List Level-1C products that cover an area, the best first; --json prints STAC items."""
    from s2cd.scenes.aoi import open_aoi
    from s2cd.sources.choice import none_found, scenes_of
    from s2cd.sources.registry import open_source
    from s2cd.sources.source import Search
    from s2cd.sources.stac import item_collection

    last = _day(end, "--end") if end else _today()
    first = _day(start, "--start") if start else last - timedelta(365)
    if first > last:
        raise UsageError(f"--start {first} comes after --end {last}. Turn them round")
    area, where = open_aoi(aoi), open_source(source)
    wanted = Search(area, ((first, last),), max_cloud)
    scenes = scenes_of(where.find(wanted), area)
    if json:
        print_json(item_collection(scenes))
        return
    if not scenes:
        raise none_found(wanted, where.name)
    for line in _table(scenes):
        typer.echo(line)
    say(f"{len(scenes)} dates from {where.name}, {first} to {last}; ~ cloud of whole products")


def fetch(
    aoi: AreaText,
    dates: Annotated[
        str | None,
        typer.Option(
            metavar="BEFORE,AFTER",
            help="About which dates, YYYY-MM-DD,YYYY-MM-DD; by default the clearest of the last "
            "year, and the clearest of the same season at least five years earlier.",
        ),
    ] = None,
    window_days: Annotated[
        int, typer.Option(min=0, max=180, help="Days around each of --dates that are looked at.")
    ] = 15,
    source: SourceName = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The folder; data/<name of the area> by default."),
    ] = None,
    bands: Bands = None,
    clouds: Annotated[
        bool,
        typer.Option("--clouds/--no-clouds", help="Flag clouds, which takes three bands more."),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be brought, and stop.")
    ] = False,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Get two dates of an area and leave before.tif and after.tif; the same command continues."""
    from s2cd.scenes.aoi import open_aoi
    from s2cd.scenes.bands import DEFAULT_BANDS, band_names
    from s2cd.sources.decide import choose
    from s2cd.sources.fetch import check_room, costs, finished
    from s2cd.sources.fetch import fetch as bring
    from s2cd.sources.plan import Request, plan_in
    from s2cd.sources.registry import open_source
    from s2cd.sources.source import Order

    area, asked = open_aoi(aoi), split(bands)
    folder = output or Path("data") / _stem(area.name)
    order = Order(area, folder, band_names(asked) if asked else DEFAULT_BANDS, clouds)
    request = Request(order, _dates(dates), window_days, _today())
    plan = plan_in(request, source)
    record = None if plan is None else finished(request)
    if record is not None and not dry_run:
        say(f"{folder}: all of it is there already")
        _tell(record, folder, json)
        return
    where = open_source(source if plan is None else plan.source)
    pair = choose(where, request) if plan is None else plan.pair
    taking = costs(where, pair, order)
    if not quiet or dry_run:
        _explain(pair, taking, where, dry_run and not json)
    total = sum(cost.size for cost in taking)
    if dry_run:
        _tell_plan(pair, taking, where, json)
        return
    check_room(folder, total - sum(cost.there for cost in taking))
    with progress(f"fetching from {where.name}", quiet) as bar:
        record = bring(where, request, pair, _Count(bar, total))
    _tell(record, folder, json)


class _Count:
    """Adds bytes up, from several threads, for a bar."""

    def __init__(self, bar: Any, total: int) -> None:
        from threading import Lock

        self._bar, self._total, self._done, self._turn = bar, total, 0, Lock()

    def __call__(self, count: int) -> None:
        with self._turn:
            self._done += count
            self._bar(self._done, max(self._total, self._done))


def _day(text: str, option: str) -> date:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text.strip()):
        raise UsageError(f"{option} {text!r} is no date. Write it as YYYY-MM-DD")
    try:
        day = date.fromisoformat(text.strip())
    except ValueError as e:
        raise UsageError(f"{option} {text!r} is no date. Write it as YYYY-MM-DD") from e
    first, last = date(2015, 1, 1), _today() + timedelta(366)
    if not first <= day <= last:
        raise UsageError(f"{option} {day} is beyond Sentinel-2. Give one from {first} to {last}")
    return day


def _today() -> date:
    """In UTC, as satellites count."""
    return datetime.now(UTC).date()


def _dates(text: str | None) -> tuple[date, date] | None:
    if text is None:
        return None
    days = [_day(part, "--dates") for part in text.split(",")]
    if len(days) != 2:
        raise UsageError(f"--dates {text!r} names {len(days)}. Give two: BEFORE,AFTER")
    if days[0] >= days[1]:
        raise UsageError(f"--dates {text!r}: BEFORE is not before AFTER. Turn them round")
    return days[0], days[1]


def _stem(name: str) -> str:
    """An area's name as a folder's."""
    stem = Path(name).stem if Path(name).suffix.isascii() and "," not in name else name
    return "".join(c if c.isalnum() or c in "-._" else "_" for c in stem).strip("._") or "aoi"


def _table(scenes: "Iterable[Scene]", costs: "Iterable[Cost] | None" = None) -> list[str]:
    """Lines of a table of scenes: a line a product."""
    sizes = [""] * 10_000 if costs is None else [_said(cost.size) for cost in costs]
    lines = [f"{'date':<10} {'cloud':>7} {'covers':>7} {'orbit':>5} {'size':>9}  product"]
    for scene, size in zip(scenes, sizes, strict=False):
        for number, found in enumerate(scene.products):
            first = number == 0
            cloud = _cloud(scene) if first else ""
            covers = f"{100 * scene.coverage:.1f} %" if first else ""
            lines.append(
                f"{scene.day!s:<10} {cloud:>7} {covers:>7} {scene.orbit:>5} "
                f"{size if first else '':>9}  {found.name}"
            )
    return lines


def _cloud(scene: "Scene") -> str:
    """Percent of cloud; with a tilde where it is of the whole products."""
    if scene.cloud is None:
        return "?"
    return f"{'' if scene.looked_at else '~'}{scene.cloud:.1f} %"


def _said(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _explain(pair: "Pair", costs: "tuple[Cost, Cost]", source: "Source", result: bool) -> None:
    """The choice: on standard output where it is the result, else beside it."""
    from s2cd.sources.choice import season_gap

    one, other = pair.before.orbit, pair.after.orbit
    orbits = f"both of relative orbit {one}" if one == other else f"relative orbits {one}, {other}"
    gap = season_gap(pair.before.day, pair.after.day)
    lines = _table((pair.before, pair.after), costs)
    cloud = "cloud over the area by the products' masks (~ over whole products)"
    also = f"{orbits}, {gap} {'day' if gap == 1 else 'days'} apart in the year"
    for line in (*lines, f"from {source.name}; {also}; {cloud}"):
        typer.echo(line, err=not result)
    for note in pair.notes:
        say(f"note: {note}")


def _tell_plan(pair: "Pair", costs: "tuple[Cost, Cost]", source: "Source", as_json: bool) -> None:
    """What a fetch would bring."""
    from s2cd.sources.stac import item_collection

    units, there = sum(cost.units for cost in costs), sum(cost.there for cost in costs)
    missing = sum(cost.size for cost in costs) - there
    if as_json:
        said: dict[str, object] = {
            "source": source.name,
            "bytes": missing,
            "notes": list(pair.notes),
        }
        if units:
            said["processing_units"] = round(units, 1)
        print_json({**said, "items": item_collection((pair.before, pair.after))})
        return
    also = f", {units:.0f} processing units" if units else ""
    also += f"; {there} are there already" if there else ""
    typer.echo(f"{missing} bytes would be brought{also}")


def _tell(record: dict[str, Any], folder: Path, as_json: bool) -> None:
    """What a fetch left."""
    if as_json:
        paths = {key: str(folder / record[key]["stack"]["path"]) for key in ("before", "after")}
        print_json({**paths, "record": str(folder / "fetch.json"), **_brief(record)})
        return
    for key in ("before", "after"):
        products = ", ".join(product["name"] for product in record[key]["products"])
        say(f"{folder / record[key]['stack']['path']}: {record[key]['date']}, {products}")
    say(record["licence"])


def _brief(record: dict[str, Any]) -> dict[str, object]:
    keys = ("source", "licence", "notes")
    dates = {
        f"{key}_{name}": record[key][name]
        for key in ("before", "after")
        for name in ("date", "orbit", "coverage", "cloud", "cloud_of")
    }
    return {**{key: record[key] for key in keys}, **dates}
