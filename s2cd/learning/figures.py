"""Figures without a window."""

from typing import Any


def figure_of(size: tuple[float, float]) -> Any:
    """A figure of so many inches that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
