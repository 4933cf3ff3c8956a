"""Networks computed by OpenVINO: the same weights, by kernels made for Intel's and AMD's CPUs."""

import importlib.util
import warnings
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.output import one_line

if TYPE_CHECKING:
    from torch import Tensor

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names; f16 is slower than f32 where it was measured."""
_CONVERTING = Lock()
_COMPILED = local()


@cache
def has_openvino() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("openvino") is not None


class OpenVino:
    """A network of a checkpoint, converted in memory; each thread computes with a copy of its own.

    Windows are computed one by one: batches of four were a tenth slower, in fp32 and in bf16.
    """

    def __init__(self, path: str, sha256: str, precision: str) -> None:
        self._key = path, sha256
        self._precision = precision

    def logits(self, dates: NDArray[np.float32]) -> "Tensor":
        """Log odds (n, output, height, width) of a batch (n, 2, band, height, width)."""
        import torch

        compiled = self._compiled(dates.shape[1:])
        found = [torch.from_numpy(compiled(date[None])[0]) for date in dates]
        return torch.cat(found)

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        """What computes windows of that shape with as many threads as torch would take here."""
        import torch

        threads = torch.get_num_threads()
        key = (*self._key, self._precision, shape, threads)
        held: dict[Any, Any] = _COMPILED.__dict__.setdefault("models", {})
        if key not in held:
            held.clear()  # whatever came before is done
            with _CONVERTING:
                held[key] = _compile(_converted(*self._key, shape), self._precision, threads)
        return held[key]


def forget() -> None:
    """Give back what this thread computes with; it compiles again where it is asked again."""
    _COMPILED.__dict__.clear()


@lru_cache(maxsize=2)
def _converted(path: str, sha256: str, shape: tuple[int, ...]) -> Any:
    """The model of a checkpoint for one window of that shape.

    Raises:
        S2cdError: where OpenVINO lacks something that the network needs.
    """
    import torch

    try:
        from openvino import convert_model
        from openvino.frontend import OpConversionFailure
    except ImportError as e:
        raise S2cdError(
            f"OpenVINO cannot be loaded: {one_line(e)[:200]}. Install it anew, or give "
            "--backend torch"
        ) from e

    from s2cd.networks.runtime import network_at

    network, one = network_at(path, sha256, "cpu"), (1, *shape)
    failures = (RuntimeError, ValueError, TypeError, AssertionError, OpConversionFailure)
    try:
        with warnings.catch_warnings():  # torch warns of what it does itself
            warnings.simplefilter("ignore", FutureWarning)
            model = convert_model(torch.export.export(network, (torch.zeros(one),)))
        model.reshape(list(one))
    except failures as e:
        raise S2cdError(
            f"OpenVINO cannot compute {Path(path).name}: {one_line(e)[:200]}. Give --backend torch"
        ) from e
    return model


def _compile(model: Any, precision: str, threads: int) -> Any:
    """A model ready to compute, not bound to processors: other processes would bind the same."""
    facts = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return _core().compile_model(model, "CPU", facts)


@cache
def _core() -> Any:
    from openvino import Core

    return Core()
