"""What moves the weights."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from s2cd.errors import S2cdError

if TYPE_CHECKING:
    from torch import nn, optim

OPTIMIZERS = {"adamw": 1e-4, "adam": 0.0}
"""The weight that each lets decay in a step, of the learning rate. Without any, AdamW is Adam (I.
Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2)."""


def decay_of(name: str) -> float:
    """The decay of the optimiser of that name.

    Raises:
        S2cdError: where there is none.
    """
    if name not in OPTIMIZERS:
        raise S2cdError(f"There is no optimizer {name[:40]!r}. Name one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def make_optimizer(name: str, weights: "Iterable[nn.Parameter]", rate: float) -> "optim.Optimizer":
    """The optimiser of that name, of weights that learn."""
    import torch

    return torch.optim.AdamW(weights, lr=rate, weight_decay=decay_of(name), fused=True)
