"""What a peer is given, and what it answers; this runs in the peer's environment, without s2cd.

    bench/env/NAME/bin/python tests/benchmarks/peers/run_NAME.py job.json

All ways that the job names are gone, one after another, each over the whole of the job's pair. A
way's seconds are those of reading, predicting and writing: the network is there before.
"""

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import rasterio
import torch
from rasterio.windows import Window

SCALE = 1e-4
_HELD = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):  # PyPI's torchvision, made for CUDA, is not imported without
    _HELD.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@dataclass(frozen=True)
class Job:
    """One pair to make a map of, as JSON.

    Attributes:
        before: The earlier stack: reflectance bands as uint16, 0 = no data, then QA.
        after: The later one.
        out: The map to write.
        bands: Names of the reflectance bands.
        mean: Of each date and band, in reflectance.
        std: Of the same.
        networks: Programs of `torch.export`, by the size of their window.
        ways: How to do it: ``size`` of a window, ``margin`` at each of its sides that is not used,
            ``batch``, ``workers``.
    """

    before: str
    after: str
    out: str
    bands: list
    mean: list
    std: list
    networks: dict
    ways: list


class Network:
    """The network that s2cd ships, with the pair's statistics."""

    def __init__(self, job, way):
        self._network = torch.export.load(job.networks[str(way["size"])]).module()
        self._mean, self._std = (
            torch.tensor(v, dtype=torch.float32).reshape(1, -1, 1, 1) / SCALE
            for v in (job.mean, job.std)
        )

    def normalized(self, stored):
        """Both dates' bands (n, 2 x band, height, width) as the network sees them."""
        return ((stored - self._mean) / self._std).masked_fill_(stored == 0, 0)

    def logits(self, normalized):
        """Log odds (n, 1, height, width) of what `normalized` gives."""
        return self._network(normalized.unflatten(1, (2, -1)))

    def changed(self, stored):
        """Classes (n, height, width), uint8, of both dates' bands."""
        with torch.inference_mode():
            return (self.logits(self.normalized(stored))[:, 0] > 0).to(torch.uint8).numpy()


@contextmanager
def new_map(job):
    """The map of a job, open for writing."""
    with rasterio.open(job.before) as like:
        grid = {"crs": like.crs, "transform": like.transform}
        size = {"width": like.width, "height": like.height}
    kind = {"driver": "GTiff", "count": 1, "dtype": "uint8", "tiled": True, "compress": "zstd"}
    with rasterio.open(job.out, "w", **kind, **grid, **size) as result:
        yield result


def put(result, classes, corner, margin):
    """Write the part of a window that is used: its margin only where the scene ends.

    Args:
        result: The map.
        classes: Of the window.
        corner: Its first row and column.
        margin: Pixels at each side.
    """
    top, left = corner
    height, width = classes.shape
    rows = _used(top, height, result.height, margin)
    columns = _used(left, width, result.width, margin)
    part = classes[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    result.write(part, 1, window=Window.from_slices(rows, columns))


def _used(start, length, whole, margin):
    stop = start + length
    return slice(start + margin if start > 0 else 0, stop - margin if stop < whole else whole)


def answer(name, seconds_of):
    """Go all ways of the job on the command line, and print their seconds.

    Args:
        name: The package measured.
        seconds_of: Goes one way of a job.
    """
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    versions = f"{name} {version(name)}, torch {torch.__version__}"
    print(json.dumps({"seconds": [seconds_of(job, w) for w in job.ways], "versions": versions}))
