"""A network as a STAC item of its own, by the Machine Learning Model extension (MLM 1.4)."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2cd.errors import S2cdError
from s2cd.results.stac.assets import asset, classes_of

if TYPE_CHECKING:
    from s2cd.networks.spec import Spec

_OWN_STATISTICS = {
    "type": "processing",
    "format": "python",
    "expression": "(x - x.mean()) / x.std()  # each band of each date by its own valid pixels",
}
"""The extension's z-score is by the same numbers for every image; this is by each image's own."""
EXTENSION = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"


def model_item(path: Path, target: Path, made_on: str, tags: dict[str, str]) -> dict[str, Any]:
    """The item of the checkpoint that made a map.

    A network has no place and no time: its item has no geometry, and the time of the map.

    Args:
        path: The checkpoint.
        target: The item's file, which addresses start from.
        made_on: The item's time.
        tags: The map's, whose checksum of the weights must be the checkpoint's.

    Raises:
        S2cdError: where it is no checkpoint, or not the map's.
    """
    from s2cd.networks.checkpoint import read_spec, sha256_of

    spec = read_spec(path)
    if sha256_of(path) != tags.get("MODEL_SHA256"):
        raise S2cdError(f"{path} did not make this map: its SHA-256 is another. Name its own model")
    weights = asset(path, target, "Weights", ["mlm:model", "mlm:weights"])
    weights["mlm:artifact_type"] = "safetensors.torch.save_file"
    weights["bands"] = _bands(spec)  # STAC 1.1: in properties only if an asset has them too
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [EXTENSION, "https://stac-extensions.github.io/file/v2.1.0/schema.json"],
        "id": path.stem,
        "geometry": None,
        "properties": {"datetime": made_on, **_description(spec, path.stem)},
        "links": [],
        "assets": {"model": weights},
    }


def _description(spec: "Spec", name: str) -> dict[str, Any]:
    return {
        "title": name,
        "description": _words(spec),
        "bands": _bands(spec),
        **({"license": "other"} if spec.licence else {}),
        "mlm:name": _name(name),
        "mlm:architecture": " ".join(p for p in (spec.architecture, spec.encoder) if p),
        "mlm:framework": "PyTorch",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:hyperparameters": {"fusion": spec.fusion, "threshold": spec.threshold},
        "mlm:input": [_input(spec)],
        "mlm:output": [_output(spec)],
    }


def _bands(spec: "Spec") -> list[dict[str, str]]:
    return [{"name": band} for band in spec.bands]


def _name(stem: str) -> str:
    """A name as the extension asks: letters, digits, and `_.-` within, from a letter on."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("_.-")
    return slug if re.fullmatch(r"[A-Za-z].{2,}", slug) else f"net-{slug or 'work'}"


def _words(spec: "Spec") -> str:
    text = f"Trained on: {spec.trained_on or 'nothing; its weights are random'}"
    return f"{text}. For {spec.licence}" if spec.licence else text


def _input(spec: "Spec") -> dict[str, Any]:
    bands = len(spec.bands)
    shape = [-1, 2, bands, spec.window, spec.window]
    order = ["batch", "time", "bands", "height", "width"]
    return {
        "name": "before and after, reflectance",
        "bands": list(spec.bands),
        "input": {"shape": shape, "dim_order": order, "data_type": "float32"},
        "value_scaling": [_OWN_STATISTICS] if spec.normalization == "zscore" else None,
        "resize_type": None,
    }


def _output(spec: "Spec") -> dict[str, Any]:
    shape = [-1, spec.outputs, spec.window, spec.window]
    order = ["batch", "class", "height", "width"]
    return {
        "name": "change",
        "tasks": ["semantic-segmentation"],
        "result": {"shape": shape, "dim_order": order, "data_type": "float32"},
        "classification:classes": classes_of(spec.classes)[:-1],
    }
