"""Probabilities that mean what they say, fitted on places that the networks never saw."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import STEPS
from s2cd.errors import S2cdError
from s2cd.learning.scenes import Counts
from s2cd.networks.scaling import MOST_BIAS, TEMPERATURES, Scaling


def fit_scaling(counts: Counts) -> Scaling:
    """The scaling of greatest likelihood, over all pixels of a histogram of unscaled maps.

    Raises:
        S2cdError: where change or no change is not labelled at all.
    """
    scale, bias = fit_logistic(counts, _log_odds(np.arange(STEPS + 1))[None])
    return Scaling(round(1 / scale, 4), round(bias, 4))


def fit_logistic(counts: Counts, odds: NDArray[np.float64], most: float = 0.0) -> list[float]:
    """Logistic regression of greatest likelihood on log odds: the weight of each, and a bias.

    Args:
        counts: Pixels by truth: (2, n).
        odds: Of one detector, or of two: (1 or 2, n). The first is weighed as `TEMPERATURES` say.
        most: Greatest weight of the second.

    Raises:
        S2cdError: where change or no change is not labelled at all.
    """
    from scipy.optimize import minimize

    if not counts.sum(axis=1).all():
        raise S2cdError("Calibration needs pixels with change and without. Label more places")
    design, weights = np.vstack([odds, np.ones(odds.shape[1])]), counts / counts.sum()

    def loss(numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        joint = numbers @ design
        cost = weights[0] @ np.logaddexp(0, joint) + weights[1] @ np.logaddexp(0, -joint)
        slope = weights.sum(axis=0) / (1 + np.exp(-joint)) - weights[1]
        return float(cost), design @ slope

    low, high = TEMPERATURES
    bounds = [(1 / high, 1 / low), *[(0.0, most)] * (len(odds) - 1), (-MOST_BIAS, MOST_BIAS)]
    start = np.array([1.0] * len(odds) + [0.0])
    found: Any = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds,
                          options={"ftol": 1e-14, "gtol": 1e-9})  # fmt: skip
    return [float(number) for number in found.x]


def scaled_counts(counts: Counts, scaling: Scaling) -> Counts:
    """The histogram that maps would have had under a scaling."""
    target = np.rint(_scaled(np.arange(STEPS + 1), scaling) * STEPS).astype(int)
    result = np.zeros_like(counts)
    for row, values in zip(result, counts, strict=True):
        np.add.at(row, target, values)
    return result


def scaled_by_others(counts: dict[str, Counts], parts: list[list[str]]) -> Counts:
    """The histogram of all places, those of each fold under a scaling fitted on the others'."""
    nothing = np.zeros((2, STEPS + 1), np.int64)
    whole = nothing.copy()
    for part in parts:
        scaling = fit_scaling(sum((v for n, v in counts.items() if n not in part), nothing))
        whole += scaled_counts(sum((counts[name] for name in part), nothing), scaling)
    return whole


def scaled_threshold(threshold: float, scaling: Scaling) -> float:
    """The threshold under a scaling that leaves a map as it was, to a step of what is stored."""
    edge = _scaled(np.array([threshold * STEPS - 0.5]), scaling)[0]
    return float(np.clip(np.rint(edge * STEPS + 0.5), 1, STEPS)) / STEPS


def _log_odds(steps: NDArray[Any]) -> NDArray[np.float64]:
    """Of stored values; the first and the last stand for half a step, from 0 and up to 1."""
    said = np.clip(steps / STEPS, 0.25 / STEPS, 1 - 0.25 / STEPS)
    return np.log(said / (1 - said))


def _scaled(steps: NDArray[Any], scaling: Scaling) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-(_log_odds(steps) / scaling.temperature + scaling.bias)))
