"""The whole line on a simulated pair."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from s2cd.cli.options import Quiet, Verbose, say
from s2cd.errors import S2cdError

GROUP = "6. To begin with"
_BASELINES = ("05.00", "02.04")
"""Of the two simulated products: one with RADIO_ADD_OFFSET, one from before there was any."""
_SIDE = 256
_SPLITS = ("train", "train", "val")
_TINY = ("--arch", "fc-ef", "--epochs", "5", "--steps", "20", "--batch", "8", "--size", "64",
         "--rate", "0.004", "--window", "128", "--halo", "32", "--augment", "flips")  # fmt: skip
"""A network that learns on a simulation in seconds, which no real scene would be enough for."""


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(demo)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything is put.")] = Path("demo"),
    size: Annotated[int, typer.Option(min=256, max=2048, help="Pixels at a side.")] = 1024,
    seed: Annotated[int, typer.Option(help="Another seed, another landscape.")] = 0,
    train: Annotated[
        bool, typer.Option("--train", help="Instead: train a tiny network on simulated places.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """The commands of a real session, run on a simulated pair; no network is needed.

    The pair is simulated to be looked at and tested with: its F1 says nothing about real scenes.
    """
    if train:
        _claim(folder, {"train": 1, "seed": seed})
        _learn(folder, seed)
        return
    _claim(folder, {"size": size, "seed": seed})
    say(f"simulating two dates of {size} x {size} pixels in {folder}")
    products = _simulate(folder, size, seed)
    at = {name: str(folder / name) for name in ("before.tif", "after.tif", "change.tif")}
    at |= {name: str(folder / name) for name in ("score.tif", "truth.tif", "results.png")}
    at |= {name: str(folder / name) for name in ("changes.gpkg", "report.html")}
    for product, stack in zip(products, ("before.tif", "after.tif"), strict=True):
        _run(folder / stack, "stack", str(product), "-o", at[stack])
    pair = (at["before.tif"], at["after.tif"])
    change, truth = at["change.tif"], at["truth.tif"]
    # networks that learned from real scenes know nothing of simulated ones
    detect = ("detect", *pair, "-o", change, "--model", "cva", "--probability", at["score.tif"])
    _run(folder / "change.tif", *detect)
    plot = ("plot", *pair, change, "--label", truth, "-o", at["results.png"])
    _run(folder / "results.png", *plot)
    dates = ("--before", pair[0], "--after", pair[1], "--probability", at["score.tif"])
    _run(folder / "changes.gpkg", "polygons", change, *dates, "-o", at["changes.gpkg"])
    _run(folder / "report.html", "report", change, *dates, "-o", at["report.html"])
    _run(None, "evaluate", "--prediction", change, "--label", truth)


def _claim(folder: Path, request: dict[str, int]) -> None:
    """Take the folder for this request; refuse one that holds another."""
    from s2cd.output import completed, write_errors

    note = folder / "demo.json"
    with write_errors(folder):
        folder.mkdir(exist_ok=True)
    if note.exists():
        if note.read_text() != json.dumps(request):
            raise S2cdError(f"{folder} holds another demo: {note.read_text()}. Name a new folder")
        return
    if any(folder.iterdir()):
        raise S2cdError(f"{folder} holds something else. Name a new folder for the demo")
    with completed(note) as temporary:
        temporary.write_text(json.dumps(request))


def _simulate(folder: Path, size: int, seed: int) -> list[Path]:
    """Two products and the truth, as far as they are not there yet; the products' folders."""
    from s2cd.scenes.simulate import Simulation, write_product, write_truth

    simulation, products = Simulation(size=size, seed=seed), []
    for date, baseline in enumerate(_BASELINES):
        number = baseline.replace(".", "")
        day = f"{simulation.dates[date]:%Y%m%d}"
        whole = [p for p in folder.glob(f"*_{day}T*_N{number}_*.SAFE/manifest.safe") if p.exists()]
        written = whole[0].parent if whole else write_product(simulation, date, folder, baseline)
        products.append(written)
    if not (folder / "truth.tif").exists():
        write_truth(simulation, folder / "truth.tif")
    return products


def _learn(folder: Path, seed: int) -> None:
    """Labelled places, a network that learns from some of them, and its score on the other."""
    say(f"simulating {len(_SPLITS)} places of {_SIDE} x {_SIDE} pixels in {folder}")
    lines = ["name,before,after,label,split"]
    for number, split in enumerate(_SPLITS):
        name = f"place{number}"
        _simulate_place(folder / name, seed * 100 + number)
        lines.append(f"{name},{name}/before,{name}/after,{name}/truth.tif,{split}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    data, run = str(folder / "pairs.csv"), folder / "run"
    best = str(run / "best.safetensors")
    _run(run / "card.md", "train", data, "-o", str(run), "--resume", *_TINY)
    _run(None, "evaluate", data, "--model", best)
    say(f"how it learned: {run / 'curves.png'}; what it found: {run / 'predictions'}")


def _simulate_place(folder: Path, seed: int) -> None:
    """Both dates as folders of band files, and the truth, unless they are there."""
    from s2cd.scenes.simulate import Simulation, write_band_files, write_truth

    simulation = Simulation(size=_SIDE, seed=seed)
    for date, name in enumerate(("before", "after")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_band_files(simulation, date, folder / name)
    if not (folder / "truth.tif").exists():
        write_truth(simulation, folder / "truth.tif")


def _run(result: Path | None, *words: str) -> None:
    """Print a command as a user would type it, and run it, unless its result is there."""
    typer.echo(f"$ s2cd {' '.join(words)}")
    if result is not None and result.exists():
        say(f"{result} is there already")
        return
    done = subprocess.run([sys.executable, "-m", "s2cd", *words], check=False)  # noqa: S603
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise S2cdError(f"The demo stopped at: s2cd {words[0]}. The line above says why")
