"""The command that says what works here."""

from pathlib import Path
from typing import Any

import typer

from s2cd.cli.demo import GROUP
from s2cd.cli.options import Json, Quiet, Verbose, print_json
from s2cd.errors import S2cdError

_PACKAGES = ("s2cd", "torch", "openvino", "rasterio", "numpy", "dask", "zarr")
_DRIVERS = {
    "JP2OpenJPEG": "Level-1C products",
    "GTiff": "stacks",
    "COG": "change maps",
}
"""GDAL's drivers that commands need, and what for."""
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16")
"""Flags of /proc/cpuinfo that decide how fast networks are; the last is of ARM."""


def add_to(app: typer.Typer) -> None:
    """Add this group's command."""
    app.command(rich_help_panel=GROUP)(doctor)


def doctor(json: Json = False, verbose: Verbose = False, quiet: Quiet = False) -> None:
    """What works here: versions, processor, backend of networks and why, memory, GDAL, sources.

    Credentials are told as present or not; their values are never shown.
    """
    found = _found()
    if json:
        print_json(found)
    elif not quiet:
        for name, value in found.items():
            typer.echo(f"{name.replace('_', ' ')}: {_said(value)}")
    if missing := [name for name, there in found["gdal_drivers"].items() if not there]:
        raise S2cdError(
            f"GDAL here lacks {missing[0]}, which {_DRIVERS[missing[0]]} need. Install rasterio "
            "from its wheel on PyPI"
        )


def _found() -> dict[str, Any]:
    import os
    import platform

    from s2cd.networks.runtime import choose_device, has_native_bf16
    from s2cd.scenes.memory import free_memory
    from s2cd.sources.registry import NAMES, has_credentials

    device = choose_device("auto")
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} to use here",
        "processor_features": _features(),
        "device": device,
        "native_bf16": has_native_bf16(device),
        "backend": _backend(device),
        "free_memory_gib": round(free_memory() / 2**30, 1),
        "gdal_drivers": _drivers(),
        "credentials": {name: has_credentials(name) for name in NAMES if name != "auto"},
    }


def _versions() -> dict[str, str | None]:
    """Versions of packages; None where one is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _cpuinfo() -> dict[str, str]:
    """The kernel's lines on the first processor; empty where there are none."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _processor() -> str:
    import platform

    return _cpuinfo().get("model name") or platform.machine()


def _features() -> list[str]:
    lines = _cpuinfo()
    flags = (lines.get("flags") or lines.get("Features") or "").split()
    return [name for name in _FEATURES if name in flags]


def _backend(device: str) -> dict[str, str | None]:
    """How the network that ships is computed, as ``auto`` chooses it, and why."""
    from s2cd.networks.openvino import has_openvino
    from s2cd.networks.selection import LEAST_PIXELS, ways
    from s2cd.networks.shipped import shipped

    network = next(iter(shipped()), None)
    *quick, plain = ways("auto", "auto", device)
    if not quick:
        why = "nothing faster is there"
    else:
        why = (
            f"the first of {', '.join(map(str, quick))} that agrees with {plain} on two windows of "
            f"a pair; {plain} for pairs of less than {LEAST_PIXELS / 1e6:g} million pixels"
        )
    if device == "cpu" and not has_openvino():
        why += "; OpenVINO is not installed (pip install 's2cd[openvino]')"
    return {"network": network, "auto": str((quick or [plain])[0]), "why": why}


def _drivers() -> dict[str, bool]:
    import rasterio

    with rasterio.Env() as env:
        held = env.drivers()
    return {name: name in held for name in _DRIVERS}


def _said(value: Any) -> str:
    """A value as words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    words: dict[Any, str] = {True: "yes", False: "no", None: "not installed"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
