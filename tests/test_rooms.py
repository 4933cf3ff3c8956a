"""Imports point one way, and heavy ones stand inside the commands."""

import ast
import subprocess
import sys
from pathlib import Path

import s2cd

PACKAGE = Path(s2cd.__file__).parent
RANK = {
    "errors": 0,
    "remote": 1,
    "output": 2,
    "scenes": 3,
    "sources": 4,
    "networks": 4,
    "detection": 5,
    "learning": 6,
    "results": 6,
    "cli": 7,
}


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("s2cd."):
            names.add(node.module.split(".")[1])
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("s2cd.")}
    return names


def test_imports_point_one_way():
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        for other in imports_of(path) - {room}:
            assert RANK[other] < RANK[room], f"{path} imports {other}"
            seen += 1
    assert seen > 20


def test_no_function_takes_more_than_seven_parameters_outside_the_commands():
    for path in PACKAGE.rglob("*.py"):
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert len(node.args.args) + len(node.args.kwonlyargs) <= 7, (path, node.name)


def test_help_imports_nothing_heavy():
    code = (
        "import sys, s2cd.cli.app; heavy = {'torch', 'rasterio', 'xarray', 'dask', 'numpy', 'zarr',"
        " 'matplotlib', 'odc'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_classical_work_never_imports_torch(place, run):
    code = (
        "import sys; from s2cd.cli import app; from pathlib import Path\n"
        "from s2cd.detection.detect import Request, detect_files\n"
        "from s2cd.results.plot import Panels, write_plot\n"
        "a, b, c = map(Path, sys.argv[1:])\n"
        "detect_files(Request(a, b, c)); write_plot(Panels(a, b, c), c.with_suffix('.png'))\n"
        "assert 'torch' not in sys.modules"
    )
    words = [place.before, place.after, place.folder / "c.tif"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
