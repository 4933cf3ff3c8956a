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


def report(
    change: Change,
    output: Output,
    before: Before = None,
    after: After = None,
    probability: Probability = None,
    polygons: Polygons = None,
    min_area: MinArea = 400.0,
    title: Title = None,
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
    size = write_report(Request(sources, polygons, min_area, title), output, overwrite)
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
