"""Commands that make what models learn from."""

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
    Workers,
    print_json,
    progress,
    say,
    split,
)

GROUP = "5. Models: to learn from labels"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(label)
    app.command(rich_help_panel=GROUP)(tile)


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


def tile(
    before: Annotated[Path, typer.Argument(help="The earlier stack or raster.")],
    after: Annotated[Path, typer.Argument(help="The later stack or raster.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder of the windows.")],
    mask: Annotated[
        Path | None, typer.Option("--label", help="A mask of change, to be cut as well.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Pixels a window is high and wide.")] = 128,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Pixels from one window to the next; the size.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="geotiff: folders A, B, label; or zarr: one store.")
    ] = "geotiff",
    validation: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the scene for validation.")
    ] = 0.2,
    align: Annotated[
        bool, typer.Option(help="Measure how the dates lie to each other, and correct it.")
    ] = True,
    bands: Bands = None,
    workers: Workers = None,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """A pair to windows, for training or labelling elsewhere: `s2cd train FOLDER` takes them too.

    The later date is brought to the grid of the earlier one and registered, as in `detect`. The
    scene is split by areas with a gap of one window between them, never by windows.
    """
    from s2cd.detection.schedule import Workers as Threads
    from s2cd.learning.tiling import Tiling, tile

    tiling = Tiling(before, after, mask, size, stride, split(bands), align, format, validation)
    with progress("tiling", quiet) as report:
        facts = tile(tiling, output, Threads(workers), report)
    if json:
        print_json(facts)
        return
    sides = ", ".join(f"{facts[side]} {side}" for side in ("train", "val", "gap"))
    say(
        f"{output}: {facts['windows']} windows ({sides}), {facts['written']} of them written now; "
        f"{facts['without_data']} without data left out"
    )
