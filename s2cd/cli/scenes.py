"""Commands that make stacks."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import AoiText, Bands, Config, Output, Overwrite, Quiet, Verbose, say, split

GROUP = "1. Scenes: one date on one grid"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(stack)


def stack(
    products: Annotated[
        list[Path],
        typer.Argument(
            metavar="PRODUCT...",
            help="Level-1C products of one date: .SAFE folders or their zips; or one folder of "
            "band files, *_B02.tif or *_B02.jp2.",
        ),
    ],
    output: Output,
    aoi: AoiText = None,
    bands: Bands = None,
    offset: Annotated[
        float | None,
        typer.Option(help="RADIO_ADD_OFFSET in DN, such as -1000, in place of the metadata's."),
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
    """Level-1C products of one date to one stack: reflectance on the 10 m grid."""
    from s2cd.output import check_writable
    from s2cd.scenes.aoi import open_aoi
    from s2cd.scenes.clouds import watch_folder, watch_products
    from s2cd.scenes.mosaic import Wanted, open_date, stack_of
    from s2cd.scenes.product import product_at
    from s2cd.scenes.safe import open_folder
    from s2cd.scenes.stack import write_stack

    check_writable(output, overwrite)
    wanted = Wanted(open_aoi(aoi) if aoi else None, split(bands), offset, resampling)
    found = [product_at(path) for path in products]
    if len(products) == 1 and found[0] is None:
        lazy, qa = open_folder(products[0], wanted.bands, offset, resampling, wanted.aoi), None
        watch = watch_folder(products[0], lazy, clouds)
    else:
        paths = [known or path for known, path in zip(found, products, strict=True)]
        chosen, geobox = open_date(paths, wanted)
        lazy, qa = stack_of(chosen, geobox, wanted)
        watch = watch_products(chosen, lazy, clouds)
    if watch is None:
        write_stack(lazy, output, qa, lazy.attrs, overwrite)
    else:
        write_stack(watch.stack, output, qa, lazy.attrs, overwrite, watch.flags)
    height, width = lazy.shape[1:]
    say(f"{output}: {len(lazy)} bands, {width} x {height} pixels")
