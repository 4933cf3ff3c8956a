"""From a network's log odds to probabilities that mean what they say."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = (0.05, 20.0)
"""Least and greatest temperature that makes sense."""
MOST_BIAS = 20.0


@dataclass(frozen=True)
class Scaling:
    """Probability = sigmoid(log odds / temperature + bias).

    Source: J. Platt, "Probabilistic outputs for support vector machines", 1999; C. Guo et al.,
    "On calibration of modern neural networks", ICML 2017, have the temperature alone. Order is
    kept, so a map under a threshold that moves along stays what it was.
    """

    temperature: float = 1.0
    bias: float = 0.0

    @property
    def makes_sense(self) -> bool:
        """Whether both numbers are finite and within what can be meant."""
        low, high = TEMPERATURES
        finite = math.isfinite(self.temperature) and math.isfinite(self.bias)
        return finite and low <= self.temperature <= high and abs(self.bias) <= MOST_BIAS

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Probability of any change (n, height, width) of logits (n, output, height, width)."""
        import torch

        odds = logits[:, 0]
        if logits.shape[1] > 1:  # the first is that of no change
            odds = torch.logsumexp(logits[:, 1:], dim=1) - odds
        return torch.sigmoid(odds / self.temperature + self.bias)

    def by_class(self, logits: "Tensor") -> "Tensor":
        """Probability of each class of change (n, class, height, width); its sum is that of any."""
        import torch

        if logits.shape[1] == 1:
            return self.probabilities(logits)[:, None]
        return self.probabilities(logits)[:, None] * torch.softmax(logits[:, 1:], dim=1)


UNSCALED = Scaling()
"""Log odds as the network gives them."""
