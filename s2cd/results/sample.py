"""A stratified random sample of a map, to be interpreted in a GIS, and read back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.changemap import pixel_areas, read_map
from s2cd.errors import S2cdError
from s2cd.output import completed
from s2cd.results.assess import Estimate, estimate, sample_size

LAYER = "sample"
LEAST = 50
"""Least pixels of a class: Olofsson et al. 2014 (section 5.1.2) advise 50 to 100 for rare ones."""


@dataclass(frozen=True)
class Plan:
    """How a sample is drawn: expected user's accuracies, standard error wanted, and the seed."""

    users: tuple[float, float] = (0.9, 0.7)
    error: float = 0.01
    seed: int = 0


def class_areas(path: Path) -> NDArray[np.float64]:
    """Mapped areas of no change and change, in m2 (2,).

    Raises:
        S2cdError: where the map has no CRS.
    """
    classes, geobox, _ = read_map(path)
    areas = pixel_areas(geobox)
    if areas is None:
        raise S2cdError(f"{path} has no CRS: its pixels have no area. Georeference it in a GIS")
    return np.array([(classes == kind).sum(axis=1) @ areas for kind in (0, 1)])


def write_sample(change: Path, path: Path, plan: Plan, overwrite: bool = False) -> list[int]:
    """Write points in the middle of pixels chosen at random in each class; give how many of each.

    Columns: ``id``, ``map`` (0 or 1) and ``reference``, null, to be filled with 0 or 1. Their
    order is random, so that it does not tell the class.

    Raises:
        S2cdError: where it cannot be written.
    """
    import geopandas
    import pandas

    classes, geobox, _ = read_map(change)
    areas = class_areas(change)
    total = sample_size(areas / areas.sum(), np.array(plan.users), plan.error)
    rare = min(max(LEAST, round(total * areas[1] / areas.sum())), int((classes == 1).sum()))
    sizes = [min(max(LEAST, total - rare), int((classes == 0).sum())), rare]
    random = np.random.default_rng(plan.seed)
    places = [np.flatnonzero(classes == kind) for kind in (0, 1)]
    chosen = [random.choice(p, n, replace=False) for p, n in zip(places, sizes, strict=True)]
    every = random.permutation(np.concatenate(chosen))
    ys, xs = np.divmod(every, classes.shape[1])
    points = geopandas.points_from_xy(*(geobox.affine * (xs + 0.5, ys + 0.5)))
    columns = {
        "id": np.arange(1, len(every) + 1),
        "map": classes.ravel()[every].astype(np.int32),
        "reference": pandas.array([None] * len(every), dtype="Int32"),
    }
    table = geopandas.GeoDataFrame(columns, geometry=points, crs=geobox.crs.to_wkt())
    with completed(path, overwrite) as temporary:
        working = temporary.with_name(f"{temporary.name}.gpkg")
        table.to_file(working, driver="GPKG", layer=LAYER, engine="pyogrio")
        working.replace(temporary)
    return sizes


def estimate_files(change: Path, sample: Path) -> tuple[Estimate, NDArray[np.int64]]:
    """The estimate of an interpreted sample of a map, and its error matrix (map, reference).

    Points whose ``reference`` is null are left out.

    Raises:
        S2cdError: where the sample cannot be read, or holds no interpreted point.
    """
    import geopandas
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        table = geopandas.read_file(sample, engine="pyogrio")
    except (DataSourceError, DataLayerError) as e:
        raise S2cdError(f"{sample} cannot be read. Give the sample of `s2cd assess plan`") from e
    if not {"map", "reference"} <= set(table.columns):
        raise S2cdError(f"{sample} has no columns map and reference. Give that of `assess plan`")
    known = table[table["reference"].isin([0, 1]) & table["map"].isin([0, 1])]
    if known.empty:
        raise S2cdError(f"{sample} holds no interpreted point. Fill its column reference: 0 or 1")
    matrix = np.zeros((2, 2), np.int64)
    np.add.at(matrix, (known["map"].astype(int), known["reference"].astype(int)), 1)
    return estimate(matrix, class_areas(change)), matrix
