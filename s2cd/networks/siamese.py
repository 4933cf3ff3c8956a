"""The siamese U-Net: one encoder for both dates, their features fused at every scale, a decoder."""

from typing import Any

import torch
from torch import Tensor, nn

from s2cd.errors import S2cdError
from s2cd.networks.fusion import Fusion
from s2cd.networks.shim import import_smp
from s2cd.networks.spec import Spec

_DECODER = (256, 128, 64, 32, 16)
"""Channels of the decoder, from coarse to fine: those of smp's Unet."""


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
        self.encoder = make_encoder(spec.encoder, len(spec.bands))
        levels = [Fusion(spec.fusion, channels) for channels in self.encoder.out_channels]
        self.fusions = nn.ModuleList(levels)
        self.decoder = smp.decoders.unet.decoder.UnetDecoder(
            encoder_channels=[level.channels for level in levels],
            decoder_channels=_DECODER,
            n_blocks=5,
        )
        self.head = nn.Conv2d(_DECODER[-1], spec.outputs, kernel_size=3, padding=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Logits of change."""
        n = len(dates)
        features = self.encoder(torch.cat([dates[:, 0], dates[:, 1]]))
        fused = [features[0][:n]]  # the decoder has no use for the dates themselves
        for fusion, level in zip(self.fusions[1:], features[1:], strict=True):
            fused.append(fusion(level[:n], level[n:]))
        logits: Tensor = self.head(self.decoder(fused))
        return logits


def make_encoder(name: str, bands: int) -> Any:
    """An encoder with random weights, of segmentation_models_pytorch or, by timm's name, of timm.

    Raises:
        S2cdError: where neither has it, or it gives no features at several scales.
    """
    encoders = import_smp().encoders
    known = {"in_channels": bands, "depth": 5, "weights": None}
    if name in encoders.get_encoder_names():
        return encoders.get_encoder(name, **known)
    import timm

    own = name.removeprefix("tu-")
    if own not in timm.list_models():
        raise S2cdError(
            f"There is no encoder {name[:40]!r}. Name one of segmentation_models_pytorch's or "
            "timm's, such as resnet18, resnet50, mit_b2 or swin_tiny_patch4_window7_224"
        )
    free = {"strict_img_size": False} if own.startswith("swin") else {}
    try:
        return encoders.get_encoder(f"tu-{own}", **known, **free)
    except (RuntimeError, AttributeError, TypeError, AssertionError, KeyError) as e:
        raise S2cdError(
            f"timm's {own} gives no features at several scales. Name another, such as resnet18"
        ) from e
