"""The changes of a map as polygons, with what is known of each."""

from s2cd.results.polygons.find import Found, Sources, find_polygons
from s2cd.results.polygons.shapes import Shaping
from s2cd.results.polygons.write import FORMATS, write_polygons

__all__ = ["FORMATS", "Found", "Shaping", "Sources", "find_polygons", "write_polygons"]
