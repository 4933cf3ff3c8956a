"""Options that several commands share, declared once."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from s2cd.errors import S2cdError


class _Line(logging.Formatter):
    """One line a record: notes as they are, warnings by name."""

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(record.getMessage().split())
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


class _Echo(logging.Handler):
    """Writes to whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


def show(level: int) -> None:
    """Send what the library logs, from this level on, to standard error.

    What GDAL and PROJ say goes through rasterio's loggers; the library raises what matters of
    it, and logging would print the rest where nobody else handles it.
    """
    logger = logging.getLogger("s2cd")
    if not logger.handlers:
        handler = _Echo()
        handler.setFormatter(_Line())
        logger.addHandler(handler)
        logging.getLogger("rasterio").addHandler(logging.NullHandler())
    logger.setLevel(level)


def _verbose(value: bool) -> bool:
    if value:
        show(logging.DEBUG)
    return value


def _quiet(value: bool) -> bool:
    if value:
        show(logging.ERROR)
    return value


def _config(context: typer.Context, path: Path | None) -> Path | None:
    """Take options from a TOML file: at its top, or in a table named as the command."""
    if path is None or context.resilient_parsing:
        return path
    import tomllib

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise S2cdError(f"{path} cannot be read as TOML: {' '.join(str(e).split())}") from e
    own = values.pop(context.info_name or "", {})
    flat = {key: value for key, value in values.items() if not isinstance(value, dict)}
    context.default_map = _known(context, path, {**flat, **own})
    return path


def _known(context: typer.Context, path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Options by the names of their parameters; refuse what the command does not have."""
    names = {
        word.lstrip("-"): parameter.name
        for parameter in context.command.params
        for word in parameter.opts
        if word.startswith("--") and parameter.name != "config"
    }
    values = {key.replace("_", "-"): value for key, value in values.items()}
    if strange := [key for key in values if key not in names]:
        raise S2cdError(
            f"{path}: {context.info_name} has no option {strange[0]!r}. It has "
            f"{', '.join(sorted(names))}"
        )
    joined = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in values.items()}
    return {str(names[key]): value for key, value in joined.items()}


Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", callback=_verbose, help="Say what is done, step by step.")
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", callback=_quiet, help="Say nothing but errors.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a result that is there already.")
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands",
        help="Bands to use, such as B02,B03,B04,B08 or blue,green,red,nir; for a raster without "
        "band names: what its bands are, in their order.",
    ),
]
AoiText = Annotated[
    str | None,
    typer.Option(
        "--aoi",
        help="The area: a GeoJSON, GeoPackage, Shapefile or KML file, W,S,E,N in degrees, or the "
        "name of one that ships with s2cd, such as ahmedabad.geojson.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Address of a running dask scheduler, tcp://HOST:PORT."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_config,
        is_eager=True,
        help="A TOML file with options by their long names; the command line wins.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Where networks run: auto, cpu or cuda.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Threads; all processors by default.")
]
Registration = Annotated[
    str,
    typer.Option(
        help="How the later date is brought onto the earlier one: translation; affine, where scale "
        "or rotation differ; local, a smooth field."
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="A detector by name (s2cd models), or a checkpoint file; by default the network for "
        "the bands at hand.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Probability from which a pixel is change, in 0..1."),
]
Align = Annotated[
    bool,
    typer.Option(
        "--align/--no-align", help="Measure how the dates lie to each other, and correct it."
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        help="How the later date is brought to the radiometry of the earlier one: none, linear or "
        "ir-mad; by default as serves the model best.",
    ),
]
BlockSize = Annotated[
    int, typer.Option("--block-size", min=1, help="Pixels a block is high and wide.")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Of networks: fp32, or bf16 where the processor has it natively; auto takes bf16 for "
        "large pairs where it says the same.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        help="What computes networks: torch; openvino, two to four times faster on a processor "
        "(pip install 's2cd[openvino]'); auto takes it where it says the same.",
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]


def split(text: str | None) -> tuple[str, ...] | None:
    """The parts of a list with commas; None stays None."""
    return None if text is None else tuple(part for part in text.split(",") if part.strip())


def say(text: str) -> None:
    """Tell the user what came out, on standard error, unless asked to be quiet."""
    logging.getLogger("s2cd.cli").info("%s", text)


def print_json(value: dict[str, object]) -> None:
    """Print one JSON object on standard output."""
    import json

    typer.echo(json.dumps(value, allow_nan=False))


@contextmanager
def progress(text: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function to be told (done, of); it draws a bar where standard error is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
