"""A network heard together with IR-MAD."""

import json

import numpy as np
import pytest
import rasterio
from test_shipped import FOUR, saved, spec

from s2cd.detection.detect import Request, detect_files
from s2cd.errors import S2cdError
from s2cd.learning.agree import agreed_counts, agreed_map, fit_agreement, joint_counts
from s2cd.learning.scenes import counts_of
from s2cd.networks.agreement import Agreement
from s2cd.networks.learned import open_network
from s2cd.networks.scaling import Scaling
from s2cd.networks.spec import Spec
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack

TOGETHER = {"partner": "irmad", "weight": 1.5, "temperature": 3.0, "bias": -1.0}


def stored_pair(seed=0, shape=(300, 400)):
    """Stored maps of two detectors, and a label that follows an agreement of both."""
    random = np.random.default_rng(seed)
    own, other = random.normal(-1, 1.5, (2, *shape))
    change = random.random(shape) < 1 / (1 + np.exp(-(own / 2 + 0.8 * other - 0.5)))
    maps = [np.rint(200 / (1 + np.exp(-odds))).astype(np.uint8) for odds in (own, other)]
    return *maps, change.astype(np.uint8)


def test_an_agreement_is_found_again_and_its_probabilities_are_true():
    own, other, label = stored_pair()
    found = fit_agreement(joint_counts(own, other, label))
    assert found.scaling.temperature == pytest.approx(2, rel=0.05)
    assert found.weight == pytest.approx(0.8, abs=0.04)
    assert found.scaling.bias == pytest.approx(-0.5, abs=0.04)
    stored = agreed_map(own, other, found)
    for low in range(20, 180, 40):
        some = (stored >= low) & (stored < low + 40)
        assert label[some].mean() == pytest.approx(stored[some].mean() / 200, abs=0.03)


def test_the_histogram_of_an_agreement_is_that_of_its_map():
    own, other, label = stored_pair(1)
    own[:10], other[:, :5], label[50:60] = 255, 255, 255
    agreement = Agreement(Scaling(3.0, -1.0), 1.5)
    joint = joint_counts(own, other, label)
    stored = agreed_map(own, other, agreement)
    assert (stored == 255).sum() == ((own == 255) | (other == 255)).sum()
    np.testing.assert_array_equal(agreed_counts(joint, agreement), counts_of(stored, label))


def test_where_nothing_changed_nothing_can_be_learned():
    own, other, label = stored_pair(2)
    with pytest.raises(S2cdError, match="without"):
        fit_agreement(joint_counts(own, other, label * 0))


def test_both_are_heard_and_what_they_learned_comes_back(tmp_path, make_place):
    place = make_place((96, 100), bands=FOUR)
    pair = make_pair(open_stack(place.before), open_stack(place.after))
    alone = open_network(saved(tmp_path / "alone.safetensors"), "cpu").fit(pair)
    network = open_network(saved(tmp_path / "both.safetensors", spec(**TOGETHER)), "cpu")
    both = network.fit(pair)
    window = pair.window(slice(0, network.window), slice(0, network.window))
    dates = window.before[None], window.after[None]
    own, other = alone.predict(*dates), both.partner.predict(*dates)

    def odds(p):
        p = np.clip(p, 1 / 400, 1 - 1 / 400)
        return np.log(p / (1 - p))

    expected = 1 / (1 + np.exp(-(odds(own) / 3 + 1.5 * odds(other) - 1)))
    found, used = both.predict(*dates), slice(network.halo, -network.halo)
    np.testing.assert_allclose(found[:, used, used], expected[:, used, used], atol=1e-5)
    assert np.abs(found - own)[:, used, used].max() > 0.05  # it is not the network alone
    again = network.restore(json.loads(json.dumps(both.numbers())))
    np.testing.assert_array_equal(again.predict(*dates), found)


def test_the_map_does_not_depend_on_blocks(tmp_path, make_place):
    place = make_place((200, 210), bands=FOUR, hole=True)
    checkpoint = saved(tmp_path / "both.safetensors", spec(**TOGETHER))
    maps = []
    for block in (64, 1024):
        out, score = tmp_path / f"c{block}.tif", tmp_path / f"p{block}.tif"
        detect_files(
            Request(place.before, place.after, out, score, model=str(checkpoint), block=block)
        )
        with rasterio.open(score) as file:
            maps.append(file.read(1).astype(int))
    assert np.abs(maps[0] - maps[1]).max() <= 1 and (maps[0] == 255).any()


@pytest.mark.parametrize(
    "changed",
    [{"partner": "pca"}, {"partner": "irmad", "weight": float("nan")}, {"weight": -1.0},
     {"partner": "irmad", "weight": 1e9}, {"partner": "irmad", "classes": 3}],
)  # fmt: skip
def test_a_partner_without_sense_is_refused(changed):
    with pytest.raises(S2cdError):
        spec(**changed)


def test_a_spec_keeps_its_partner_and_an_older_one_has_none():
    one = spec(**TOGETHER)
    assert Spec.from_json(one.to_json()) == one
    values = json.loads(spec().to_json())
    del values["partner"], values["weight"]
    assert Spec.from_json(json.dumps(values)).agreement is None
