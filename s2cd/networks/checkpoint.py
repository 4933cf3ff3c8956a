"""Networks on disk: one safetensors file with the spec as metadata; nothing in it is executed."""

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2cd.errors import S2cdError
from s2cd.networks.spec import Spec
from s2cd.output import completed, one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

_KEY = "s2cd"
_MOST_HEADER = 16 << 20
_PICKLE = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save_checkpoint(
    path: Path, spec: Spec, network: "nn.Module", overwrite: bool = False, half: bool = False
) -> None:
    """Write a network and its spec: complete under its name, or not at all.

    With ``half``, numbers are kept in 16 bits where they fit; `load_network` computes in 32 again.

    Raises:
        S2cdError: where it cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    if half:
        tensors = {name: _halved(value) for name, value in tensors.items()}
    content = save(tensors, metadata={_KEY: spec.to_json()})
    with completed(path, overwrite) as temporary:
        temporary.write_bytes(content)


def _halved(value: "Tensor") -> "Tensor":
    """In 16 bits, unless it counts, or a number is too large for them."""
    if not value.is_floating_point():
        return value
    small = value.half()
    return small if bool(small.isfinite().all()) else value


def read_spec(path: Path) -> Spec:
    """The spec of a checkpoint, without its weights.

    Raises:
        S2cdError: where the file is no checkpoint of s2cd; a pickle is never opened.
    """
    header = _header(path)
    metadata = header.get("__metadata__")
    text = metadata.get(_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise S2cdError(f"{path} holds weights without s2cd's spec. Save it with s2cd train")
    try:
        return Spec.from_json(text)
    except S2cdError as e:
        raise S2cdError(f"{path}: {e}") from e


def is_checkpoint(path: Path) -> bool:
    """Whether a file holds a network of s2cd, and not the weights of an encoder alone."""
    try:
        read_spec(path)
    except S2cdError:
        return False
    return True


def load_network(path: Path) -> "nn.Module":
    """The network of a checkpoint, in evaluation mode, with every weight in its place.

    Names, shapes and types are compared with the spec's before anything is allocated.

    Raises:
        S2cdError: where the file is no checkpoint, or its weights are not those of its spec.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from s2cd.networks.build import build

    spec = read_spec(path)
    _compare(path, spec)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as e:
        raise S2cdError(f"{path} cannot be read: {one_line(e)}. It is cut short or damaged") from e
    network = build(spec)
    network.load_state_dict(tensors)
    return network.eval()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, checked for size before it is read."""
    if not path.is_file():
        raise S2cdError(f"{path} is no file. Name a checkpoint (.safetensors)")
    size = path.stat().st_size
    with path.open("rb") as source:
        start = source.read(8)
        if start.startswith(_PICKLE):
            raise S2cdError(
                f"{path} is a pickle (.pt, .pth, .ckpt), which may run code when it is opened. "
                "Give a .safetensors checkpoint of s2cd"
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MOST_HEADER, size - 8):
            raise S2cdError(f"{path} is no safetensors checkpoint, or is cut short. Fetch it again")
        text = source.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise S2cdError(
            f"{path} is no safetensors checkpoint, or is damaged. Fetch it again"
        ) from e
    if not isinstance(header, dict):
        raise S2cdError(f"{path} is no safetensors checkpoint, or is damaged. Fetch it again")
    return header


def _compare(path: Path, spec: Spec) -> None:
    """Refuse weights that are not those of the spec; nothing is allocated for it."""
    import torch

    from s2cd.networks.build import build

    try:
        with torch.device("meta"):
            network = build(spec)
    except RuntimeError:  # smp's mit computes with numbers while it is built
        network = build(spec)
    expected = {n: list(v.shape) for n, v in network.state_dict().items()}
    entries = {n: v for n, v in _header(path).items() if n != "__metadata__"}
    found = {n: v.get("shape") if isinstance(v, dict) else None for n, v in entries.items()}
    if found != expected:
        strange = [n for n in {**expected, **found} if expected.get(n) != found.get(n)]
        raise S2cdError(
            f"{path} holds other weights than its spec says ({len(strange)} differ, such as "
            f"{strange[0][:60]}). It is damaged or tampered with"
        )
