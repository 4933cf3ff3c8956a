"""IR-MAD: invariance, robustness against singular covariances, and the laws of all detectors."""

import json

import numpy as np
import pytest
from conftest import grid, landscape

from s2cd.errors import S2cdError
from s2cd.networks.classical import IrMad
from s2cd.networks.registry import find_detector
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import stack_array

SHAPE = (200, 230)
SQUARE = slice(60, 90), slice(100, 140)


def pair_of(before, after):
    names = DEFAULT_BANDS[: len(before)]
    return make_pair(*(stack_array(date, grid(SHAPE), names) for date in (before, after)))


def noisy(date, scale, seed):
    random = np.random.default_rng(seed)
    return (date + random.normal(scale=scale, size=date.shape)).astype(np.float32)


def dates(bands=4):
    before = landscape(SHAPE, bands)
    after = noisy(before * 1.1 + 0.01, 0.004, 5)
    after[:, *SQUARE] = noisy(np.full((bands, 30, 40), 0.5), 0.01, 6)
    return before, after


def scores(frozen, before, after):
    return frozen.predict(before[None], after[None])[0]


def f1(found):
    truth = np.zeros(SHAPE, bool)
    truth[SQUARE] = True
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.mark.parametrize("bands", [1, 3, 10])
def test_a_change_is_found_and_little_else(bands):
    before, after = dates(bands)
    found = scores(find_detector("irmad").fit(pair_of(before, after)), before, after) >= 0.5
    assert f1(found) > 0.75


@pytest.mark.parametrize("bands", [1, 3, 10])
def test_identical_dates_score_nothing(bands):
    before, _ = dates(bands)
    frozen = IrMad().fit(pair_of(before, before))
    assert scores(frozen, before, before).max() < 1e-4


@pytest.mark.parametrize("noise", [1e-4, 1e-3, 1e-2])
def test_noise_alone_is_no_change(noise):
    before, _ = dates()
    after = noisy(before, noise, 7)
    assert (scores(IrMad().fit(pair_of(before, after)), before, after) < 0.5).mean() > 0.9999


def test_gain_and_offset_of_each_band_change_nothing():
    before, after = dates()
    gain = np.array([0.5, 0.8, 1.3, 2.0], np.float32)[:, None, None]
    offset = np.array([0.2, -0.05, 0.1, 0.0], np.float32)[:, None, None]
    other = after * gain + offset
    one, two = (scores(IrMad().fit(pair_of(before, x)), before, x) for x in (after, other))
    np.testing.assert_allclose(one, two, atol=2e-3)


def test_signs_of_the_variates_are_of_no_meaning():
    before, after = dates()
    frozen = IrMad().fit(pair_of(before, after))
    numbers = frozen.numbers()
    for key in ("of_before", "of_after"):
        numbers[key] = [[-w for w in numbers[key][0]], *numbers[key][1:]]
    turned = IrMad().restore(numbers)
    np.testing.assert_array_equal(scores(frozen, before, after), scores(turned, before, after))


def test_unchanged_pixels_have_differences_of_variance_1_with_the_doubt():
    before = landscape(SHAPE, 4)
    after = noisy(before, 0.02, 7)
    frozen = IrMad().fit(pair_of(before, after))
    assert list(frozen.correlation) == sorted(frozen.correlation, reverse=True)
    assert 0.7 < frozen.correlation[0] < 1
    parts = (
        np.einsum("ij,jhw->ihw", np.array(weights), date - np.array(mean)[:, None, None])
        for weights, date, mean in (
            (frozen.of_before, before, frozen.mean_before),
            (frozen.of_after, after, frozen.mean_after),
        )
    )
    variance = np.subtract(*parts).var(axis=(1, 2))
    ratio = after.std(axis=(1, 2)) / before.std(axis=(1, 2))
    doubt = (np.square(frozen.of_before) + np.square(frozen.of_after * ratio)).sum(axis=1) * 1e-4
    assert (doubt > 0.1).all()
    assert ((variance + doubt > 0.95) & (variance + doubt < 1.3)).all(), "weights trim its tails"


def constant(before, after):
    before[1], after[1] = 0.2, 0.2


def repeated(before, after):
    before[1], after[1] = before[0], after[0]


def constant_after(before, after):
    after[1] = 0.3


@pytest.mark.parametrize("spoil", [constant, repeated, constant_after])
def test_singular_covariances_are_no_obstacle(spoil):
    before, after = dates()
    spoil(before, after)
    found = scores(IrMad().fit(pair_of(before, after)), before, after)
    assert np.isfinite(found).all() and f1(found >= 0.5) > 0.75


def test_dates_without_any_contrast_score_nothing():
    flat = np.full((3, *SHAPE), 0.2, np.float32)
    assert (scores(IrMad().fit(pair_of(flat, flat)), flat, flat) == 0).all()


def test_fit_is_the_same_again_and_goes_through_json():
    before, after = dates()
    pair = pair_of(before, after)
    frozen = IrMad().fit(pair)
    again = IrMad().restore(json.loads(json.dumps(frozen.numbers())))
    assert again == frozen == IrMad().fit(pair)
    np.testing.assert_array_equal(scores(frozen, before, after), scores(again, before, after))


def test_a_window_scores_the_same_in_any_batch():
    before, after = dates()
    frozen = IrMad().fit(pair_of(before, after))
    windows = [(date[:, :100, :100], date[:, 50:150, 90:190]) for date in (before, after)]
    both = frozen.predict(*(np.stack(parts) for parts in windows))
    for number in range(2):
        alone = scores(frozen, *(parts[number] for parts in windows))
        np.testing.assert_array_equal(both[number], alone)


def test_missing_pixels_reach_no_further_than_the_halo():
    before, after = dates()
    detector = IrMad()
    frozen = detector.fit(pair_of(before, after))
    holed = after.copy()
    holed[2, 100:104, 50:53] = np.nan
    differs = scores(frozen, before, after) != scores(frozen, before, holed)
    halo = detector.halo
    differs[100 - halo : 104 + halo, 50 - halo : 53 + halo] = False
    assert not differs.any()
    assert np.isfinite(scores(frozen, before, holed)).all()


def test_a_date_without_data_is_refused():
    before, after = dates()
    with pytest.raises(S2cdError, match="No pixel has data in both dates"):
        IrMad().fit(pair_of(before, np.full_like(after, np.nan)))
