"""Commands that make what models learn from."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    Config,
    Json,
    Output,
    Overwrite,
    Quiet,
    Verbose,
    print_json,
    progress,
    say,
    split,
)

GROUP = "5. Models: to learn from labels"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(label)


def label(
    polygons: Annotated[
        Path,
        typer.Argument(help="Polygons: .gpkg, .geojson, .shp, .fgb or .kml, in any CRS."),
    ],
    like: Annotated[Path, typer.Option(help="The raster whose grid the mask gets.")],
    output: Output,
    layer: Annotated[str | None, typer.Option(help="The layer, where there are several.")] = None,
    class_column: Annotated[
        str | None,
        typer.Option(help="Column of classes: numbers from 1, or names; without it all are 1."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Its names in the order of their numbers, such as built,water."),
    ] = None,
    within: Annotated[
        Path | None,
        typer.Option(help="Polygons of what was looked at: all else is 255, not labelled."),
    ] = None,
    all_touched: Annotated[
        bool,
        typer.Option(
            "--all-touched",
            help="Take each pixel that a polygon covers any part of; by default those whose "
            "centre it covers.",
        ),
    ] = False,
    unreviewed: Annotated[
        str,
        typer.Option(help="Polygons of `s2cd review` without a verdict: change or unlabelled."),
    ] = "change",
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Polygons drawn in a GIS to a mask: 0 = no change, 1..n = class, 255 = not labelled.

    The polygons of `s2cd polygons`, corrected in a GIS, and those of `s2cd review` are taken as
    they are. `s2cd polygons label.tif` leads back.
    """
    from s2cd.learning.labels import Choice, Drawing, write_label

    choice = Choice(layer, class_column, split(classes) or (), unreviewed)
    drawing = Drawing(polygons, like, within, all_touched, choice)
    with progress("drawing", quiet) as report:
        facts = write_label(drawing, output, overwrite, report)
    if json:
        print_json(facts)
        return
    if facts["without_pixels"]:
        hint = "" if all_touched else ": smaller than a pixel, or covered by others (--all-touched)"
        say(f"{facts['without_pixels']} polygons hold no pixel of their own{hint}")
    say(
        f"{output}: {facts['polygons']} polygons, {facts['change_fraction']:.2%} of the labelled "
        f"pixels changed, {facts['labelled_fraction']:.1%} labelled; {facts['rule']}"
    )
