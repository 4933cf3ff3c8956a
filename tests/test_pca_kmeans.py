"""PCA-k-means: what it must hold whatever it learns from."""

import json

import numpy as np
import pytest
from conftest import grid, landscape
from scipy.ndimage import correlate

from s2cd.errors import S2cdError
from s2cd.networks.classical import PcaKmeans, pca_kmeans
from s2cd.networks.registry import find_detector
from s2cd.scenes.bands import DEFAULT_BANDS
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import stack_array

SHAPE = (200, 230)
SQUARE = slice(60, 90), slice(100, 140)


def pair_of(before, after):
    names = DEFAULT_BANDS[: len(before)]
    return make_pair(*(stack_array(date, grid(SHAPE), names) for date in (before, after)))


def dates(bands=4, noise=0.004):
    before = landscape(SHAPE, bands)
    random = np.random.default_rng(5)
    after = before * 1.1 + 0.01 + random.normal(scale=noise, size=before.shape).astype(np.float32)
    after[:, *SQUARE] += 0.15
    return before, after.astype(np.float32)


def scores(frozen, before, after):
    return frozen.predict(before[None], after[None])[0]


def truth():
    mask = np.zeros(SHAPE, bool)
    mask[SQUARE] = True
    return mask


@pytest.mark.parametrize("bands", [1, 3, 10])
def test_a_change_is_found_and_little_else(bands):
    before, after = dates(bands)
    found = scores(find_detector("pca-kmeans").fit(pair_of(before, after)), before, after) >= 0.5
    assert 2 * (found & truth()).sum() / (found.sum() + truth().sum()) > 0.85


@pytest.mark.parametrize("bands", [1, 10])
def test_identical_dates_score_exactly_0(bands):
    before, _ = dates(bands)
    frozen = PcaKmeans().fit(pair_of(before, before))
    assert (scores(frozen, before, before) == 0).all()


@pytest.mark.parametrize("noise", [1e-4, 1e-3, 1e-2])
def test_noise_alone_is_not_cut_in_two(noise):
    before = landscape(SHAPE, 4)
    random = np.random.default_rng(7)
    after = (before + random.normal(scale=noise, size=before.shape)).astype(np.float32)
    assert (scores(PcaKmeans().fit(pair_of(before, after)), before, after) < 0.5).all()


def test_a_score_of_one_half_is_where_both_centres_are_equally_near(monkeypatch):
    seen = {}
    part = pca_kmeans._two_means

    def listen(features, upper):
        seen["features"], seen["centres"] = features, part(features, upper)
        return seen["centres"]

    monkeypatch.setattr(pca_kmeans, "_two_means", listen)
    before, after = dates()
    frozen = PcaKmeans().fit(pair_of(before, after))
    distances = [np.square(seen["features"] - c[:, None]).sum(axis=0) for c in seen["centres"]]
    nearer = distances[1] < distances[0]
    kernel, whole = np.array(frozen.kernel), frozen.length(before, after).astype(np.float64)
    way = correlate(whole, kernel, mode="constant") + frozen.bias
    inside = way[4:-4, 4:-4]
    assert len(seen["features"]) == 3 and 0.02 < nearer.mean() < 0.1
    assert abs((way > 0.5).mean() - nearer.mean()) < 1e-3
    found = scores(frozen, before, after)[4:-4, 4:-4] >= 0.5
    clear = np.abs(inside - 0.5) > 1e-4
    np.testing.assert_array_equal(found[clear], (inside >= 0.5)[clear])


def test_fit_is_the_same_again_and_goes_through_json():
    before, after = dates()
    pair = pair_of(before, after)
    frozen = PcaKmeans().fit(pair)
    again = PcaKmeans().restore(json.loads(json.dumps(frozen.numbers())))
    assert again == frozen == PcaKmeans().fit(pair)
    np.testing.assert_array_equal(scores(frozen, before, after), scores(again, before, after))


def test_a_window_scores_the_same_in_any_batch():
    before, after = dates()
    frozen = PcaKmeans().fit(pair_of(before, after))
    windows = [(date[:, :100, :100], date[:, 50:150, 90:190]) for date in (before, after)]
    both = frozen.predict(*(np.stack(parts) for parts in windows))
    for number in range(2):
        alone = scores(frozen, *(parts[number] for parts in windows))
        np.testing.assert_array_equal(both[number], alone)


def test_missing_pixels_reach_no_further_than_the_halo():
    before, after = dates()
    detector = PcaKmeans()
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
        PcaKmeans().fit(pair_of(before, np.full_like(after, np.nan)))
