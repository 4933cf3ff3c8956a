"""How much a network and its partner count together, learned from maps of unseen places."""

import numpy as np
from numpy.typing import NDArray

from s2cd.detection.blocks import NOT_OBSERVED, STEPS
from s2cd.learning.calibrate import fit_logistic
from s2cd.learning.scenes import Counts
from s2cd.networks.agreement import MOST_WEIGHT, Agreement, log_odds
from s2cd.networks.scaling import Scaling

Joint = NDArray[np.int64]
"""Pixels by truth, stored probability of the network, and stored score of its partner:
(2, 201, 201)."""
_SIDE = STEPS + 1


def joint_counts(
    network: NDArray[np.uint8], partner: NDArray[np.uint8], label: NDArray[np.uint8]
) -> Joint:
    """Pixels of a place; what is unknown in any is left out."""
    known = (network != NOT_OBSERVED) & (partner != NOT_OBSERVED) & (label != 255)
    truth, own, other = (a[known].astype(np.int64) for a in (label > 0, network, partner))
    codes = (truth * _SIDE + own) * _SIDE + other
    return np.bincount(codes, minlength=2 * _SIDE**2).reshape(2, _SIDE, _SIDE)


def fit_agreement(joint: Joint) -> Agreement:
    """The agreement of greatest likelihood, over all pixels.

    Raises:
        S2cdError: where change or no change is not labelled at all.
    """
    steps = log_odds((np.arange(_SIDE) / STEPS).astype(np.float32)).astype(np.float64)
    odds = np.array([side.ravel() for side in np.meshgrid(steps, steps, indexing="ij")])
    scale, weight, bias = fit_logistic(joint.reshape(2, -1), odds, MOST_WEIGHT)
    return Agreement(Scaling(round(1 / scale, 4), round(bias, 4)), round(weight, 4))


def agreed_counts(joint: Joint, agreement: Agreement) -> Counts:
    """The histogram (2, 201) that maps would have had under an agreement."""
    target = _table(agreement).ravel()
    found = [
        np.bincount(target, weights=one.ravel(), minlength=_SIDE)
        for one in np.asarray(joint, np.float64)
    ]
    return np.rint(np.array(found)).astype(np.int64)


def agreed_map(
    network: NDArray[np.uint8], partner: NDArray[np.uint8], agreement: Agreement
) -> NDArray[np.uint8]:
    """The stored map of both together; 255 where either has nothing."""
    unseen = (network == NOT_OBSERVED) | (partner == NOT_OBSERVED)
    own, other = (np.where(unseen, 0, one) for one in (network, partner))
    return np.where(unseen, NOT_OBSERVED, _table(agreement)[own, other]).astype(np.uint8)


def _table(agreement: Agreement) -> NDArray[np.int64]:
    """Stored probability of both, by that of the network and that of its partner."""
    steps = (np.arange(_SIDE) / STEPS).astype(np.float32)
    own, other = np.meshgrid(steps, steps, indexing="ij")
    return np.rint(agreement.probabilities(own, other) * STEPS).astype(np.int64)
