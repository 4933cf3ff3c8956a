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
from s2cd.results.dates import as_the_map_lay, sensed
from s2cd.results.places import is_north_up, metres_in_pixel
from s2cd.results.views import date_views, picture_bands, step_to
from s2cd.scenes.mask import read_label
from s2cd.scenes.pair import Pair, make_pair
from s2cd.scenes.raster import reading
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

    Both dates are stretched by the same percentiles, so that a difference seen is a difference,
    and lie as they lay when the map was made. Where they have a place, there is a scale bar, and
    an arrow where north is up.

    Raises:
        S2cdError: where an input cannot be read or the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_writable(path, overwrite)
    pair = _pair(panels)
    step = step_to(pair.shape, _LONGEST)
    layers = _layers(panels, pair, step)
    ground = _ground(pair.geobox, step)
    height, width = layers[0].image.shape[:2]
    tall = height / width * (ground.aspect if ground else 1.0)
    size = (4 * len(layers), 4 * min(2.5, max(0.4, tall)) + 0.9)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(layers), squeeze=False)[0]
    for axis, layer in zip(axes, layers, strict=True):
        _draw(axis, layer, ground.aspect if ground else 1.0)
    if ground is not None:
        _draw_ground(axes[0], ground, (height, width))
    with completed(path, overwrite) as temporary:
        figure.savefig(temporary, format="png")


@dataclass(frozen=True)
class _Layer:
    """A picture (height, width, 3), its title, and the names in its legend."""

    title: str
    image: NDArray[Any]
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Ground:
    """Metres that a pixel of a picture is wide and high, and whether north is up."""

    width: float
    height: float
    north_up: bool

    @property
    def aspect(self) -> float:
        return self.height / self.width


def _ground(geobox: GeoBox, step: int) -> _Ground | None:
    if geobox.crs is None:
        return None
    width, height = metres_in_pixel(geobox)
    return _Ground(width * step, height * step, is_north_up(geobox))


def _draw(axis: Any, layer: _Layer, aspect: float) -> None:
    from matplotlib.patches import Patch

    axis.imshow(layer.image, interpolation="nearest", aspect=aspect)
    axis.set_title(layer.title, fontsize=10)
    axis.set_axis_off()
    if layer.legend:
        patches = [Patch(facecolor=_COLOURS[name], label=name) for name in layer.legend]
        axis.legend(
            handles=patches,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=len(patches),
            fontsize=7,
            frameon=False,
        )


def _draw_ground(axis: Any, ground: _Ground, shape: tuple[int, int]) -> None:
    """A scale bar at the lower left of a picture, and an arrow to the north at its lower right."""
    from matplotlib.patheffects import withStroke

    height, width = shape
    metres = _round_length(0.3 * width * ground.width)
    bar, left, down = metres / ground.width, 0.04 * width, height - 0.05 * width / ground.aspect
    halo = [withStroke(linewidth=3, foreground="black")]
    axis.plot([left, left + bar], [down, down], color="white", lw=2, path_effects=halo)
    name = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    words = {"color": "white", "fontsize": 8, "path_effects": halo}
    axis.text(left, down - 0.02 * height, name, va="bottom", **words)
    if ground.north_up:
        right, up = 0.94 * width, down - 0.1 * height
        arrow = {"arrowstyle": "-|>", "color": "white", "path_effects": halo}
        axis.annotate("", (right, up), (right, down), arrowprops=arrow)
        axis.text(right, up - 0.01 * height, "N", ha="center", va="bottom", **words)


def _round_length(most: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(next(m for m in (5, 2, 1) if m * power <= most) * power)


def _pair(panels: Panels) -> Pair:
    """Both dates, `after` where the map says that it lay."""
    dates = [open_stack(path, panels.bands) for path in (panels.before, panels.after)]
    held = [[str(b) for b in date.band.values] for date in dates]
    common = [b for b in held[0] if b in held[1]]
    pair = make_pair(dates[0], dates[1], picture_bands(common) if common else None)
    if panels.change is None:
        return pair
    with reading(panels.change) as source:
        return as_the_map_lay(pair, dict(source.tags()))


def _layers(panels: Panels, pair: Pair, step: int) -> list[_Layer]:
    before, after, _ = date_views(pair, step)
    layers = [
        _Layer(_titled("before", pair.before, panels.before), before),
        _Layer(_titled("after", pair.after, panels.after), after),
    ]
    truth = None if panels.label is None else read_label(panels.label, pair.geobox)[::step, ::step]
    found = None if panels.change is None else _map(panels.change, pair.geobox)[::step, ::step]
    plain = ("no change", "change")
    if truth is not None:
        layers.append(_Layer("truth", _painted(truth, plain), plain))
    if found is not None:
        layers.append(_Layer("prediction", _painted(found, plain), (*plain, "not observed")))
    if truth is not None and found is not None:
        names = ("found", "missed", "false alarm")
        layers.append(_Layer("errors", _errors(found, truth), names))
    return layers


def _titled(role: str, date: Any, path: Path) -> str:
    """A date by its day, or where it does not say it, by its file."""
    tags = {f"{role.upper()}_SENSING_TIME": str(date.attrs.get("SENSING_TIME", ""))}
    return f"{role}: {sensed(tags, role.upper()) or path.name}"


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
