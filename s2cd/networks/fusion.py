"""How the features of two dates are brought together."""

import torch
from torch import Tensor, nn
from torch.nn import functional

_PARTS = {"diff": 1, "concat": 2, "concat+diff": 3, "diff+sum": 2, "attention": 2}
"""Channels after the fusion, as a multiple of those of one date."""
_MOST_KEYS = 32


class Fusion(nn.Module):
    """Fuses features (n, channel, height, width) of both dates into ``channels`` of them.

    ``diff``: their absolute difference; ``concat``: both; ``concat+diff``: all three;
    ``diff+sum``: their absolute difference and their sum, blind to the order of the dates;
    ``attention``: what each date holds beyond the other, once the other was searched for it.
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.channels = channels * _PARTS[kind]
        searched = kind == "attention" and channels > 0
        self.search = NeighbourAttention(channels) if searched else None

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """The fused features."""
        if self.search is not None:
            return torch.cat(
                [
                    torch.abs(before - self.search(before, after)),
                    torch.abs(after - self.search(after, before)),
                ],
                dim=1,
            )
        if self.kind == "diff+sum":
            return torch.cat([torch.abs(before - after), before + after], dim=1)
        difference = [torch.abs(before - after)] if self.kind.endswith("diff") else []
        both = [] if self.kind == "diff" else [before, after]
        return torch.cat([*both, *difference], dim=1)


class NeighbourAttention(nn.Module):
    """Cross-attention of each pixel of one date to the 3 x 3 pixels around it in the other.

    Local, so that the network stays equivariant to shifts by its stride and its memory grows
    with the window's area only; the neighbourhood forgives a rest of misregistration. Scaled dot
    products after A. Vaswani et al., "Attention is all you need", 2017, arXiv 1706.03762.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        keys = min(channels, _MOST_KEYS)
        self.query = nn.Conv2d(channels, keys, 1)
        self.key = nn.Conv2d(channels, keys, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.scale = keys**-0.5

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """What ``other`` holds of ``one``: as many channels as both."""
        query, keys, values = self.query(one), self.key(other), self.value(other)
        weights = torch.stack([(query * near).sum(dim=1) for near in _around(keys)])
        weights = torch.softmax(weights * self.scale, dim=0)[:, :, None]
        found = torch.zeros_like(values)
        for weight, near in zip(weights, _around(values), strict=True):
            found = found + weight * near
        return found


def _around(features: Tensor) -> list[Tensor]:
    """The features of the 9 pixels around each, zero beyond the edges."""
    height, width = features.shape[2:]
    padded = functional.pad(features, (1, 1, 1, 1))
    corners = [(y, x) for y in range(3) for x in range(3)]
    return [padded[:, :, y : y + height, x : x + width] for y, x in corners]
