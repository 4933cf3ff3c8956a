"""Commands that make stacks."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import Bands, Config, Output, Overwrite, Quiet, Verbose, say, split

GROUP = "1. Scenes: one date on one grid"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(stack)


def stack(
    product: Annotated[Path, typer.Argument(help="A folder of band files: *_B02.tif, *_B02.jp2.")],
    output: Output,
    bands: Bands = None,
    offset: Annotated[
        float | None,
        typer.Option(help="RADIO_ADD_OFFSET in DN, where no metadata says it; such as -1000."),
    ] = None,
    resampling: Annotated[
        str, typer.Option(help="How 20 m bands are brought to 10 m: cubic, bilinear, nearest.")
    ] = "cubic",
    clouds: Annotated[
        bool | None,
        typer.Option(
            "--clouds/--no-clouds",
            help="Flag clouds, cirrus and shadows in the QA band; by default where B01, B09 and "
            "B10 are there too.",
        ),
    ] = None,
    config: Config = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Level-1C bands of one date to one stack: reflectance on the 10 m grid."""
    from s2cd.output import check_writable
    from s2cd.scenes.clouds import watch_folder
    from s2cd.scenes.safe import open_folder
    from s2cd.scenes.stack import write_stack

    check_writable(output, overwrite)
    lazy = open_folder(product, split(bands), offset, resampling)
    watch = watch_folder(product, lazy, offset, clouds)
    if watch is None:
        write_stack(lazy, output, tags=lazy.attrs, overwrite=overwrite)
    else:
        write_stack(watch.stack, output, None, lazy.attrs, overwrite, watch.flags)
    height, width = lazy.shape[1:]
    say(f"{output}: {len(lazy)} bands, {width} x {height} pixels")
