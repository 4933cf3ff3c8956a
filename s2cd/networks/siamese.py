"""The siamese U-Net: one encoder for both dates, their features fused at every scale, a decoder."""

from typing import Any

import torch
from torch import Tensor, nn

from s2cd.errors import S2cdError
from s2cd.networks.shim import import_smp
from s2cd.networks.spec import Spec

_DECODER = (256, 128, 64, 32, 16)
"""Channels of the decoder, from coarse to fine: those of smp's Unet."""


class SiameseUnet(nn.Module):
    """Change between two dates: (n, 2, band, height, width) to logits (n, 1, height, width).

    Both dates pass the encoder as one batch. Their features are fused at each scale: ``diff`` by
    the absolute difference, which makes the network blind to the order of the dates; ``concat``
    by stacking them. Source: Caye Daudt et al., "Fully convolutional siamese networks for change
    detection", ICIP 2018, 10.1109/ICIP.2018.8451652, with the encoders and decoder of
    segmentation_models_pytorch.
    """

    def __init__(self, encoder: str, bands: int, fusion: str) -> None:
        super().__init__()
        smp = import_smp()
        self.fusion = fusion
        self.encoder = smp.encoders.get_encoder(encoder, in_channels=bands, depth=5, weights=None)
        channels = [c * (2 if fusion == "concat" else 1) for c in self.encoder.out_channels]
        self.decoder = smp.decoders.unet.decoder.UnetDecoder(
            encoder_channels=channels, decoder_channels=_DECODER, n_blocks=5
        )
        self.head = nn.Conv2d(_DECODER[-1], 1, kernel_size=3, padding=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Logits of change."""
        n = len(dates)
        features = self.encoder(torch.cat([dates[:, 0], dates[:, 1]]))
        fused = [self._fuse(level[:n], level[n:]) for level in features]
        logits: Tensor = self.head(self.decoder(fused))
        return logits

    def _fuse(self, before: Tensor, after: Tensor) -> Tensor:
        if self.fusion == "concat":
            return torch.cat([before, after], dim=1)
        return torch.abs(before - after)


def build(spec: Spec) -> nn.Module:
    """The network of a spec, with random weights.

    Raises:
        S2cdError: where its encoder is unknown.
    """
    encoders: list[Any] = import_smp().encoders.get_encoder_names()
    if spec.encoder not in encoders:
        raise S2cdError(
            f"There is no encoder {spec.encoder[:40]!r}. Name one of "
            "segmentation_models_pytorch's, such as resnet18, resnet50 or mit_b0"
        )
    return SiameseUnet(spec.encoder, len(spec.bands), spec.fusion)
