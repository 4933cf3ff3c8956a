"""The command that makes many maps."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2cd.cli.detect import GROUP
from s2cd.cli.options import (
    Align,
    Backend,
    Bands,
    BlockSize,
    Config,
    Device,
    Json,
    Model,
    Normalize,
    Overwrite,
    Precision,
    Quiet,
    Registration,
    Scheduler,
    Threshold,
    Verbose,
    Workers,
    print_json,
    progress,
    split,
)
from s2cd.errors import S2cdError
from s2cd.remote import Remote, path_of

if TYPE_CHECKING:
    from s2cd.detection.detect import Request
    from s2cd.results.polygons import Sources

logger = logging.getLogger(__name__)


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=GROUP)(batch)


def batch(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS.CSV",
            help="Columns before, after and, if you like, name; paths are relative to the CSV.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            parser=path_of,
            metavar="PATH",
            help="The folder: NAME/change.tif, and batch.json.",
        ),
    ],
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pairs side by side; by default as many as memory and processors allow."
        ),
    ] = None,
    model: Model = "default",
    threshold: Threshold = None,
    probability: Annotated[
        bool, typer.Option("-p", "--probability", help="Also write NAME/probability.tif.")
    ] = False,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Also write NAME/changes.gpkg, as s2cd polygons.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also write NAME/report.html, as s2cd report.")
    ] = False,
    align: Align = True,
    registration: Registration = "translation",
    normalize: Normalize = None,
    bands: Bands = None,
    block_size: BlockSize = 1024,
    workers: Workers = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "auto",
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Many pairs to change maps; what fails is told, and the same command does what is missing.

    The options are those of `s2cd detect`. What is done is done again where an input or an option
    has changed.
    """
    from s2cd.detection.batch.pairs import read_pairs

    if isinstance(output, Remote):
        raise S2cdError(f"{output} is no folder of this machine. Name one")
    listed = read_pairs(pairs)  # before what is slow to import
    from s2cd.detection.batch.extras import Extra
    from s2cd.detection.batch.run import Batch, run_batch
    from s2cd.detection.detect import Request
    from s2cd.detection.prepare import asked
    from s2cd.detection.schedule import Workers as Threads
    from s2cd.networks.registry import Compute

    like = Request(
        Path("before"),
        Path("after"),
        Path("change.tif"),
        Path("probability.tif") if probability else None,
        model,
        Compute(device, precision, backend),
        threshold,
        asked(align, registration, normalize),
        split(bands),
        block_size,
        overwrite,
        Threads(workers, scheduler),
    )
    found = Extra("polygons", "changes.gpkg", _write_polygons)
    page = Extra("report", "report.html", _write_report)
    extras = (found,) * polygons + (page,) * report
    with progress("detecting change", quiet) as told:
        record = run_batch(Batch(listed, output, like, jobs, extras), told)
    _catalogue(record, {pair.name: (pair.before, pair.after) for pair in listed}, output, model)
    if json:
        print_json(record)
    elif not quiet:
        for line in _table(record):
            typer.echo(line)
    if failed := record["summary"]["failed"]:
        raise S2cdError(
            f"{failed} of {len(record['pairs'])} pairs failed: {output / 'batch.json'} says why. "
            "Mend them, and the same command does what is missing"
        )


def _catalogue(
    record: dict[str, Any], dates: dict[str, tuple[Path, Path]], folder: Path, model: str
) -> None:
    """A STAC item of each map that is there and has a place and a time, and their collection."""
    from s2cd.networks.registry import DEFAULT, detectors
    from s2cd.results.stac.collection import write_collection
    from s2cd.results.stac.item import Files, write_item
    from s2cd.scenes.product import product_at

    items = []
    network = None if model in {DEFAULT, *detectors()} else Path(model)
    for pair in record["pairs"]:
        if pair["state"] != "done":
            continue
        before, after = (None if product_at(p) else p for p in dates[pair["name"]])
        paths = {role: folder / file["path"] for role, file in pair["files"].items()}
        item = paths["change"].with_suffix(".json")
        try:
            write_item(Files(**paths, before=before, after=after, model=network), item, True)
        except S2cdError as e:
            logger.info("%s is not in the collection: %s", pair["name"], e)
        else:
            items.append(item)
    if items:
        write_collection(items, folder / "collection.json", overwrite=True)


def _sources(request: "Request") -> "Sources":
    """A pair's map, and its dates where they are rasters."""
    from s2cd.results.polygons import Sources
    from s2cd.scenes.product import product_at

    dates = request.before, request.after
    before, after = dates if not any(map(product_at, dates)) else (None, None)
    return Sources(request.change, request.probability, before, after, request.bands)


def _write_polygons(request: "Request", path: Path) -> None:
    from dataclasses import replace

    from s2cd.results.polygons import Shaping, find_polygons, write_polygons
    from s2cd.results.polygons.kinds import NEEDED
    from s2cd.scenes.header import read_header

    sources = _sources(request)
    for date in filter(None, (sources.before, sources.after)):
        if not set(NEEDED) <= set(read_header(date, request.bands).bands):
            sources = replace(sources, before=None, after=None)  # no indices
    write_polygons(find_polygons(sources, Shaping()), path, overwrite=True)


def _write_report(request: "Request", path: Path) -> None:
    from s2cd.results.report import Request as Page
    from s2cd.results.report import write_report

    write_report(Page(_sources(request)), path, overwrite=True)


def _table(record: dict[str, Any]) -> Iterator[str]:
    """Lines of the summary: one a pair, and one of all."""
    pairs, summary = record["pairs"], record["summary"]
    width = min(40, max(len("name"), *(len(pair["name"]) for pair in pairs)))
    yield f"{'name':<{width}} {'state':<7} {'changed':>8} {'area':>12} {'observed':>8} {'took':>8}"
    for pair in pairs:
        start = f"{pair['name']:<{width}} {pair['state']:<7}"
        yield f"{start} {_said(pair) if pair['error'] is None else pair['error']}"
    area = summary["changed_area_m2"] / 1e4
    yield f"{summary['done']} done, {summary['failed']} failed; changed: {area:.1f} ha"


def _said(pair: dict[str, Any]) -> str:
    """What a pair's map says."""
    metres = pair["changed_area_m2"]
    area = "no place" if metres is None else f"{metres / 1e4:.1f} ha"
    took = f"{sum(pair['seconds'].values()):.1f} s"
    return (
        f"{pair['changed_fraction']:>8.2%} {area:>12} {pair['observed_fraction']:>8.1%} {took:>8}"
    )
