"""A network heard together with a detector that learns from the pair alone.

A network knows what change looks like where it was trained; IR-MAD knows nothing, but what is
unusual in this very pair. Their errors differ, and the second one brings the limit of each scene.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2cd.networks.scaling import Scaling

PARTNERS = ("", "irmad")
"""Detectors that a network can be heard with; empty: none."""
LEAST = 1 / 400
"""Probabilities count as no nearer to 0 and 1: half a step of what maps store."""
MOST_WEIGHT = 20.0


@dataclass(frozen=True)
class Agreement:
    """Probability = sigmoid(log odds / temperature + weight * log odds of the partner + bias).

    Source: logistic regression on the outputs of both (D. H. Wolpert, "Stacked generalization",
    Neural Networks 5, 1992).
    """

    scaling: Scaling
    weight: float

    def probabilities(
        self, network: NDArray[np.float32], partner: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Of the unscaled probabilities of a network and the scores of its partner."""
        own = log_odds(network) / np.float32(self.scaling.temperature)
        other = log_odds(partner)
        joint = own + np.float32(self.weight) * other + np.float32(self.scaling.bias)
        return np.asarray(1 / (1 + np.exp(-joint)), np.float32)


def log_odds(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural logarithm of p / (1 - p), finite."""
    inner = np.clip(probability, LEAST, 1 - LEAST)
    return np.log(inner / (1 - inner))
