"""The state of a run on disk: all that goes on, and no pickle."""

import csv
import json
from pathlib import Path

import torch
from torch import Tensor

from s2cd.errors import S2cdError
from s2cd.learning.run import Row, Training
from s2cd.output import completed, one_line

_KEY = "s2cd-training"


def save_state(run: Training, path: Path) -> None:
    """Write weights, averages, the optimiser's moments and the history."""
    from safetensors.torch import save

    tensors = {f"network.{k}": v for k, v in run.network.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in run.averaged.items()}
    for index, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    content = save(tensors, metadata={_KEY: json.dumps({"history": run.history})})
    with completed(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def restore_state(run: Training, path: Path) -> None:
    """Bring a fresh run to what was saved.

    Raises:
        S2cdError: where it is not the state of this run.
    """
    from safetensors import SafetensorError, safe_open

    parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimizer": {}}
    try:
        with safe_open(path, "pt") as file:
            history = json.loads((file.metadata() or {})[_KEY])["history"]
            for name in file.keys():
                part, _, rest = name.partition(".")
                parts[part][rest] = file.get_tensor(name)
        run.network.load_state_dict(parts["network"])
        _restore_moments(run, parts["optimizer"])
    except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as e:
        raise S2cdError(f"{path} is no state of this run ({one_line(e)[:80]}). Remove it") from e
    device = next(run.network.parameters()).device
    run.averaged = {k: v.to(device) for k, v in parts["averaged"].items()}
    run.history = history


def _restore_moments(run: Training, tensors: dict[str, Tensor]) -> None:
    """Moments lie in memory as their weights do: the fused step reads both in that order."""
    whole = run.optimizer.state_dict()
    weights = run.optimizer.param_groups[0]["params"]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        like = weights[int(index)].detach()
        placed = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[key] = placed
    run.optimizer.load_state_dict({**whole, "state": state})


def write_metrics(history: list[Row], path: Path) -> None:
    """One row an epoch, as CSV."""
    with completed(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        names = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.DictWriter(file, names)  # older versions told less of an epoch
        writer.writeheader()
        writer.writerows(history)
