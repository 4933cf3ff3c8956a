"""Commands that make stacks."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    AoiText,
    Bands,
    Config,
    Json,
    Output,
    Overwrite,
    Quiet,
    Registration,
    Verbose,
    print_json,
    say,
    split,
)
from s2cd.errors import S2cdError

GROUP = "1. Scenes: one date on one grid"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(stack)
    app.command(rich_help_panel=GROUP)(align)


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
    from s2cd.scenes.date import open_products
    from s2cd.scenes.mosaic import Wanted
    from s2cd.scenes.stack import write_stack

    check_writable(output, overwrite)
    wanted = Wanted(open_aoi(aoi) if aoi else None, split(bands), offset, resampling)
    date = open_products(products, wanted, clouds)
    lazy = date.stack
    write_stack(lazy, output, date.qa, lazy.attrs, overwrite, date.later)
    height, width = lazy.shape[1:]
    say(f"{output}: {len(lazy)} bands, {width} x {height} pixels")


def align(
    before: Annotated[Path, typer.Argument(help="The stack or raster that stays as it is.")],
    after: Annotated[Path, typer.Argument(help="The stack or raster to bring onto it.")],
    output: Output,
    registration: Registration = "translation",
    bands: Bands = None,
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Move the later date onto the earlier one, to a fraction of a pixel; `detect` does so itself.

    The result has the grid of BEFORE. It is resampled once, from the original.
    """
    from s2cd.output import check_writable
    from s2cd.scenes.align import shift_between
    from s2cd.scenes.pair import make_pair
    from s2cd.scenes.registered import registered, registered_qa
    from s2cd.scenes.stack import open_qa, open_stack, write_stack

    check_writable(output, overwrite)
    chosen = split(bands)
    pair = make_pair(open_stack(before, chosen), open_stack(after, chosen))
    shift = shift_between(pair, registration)
    if shift is None or not shift.is_sure:
        raise S2cdError(
            f"How {after} lies to {before} cannot be measured: too few windows agree. "
            "Choose clearer dates, or a larger area"
        )
    whole, qa = open_stack(after, chosen, mask=()), open_qa(after, chosen)
    result = registered(whole, pair.geobox, shift.motion)
    flags = None if qa is None else registered_qa(qa, pair.geobox, shift.motion)
    said = {"SHIFT_KIND": registration, "SHIFT_ROWS": f"{shift.rows:.3f}"}
    said["SHIFT_COLUMNS"] = f"{shift.columns:.3f}"
    write_stack(result, output, flags, {**whole.attrs, **said}, overwrite)
    summary = {"output": str(output), "shift_px": round(shift.length, 3)}
    summary |= {"rows": shift.rows, "columns": shift.columns, "windows": shift.windows}
    summary |= {"registration": registration, "rest_px": round(shift.rest, 3)}
    if json:
        print_json(summary)
        return
    say(
        f"{output}: moved by {shift.rows:+.2f} rows, {shift.columns:+.2f} columns "
        f"({registration}; {shift.windows} windows agree, {shift.rest:.2f} pixels are left)"
    )
