"""Commands that make maps."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    Bands,
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

GROUP = "2. Maps: what changed"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(detect)


def detect(
    before: Annotated[Path, typer.Argument(help="The earlier stack or raster.")],
    after: Annotated[Path, typer.Argument(help="The later stack or raster.")],
    output: Output,
    model: Annotated[str, typer.Option(help="A detector by name: cva.")] = "default",
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which a pixel is change, in 0..1.")
    ] = None,
    probability: Annotated[
        Path | None, typer.Option(help="Also write the probabilities (or scores) to this file.")
    ] = None,
    bands: Bands = None,
    block_size: Annotated[int, typer.Option(min=1, help="Pixels a block is high and wide.")] = 1024,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; all processors by default.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Two dates to a change map: 1 = change, 0 = no change, 255 = not observed."""
    from s2cd.detection.detect import Request, detect_files
    from s2cd.detection.schedule import Workers

    request = Request(
        before,
        after,
        output,
        probability,
        model,
        threshold,
        split(bands),
        block_size,
        overwrite,
        Workers(workers),
    )
    with progress("detecting change", quiet) as report:
        summary = detect_files(request, report)
    if json:
        print_json(summary)
        return
    area = summary["changed_area_m2"]
    extent = "the map has no place on the ground" if area is None else f"{area / 1e4:.1f} ha"
    say(
        f"{output}: {summary['changed_fraction']:.2%} of the observed pixels changed ({extent}); "
        f"{summary['observed_fraction']:.1%} observed; model {summary['model']}, "
        f"bands {' '.join(summary['bands'])}"
    )
