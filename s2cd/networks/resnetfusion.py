"""unet-resnet50-fusion: a shared ResNet-50, concatenation at five levels, a transposed decoder."""

from typing import Any

import torch
from torch import Tensor, nn

from s2cd.networks.siamese import make_encoder
from s2cd.networks.spec import Spec

_LEVELS = ((128, 64), (512, 128), (1024, 256), (2048, 512), (4096, 512))
"""Channels of both dates and after fusion: at H/2, H/2 (no max-pooling), H/4, H/8, H/16."""
_DROPOUT = 0.3


class ResnetFusion(nn.Module):
    """Change between two dates: (n, 2, band, height, width) to logits (n, output, height, width).

    The encoder is ResNet-50 without its max-pooling (K. He et al., CVPR 2016). Where it is frozen,
    its batch normalisation also stays as it was learned, whatever mode the network is in.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.encoder: Any = make_encoder("resnet50", len(spec.bands))
        self.fusions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, width, 3, padding=1), nn.ReLU()) for n, width in _LEVELS
        )
        self.up3, self.join3 = _up(512, 512), _join(512 + 512, 256)
        self.up2, self.join2 = _up(256, 256), _join(256 + 256, 128)
        self.up1, self.join1 = _up(128, 128), _join(128 + 128 + 64, 64)
        self.up0, self.join0 = _up(64, 32), _join(32, 32)
        self.dropout = nn.Dropout(_DROPOUT)
        self.head = nn.Conv2d(32, spec.outputs, kernel_size=1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Features of images (n, band, height, width): at H/2, H/2, H/4, H/8, H/16."""
        encoder = self.encoder
        levels = [encoder.relu(encoder.bn1(encoder.conv1(image)))]
        for layer in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
            levels.append(layer(levels[-1]))
        return levels

    def forward(self, dates: Tensor) -> Tensor:
        """Logits of change."""
        n = len(dates)
        levels = self.features(torch.cat([dates[:, 0], dates[:, 1]]))
        stem, fine, middle, coarse, x = (
            fusion(torch.cat([level[:n], level[n:]], dim=1))
            for fusion, level in zip(self.fusions, levels, strict=True)
        )
        x = self.join3(torch.cat([self.up3(x), self.dropout(coarse)], dim=1))
        x = self.join2(torch.cat([self.up2(x), self.dropout(middle)], dim=1))
        x = self.join1(torch.cat([self.up1(x), fine, stem], dim=1))
        logits: Tensor = self.head(self.join0(self.up0(x)))
        return logits


def _up(channels: int, width: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, width, 2, stride=2)


def _join(channels: int, width: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
