"""Commands that make models."""

from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import (
    Bands,
    Config,
    Device,
    Json,
    Quiet,
    Verbose,
    print_json,
    progress,
    say,
    split,
)

GROUP = "5. Models: to learn from labels"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(train)


def train(
    data: Annotated[
        Path, typer.Argument(help="An OSCD or LEVIR-CD folder, or a CSV: before,after,label,split.")
    ] = Path("data"),
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder of the run.")] = Path(
        "runs/run"
    ),
    arch: Annotated[
        str,
        typer.Option(
            help="unet, siamese, unet-resnet50-fusion, fc-ef, fc-siam-conc or fc-siam-diff."
        ),
    ] = "unet",
    encoder: Annotated[str, typer.Option(help="Of siamese: of smp or timm; resnet18.")] = "",
    fusion: Annotated[
        str, typer.Option(help="concat, diff, concat+diff, diff+sum or attention.")
    ] = "",
    depth: Annotated[int, typer.Option(help="Of siamese: stages of its encoder, 3 to 5.")] = 5,
    detail: Annotated[bool, typer.Option(help="Of siamese: a skip at full resolution.")] = False,
    weights: Annotated[
        str,
        typer.Option(help="To start from: none, imagenet, or a file of torchvision, timm, s2cd."),
    ] = "none",
    freeze_encoder: Annotated[
        bool | None,
        typer.Option(help="Keep the encoder as it is; usual for unet-resnet50-fusion pretrained."),
    ] = None,
    loss: Annotated[
        str, typer.Option(help="bce, dice, iou, focal, bce+iou, or such as 0.5*bce+0.5*dice.")
    ] = "bce+iou",
    change_weight: Annotated[float, typer.Option(help="Weight of a changed pixel.")] = 1.0,
    class_weights: Annotated[
        str | None, typer.Option(help="Of the classes of change apart, such as 2,8.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adamw or adam.")] = "adamw",
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs.")] = 50,
    steps: Annotated[int, typer.Option(min=0, help="Batches an epoch; 0: as DATA has.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Windows in a batch.")] = 16,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    size: Annotated[int, typer.Option(min=32, help="Pixels of a training window.")] = 128,
    window: Annotated[int, typer.Option(help="Pixels of a window at inference.")] = 512,
    halo: Annotated[int, typer.Option(help="Pixels at its sides that are not used.")] = 64,
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the places for validation; 0: none.")
    ] = 0.2,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Of change; 0: chosen on the validation places.")
    ] = 0.0,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better F1.")] = 15,
    ema: Annotated[float, typer.Option(min=0, max=0.9999, help="Averaging of weights.")] = 0.0,
    clip: Annotated[float, typer.Option(min=0, help="Largest norm of the gradient; 0: any.")] = 1.0,
    augment: Annotated[
        str, typer.Option(help="How windows are altered: none, flips, mild or strong.")
    ] = "strong",
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another network.")] = 0,
    bands: Bands = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 where it is native.")] = "fp32",
    mlflow: Annotated[
        bool,
        typer.Option("--mlflow", help="Tell MLflow of it too (extra mlflow): mlflow.db beside."),
    ] = False,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Labelled pairs to a model for `s2cd detect --model RUN/best.safetensors`."""
    from s2cd.learning.places import find_places

    find_places(data)  # refused before torch is imported
    from s2cd.learning.recipe import Recipe, weights_of
    from s2cd.learning.train import train as learn

    recipe = Recipe(
        arch=arch,
        encoder=encoder,
        fusion=fusion,
        depth=depth,
        detail=detail,
        weights=weights,
        freeze_encoder=freeze_encoder,
        bands=split(bands) or (),
        loss=loss,
        change_weight=change_weight,
        class_weights=weights_of(split(class_weights) or ()),
        optimizer=optimizer,
        epochs=epochs,
        steps=steps,
        batch=batch,
        rate=rate,
        size=size,
        window=window,
        halo=halo,
        validation=validation,
        threshold=threshold,
        patience=patience,
        ema=ema,
        clip=clip,
        augment=augment,
        seed=seed,
        device=device,
        precision=precision,
        mlflow=mlflow,
    )
    with progress("training", quiet) as report:
        summary = learn(data, output, recipe, resume, report)
    if json:
        print_json(summary)
        return
    score = f": F1 {summary['f1']:.4f} on the validation places" if "f1" in summary else ""
    say(f"{summary['checkpoint']}{score}")
