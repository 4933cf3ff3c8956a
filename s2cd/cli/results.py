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
