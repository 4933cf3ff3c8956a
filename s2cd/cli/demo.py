"""The whole line on a simulated pair."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
