"""An outline that somebody drew on the page, checked before it is kept."""

from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.errors import S2cdError

_MOST = 5000
"""Most points of an outline drawn by hand."""


def outline(places: Any, geobox: GeoBox) -> Any:
    """A polygon in the CRS of a map, from its points as columns and rows of pixels.

    Raises:
        S2cdError: where they are no such points, lie beyond the map, or the outline crosses itself.
    """
    import shapely

    points = _points(places)
    height, width = geobox.shape
    if (points < 0).any() or (points > [width, height]).any():
        raise S2cdError("The outline reaches beyond the map. Draw it within")
    x, y = geobox.affine * (points[:, 0], points[:, 1])
    polygon = shapely.Polygon(np.stack([x, y], axis=1))
    if not polygon.is_valid or polygon.area == 0:
        raise S2cdError("The outline crosses itself. Draw it anew")
    return polygon


def _points(places: Any) -> Any:
    if not isinstance(places, list) or not 3 <= len(places) <= _MOST:
        raise S2cdError(f"An outline has 3 to {_MOST} points. Draw it anew")
    try:
        points = np.array(places, np.float64)
    except (TypeError, ValueError) as e:
        raise S2cdError("The outline's points are no numbers. Load the page anew") from e
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise S2cdError("The outline's points are no pairs of numbers. Load the page anew")
    return points
