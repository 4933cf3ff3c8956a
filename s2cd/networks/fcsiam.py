"""The three fully convolutional networks of Daudt 2018: fc-ef, fc-siam-conc and fc-siam-diff."""

import torch
from torch import Tensor, nn

from s2cd.networks.spec import Spec

_WIDTHS = (16, 32, 64, 128)
_TIMES = (2, 2, 3, 3)
_DROPOUT = 0.2
"""Channels and convolutions of each level, fine to coarse, and dropout: table of the paper."""


class FcSiam(nn.Module):
    """Change between two dates: (n, 2, band, height, width) to logits (n, output, height, width).

    ``fc-ef`` stacks the dates first. ``fc-siam-conc`` and ``fc-siam-diff`` pass each through one
    encoder; their skips hold both dates, or their absolute difference, and the decoder starts
    from the second date. Source: R. Caye Daudt, B. Le Saux, A. Boulch, "Fully convolutional
    siamese networks for change detection", ICIP 2018, 10.1109/ICIP.2018.8451652; here with one
    logit where there is one class of change.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.kind = spec.architecture
        early = self.kind == "fc-ef"
        above = (len(spec.bands) * (2 if early else 1), *_WIDTHS[:-1])
        self.down = nn.ModuleList(
            _block(n, (width,) * times)
            for n, width, times in zip(above, _WIDTHS, _TIMES, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
            for width in _WIDTHS[::-1]
        )
        skips = 2 if self.kind == "fc-siam-conc" else 1
        self.join = nn.ModuleList(_decoder_blocks(skips))
        self.head = nn.ConvTranspose2d(_WIDTHS[0], spec.outputs, 3, padding=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Logits of change."""
        if self.kind == "fc-ef":
            x, skips = self._encoded(dates.flatten(1, 2))
        else:
            n = len(dates)
            x, both = self._encoded(torch.cat([dates[:, 0], dates[:, 1]]))
            x, skips = x[n:], [self._fused(level[:n], level[n:]) for level in both]
        for up, join, skip in zip(self.up, self.join, skips[::-1], strict=True):
            x = join(torch.cat([up(x), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits

    def _encoded(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        return x, skips

    def _fused(self, before: Tensor, after: Tensor) -> Tensor:
        if self.kind == "fc-siam-conc":
            return torch.cat([before, after], dim=1)
        return torch.abs(before - after)


def _decoder_blocks(skips: int) -> list[nn.Sequential]:
    """Coarse to fine: at each level the last convolution gives the channels of the next.

    The finest level's last convolution, which gives the classes, is the head.
    """
    blocks = []
    for level in (3, 2, 1, 0):
        width, times = _WIDTHS[level], _TIMES[level]
        last = (_WIDTHS[level - 1],) if level else ()
        blocks.append(
            _block(width * (1 + skips), (width,) * (times - 1) + last, nn.ConvTranspose2d)
        )
    return blocks


def _block(
    channels: int, widths: tuple[int, ...], kind: type[nn.Module] = nn.Conv2d
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, width in zip((channels, *widths), widths, strict=False):
        layers += [kind(n, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.Dropout2d(_DROPOUT))
    return nn.Sequential(*layers)
