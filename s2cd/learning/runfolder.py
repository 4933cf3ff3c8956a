"""What a run leaves to be read: config, curves, pictures, a card."""

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2cd.learning.places import Place
from s2cd.learning.prepared import Sample
from s2cd.networks.detector import Frozen
from s2cd.output import completed

if TYPE_CHECKING:
    from s2cd.learning.run import Training

_PICTURED = 3


def to_toml(values: dict[str, Any]) -> str:
    """Plain values and lists as TOML, written as JSON's; what is None is left out."""
    lines = [
        f"{key} = {json.dumps(list(v) if isinstance(v, tuple) else v)}"
        for key, v in values.items()
        if v is not None
    ]
    return "\n".join(lines) + "\n"


def write_curves(history: list[dict[str, float]], path: Path) -> None:
    """Loss, and validation F1, precision and recall by epoch, as a PNG."""
    figure = figure_of((9, 3.5))
    axes = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    axes[0].plot(epochs, [row["loss"] for row in history])
    axes[0].set_title("training loss")
    for name in [n for n in ("f1", "precision", "recall") if n in history[0]]:
        axes[1].plot(epochs, [row[name] for row in history], label=name)
    axes[1].set_title("validation places, all pixels")
    if "f1" in history[0]:
        axes[1].legend()
    for axis in axes:
        axis.set_xlabel("epoch")
    with completed(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png")


def write_pictures(sample: Sample, frozen: Frozen, size: int, path: Path) -> NDArray[np.uint8]:
    """Before, after, truth and prediction of fixed windows of a place: PNG, and (y, x, 3)."""
    label = np.asarray(sample.label)
    changed = np.argwhere(label == 1)
    picks = changed[:: max(1, len(changed) // _PICTURED)][:_PICTURED]
    centres = picks if len(picks) else np.array([[n // 2 for n in label.shape]])
    figure = figure_of((8, 2.1 * len(centres)))
    rows = figure.subplots(len(centres), 4, squeeze=False)
    for axes, centre in zip(rows, centres, strict=True):
        top, left = (
            int(min(max(c - size // 2, 0), max(0, n - size)))
            for c, n in zip(centre, label.shape, strict=True)
        )
        ys, xs = slice(top, top + size), slice(left, left + size)
        window = sample.pair.window(ys, xs)
        score = frozen.predict(window.before[None], window.after[None])[0]
        dates = [_colours(date, sample.pair.bands) for date in (window.before, window.after)]
        panels = (*dates, label[ys, xs] == 1, np.where(window.valid, score, 0))
        for axis, title, panel in zip(
            axes, ("before", "after", "truth", "prediction"), panels, strict=True
        ):
            axis.imshow(panel, vmin=0, vmax=1, cmap="magma", interpolation="nearest")
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
    with completed(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png")
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def write_card(run: "Training", places: list[Place], path: Path) -> None:
    """What the network is, what it saw, and how well it did, in words."""
    import torch

    from s2cd import __version__

    named = {s: ", ".join(p.name for p in places if p.split == s) for s in ("train", "val")}
    text = f"""# {run.spec.architecture} {run.spec.encoder} ({run.spec.fusion})

- bands: {" ".join(run.spec.bands)}; normalisation: {run.spec.normalization}
- trained on: {named["train"]}
- {_verdict(run, named["val"])}
- seed {run.recipe.seed}; s2cd {__version__}, torch {torch.__version__}, Python
  {platform.python_version()}
- weights trained on OSCD are for non-commercial use (its labels are CC BY-NC-SA)
"""
    with completed(path, overwrite=True) as temporary:
        temporary.write_text(text)


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


def _colours(date: Any, bands: tuple[str, ...]) -> Any:
    from s2cd.scenes.bands import RGB

    names = RGB if set(RGB) <= set(bands) else (bands[0],) * 3
    image = np.moveaxis(date[[bands.index(b) for b in names]], 0, -1)
    low, high = np.nanpercentile(image, [2, 98]) if np.isfinite(image).any() else (0, 1)
    return np.clip((np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-6), 0, 1)


def figure_of(size: tuple[float, float]) -> Any:
    """A figure of so many inches that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
