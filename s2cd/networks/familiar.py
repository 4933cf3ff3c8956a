"""Whether a pair looks like what a network was trained on."""

from collections.abc import Iterable

import numpy as np

from s2cd.networks.inputs import Statistics

Ranges = tuple[tuple[float, ...], ...]
"""Of each band: lowest and highest mean, lowest and highest standard deviation of a date."""
_MARGIN = 1.25
"""A number is strange beyond the range by this factor."""
_SHARE = 0.25
"""A date is strange where more than this share of its bands is. Of OSCD's 13 labelled scenes, one
is strange to the twelve others: the one in a desert."""


def ranges_of(statistics: Iterable[Statistics]) -> Ranges:
    """What means and standard deviations the dates of several pairs have."""
    known = list(statistics)
    means = np.concatenate([np.array(one.mean) for one in known])
    deviations = np.concatenate([np.array(one.std) for one in known])
    ends = (means.min(axis=0), means.max(axis=0), deviations.min(axis=0), deviations.max(axis=0))
    return tuple(tuple(round(float(v), 5) for v in end) for end in ends)


def strange_bands(statistics: Statistics, ranges: Ranges) -> list[list[int]]:
    """Of each date, which bands lie beyond the ranges; none where it is familiar as a whole."""
    low, high, least, most = (np.array(row) for row in ranges)
    found = []
    for mean, deviation in zip(statistics.mean, statistics.std, strict=True):
        strange = _beyond(np.array(mean), low, high) | _beyond(np.array(deviation), least, most)
        enough = strange.mean() > _SHARE
        found.append(np.flatnonzero(strange).tolist() if enough else [])
    return found


def _beyond(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (values < low / _MARGIN) | (values > high * _MARGIN)
