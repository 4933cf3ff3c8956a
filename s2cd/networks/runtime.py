"""Where and how networks run: the processor is asked, never assumed."""

import logging
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.networks.openvino import OpenVino, has_openvino
from s2cd.networks.scaling import UNSCALED, Scaling

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16")
BACKENDS = ("auto", "torch", "openvino")


class Backend(Protocol):
    """What computes a network."""

    def logits(self, dates: NDArray[np.float32]) -> "torch.Tensor":
        """Log odds (n, output, height, width), float32, of a batch (n, 2, band, height, width)."""
        ...


@dataclass(frozen=True)
class Eager:
    """A network computed by torch, on the device where it lies."""

    network: "torch.nn.Module"
    precision: str = "fp32"

    def logits(self, dates: NDArray[np.float32]) -> "torch.Tensor":
        """Log odds, as `Backend.logits` says."""
        import torch

        device: Any = next(self.network.parameters()).device
        half = self.precision == "bf16"
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            found: torch.Tensor = self.network(torch.from_numpy(dates).to(device))
            return found.float()


@cache
def has_native_bf16(device: str) -> bool:
    """Whether the device computes in bfloat16 itself: elsewhere it is ten times slower than fp32.

    On x86 that takes AVX512-BF16 or AMX; the flags are read from the kernel, since libraries also
    report the emulation as support.
    """
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def choose_device(asked: str) -> str:
    """``cpu`` or ``cuda`` for what the user asked.

    Raises:
        S2cdError: where cuda was asked for and there is none.
    """
    import torch

    if asked not in DEVICES:
        raise S2cdError(f"There is no device {asked!r}. Name one of {', '.join(DEVICES)}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise S2cdError("No CUDA device can be used here. Give --device cpu")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def check_precision(precision: str, device: str) -> None:
    """Refuse bf16 where it would be emulated.

    Raises:
        S2cdError: naming the way out.
    """
    if precision not in PRECISIONS:
        raise S2cdError(f"There is no precision {precision!r}. Name one of {', '.join(PRECISIONS)}")
    if precision == "bf16" and not has_native_bf16(device):
        raise S2cdError(
            "This processor has no bfloat16 of its own (AVX512-BF16 or AMX), and its emulation is "
            "ten times slower. Leave --precision at fp32"
        )


def check_backend(backend: str, device: str) -> None:
    """Refuse a backend that cannot be had.

    Raises:
        S2cdError: naming the way out.
    """
    if backend not in BACKENDS:
        raise S2cdError(f"There is no backend {backend!r}. Name one of {', '.join(BACKENDS)}")
    if backend == "openvino" and device == "cuda":
        raise S2cdError("OpenVINO computes on processors. Give --device cpu, or --backend torch")
    if backend == "openvino" and not has_openvino():
        raise S2cdError(
            "OpenVINO is not installed here. Run pip install 's2cd[openvino]', or give "
            "--backend torch"
        )


def backend_at(backend: str, path: str, sha256: str, device: str, precision: str) -> Backend:
    """What computes the network of a checkpoint here.

    Args:
        backend: ``torch`` or ``openvino``.
        path: The checkpoint.
        sha256: What it was when it was opened.
        device: As the user named it.
        precision: One of `PRECISIONS`.

    Raises:
        S2cdError: where the file has changed, or backend or device cannot be had here.
    """
    if backend == "openvino":
        check_backend(backend, device)
        network_at(path, sha256, "cpu")
        return OpenVino(path, sha256, precision)
    return Eager(network_at(path, sha256, device), precision)


def keep_processors() -> None:
    """Have this thread go on with as many threads as it computes with.

    One that has not asked torch yet would get what `share_processors` last set in another: networks
    trained after a detection would be other ones, in their last bits.
    """
    if "torch" in sys.modules:
        import torch

        torch.get_num_threads()


def share_processors(workers: int, processors: int) -> None:
    """Let each of several worker threads compute with its share of the processors."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(max(1, processors // workers))


@lru_cache(maxsize=2)
def network_at(path: str, sha256: str, device: str) -> "torch.nn.Module":
    """The network of a checkpoint, loaded once a process, on what ``device`` means here.

    Raises:
        S2cdError: where the file is no longer what it was, or there is no such device.
    """
    import torch

    from s2cd.networks.checkpoint import load_network, sha256_of

    if sha256_of(Path(path)) != sha256:
        raise S2cdError(f"{path} changed while it was used. Start again")
    network: Any = load_network(Path(path)).to(choose_device(device))
    return network.to(memory_format=torch.channels_last)


def probabilities(
    backend: Backend, dates: NDArray[np.float32], scaling: Scaling = UNSCALED
) -> NDArray[np.float32]:
    """Probabilities of change (n, class, height, width) of a batch (n, 2, band, height, width)."""
    import torch

    with torch.inference_mode():
        return scaling.by_class(backend.logits(dates)).cpu().numpy()
