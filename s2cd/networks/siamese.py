"""The siamese U-Net: one encoder for both dates, their features fused at every scale, a decoder."""

from typing import Any

import torch
from torch import Tensor, nn

from s2cd.errors import S2cdError
from s2cd.networks.fusion import Fusion
from s2cd.networks.shim import import_smp
from s2cd.networks.spec import Spec
from s2cd.networks.unet import convolutions

_DECODER = (256, 128, 64, 32, 16)
"""Channels of the decoder, from coarse to fine: those of smp's Unet."""
_DETAIL = 16
"""Channels of the skip at full resolution."""
ALIASES = {"efficientnet-lite0": "tf_efficientnet_lite0"}
"""Encoders that are known by another name than timm's."""


class SiameseUnet(nn.Module):
    """Change between two dates: (n, 2, band, height, width) to logits (n, output, height, width).

    Both dates pass the encoder as one batch. Their features are fused at each scale (see
    `Fusion`); ``diff`` makes the network blind to the order of the dates. Source: Caye Daudt et
    al., "Fully convolutional siamese networks for change detection", ICIP 2018,
    10.1109/ICIP.2018.8451652, with the encoders and decoder of segmentation_models_pytorch.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        smp = import_smp()
        self.encoder = make_encoder(spec.encoder, len(spec.bands), spec.depth)
        channels = list(self.encoder.out_channels)
        channels[0] = _DETAIL if spec.detail else 0  # nothing is fused there without
        levels = [Fusion(spec.fusion, n) for n in channels]
        self.fusions = nn.ModuleList(levels)
        self.detail = convolutions(len(spec.bands), _DETAIL, times=1) if spec.detail else None
        widths = _DECODER[-spec.depth :]
        skips = [level.channels for level in levels]
        self.decoder = smp.decoders.unet.decoder.UnetDecoder(
            encoder_channels=[0, *skips] if spec.detail else skips,
            decoder_channels=widths,
            n_blocks=spec.depth,
        )
        self.head = nn.Conv2d(widths[-1], spec.outputs, kernel_size=3, padding=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Logits of change."""
        n = dates.shape[0]
        images = torch.cat([dates[:, 0], dates[:, 1]])
        features = self.encoder(images)
        fused = [images[:n]]  # the decoder takes its size only
        if self.detail is not None:
            features[0] = self.detail(images)
            fused.append(self.fusions[0](features[0][:n], features[0][n:]))
        for fusion, level in zip(self.fusions[1:], features[1:], strict=True):
            fused.append(fusion(level[:n], level[n:]))
        logits: Tensor = self.head(self.decoder(fused))
        return logits


def make_encoder(name: str, bands: int, depth: int = 5) -> Any:
    """An encoder with random weights, of segmentation_models_pytorch or, by timm's name, of timm.

    What lies beyond ``depth`` stages is cut off, where the library would keep it.

    Raises:
        S2cdError: where neither has it, or it gives no features at several scales.
    """
    encoders = import_smp().encoders
    known = {"in_channels": bands, "depth": depth, "weights": None}
    if name in encoders.get_encoder_names():
        return _cut(encoders.get_encoder(name, **known), depth)
    import timm

    own = ALIASES.get(name, name).removeprefix("tu-")
    if own not in timm.list_models():
        raise S2cdError(
            f"There is no encoder {name[:40]!r}. Name one of segmentation_models_pytorch's or "
            "timm's, such as resnet18, resnet50, mit_b2 or swin_tiny_patch4_window7_224"
        )
    free = {"strict_img_size": False} if own.startswith("swin") else {}
    try:
        return _cut(encoders.get_encoder(f"tu-{own}", **known, **free), depth)
    except (RuntimeError, AttributeError, TypeError, AssertionError, KeyError) as e:
        raise S2cdError(
            f"timm's {own} gives no features at several scales. Name another, such as resnet18"
        ) from e


def _cut(encoder: Any, depth: int) -> Any:
    """Without the stages that nobody asked for, which would be computed or stored in vain."""
    stages = getattr(getattr(encoder, "model", None), "_stage_out_idx", None)
    if stages is not None:
        encoder.model.blocks = encoder.model.blocks[: max(stages)]
    for number in range(depth, 5):
        if hasattr(encoder, f"layer{number}"):
            delattr(encoder, f"layer{number}")
    return encoder
