"""The plain U-Net, on both dates stacked or on their difference."""

import torch
from torch import Tensor, nn

from s2cd.networks.spec import Spec

_WIDTHS = (32, 64, 128, 256, 512)
"""Channels from fine to coarse: half of those of Ronneberger 2015, whose images were larger."""


class Unet(nn.Module):
    """Change between two dates: (n, 2, band, height, width) to logits (n, output, height, width).

    Source: O. Ronneberger et al., "U-Net: convolutional networks for biomedical image
    segmentation", MICCAI 2015, arXiv 1505.04597, with padding and batch normalisation. Fusion
    ``concat`` stacks the bands of both dates, ``diff`` subtracts them.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.fusion = spec.fusion
        bands = len(spec.bands) * (2 if spec.fusion == "concat" else 1)
        above = (bands, *_WIDTHS[:-1])
        self.down = nn.ModuleList(
            convolutions(n, width) for n, width in zip(above, _WIDTHS, strict=True)
        )
        steps = list(zip(_WIDTHS[:0:-1], _WIDTHS[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(n, width, 2, stride=2) for n, width in steps)
        self.join = nn.ModuleList(convolutions(2 * width, width) for _, width in steps)
        self.head = nn.Conv2d(_WIDTHS[0], spec.outputs, kernel_size=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Logits of change."""
        x = dates.flatten(1, 2) if self.fusion == "concat" else dates[:, 1] - dates[:, 0]
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat([up(x), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def convolutions(channels: int, width: int, times: int = 2) -> nn.Sequential:
    """3 x 3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for n in (channels, *(width,) * (times - 1)):
        layers += [nn.Conv2d(n, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)
