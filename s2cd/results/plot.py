"""Pictures of a pair and its map, side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.changemap import read_map
from s2cd.errors import S2cdError
from s2cd.output import check_writable, completed
from s2cd.scenes.bands import RGB
from s2cd.scenes.mask import read_label
from s2cd.scenes.pair import Pair, make_pair
from s2cd.scenes.stack import open_stack

_LONGEST = 1200
"""Most pixels at a side of a panel; larger scenes are thinned."""
_COLOURS = {
    "no change": "#eeeee8",
    "change": "#d61820",
    "not observed": "#7b8794",
    "found": "#2b8a3e",
    "missed": "#1c6dd0",
    "false alarm": "#e8820c",
}


@dataclass(frozen=True)
class Panels:
    """What to show: two dates, and where given a map and a mask."""

    before: Path
    after: Path
    change: Path | None = None
    label: Path | None = None
    bands: tuple[str, ...] | None = None


def write_plot(panels: Panels, path: Path, overwrite: bool = False) -> None:
    """Write before, after, truth, prediction and errors, as far as given, as one PNG.

    Both dates are stretched by the same percentiles, so that a difference seen is a difference.

    Raises:
        S2cdError: where an input cannot be read or the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_writable(path, overwrite)
    pair = make_pair(
        open_stack(panels.before, panels.bands), open_stack(panels.after, panels.bands)
    )
    layers = _layers(panels, pair)
    height, width = pair.shape
    size = (4 * len(layers), 4 * min(2.5, max(0.4, height / width)) + 0.9)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(layers), squeeze=False)[0]
    for axis, (title, (image, legend)) in zip(axes, layers.items(), strict=True):
        _draw(axis, title, image, legend)
    with completed(path, overwrite) as temporary:
        figure.savefig(temporary, format="png")


def _draw(axis: Any, title: str, image: NDArray[Any], legend: tuple[str, ...]) -> None:
    from matplotlib.patches import Patch

    axis.imshow(image, interpolation="nearest")
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
    if legend:
        patches = [Patch(facecolor=_COLOURS[name], label=name) for name in legend]
        axis.legend(
            handles=patches,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=len(patches),
            fontsize=7,
            frameon=False,
        )


def _layers(panels: Panels, pair: Pair) -> dict[str, tuple[NDArray[Any], tuple[str, ...]]]:
    """The pictures (height, width, 3) by title, each with the names in its legend."""
    step = -(-max(pair.shape) // _LONGEST)
    before, after = _colours_of(pair, step)
    layers: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        f"before: {panels.before.name}": (before, ()),
        f"after: {panels.after.name}": (after, ()),
    }
    truth = None if panels.label is None else read_label(panels.label, pair.geobox)[::step, ::step]
    found = None if panels.change is None else _map(panels.change, pair.geobox)[::step, ::step]
    plain = ("no change", "change")
    if truth is not None:
        layers["truth"] = (_painted(truth, plain), plain)
    if found is not None:
        layers["prediction"] = (_painted(found, plain), (*plain, "not observed"))
    if truth is not None and found is not None:
        names = ("found", "missed", "false alarm")
        layers["errors"] = (_errors(found, truth), names)
    return layers


def _colours_of(pair: Pair, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both dates as pictures (height, width, 3) in 0..1, under one stretch."""
    names = [b for b in RGB if b in pair.bands]
    names = names if len(names) == 3 else [pair.bands[0]] * 3
    dates = [
        np.moveaxis(_thinned(pair, names, which, step), 0, -1) for which in ("before", "after")
    ]
    seen = np.concatenate([d[np.isfinite(d)] for d in dates])
    low, high = np.percentile(seen, [2, 98]) if seen.size else (0.0, 1.0)
    span = max(float(high - low), 1e-6)
    before, after = (
        np.clip((np.nan_to_num(d, nan=low) - low) / span, 0, 1).astype(np.float32) for d in dates
    )
    return before, after


def _thinned(pair: Pair, bands: list[str], date: str, step: int) -> NDArray[np.float32]:
    """Every ``step``-th pixel of one date, read in strips."""
    chosen = [pair.bands.index(b) for b in bands]
    rows = 512 // step * step or step
    strips = []
    for top in range(0, pair.shape[0], rows):
        bottom = min(top + rows, pair.shape[0])
        window = pair.window(slice(top, bottom), slice(0, pair.shape[1]))
        strips.append(getattr(window, date)[chosen, ::step, ::step])
    return np.concatenate(strips, axis=1)


def _map(path: Path, geobox: GeoBox) -> NDArray[np.uint8]:
    classes, own, _ = read_map(path)
    if own.shape != geobox.shape:
        raise S2cdError(
            f"{path} has {own.shape[1]} x {own.shape[0]} pixels, before has {geobox.shape[1]} x "
            f"{geobox.shape[0]}. Name the map of these dates"
        )
    return classes


def _painted(classes: NDArray[np.uint8], names: tuple[str, str]) -> NDArray[np.float32]:
    return _paint(
        classes.shape,
        {
            names[0]: classes == 0,
            names[1]: classes == 1,
            "not observed": classes == 255,
        },
    )


def _errors(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.float32]:
    known = (found != 255) & (truth != 255)
    return _paint(
        found.shape,
        {
            "no change": known & (found == 0) & (truth == 0),
            "found": known & (found == 1) & (truth == 1),
            "missed": known & (found == 0) & (truth == 1),
            "false alarm": known & (found == 1) & (truth == 0),
            "not observed": ~known,
        },
    )


def _paint(shape: tuple[int, ...], where: dict[str, Any]) -> NDArray[np.float32]:
    from matplotlib.colors import to_rgb

    image = np.zeros((*shape, 3), np.float32)
    for name, places in where.items():
        image[places] = to_rgb(_COLOURS[name])
    return image
