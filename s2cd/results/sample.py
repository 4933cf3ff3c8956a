"""A stratified random sample of a map, to be interpreted in a GIS, and read back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from s2cd.detection.changemap import read_map
from s2cd.detection.ground import ground_of
from s2cd.errors import S2cdError
from s2cd.output import check_writable, completed
from s2cd.results.assess import Estimate, estimate, sample_size
from s2cd.results.interpret import Dates, pictures
from s2cd.results.polygons.write import embed_style

LAYER = "sample"
LEAST = 50
"""Least pixels of a class: Olofsson et al. 2014 (section 5.1.2) advise 50 to 100 for rare ones."""


@dataclass(frozen=True)
class Plan:
    """How a sample is drawn.

    Attributes:
        users: User's accuracies to be expected, of no change and of change.
        error: The standard error wanted of the overall accuracy.
        seed: Another seed, another sample.
        dates: The dates of the map, to draw pictures of; without them there are none.
    """

    users: tuple[float, float] = (0.9, 0.7)
    error: float = 0.01
    seed: int = 0
    dates: Dates | None = None


def class_areas(path: Path) -> NDArray[np.float64]:
    """Mapped areas of no change and change, in m2 (2,).

    Raises:
        S2cdError: where the map has no CRS.
    """
    classes, geobox, _ = read_map(path)
    return _areas(classes, geobox, path)


def _areas(classes: NDArray[np.uint8], geobox: GeoBox, path: Path) -> NDArray[np.float64]:
    ground = ground_of(geobox)
    if ground is None:
        raise S2cdError(f"{path} has no CRS: its pixels have no area. Georeference it in a GIS")
    return np.array([ground.area(classes == kind) for kind in (0, 1)])


def write_sample(change: Path, path: Path, plan: Plan, overwrite: bool = False) -> list[int]:
    """Write points in the middle of pixels chosen at random in each class; give how many of each.

    Columns: ``id``, ``map`` (0 or 1), ``reference``, null, to be filled with 0 or 1, and ``chip``,
    the address of the picture of each (null without dates). Their order is random, so that it does
    not tell the class. The GeoPackage holds a style for QGIS, which shows the pictures.

    Raises:
        S2cdError: where it cannot be written.
    """
    check_writable(path, overwrite)
    classes, geobox, _ = read_map(change)
    areas = _areas(classes, geobox, change)
    if not areas.sum() > 0:
        raise S2cdError(f"{change} has no pixel that was observed: there is nothing to sample")
    sizes = _sizes(areas, classes, plan)
    random = np.random.default_rng(plan.seed)
    chosen = [_draw(classes == kind, size, random) for kind, size in enumerate(sizes)]
    places = random.permutation(np.concatenate(chosen))
    if plan.dates is None:
        _write(places, classes, geobox, (path, overwrite), None)
        return sizes
    with pictures(change, plan.dates, path, overwrite) as drawn:
        chips = [drawn.draw(n, (int(y), int(x))) for n, (y, x) in enumerate(places, start=1)]
    _write(places, classes, geobox, (path, overwrite), chips)
    return sizes


def _sizes(areas: NDArray[np.float64], classes: NDArray[np.uint8], plan: Plan) -> list[int]:
    """Pixels of no change and of change: by area, but enough of each (Olofsson et al. 2014)."""
    total = sample_size(areas / areas.sum(), np.array(plan.users), plan.error)
    rare = max(LEAST, round(total * areas[1] / areas.sum()))
    wanted = max(LEAST, total - rare), rare
    held = [int((classes == kind).sum()) for kind in (0, 1)]
    return [min(pair) for pair in zip(wanted, held, strict=True)]


def _draw(mask: NDArray[np.bool_], size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows and columns of pixels of a mask, chosen at random without replacement (n, 2)."""
    if size == 0:
        return np.empty((0, 2), np.int64)
    ends = np.cumsum(mask.sum(axis=1))
    ranks = np.sort(random.choice(int(ends[-1]), size, replace=False))
    rows = np.searchsorted(ends, ranks, side="right")
    starts = np.concatenate([[0], ends])[rows]
    columns = [np.flatnonzero(mask[y])[n] for y, n in zip(rows, ranks - starts, strict=True)]
    return np.stack([rows, np.array(columns, np.int64)], axis=1)


