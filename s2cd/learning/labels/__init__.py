"""Masks of change from polygons that people drew, or corrected, in a GIS."""

from s2cd.learning.labels.classes import Choice
from s2cd.learning.labels.write import Drawing, write_label

__all__ = ["Choice", "Drawing", "write_label"]
