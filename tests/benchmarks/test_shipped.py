"""What the network that ships does where nothing changed, and where a date is moved or hazy.

The scenes with labels are those that it learned from: their scores are no measure of it, but how
much they fall is one of its robustness.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import s2cd
from s2cd.detection.blocks import classify, lattice_of
from s2cd.detection.prepare import Preparation, prepared
from s2cd.learning.metrics import Confusion, confusion
from s2cd.learning.scenes import stored_map
from s2cd.networks.registry import find_detector
from s2cd.scenes.bands import BANDS, DEFAULT_BANDS
from s2cd.scenes.mask import read_label
from s2cd.scenes.pair import make_pair
from s2cd.scenes.safe import open_folder
from s2cd.scenes.stack import stack_array

OSCD10 = Path(s2cd.__file__).parent / "weights" / "oscd10.safetensors"
CITIES = ("beihai", "bercy", "cupertino", "nantes", "pisa", "rennes", "saclay_e")


def changed(before, after, label=None):
    """The map of a pair as ``detect`` makes it, as a confusion with a label; without: no change."""
    detector = find_detector(str(OSCD10))
    pair = prepared(make_pair(before, after, detector.bands), detector, Preparation()).pair
    place = type("Whole", (), {"pair": pair})
    stored = stored_map(place, detector.fit(pair), lattice_of(detector))
    found = classify(stored, detector.threshold)
    return confusion(found, np.zeros(pair.shape, np.uint8) if label is None else label)


def share(counts: Confusion) -> float:
    return counts.fp / counts.pixels


@pytest.fixture(scope="module")
def scenes(oscd):
    """Both dates and the mask of some cities."""
    found = {}
    for city in CITIES:
        dates = [
            open_folder(oscd / "Images" / city / f, DEFAULT_BANDS).load()
            for f in ("imgs_1", "imgs_2")
        ]
        label = oscd / "Train Labels" / city / "cm" / f"{city}-cm.tif"
        found[city] = (*dates, read_label(label, dates[0].odc.geobox))
    return found


def test_identical_dates_show_nothing(scenes):
    shares = {city: share(changed(before, before)) for city, (before, _, _) in scenes.items()}
    print(json.dumps({"identical dates, share marked": shares}))
    assert max(shares.values()) <= 0.001


def test_clear_dates_of_one_season_show_little(oscd):
    dates = np.load(oscd.parent / "slovenia-l1c" / "REFERENCE_SCENES.npy")
    box = GeoBox((101, 100), slovenia(), "EPSG:32633")
    order = [list(BANDS).index(band) for band in DEFAULT_BANDS]
    september, august, july = (
        stack_array(np.moveaxis(dates[i], -1, 0)[order], box, DEFAULT_BANDS) for i in (2, 3, 4)
    )
    pairs = {
        "30 August to 9 September": (august, september),
        "11 July to 30 August": (july, august),
    }
    shares = {name: share(changed(*pair)) for name, pair in pairs.items()}
    print(json.dumps({"no change, share marked": shares}))
    assert shares["30 August to 9 September"] <= 0.003


def slovenia():
    return Affine(10, 0, 465_181, 0, -10, 5_080_254)


@pytest.fixture(scope="module")
def plain(scenes):
    return total(scenes, lambda after: after)


def total(scenes, alter) -> float:
    """F1 over all pixels of all scenes with `after` altered."""
    counts = [changed(b, alter(a), label) for b, a, label in scenes.values()]
    return sum(counts, Confusion()).f1


def shifted(after):
    box = after.odc.geobox
    moved = GeoBox(box.shape, box.affine * box.affine.translation(1, 0), box.crs)
    return stack_array(after.values, moved, DEFAULT_BANDS)


def test_a_shift_of_a_pixel_costs_little(scenes, plain):
    found = total(scenes, shifted)
    print(json.dumps({"F1": plain, "after moved by a pixel": found}))
    assert found >= plain - 0.02


@pytest.mark.parametrize("name", ["haze", "+10 %", "-10 %"])
def test_haze_and_gain_cost_little(scenes, plain, name):
    how = {
        "haze": lambda a: a * 0.9 + 0.04,
        "+10 %": lambda a: a * 1.1,
        "-10 %": lambda a: a * 0.9,
    }[name]
    found = total(scenes, lambda a: replace_values(a, how(a.values)))
    print(json.dumps({"F1": plain, name: found}))
    assert found >= plain - 0.03


def replace_values(after, values):
    return stack_array(values.astype(np.float32), after.odc.geobox, DEFAULT_BANDS)
