"""Two stacks to a change map: lazily as an array, or into a file that survives interruption."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.xr import xr_coords

from s2cd.detection.blocks import (
    BLOCK,
    Block,
    Lattice,
    blocks,
    classify,
    lattice_of,
    predict_block,
    stored_probability,
)
from s2cd.detection.changemap import (
    change_raster,
    probability_raster,
    write_layers,
)
from s2cd.detection.facts import Clock, Tally, tags_of
from s2cd.detection.ground import ground_of
from s2cd.detection.inputs import (
    Input,
    check_memory,
    check_unchanged,
    identity,
    in_memory,
    open_input,
)
from s2cd.detection.journal import Journal, Plan, held_journal, journal_of
from s2cd.detection.prepare import Preparation, prepared
from s2cd.detection.schedule import Workers, run_all
from s2cd.errors import S2cdError
from s2cd.networks.detector import Detector, Frozen
from s2cd.networks.registry import DEFAULT, Compute, find_detector
from s2cd.output import check_writable
from s2cd.scenes.pair import Pair, make_pair, shared_bands

logger = logging.getLogger(__name__)

Report = Callable[[int, int], None]
"""Told after each block: how many are done, of how many."""


@dataclass(frozen=True)
class Request:
    """What a user asks of `detect_files`.

    Attributes:
        before: The earlier stack, raster or product.
        after: The later one.
        change: The map to write.
        probability: The map of probabilities to write, where one is wanted.
        model: A detector by name, or a checkpoint by its path.
        compute: What networks compute on.
        threshold: Probabilities from here on are change; the model's own by default.
        preparation: How the dates are registered and brought to one radiometry.
        bands: Bands to use, or what the bands of rasters without names are.
        block: About how many pixels a block is high and wide.
        overwrite: Whether to replace results that are there.
        workers: What computes the blocks.
    """

    before: Path
    after: Path
    change: Path
    probability: Path | None = None
    model: str = DEFAULT
    compute: Compute = field(default_factory=Compute)
    threshold: float | None = None
    preparation: Preparation = field(default_factory=Preparation)
    bands: tuple[str, ...] | None = None
    block: int = BLOCK
    overwrite: bool = False
    workers: Workers = field(default_factory=Workers)

    @property
    def results(self) -> tuple[Path, ...]:
        """The files to write, the map last."""
        return (self.change,) if self.probability is None else (self.probability, self.change)


def detect(
    before: xr.DataArray,
    after: xr.DataArray,
    model: str = DEFAULT,
    threshold: float | None = None,
    preparation: Preparation | None = None,
) -> xr.DataArray:
    """The change map of two dates, lazy: (y, x), uint8, 0, 1 (or 1..n), 255 = not observed.

    What the detector must learn from the pair is learned now; the map is computed under whatever
    dask scheduler is active when it is asked for.

    Args:
        before: Reflectance (band, y, x) as `open_stack` gives it.
        after: The later date, on any grid that meets the first's.
        model: A detector by name.
        threshold: Probabilities from here on are change; the detector's own by default.
        preparation: How the dates are registered and brought to one radiometry; as `s2cd detect`
            does without options by default.

    Raises:
        S2cdError: where the dates do not go together, or nothing is valid in both.
    """
    import dask.array as da
    from dask import delayed

    detector = find_detector(model, bands=shared_bands(before, after))
    wanted = preparation or Preparation()
    ready = prepared(make_pair(before, after, detector.bands), detector, wanted)
    pair, cut = ready.pair, _threshold(threshold, detector)
    frozen, lattice = detector.fit(pair), lattice_of(detector)
    size = lattice.block_size()
    rows: list[list[Any]] = []
    for block in blocks(pair.shape, size):
        shape = (block.ys.stop - block.ys.start, block.xs.stop - block.xs.start)
        task = delayed(_classes)(pair, frozen, lattice, block, cut)
        if block.column == 0:
            rows.append([])
        rows[-1].append(da.from_delayed(task, shape, np.uint8))
    coords: dict[str, Any] = dict(xr_coords(pair.geobox, always_yx=True))
    tags = tags_of(detector, frozen, cut, ready)
    return xr.DataArray(da.block(rows), dims=("y", "x"), coords=coords, attrs=tags)


def detect_files(request: Request, report: Report = lambda done, of: None) -> dict[str, Any]:
    """Write the change map of two files; killed at any time, the same request continues.

    The files are stacks or other rasters, or Level-1C products, which are read once, into memory.

    Returns:
        What `s2cd detect --json` prints.

    Raises:
        S2cdError: where an input or a result cannot be used.
    """
    clock = Clock()
    inputs, detector, pair = _opened(request)
    cut = _threshold(request.threshold, detector)
    plan = _plan(request, pair, detector, cut)
    _check_results(request, plan)
    check_memory(inputs, pair, request.workers)
    with held_journal(request.change, plan) as journal:
        clock.lap("open")
        pair = in_memory(pair, inputs)
        clock.lap("read")
        ready = prepared(pair, detector, request.preparation, journal)
        pair = ready.pair
        clock.lap("prepare")
        frozen = _learned(journal, detector, pair)
        clock.lap("fit")
        _finish_blocks(journal, (pair, frozen, lattice_of(detector)), request.workers, report)
        check_unchanged((request.before, request.after), plan.inputs)
        clock.lap("predict")
        tags = tags_of(detector, frozen, cut, ready)
        tally = _translate(journal, request, pair, (cut, tags))
        clock.lap("write")
    logger.debug("seconds: %s", ", ".join(f"{k} {v:.1f}" for k, v in clock.seconds.items()))
    said = _summary(request, detector, cut, tally, pair)
    return said | ready.summary() | {"seconds": clock.seconds}


def _opened(request: Request) -> tuple[list[Input], Detector, Pair]:
    """The dates, what detects change in them, and the two as a pair; no pixel is read."""
    inputs = [open_input(path, request.bands) for path in (request.before, request.after)]
    before, after = (date.array for date in inputs)
    detector = find_detector(request.model, _compute(request), shared_bands(before, after))
    return inputs, detector, make_pair(before, after, detector.bands)


def _compute(request: Request) -> Compute:
    """What networks compute on: what is installed here says nothing of the workers of a cluster."""
    asked = request.compute
    if request.workers.scheduler is None:
        return asked
    backend = "torch" if asked.backend == "auto" else asked.backend
    precision = "fp32" if asked.precision == "auto" else asked.precision
    return replace(asked, backend=backend, precision=precision)


def _classes(
    pair: Pair, frozen: Frozen, lattice: Lattice, block: Block, threshold: float
) -> NDArray[np.uint8]:
    return classify(predict_block(pair, frozen, lattice, block), threshold)


def _threshold(asked: float | None, detector: Detector) -> float:
    threshold = detector.threshold if asked is None else asked
    if not 0 < threshold <= 1:
        raise S2cdError(f"A threshold of {threshold} is not within 0..1. Give one such as 0.5")
    return threshold


def _plan(request: Request, pair: Pair, detector: Detector, threshold: float) -> Plan:
    from s2cd import __version__

    fingerprint = {
        "inputs": [identity(path) for path in (request.before, request.after)],
        "bands": [pair.bands, request.bands],
        "model": [detector.name, detector.sha256],
        "compute": [request.compute.precision, request.compute.backend],
        "threshold": threshold,
        "preparation": asdict(request.preparation),
        "results": [path.name for path in request.results],
        "version": __version__,
    }
    size = lattice_of(detector).block_size(request.block)
    return Plan(fingerprint, pair.shape, size, detector.classes)


def _check_results(request: Request, plan: Plan) -> None:
    """Refuse results that are there, unless an interrupted run of this plan was publishing them."""
    journal = journal_of(request.change, plan)
    publishing = journal.matches() and bool(journal.recall("publishing"))
    inputs = {request.before.resolve(), request.after.resolve()}
    for path in request.results:
        check_writable(path, request.overwrite or publishing)
        if path.resolve() in inputs:
            raise S2cdError(f"{path} is an input. Name another file as the result")
    if len({path.resolve() for path in request.results}) < len(request.results):
        raise S2cdError("The map and the probabilities need two files. Name another one")


def _learned(journal: Journal, detector: Detector, pair: Pair) -> Frozen:
    """The detector that has learned from the pair, now or before an interruption."""
    if (numbers := journal.recall("fit")) is not None:
        logger.info("continuing an interrupted run")
        return detector.restore(numbers)
    frozen = detector.fit(pair)
    journal.note("fit", frozen.numbers())
    return frozen


def _finish_blocks(
    journal: Journal,
    parts: tuple[Pair, Frozen, Lattice],
    workers: Workers,
    report: Report,
) -> None:
    """Compute the blocks that are missing, until none is."""
    total = len(journal.plan.blocks())
    for _ in range(2):
        missing = journal.missing()
        done = total - len(missing)
        report(done, total)
        tasks = [(_fill, (journal, *parts, block)) for block in missing]
        for finished, _result in enumerate(run_all(tasks, workers), start=1):
            report(done + finished, total)
        if not missing:
            return
    if missing := journal.missing():
        raise S2cdError(f"{len(missing)} blocks in {journal.folder} cannot be read back. Try again")


def _fill(journal: Journal, pair: Pair, frozen: Frozen, lattice: Lattice, block: Block) -> None:
    journal.write(block, predict_block(pair, frozen, lattice, block))


def _translate(
    journal: Journal, request: Request, pair: Pair, cut: tuple[float, dict[str, str]]
) -> Tally:
    """Turn the journal into the results, in one pass in a fixed order."""
    threshold, tags = cut
    rasters = [change_raster(request.change, pair.geobox, tags, journal.plan.classes)]
    if request.probability is not None:
        rasters.insert(0, probability_raster(request.probability, pair.geobox, tags))
    tally, ground = Tally(), ground_of(pair.geobox)

    def layers() -> Iterator[tuple[Block, tuple[NDArray[np.uint8], ...]]]:
        for block in journal.plan.blocks():
            stored = journal.read(block)
            if stored is None:
                raise S2cdError(
                    f"A block in {journal.folder} was lost while it was read. Try again"
                )
            classes = classify(stored, threshold)
            tally.add(block, classes, ground)
            yield block, (stored_probability(stored), classes)[-len(rasters) :]

    overwrite = request.overwrite or bool(journal.recall("publishing"))
    journal.note("publishing", True)
    write_layers(tuple(rasters), layers(), overwrite)
    return tally


def _summary(
    request: Request,
    detector: Detector,
    threshold: float,
    tally: Tally,
    pair: Pair,
) -> dict[str, Any]:
    return {
        "change": str(request.change),
        "probability": None if request.probability is None else str(request.probability),
        "model": detector.name,
        "threshold": threshold,
        "bands": list(pair.bands),
        "observed_fraction": tally.observed / tally.pixels,
        "changed_fraction": tally.changed / max(1, tally.observed),
        "changed_area_m2": None if pair.geobox.crs is None else tally.changed_area,
    }
