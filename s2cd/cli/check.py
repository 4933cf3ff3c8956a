"""Commands that look at maps."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    Bands,
    Device,
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

GROUP = "3. Checks: how good, how it looks"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(evaluate)
    app.command(rich_help_panel=GROUP)(plot)


def evaluate(
    data: Annotated[
        Path | None, typer.Argument(help="Labelled pairs: an OSCD or LEVIR-CD folder, or a CSV.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With DATA: a detector by name, or a checkpoint.")
    ] = None,
    split_name: Annotated[
        str, typer.Option("--split", help="Of DATA: train, val, test, all; test or val by default.")
    ] = "",
    cross_validate: Annotated[
        bool,
        typer.Option(
            "--cross-validate",
            help="Of DATA: train by --recipe, each place judged by a network that never saw it.",
        ),
    ] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="A TOML file with options of `s2cd train`.")
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(help="Of DATA: a PNG of precision over recall, and of calibration."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts that places are left out by.")] = 4,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Of --cross-validate: the folder of its runs.")
    ] = Path("runs/cross"),
    prediction: Annotated[Path | None, typer.Option(help="A change map of `s2cd detect`.")] = None,
    label: Annotated[
        Path | None,
        typer.Option(help="A mask of change: 0/1, 1/2 or 0/255, with or without a place."),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Precision, recall, F1, IoU and kappa: of a change map, or of a model on labelled places."""
    from s2cd.errors import UsageError

    if (data is None) == (prediction is None) or (label is None) != (prediction is None):
        raise UsageError("Give DATA with --model, or --prediction with --label")
    if cross_validate and (data is None or model is not None or split_name):
        raise UsageError("Give --cross-validate with DATA and --recipe alone: it trains its models")
    if cross_validate and data is not None:
        from s2cd.learning.crossvalidate import cross_validate as judge
        from s2cd.learning.crossvalidate import folds_of
        from s2cd.learning.recipe import Recipe, read_recipe

        how = Recipe() if recipe is None else read_recipe(recipe)
        with progress("training", quiet) as report:
            scores = judge(folds_of(data, output.parent / ".prepared", folds), output, how, report)
    elif data is not None:
        from s2cd.learning.evaluate import Options, evaluate_data
        from s2cd.networks.registry import DEFAULT, Compute

        chosen = Options(split_name, Compute(device), curves=curves)
        scores = evaluate_data(data, model or DEFAULT, chosen)
    elif prediction is not None and label is not None:
        from s2cd.learning.evaluate import evaluate_map

        scores = evaluate_map(prediction, label)
    if json:
        print_json(scores)
        return
    for name in ("f1", "iou", "dice", "precision", "recall", "kappa", "f1_one_pixel"):
        limits = (scores.get("intervals") or {}).get(name)
        said = f"  ({limits[0]:.4f} to {limits[1]:.4f})" if limits else ""
        typer.echo(f"{name:<12} {_number(scores[name])}{said}")
    if data is not None:
        _tell_scenes(scores["scenes"])
        if len(scores["scenes"]) > 1:
            say(f"{len(scores['scenes'])} places; in brackets 95 % intervals over them")
        return
    say(
        f"{scores['evaluated_fraction']:.1%} of the pixels evaluated; "
        f"{scores['missed_change_fraction']:.1%} of the labelled change was not observed"
    )


def _tell_scenes(scenes: dict[str, dict[str, float | None]]) -> None:
    """A line of scores for each place."""
    names = ("f1", "iou", "precision", "recall", "kappa")
    width = max(len(scene) for scene in scenes)
    typer.echo(f"\n{'':<{width}} {' '.join(f'{name:>9}' for name in names)}")
    for scene, own in scenes.items():
        typer.echo(f"{scene:<{width}} {' '.join(f'{_number(own[name]):>9}' for name in names)}")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def plot(
    before: Annotated[Path, typer.Argument(help="The earlier stack or raster; or DATA alone.")],
    after: Annotated[Path | None, typer.Argument(help="The later stack or raster.")] = None,
    change: Annotated[Path | None, typer.Argument(help="A change map.")] = None,
    output: Output = Path("results.png"),
    label: Annotated[Path | None, typer.Option(help="A mask of change.")] = None,
    model: Annotated[
        str | None, typer.Option(help="With DATA: a detector by name, or a checkpoint.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="With DATA: windows to draw.")] = 6,
    split_name: Annotated[str, typer.Option("--split", help="With DATA: as in evaluate.")] = "",
    bands: Bands = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Before, after, truth and prediction side by side, as a PNG: of a pair, or of DATA."""
    if after is None:
        from s2cd.learning.evaluate import Options
        from s2cd.learning.pictures import draw_samples
        from s2cd.networks.registry import DEFAULT

        name, options = model or DEFAULT, Options(split_name)
        count = draw_samples(before, name, samples, output, overwrite, options)
        say(f"{output}: {count} windows")
        return
    from s2cd.results.plot import Panels, write_plot

    write_plot(Panels(before, after, change, label, split(bands)), output, overwrite)
    say(f"{output}")
