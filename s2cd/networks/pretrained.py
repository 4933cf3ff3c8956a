"""Encoders that have seen pictures before: their weights found, checked and adapted to bands."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s2cd.errors import S2cdError
from s2cd.networks.checkpoint import is_checkpoint, load_network, read_spec
from s2cd.networks.imagenet import from_hub, packaged_or_kept
from s2cd.networks.names import Tensors, in_order_of, in_timm_names
from s2cd.networks.siamese import ALIASES, make_encoder
from s2cd.networks.spec import Spec
from s2cd.output import one_line
from s2cd.scenes.bands import RGB

logger = logging.getLogger(__name__)

NONE, IMAGENET = "none", "imagenet"
_WRAPPERS = ("state_dict", "model", "model_state_dict")


def load_encoder(network: nn.Module, spec: Spec, weights: str) -> None:
    """Put pretrained weights into a network's encoder.

    Every tensor of the encoder must be found, by name and shape, and none may be left over but
    those of the classifier. The first convolution is adapted to the bands: the filters of red,
    green and blue go to B04, B03 and B02, their mean to every other band, and all are scaled by
    3 / bands, so that bands that agree excite as much as a picture did.

    Args:
        network: A network with random weights.
        spec: Its spec.
        weights: ``none``; ``imagenet``; a file of weights in torchvision's, timm's or
            segmentation_models_pytorch's names: safetensors, or a pickle that holds nothing else;
            or a checkpoint of s2cd, of which the whole network is taken.

    Raises:
        S2cdError: where the weights cannot be had, or are not of this encoder.
    """
    if weights == NONE:
        return
    if weights != IMAGENET and is_checkpoint(Path(weights)):
        _continue(network, spec, Path(weights))
        return
    if not spec.encoder:
        raise S2cdError(
            f"{spec.architecture} has no encoder that could be pretrained. Leave --weights out, or "
            "give --arch siamese"
        )
    name = ALIASES.get(spec.encoder, spec.encoder)
    source, found = _found(name, weights)
    reference = make_encoder(name, len(RGB)).state_dict()
    whole = matched(found, reference, source)
    _put(network.get_submodule("encoder"), whole, spec.bands)
    logger.info("%s starts from the weights of %s: %d tensors", spec.encoder, source, len(whole))


def _found(name: str, weights: str) -> tuple[str, Tensors]:
    """Where weights come from, in words, and all that is there."""
    path = packaged_or_kept(name) if weights == IMAGENET else Path(weights)
    if path is None:
        return IMAGENET, from_hub(name)
    found = in_timm_names(in_order_of(_from_file(path), name.replace("-", "_")))
    return (IMAGENET if weights == IMAGENET else path.name), found


def _continue(network: nn.Module, spec: Spec, path: Path) -> None:
    """Start from another network of the same parts."""
    theirs = read_spec(path)
    parts = ("architecture", "encoder", "fusion", "bands", "classes", "depth", "detail")
    if strange := [name for name in parts if getattr(theirs, name) != getattr(spec, name)]:
        raise S2cdError(
            f"{path} differs in {', '.join(strange)} from the network to be trained. Give the same"
        )
    network.load_state_dict(load_network(path).state_dict())


def matched(found: Tensors, reference: Tensors, source: str) -> Tensors:
    """The tensors under the names of ``reference``: by name, else by their order.

    Libraries name the same layers otherwise but hold them in one order; there each pair must
    agree in shape and in the last word of its name.

    Raises:
        S2cdError: naming what is missing, left over or of another shape.
    """
    reference, found = _without_counters(reference), _without_counters(found)
    names = {_plain(name): name for name in reference}
    own = {_plain(name): value for name, value in found.items()}
    ordered = _by_order(found, reference)
    if not set(names) <= set(own) and len(ordered) == len(names):
        own = ordered
    tops = {_top(name) for name in reference}
    missing = [names[plain] for plain in names if plain not in own]
    surplus = [n for n in found if _plain(n) not in names and _top(n) in tops]
    strange = [
        names[plain]
        for plain in names
        if plain in own and own[plain].shape != reference[names[plain]].shape
    ]
    if missing or surplus or strange:
        raise S2cdError(
            f"{source} holds the weights of another encoder: {len(missing)} tensors are missing, "
            f"{len(surplus)} left over, {len(strange)} of another shape, such as "
            f"{(missing + surplus + strange)[0][:60]}. Give those of the encoder named"
        )
    return {names[plain]: own[plain] for plain in names}


def _without_counters(tensors: Tensors) -> Tensors:
    """Without the count of batches, which old files lack and nothing here depends on."""
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


def _plain(name: str) -> str:
    """A name that is the same in a model and in its extractor of features.

    timm flattens `stages.0` to `stages_0` in some, and smp puts `model.` before all.
    """
    parts = _bare(name).replace("_", ".").split(".")
    return ".".join(part for part in parts if part)


def _top(name: str) -> str:
    """What of a model a tensor is in: `stages` of `stages_0`, but `conv_stem` of itself."""
    return re.sub(r"_\d+$", "", _bare(name).split(".")[0])


def _bare(name: str) -> str:
    return name.removeprefix("module.").removeprefix("model.")


def _by_order(found: Tensors, reference: Tensors) -> Tensors:
    """The first tensors under the plain names of the reference, as far as both agree."""
    result: Tensors = {}
    for (name, value), (own, like) in zip(found.items(), reference.items(), strict=False):
        if name.rpartition(".")[2] != own.rpartition(".")[2] or value.shape != like.shape:
            break
        result[_plain(own)] = value
    return result


def _put(encoder: nn.Module, whole: Tensors, bands: tuple[str, ...]) -> None:
    """Load what this encoder has of the whole one, the first convolution for its bands."""
    first = next(name for name, v in whole.items() if v.ndim == 4 and v.shape[1] == len(RGB))
    whole = {**whole, first: for_bands(whole[first], bands)}
    own = encoder.state_dict()
    own_names = {_plain(name): name for name in own}
    chosen = {own_names[_plain(n)]: v for n, v in whole.items() if _plain(n) in own_names}
    encoder.load_state_dict({**own, **chosen})


def for_bands(filters: Tensor, bands: tuple[str, ...]) -> Tensor:
    """Filters (n, 3, y, x) of red, green and blue as filters (n, band, y, x)."""
    colours = {band: filters[:, index] for index, band in enumerate(RGB)}
    others = filters.mean(dim=1)
    adapted = torch.stack([colours.get(band, others) for band in bands], dim=1)
    return adapted * (len(RGB) / len(bands))


def _from_file(path: Path) -> Tensors:
    if not path.is_file():
        raise S2cdError(f"There are no weights '{path}'. Name none, imagenet, or a file of weights")
    found = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise S2cdError(f"{path} holds something other than weights. Save a state dict alone")
    return found


def _safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as e:
        raise S2cdError(f"{path} cannot be read: {one_line(e)[:100]}. Fetch it again") from e


def _pickled(path: Path) -> Tensors:
    """A state dict from a pickle of which nothing is executed."""
    import warnings
    from pickle import UnpicklingError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols that may fail: they do so below
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as e:
        raise S2cdError(
            f"{path} holds more than weights, or is damaged: nothing of it was executed. Save the "
            "state dict alone, best as .safetensors"
        ) from e
    if isinstance(content, dict):
        inner = next((content[k] for k in _WRAPPERS if isinstance(content.get(k), dict)), content)
        return dict(inner)
    return {}
