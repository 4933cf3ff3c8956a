"""What a run leaves to be read: config, curves, pictures, a card."""

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2cd.learning.figures import figure_of
from s2cd.learning.places import Place
from s2cd.output import completed

if TYPE_CHECKING:
    from s2cd.learning.run import Training


def to_toml(values: dict[str, Any]) -> str:
    """Plain values and lists as TOML, written as JSON's; what is None is left out."""
    lines = [
        f"{key} = {json.dumps(list(v) if isinstance(v, tuple) else v)}"
        for key, v in values.items()
        if v is not None
    ]
    return "\n".join(lines) + "\n"


def write_curves(history: list[dict[str, float]], path: Path) -> None:
    """Losses, and validation F1, precision and recall by epoch, as a PNG."""
    figure = figure_of((9, 3.5))
    axes = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for name, said in (("loss", "training"), ("val_loss", "validation")):
        told = [(row["epoch"], row[name]) for row in history if name in row]
        if told:
            axes[0].plot(*zip(*told, strict=True), label=said)
    axes[0].set_title("loss")
    axes[0].legend()
    for name in [n for n in ("f1", "precision", "recall") if n in history[0]]:
        axes[1].plot(epochs, [row[name] for row in history], label=name)
    axes[1].set_title("validation places, all pixels")
    if "f1" in history[0]:
        axes[1].legend()
    for axis in axes:
        axis.set_xlabel("epoch")
    with completed(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png")


def write_card(run: "Training", places: list[Place], data_sha256: str, path: Path) -> None:
    """What the network is, what it saw, and how well it did, in words."""
    named = {s: ", ".join(p.name for p in places if p.split == s) for s in ("train", "val")}
    kind = " ".join(part for part in (run.spec.architecture, run.spec.encoder) if part)
    text = f"""# {kind} ({run.spec.fusion})

- bands: {" ".join(run.spec.bands)}; normalisation: {run.spec.normalization}
- trained on: {named["train"]}
- {_verdict(run, named["val"])}
- starts from weights: {run.recipe.weights}; encoder {"frozen" if run.recipe.frozen else "trained"}
- data: {data_sha256} (`config.toml` has the whole recipe)
- seed {run.recipe.seed}; {", ".join(" ".join(pair) for pair in versions().items())}
- weights trained on OSCD are for non-commercial use (its labels are CC BY-NC-SA)
"""
    with completed(path, overwrite=True) as temporary:
        temporary.write_text(text)


def versions() -> dict[str, str]:
    """What a run is made with; timm and smp hold the encoders."""
    from importlib.metadata import version

    names = ("s2cd", "torch", "lightning", "segmentation-models-pytorch", "timm", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _verdict(run: "Training", held: str) -> str:
    row = run.best
    if not run.judged:
        return (
            f"no place was held apart: the weights are those after all {row['epoch']:.0f} epochs, "
            f"the threshold {run.spec.threshold} was given. Measure it on other places"
        )
    scores = ", ".join(f"{n} {row[n]:.4f}" for n in ("f1", "precision", "recall", "iou"))
    return (
        f"validated on {held} (threshold and stopping were chosen there too), all pixels of whole "
        f"places: best epoch {row['epoch']:.0f} of {len(run.history)}, {scores} at the threshold "
        f"{row['threshold']:.3f}. Measure it on other places with `s2cd evaluate`"
    )
