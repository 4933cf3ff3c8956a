"""Pairs large enough to measure with, made once and kept in ``bench/`` at the top of the tree."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from figures import Figure, keep

from s2cd.scenes.safe import open_folder
from s2cd.scenes.simulate import Simulation, write_band_files, write_product
from s2cd.scenes.stack import write_stack

_FOUND: list[Figure] = []
BENCHMARKS = Path(__file__).parent
BENCH = BENCHMARKS.parents[1] / "bench"


@dataclass(frozen=True)
class Stacks:
    """Two dates of one simulated scene."""

    before: Path
    after: Path


@pytest.fixture(scope="session")
def stacks():
    """A pair of stacks of a given size; made by `Simulation` and `s2cd stack`'s own code."""

    def make(size: int) -> Stacks:
        BENCH.mkdir(exist_ok=True)
        simulation = Simulation(size=size, seed=0)
        paths = []
        for date, role in enumerate(("before", "after")):
            path = BENCH / f"{size}_{role}.tif"
            if not path.exists():
                bands = BENCH / f"{size}_{role}_bands"
                bands.mkdir(exist_ok=True)
                write_band_files(simulation, date, bands)
                write_stack(open_folder(bands), path)
                for file in bands.iterdir():
                    file.unlink()
                bands.rmdir()
            paths.append(path)
        return Stacks(*paths)

    return make


@pytest.fixture(scope="session")
def products():
    """The first date as a product of a given size; encoding JPEG 2000 takes minutes."""

    def make(size: int) -> Path:
        folder = BENCH / f"{size}_product"
        folder.mkdir(parents=True, exist_ok=True)
        whole = list(folder.glob("*.SAFE/manifest.safe"))
        return whole[0].parent if whole else write_product(Simulation(size=size), 0, folder)

    return make


def pytest_collection_modifyitems(items):
    """Benchmarks take as long as they take: making a tile alone is ten minutes."""
    for item in items:
        if BENCHMARKS in item.path.parents:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture
def figure():
    """Puts a row into the README's table: what, measured, bar."""

    def add(what: str, measured: str, bar: str) -> None:
        print(f"\n{what}: {measured} (bar: {bar})")
        _FOUND.append(Figure(what, measured, bar))

    return add


def pytest_sessionfinish():
    """What was measured is kept, whether it met its bar or not."""
    if _FOUND:
        keep(_FOUND)
