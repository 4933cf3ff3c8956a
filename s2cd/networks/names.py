"""Layers under the names of timm, whatever library saved them."""

import re

from torch import Tensor

Tensors = dict[str, Tensor]

_CONVNEXT = (
    (r"features\.0\.(\d)\.", "stem.{0}."),
    (r"features\.(\d)\.(\d+)\.layer_scale", "stages.{stage}.blocks.{1}.gamma"),
    (r"features\.(\d)\.(\d+)\.block\.0\.", "stages.{stage}.blocks.{1}.conv_dw."),
    (r"features\.(\d)\.(\d+)\.block\.2\.", "stages.{stage}.blocks.{1}.norm."),
    (r"features\.(\d)\.(\d+)\.block\.3\.", "stages.{stage}.blocks.{1}.mlp.fc1."),
    (r"features\.(\d)\.(\d+)\.block\.5\.", "stages.{stage}.blocks.{1}.mlp.fc2."),
    (r"features\.(\d)\.(\d)\.", "stages.{stage}.downsample.{1}."),
)
_SWIN = (
    (r"features\.(0)\.0\.", "patch_embed.proj."),
    (r"features\.(0)\.2\.", "patch_embed.norm."),
    (r"features\.(\d)\.(\d+)\.mlp\.0\.", "layers.{stage}.blocks.{1}.mlp.fc1."),
    (r"features\.(\d)\.(\d+)\.mlp\.3\.", "layers.{stage}.blocks.{1}.mlp.fc2."),
    (r"features\.(\d)\.(\d+)\.", "layers.{stage}.blocks.{1}."),
    (r"features\.(\d)\.(norm|reduction)\.", "layers.{stage}.downsample.{1}."),
)
"""torchvision's names of layers, and timm's. torchvision counts what lies between stages, too."""
_SWIN_MARK = "features.1.0.attn.relative_position_bias_table"


def in_timm_names(tensors: Tensors) -> Tensors:
    """Tensors of torchvision's ConvNeXt or Swin under timm's names; others as they are.

    The two libraries hold the layers of these in another order, or shape.
    """
    if any(name.endswith(".layer_scale") for name in tensors):
        found = {_renamed(name, _CONVNEXT): value for name, value in tensors.items()}
        return {n: v.flatten() if n.endswith(".gamma") else v for n, v in found.items()}
    if _SWIN_MARK in tensors:
        kept = {n: v for n, v in tensors.items() if not n.endswith("relative_position_index")}
        return {_renamed(name, _SWIN): value for name, value in kept.items()}
    return tensors


def in_order_of(tensors: Tensors, model: str) -> Tensors:
    """Tensors of timm's model of that name in the order of its layers; others as they are.

    A safetensors file is sorted by name, so that its order says nothing.
    """
    import timm
    import torch

    if model not in timm.list_models():
        return tensors
    with torch.device("meta"):
        order = timm.create_model(model).state_dict()
    if set(order) != set(tensors):
        return tensors
    return {name: tensors[name] for name in order}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    """By the first rule that fits."""
    for pattern, other in rules:
        if found := re.match(pattern, name):
            stage = int(found[1]) // 2
            return other.format(*found.groups(), stage=stage) + name[found.end() :]
    return name
