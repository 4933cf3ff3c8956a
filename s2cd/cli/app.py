"""The Typer application, and the one place where errors become a line and an exit code."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from s2cd.cli import (
    batch,
    check,
    demo,
    detect,
    doctor,
    fetch,
    labels,
    results,
    scenes,
    share,
    train,
)
from s2cd.cli.options import show
from s2cd.errors import S2cdError, UsageError


@contextmanager
def _deaf_to_garbled_names() -> Iterator[None]:
    """Print nothing where rasterio cannot log what GDAL says of a name that is not UTF-8.

    Its callback has no way to raise, so Cython prints the failure, by both of these hooks; what
    GDAL found is raised where GDAL was called.
    """
    usual = sys.excepthook, sys.unraisablehook

    def silent(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not isinstance(error, UnicodeDecodeError):
            usual[0](kind, error, trace)

    def unraised(unraisable: Any) -> None:
        if unraisable.object != "rasterio._env.log_error":
            usual[1](unraisable)

    sys.excepthook, sys.unraisablehook = silent, unraised
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = usual


class S2cdGroup(TyperGroup):
    """Commands in the order of the work; what a user can mend is told in one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit 1 for what the user can mend, 2 for usage, 130 for Ctrl-C."""
        show(logging.INFO)
        try:
            with _deaf_to_garbled_names():
                return super().invoke(ctx)
        except S2cdError as e:
            if os.environ.get("S2CD_DEBUG") == "1":
                raise
            typer.echo(f"error: {' '.join(str(e).split())}", err=True)
            raise typer.Exit(2 if isinstance(e, UsageError) else 1) from e
        except KeyboardInterrupt as e:
            typer.echo("interrupted: the same command continues", err=True)
            raise typer.Exit(130) from e


app = typer.Typer(
    cls=S2cdGroup,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Change maps from pairs of Sentinel-2 Level-1C scenes.",
)


def _version(value: bool) -> None:
    if value:
        from s2cd import __version__

        typer.echo(f"s2cd {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


for _module in (fetch, scenes, detect, batch, labels, train, check, results, share, demo, doctor):
    _module.add_to(app)
