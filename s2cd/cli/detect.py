"""Commands that make maps."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    Bands,
    Config,
    Device,
    Json,
    Output,
    Overwrite,
    Quiet,
    Registration,
    Scheduler,
    Verbose,
    Workers,
    print_json,
    progress,
    say,
    split,
)

GROUP = "2. Maps: what changed"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(detect)
    models = typer.Typer(invoke_without_command=True)
    models.callback()(_models)
    models.command("list")(list_models)
    models.command("info")(info)
    app.add_typer(models, name="models", rich_help_panel=GROUP)


def detect(
    before: Annotated[Path, typer.Argument(help="The earlier stack or raster.")],
    after: Annotated[Path, typer.Argument(help="The later stack or raster.")],
    output: Output,
    model: Annotated[
        str,
        typer.Option(
            help="A detector by name (s2cd models), or a checkpoint file; by default the network "
            "for the bands at hand."
        ),
    ] = "default",
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which a pixel is change, in 0..1.")
    ] = None,
    probability: Annotated[
        Path | None, typer.Option(help="Also write the probabilities (or scores) to this file.")
    ] = None,
    align: Annotated[
        bool, typer.Option(help="Measure how the dates lie to each other, and correct it.")
    ] = True,
    registration: Registration = "translation",
    normalize: Annotated[
        str | None,
        typer.Option(
            help="How the later date is brought to the radiometry of the earlier one: none, "
            "linear or ir-mad; by default as serves the model best."
        ),
    ] = None,
    bands: Bands = None,
    block_size: Annotated[int, typer.Option(min=1, help="Pixels a block is high and wide.")] = 1024,
    workers: Workers = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="Of networks: fp32, or bf16 where the processor has it natively.")
    ] = "fp32",
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Two dates to a change map: 1 = change, 0 = no change, 255 = not observed."""
    from dataclasses import replace

    from s2cd.detection.detect import Request, detect_files
    from s2cd.detection.prepare import Preparation
    from s2cd.detection.schedule import Workers as Threads
    from s2cd.networks.registry import Compute

    wanted = Preparation(registration, normalize)
    request = Request(
        before,
        after,
        output,
        probability,
        model,
        Compute(device, precision),
        threshold,
        wanted if align else replace(wanted, registration="none"),
        split(bands),
        block_size,
        overwrite,
        Threads(workers, scheduler),
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


def _models(context: typer.Context) -> None:
    """The detectors at hand, and what a checkpoint says of itself."""
    if context.invoked_subcommand is None:
        list_models()


def list_models(json: Json = False) -> None:
    """List the detectors that are here; any checkpoint file is one too."""
    from s2cd.networks.registry import detectors

    if json:
        print_json({"models": dict(detectors())})
        return
    for name, text in detectors().items():
        typer.echo(f"{name:<12} {text}")


def info(
    model: Annotated[str, typer.Argument(help="A detector by name, or a checkpoint file.")],
    json: Json = False,
) -> None:
    """Say what a detector is, how it is to be used, and what its card says of it."""
    from s2cd.networks.registry import BUILT_IN, checkpoint_path

    card = ""
    if model in BUILT_IN:
        facts: dict[str, object] = {"model": model, "description": BUILT_IN[model]}
    else:
        from dataclasses import asdict

        from s2cd.networks.checkpoint import read_spec, sha256_of
        from s2cd.networks.shipped import card_of

        path = checkpoint_path(model)
        facts = {"model": path.stem, "sha256": sha256_of(path), **asdict(read_spec(path))}
        card = card_of(path)
    if json:
        print_json(facts | ({"card": card} if card else {}))
        return
    for name, value in facts.items():
        if name != "ranges":  # forty numbers, for the machine
            typer.echo(f"{name:<14} {' '.join(value) if isinstance(value, tuple) else value}")
    if card:
        typer.echo(f"\n{card}")
