"""Each way in which windows are altered: what it changes, of which date, and by how much."""

import numpy as np
import pytest

from s2cd.learning import chips as module
from s2cd.learning.augment import Augmentation, altered
from s2cd.learning.chips import Chips
from s2cd.learning.places import Place
from s2cd.learning.prepared import Sample
from s2cd.networks.inputs import Statistics
from s2cd.scenes.pair import Window

SIZE = 32
LABEL = (np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 7 == 0).astype(np.uint8)


def window(bands: int = 3) -> Window:
    """Two dates that are the same, with a smooth pattern that no flip or turn leaves as it is."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    date = np.stack([0.1 + 0.2 * y * (band + 1) / bands + 0.1 * x**2 for band in range(bands)])
    date = date.astype(np.float32)
    return Window(date, date.copy(), np.ones((SIZE, SIZE), bool))


def seen(seed: int = 0, size: int = SIZE, **how) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both dates and the mask as they come out."""
    asked = Augmentation(**{"turned": False, **how})
    found, label = altered(window(), LABEL, size, asked, np.random.default_rng(seed))
    return found.before, found.after, label


def test_flips_and_quarter_turns_are_of_both_dates_and_the_mask_together():
    orientations = set()
    for seed in range(60):
        before, after, label = seen(seed, turned=True)
        assert np.array_equal(before, after)
        (same,) = [
            (turns, flip)
            for turns in range(4)
            for flip in (1, -1)
            if np.array_equal(before, np.rot90(window().before, turns, (1, 2))[..., ::flip])
        ]
        assert np.array_equal(label, np.rot90(LABEL, same[0])[:, :: same[1]])
        orientations.add(same)
    assert len(orientations) == 8


def lines(seed: int, **how) -> list[np.ndarray]:
    """Factor and offset that each band of each date was given: two arrays (band, 2)."""
    found = []
    for date in seen(seed, **how)[:2]:
        pairs = zip(window().before, date, strict=True)
        fits = [np.polyfit(old.ravel(), new.ravel(), 1) for old, new in pairs]
        residuals = [
            np.abs(np.polyval(fit, old) - new).max()
            for fit, old, new in zip(fits, window().before, date, strict=True)
        ]
        assert max(residuals) < 1e-5
        found.append(np.array(fits))
    return found


def test_gain_and_offset_are_of_each_band_and_each_date():
    one, other = lines(1, gain=0.1)
    factors = np.concatenate([one[:, 0], other[:, 0]])
    assert len(np.unique(np.round(factors, 4))) == 6 and np.abs(factors - 1).max() < 0.5
    assert np.allclose([one[:, 1], other[:, 1]], 0, atol=1e-5)
    one, other = lines(1, offset=0.1)
    added = np.concatenate([one[:, 1], other[:, 1]])
    assert len(np.unique(np.round(added, 4))) == 6
    assert np.allclose([one[:, 0], other[:, 0]], 1, atol=1e-4)


def test_contrast_and_brightness_are_of_all_bands_and_each_date():
    one, other = lines(2, contrast=0.2)
    assert np.ptp(one[:, 0]) < 1e-4 and abs(one[0, 0] - other[0, 0]) > 0.01
    means = window().before[:, ::8, ::8].mean(axis=(1, 2))
    assert np.allclose(one[:, 0] * means + one[:, 1], means, atol=1e-4)  # about the mean
    one, other = lines(2, brightness=0.05)
    assert np.ptp(one[:, 1]) < 1e-4 and abs(one[0, 1] - other[0, 1]) > 0.001
    assert np.allclose([one[:, 0], other[:, 0]], 1, atol=1e-4)


def test_haze_veils_one_date_in_five_towards_a_bright_grey():
    shares = []
    for seed in range(200):
        for date in lines(seed, haze=0.5):
            share = 1 - date[:, 0].mean()
            assert np.allclose(date[:, 1], 0.4 * share, atol=1e-3) and np.ptp(date[:, 0]) < 1e-3
            assert -1e-3 < share < 0.5
            shares.append(share)
    hazy = np.array(shares) > 1e-3
    assert 0.12 < hazy.mean() < 0.28
    both = hazy.reshape(-1, 2)
    assert (both[:, 0] != both[:, 1]).any()  # not of both dates at once


def test_a_shift_moves_the_later_date_against_the_earlier_and_its_mask():
    moved = set()
    for seed in range(10):
        before, after, label = seen(seed, shift=0.5)
        assert np.array_equal(label, LABEL)
        assert np.allclose(before, window().before, atol=1e-6)
        inner = (slice(None), slice(2, -2), slice(2, -2))
        steps = np.gradient(window().before, axis=1)[inner], np.gradient(before, axis=2)[inner]
        apart = (after - before)[inner]
        down, right = np.linalg.lstsq(np.stack([s.ravel() for s in steps], 1), apart.ravel())[0]
        assert max(abs(down), abs(right)) < 0.52
        moved.add((round(down, 2), round(right, 2)))
    assert len(moved) == 10


def test_scales_are_drawn_apart_for_height_and_width(monkeypatch):
    cut = []

    class Pair:
        bands = ("B02", "B03", "B04")
        shape = (400, 400)

        def window(self, ys, xs):
            shape = ys.stop - ys.start, xs.stop - xs.start
            cut.append(shape)
            date = np.zeros((3, *shape), np.float32)
            return Window(date, date, np.ones(shape, bool))

    statistics = Statistics(((0.0,) * 3,) * 2, ((1.0,) * 3,) * 2)
    place = Place("a", *[None] * 3)
    sample = Sample(place, Pair(), np.zeros((400, 400), np.uint8), statistics)
    chips = Chips((sample,), size=64, batch=100, augmentation=Augmentation(scales=(0.8, 1.25)))
    dates, masks = chips.draw(0, 0)
    assert dates.shape[-2:] == masks.shape[-2:] == (64, 64)
    sides = np.array(cut) / 64
    assert sides.min() >= 0.79 and sides.max() <= 1.26
    assert sides.min() < 0.85 and sides.max() > 1.18
    assert np.corrcoef(sides.T)[0, 1] < 0.4
    assert module.AUGMENTATIONS["strong"].scales == (0.8, 1.25)


@pytest.mark.parametrize("size", [24, 40])
def test_a_window_of_another_scale_keeps_its_mask_over_its_pixels(size):
    before, after, label = seen(size=size)
    assert before.shape == (3, size, size) and np.array_equal(before, after)
    rows = np.rint(np.linspace(0, SIZE - 1, size)).astype(int)
    assert np.array_equal(label, LABEL[rows][:, rows])
    assert np.allclose(before[:, [0, -1], [0, -1]], window().before[:, [0, -1], [0, -1]])
