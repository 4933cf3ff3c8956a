"""Commands that make something of a map."""

from pathlib import Path
from typing import Annotated, Any

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

GROUP = "4. Results: what people do with a map"

Change = Annotated[Path, typer.Argument(help="A change map of `s2cd detect`.")]
Probability = Annotated[
    Path | None, typer.Option(help="The map's probabilities, of `detect --probability`.")
]
Before = Annotated[Path | None, typer.Option(help="The earlier date of the map.")]
After = Annotated[Path | None, typer.Option(help="The later date of the map.")]
MinArea = Annotated[float, typer.Option(min=0, help="Leave smaller changes out, in m2.")]


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(polygons)
    assess = typer.Typer(no_args_is_help=True, help="Area of change that can be defended.")
    assess.command("plan")(plan_sample)
    assess.command("estimate")(estimate_area)
    app.add_typer(assess, name="assess", rich_help_panel=GROUP)


def polygons(
    change: Change,
    output: Output,
    probability: Probability = None,
    before: Before = None,
    after: After = None,
    min_area: MinArea = 400.0,
    fill_holes: Annotated[float, typer.Option(min=0, help="Fill smaller holes, in m2.")] = 0.0,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Cut corners by half a pixel: stairs become slopes.")
    ] = False,
    simplify: Annotated[
        float, typer.Option(min=0, help="Drop points that matter less than this, in metres.")
    ] = 0.0,
    bands: Bands = None,
    block_size: Annotated[
        int, typer.Option(min=16, help="Pixels a block is high and wide.")
    ] = 1024,
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """The changes of a map as polygons: .gpkg, .geojson, .fgb or .parquet, by the name's ending."""
    from s2cd.results.polygons import Shaping, Sources, find_polygons, write_polygons
    from s2cd.results.polygons.write import check_result

    check_result(output, overwrite)
    sources = Sources(change, probability, before, after, split(bands), block_size)
    found = find_polygons(sources, Shaping(min_area, fill_holes, smooth, simplify))
    write_polygons(found, output, overwrite)
    area = float(found.table["area_m2"].sum())
    facts: dict[str, Any] = {
        "polygons": str(output),
        "count": len(found.table),
        "area_m2": round(area, 1),
        "left_out": found.left_out[0],
        "left_out_pixels": found.left_out[1],
        "kinds": {str(k): int(n) for k, n in found.table["kind"].value_counts().items()},
    }
    if json:
        print_json(facts)
        return
    say(
        f"{output}: {len(found.table)} changes, {area / 1e4:.1f} ha; {found.left_out[0]} smaller "
        f"than {min_area:g} m2 left out"
    )


def plan_sample(
    change: Change,
    output: Output,
    error: Annotated[
        float, typer.Option(help="Standard error wanted of the overall accuracy.")
    ] = 0.01,
    expected: Annotated[
        str, typer.Option(help="User's accuracies to be expected, of no change and of change.")
    ] = "0.9,0.7",
    before: Before = None,
    after: After = None,
    bands: Bands = None,
    seed: Annotated[int, typer.Option(help="Another seed, another sample.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Draw a stratified random sample of a map (.gpkg), to be interpreted in a GIS.

    With --before and --after, a picture of each place is drawn into NAME-chips, beside it.
    """
    from s2cd.errors import UsageError
    from s2cd.output import check_writable
    from s2cd.results.interpret import Dates
    from s2cd.results.sample import Plan, write_sample

    check_writable(output, overwrite)
    if (before is None) != (after is None):
        raise UsageError("Pictures need both dates. Give --before and --after")
    dates = None if before is None or after is None else Dates(before, after, split(bands))
    plan = Plan(_two_shares(expected), error, seed, dates)
    stable, changed = write_sample(change, output, plan, overwrite)
    say(
        f"{output}: {changed} pixels of change and {stable} of none. "
        "Fill their column reference: 0 or 1"
    )


def _two_shares(text: str) -> tuple[float, float]:
    from s2cd.errors import UsageError

    try:
        stable, changed = (float(part) for part in text.split(","))
    except ValueError as e:
        raise UsageError("--expected takes two shares, such as 0.9,0.7") from e
    if not (0 < stable <= 1 and 0 < changed <= 1):
        raise UsageError("--expected takes shares above 0 and up to 1, such as 0.9,0.7")
    return stable, changed


def estimate_area(
    change: Change,
    sample: Annotated[Path, typer.Argument(help="The interpreted sample of `assess plan`.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Area of change with its 95 % interval, and accuracies, from an interpreted sample."""
    from s2cd.results.sample import estimate_files

    found, matrix = estimate_files(change, sample)
    area, half = (float(v) for v in found.areas[:, 1])
    if json:
        facts: dict[str, Any] = {"matrix": matrix.tolist()}
        names = ("change_area_m2", "change_area_half_width_m2")
        facts |= dict(zip(names, (area, half), strict=True))
        facts["overall_accuracy"] = float(found.overall[0])
        facts["users_accuracy"] = _numbers(found.users[0])
        facts["producers_accuracy"] = _numbers(found.producers[0])
        print_json(facts)
        return
    typer.echo(f"area of change     {area / 1e4:.1f} ha, +- {half / 1e4:.1f} ha (95 %)")
    typer.echo(f"overall accuracy   {found.overall[0]:.3f} +- {found.overall[1]:.3f}")
    typer.echo(f"user's (change)    {found.users[0, 1]:.3f} +- {found.users[1, 1]:.3f}")
    typer.echo(f"producer's         {found.producers[0, 1]:.3f} +- {found.producers[1, 1]:.3f}")


def _numbers(values: Any) -> list[float | None]:
    """Values for JSON, which knows no NaN."""
    return [None if value != value else float(value) for value in values]  # noqa: PLR0124