def _write(
    places: NDArray[np.int64],
    classes: NDArray[np.uint8],
    geobox: GeoBox,
    target: tuple[Path, bool],
    chips: list[str] | None,
) -> None:
    import geopandas
    import pandas

    ys, xs = places.T
    nothing: list[str | None] = [None] * len(places)
    points = geopandas.points_from_xy(*(geobox.affine * (xs + 0.5, ys + 0.5)))
    columns = {
        "id": np.arange(1, len(places) + 1, dtype=np.int32),
        "map": classes[ys, xs].astype(np.int32),
        "reference": pandas.array(nothing, dtype="Int32"),
        "chip": pandas.array(np.array(chips or nothing, object), dtype="string"),
    }
    table = geopandas.GeoDataFrame(columns, geometry=points, crs=geobox.crs.to_wkt())
    with completed(*target) as temporary:
        working = temporary.with_name(f"{temporary.name}.gpkg")
        table.to_file(working, driver="GPKG", layer=LAYER, engine="pyogrio", VERSION="1.2")
        embed_style(STYLE, working, LAYER, "To interpret")
        working.replace(temporary)


STYLE = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology|MapTips|Fields|Forms">
<renderer-v2 type="categorizedSymbol" attr="reference" enableorderby="0" symbollevels="0">
<categories>
<category symbol="0" value="0" label="no change" render="true"/>
<category symbol="1" value="1" label="change" render="true"/>
<category symbol="2" value="" label="to interpret" render="true"/>
</categories><symbols>{symbols}</symbols></renderer-v2>
<fieldConfiguration><field name="reference"><editWidget type="ValueMap"><config>
<Option type="Map"><Option type="List" name="map">
<Option type="Map"><Option type="QString" name="no change" value="0"/></Option>
<Option type="Map"><Option type="QString" name="change" value="1"/></Option>
</Option></Option></config></editWidget></field></fieldConfiguration>
<mapTip>&lt;b&gt;[% "id" %]&lt;/b&gt;&lt;br/&gt;&lt;img src="file://[%
file_path(layer_property(@layer_id, 'path')) || '/' || "chip" %]" width="600"/&gt;</mapTip>
</qgis>
""".format(
    symbols="".join(
        f'<symbol type="marker" name="{name}" alpha="1"><layer class="SimpleMarker" enabled="1">'
        f'<Option type="Map"><Option type="QString" name="color" value="{colour}"/>'
        '<Option type="QString" name="size" value="2.6"/></Option></layer></symbol>'
        for name, colour in enumerate(("120,130,135,255", "214,24,32,255", "255,212,0,255"))
    )
)
"""How QGIS shows a sample: by what was said of each point, and with its picture."""


def estimate_files(change: Path, sample: Path) -> tuple[Estimate, NDArray[np.int64]]:
    """The estimate of an interpreted sample of a map, and its error matrix (map, reference).

    Points whose ``reference`` is null are left out.

    Raises:
        S2cdError: where the sample cannot be read, or holds no interpreted point.
    """
    import geopandas
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        layer = LAYER if LAYER in pyogrio.list_layers(sample)[:, 0] else None
        table = geopandas.read_file(sample, engine="pyogrio", layer=layer)
    except (DataSourceError, DataLayerError) as e:
        raise S2cdError(f"{sample} cannot be read. Give the sample of `s2cd assess plan`") from e
    if not {"map", "reference"} <= set(table.columns):
        raise S2cdError(f"{sample} has no columns map and reference. Give that of `assess plan`")
    known = table[table["reference"].isin([0, 1]) & table["map"].isin([0, 1])]
    if known.empty:
        raise S2cdError(f"{sample} holds no interpreted point. Fill its column reference: 0 or 1")
    classes, geobox, _ = read_map(change)
    areas = _areas(classes, geobox, change)
    points = known.to_crs(geobox.crs.to_wkt()).geometry.centroid if known.crs else known.geometry
    xs, ys = (np.floor(part).astype(int) for part in ~geobox.affine * (points.x, points.y))
    within = (ys >= 0) & (xs >= 0) & (ys < classes.shape[0]) & (xs < classes.shape[1])
    if not within.all() or (classes[ys, xs] != known["map"].to_numpy()).any():
        raise S2cdError(f"{sample} is the sample of another map than {change}. Name its own map")
    matrix = np.zeros((2, 2), np.int64)
    np.add.at(matrix, (known["map"].astype(int), known["reference"].astype(int)), 1)
    return estimate(matrix, areas), matrix
