"""Commands that make maps."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    Align,
    Backend,
    Bands,
    BlockSize,
    Config,
    Device,
    Json,
    Model,
    Normalize,
    Overwrite,
    Precision,
    Quiet,
    Registration,
    Scheduler,
    Threshold,
    Verbose,
    Workers,
    print_json,
    progress,
    say,
    split,
)
from s2cd.remote import path_of

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
    before: Annotated[
        Path,
        typer.Argument(
            parser=path_of,
            metavar="BEFORE",
            help="The earlier stack or raster, or Level-1C product; s3:// and https:// too.",
        ),
    ],
    after: Annotated[Path, typer.Argument(parser=path_of, metavar="AFTER", help="The later one.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", parser=path_of, metavar="PATH", help="The file, or s3://, to write."
        ),
    ],
    model: Model = "default",
    threshold: Threshold = None,
    probability: Annotated[
        Path | None,
        typer.Option(
            "-p",
            "--probability",
            parser=path_of,
            metavar="PATH",
            help="Also write the probabilities (or scores) to this file.",
        ),
    ] = None,
    align: Align = True,
    registration: Registration = "translation",
    normalize: Normalize = None,
    bands: Bands = None,
    block_size: BlockSize = 1024,
    workers: Workers = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "auto",
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Two dates to a change map: 1 = change, 0 = no change, 255 = not observed."""
    from s2cd.detection.detect import Request, detect_files
    from s2cd.detection.prepare import asked
    from s2cd.detection.schedule import Workers as Threads
    from s2cd.networks.registry import Compute

    request = Request(
        before,
        after,
        output,
        probability,
        model,
        Compute(device, precision, backend),
        threshold,
        asked(align, registration, normalize),
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
    stages = ", ".join(f"{name} {took:.1f}" for name, took in summary["seconds"].items())
    say(f"seconds: {stages}")


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
