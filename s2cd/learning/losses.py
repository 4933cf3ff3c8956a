"""What training makes small; pixels whose mask is 255 do not count."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from s2cd.errors import S2cdError

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits (n, output, y, x) and masks (n, y, x) to a number."""
_PRESETS = {"bce+iou": "0.7*bce+0.3*iou"}
_GAMMA = 2.0


def make_loss(text: str, change_weight: float = 1.0, class_weights: Sequence[float] = ()) -> Loss:
    """A loss by its name, or a weighted sum such as ``0.5*bce+0.5*dice``.

    Args:
        text: Of ``bce``, ``dice``, ``iou``, ``focal``; ``bce+iou`` is 0.7 and 0.3 of them.
        change_weight: How much more a changed pixel weighs, in bce and focal.
        class_weights: The same of classes 1, 2, ... apart.

    Raises:
        S2cdError: where a name or a weight cannot be understood.
    """
    terms: list[tuple[float, str]] = []
    for part in _PRESETS.get(text, text).split("+"):
        weight, _, name = part.strip().rpartition("*")
        try:
            terms.append((float(weight or 1), name.strip()))
        except ValueError:
            name = part
        if name.strip() not in _LOSSES or not 0 < terms[-1][0] < math.inf:
            raise S2cdError(
                f"There is no loss {part!r}. Name some of {', '.join(_LOSSES)}, with weights above "
                "0 such as 0.5*bce+0.5*dice"
            )

    def loss(logits: Tensor, mask: Tensor) -> Tensor:
        known = mask != 255
        scores, truth = logits.movedim(1, -1)[known].float(), mask[known].long()
        if not len(truth):
            return logits.sum() * 0
        weights = torch.tensor([1.0, *class_weights], device=truth.device)
        each = weights[truth] if class_weights else torch.where(truth > 0, change_weight, 1.0)
        parts = [w * _LOSSES[name](scores, truth, each) for w, name in terms]
        return torch.stack(parts).sum()

    return loss


def _entropies(scores: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of each pixel: (pixel, output) against (pixel)."""
    if scores.shape[1] > 1:
        return functional.cross_entropy(scores, truth, reduction="none")
    return functional.binary_cross_entropy_with_logits(
        scores[:, 0], (truth > 0).float(), reduction="none"
    )


def _bce(scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    return (weights * _entropies(scores, truth)).sum() / weights.sum()


def _focal(scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017, gamma = 2."""
    entropies = _entropies(scores, truth)
    return (weights * (1 - torch.exp(-entropies)) ** _GAMMA * entropies).sum() / weights.sum()


def _overlap(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Soft intersection and sum of areas, by class of change."""
    if scores.shape[1] > 1:
        found = torch.softmax(scores, dim=1)[:, 1:]
        true = functional.one_hot(truth, scores.shape[1])[:, 1:].float()
    else:
        found, true = torch.sigmoid(scores), (truth > 0).float()[:, None]
    return (found * true).sum(dim=0), (found + true).sum(dim=0)


def _dice(scores: Tensor, truth: Tensor, _: Tensor) -> Tensor:
    """F. Milletari et al., "V-Net", 3DV 2016, smoothed by 1."""
    both, areas = _overlap(scores, truth)
    return (1 - (2 * both + 1) / (areas + 1)).mean()


def _iou(scores: Tensor, truth: Tensor, _: Tensor) -> Tensor:
    """M. Rahman, Y. Wang, "Optimizing intersection-over-union", ISVC 2016, smoothed by 1."""
    both, areas = _overlap(scores, truth)
    return (1 - (both + 1) / (areas - both + 1)).mean()


_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "bce": _bce,
    "dice": _dice,
    "iou": _iou,
    "focal": _focal,
}
