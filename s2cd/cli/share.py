"""Commands that show a map to others."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    Bands,
    Config,
    Json,
    Output,
    Overwrite,
    Quiet,
    Verbose,
    print_json,
    say,
    split,
)
from s2cd.cli.results import GROUP, After, Before, Change, MinArea, Probability

Polygons = Annotated[
    Path | None,
    typer.Option(help="The map's changes, of `s2cd polygons` or `s2cd review`; else found anew."),
]
Title = Annotated[str | None, typer.Option(help="The heading; where the map lies by default.")]


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(report)
    app.command(rich_help_panel=GROUP)(review)
    app.command(rich_help_panel=GROUP)(stac)


def report(
    change: Change,
    output: Output,
    before: Before = None,
    after: After = None,
    probability: Probability = None,
    polygons: Polygons = None,
    min_area: MinArea = 400.0,
    title: Title = None,
    card: Annotated[
        Path | None, typer.Option(help="The model's card, of `s2cd train`, to be shown as well.")
    ] = None,
    bands: Bands = None,
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """One page (.html) that shows a map: swipe, list of changes, areas, origin; no network."""
    from s2cd.output import check_writable
    from s2cd.results.polygons import Sources
    from s2cd.results.report import Request, write_report

    check_writable(output, overwrite)
    sources = Sources(change, probability, before, after, split(bands))
    size = write_report(Request(sources, polygons, min_area, title, card), output, overwrite)
    if json:
        print_json({"report": str(output), "bytes": size})
        return
    say(f"{output}: {size / 1e6:.1f} MB; it opens in any browser, without a network")


def review(
    change: Change,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The review (.gpkg); NAME-review.gpkg by default."),
    ] = None,
    before: Before = None,
    after: After = None,
    probability: Probability = None,
    polygons: Polygons = None,
    min_area: MinArea = 400.0,
    title: Title = None,
    bands: Bands = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any.")] = 0,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser.")
    ] = True,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Accept, reject, redraw and add changes on a page of this machine; for `s2cd label`.

    Each decision is kept at once; the same command continues a review.
    """
    from s2cd.results.polygons import Sources
    from s2cd.results.report import Request
    from s2cd.results.review import open_review
    from s2cd.results.review.browser import opened

    path = output or change.with_name(f"{change.stem}-review.gpkg")
    sources = Sources(change, probability, before, after, split(bands))
    served = open_review(Request(sources, polygons, min_area, title), path, port)
    typer.echo(f"the review is at {served.url} (Ctrl-C or Finish ends it)", err=True)
    with opened(served.url, open_page):
        counts = served.serve()
    if json:
        print_json({"review": str(path), **counts})
        return
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    say(f"{path}: {told}. Next: s2cd label {path} --like BEFORE -o label.tif")


def stac(
    change: Annotated[list[Path], typer.Argument(help="Change maps of `s2cd detect`.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The item (NAME.json beside the map by default); of several maps, the collection.",
        ),
    ] = None,
    probability: Probability = None,
    polygons: Annotated[Path | None, typer.Option(help="The map's changes.")] = None,
    report_page: Annotated[
        Path | None, typer.Option("--report", help="The map's page, of `s2cd report`.")
    ] = None,
    before: Before = None,
    after: After = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that made the map; it gets an item too. One that ships is found."
        ),
    ] = None,
    dates: Annotated[
        str | None, typer.Option(help="The days, BEFORE,AFTER, where the map does not say them.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Maps as items of a SpatioTemporal Asset Catalog; several maps as a collection."""
    from s2cd.errors import UsageError
    from s2cd.networks.registry import checkpoint_path
    from s2cd.results.stac import Files, write_collection, write_item

    days = split(dates)
    if days is not None and len(days) != 2:
        raise UsageError("--dates takes two days, such as 2015-11-20,2020-11-28")
    several = len(change) > 1
    if several and output is None:
        raise UsageError("Several maps make a collection. Name it with -o")
    if several and any((probability, polygons, report_page, before, after, model)):
        raise UsageError("Files that belong to one map need that map alone. Make its item first")
    pair = None if days is None else (days[0], days[1])
    network = None if model is None else checkpoint_path(model)
    own = (probability, polygons, report_page, before, after, network)
    items = []
    for path in change:
        item = path.with_suffix(".json") if several or output is None else output
        if not (several and item.exists() and not overwrite):
            write_item(Files(path, *own, pair), item, overwrite)
        items.append(item)
    if several and output is not None:
        write_collection(items, output, overwrite)
    if json:
        facts: dict[str, object] = {"items": [str(item) for item in items]}
        print_json({**facts, "collection": str(output) if several else None})
        return
    say(f"{output if several else items[0]}: {len(items)} of STAC 1.1")
