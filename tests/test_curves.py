"""Scores over thresholds, calibration, and agreement within a pixel."""

import numpy as np
import pytest

from s2cd.learning.curves import (
    average_precision,
    calibration,
    precision_recall,
    write_score_curves,
)
from s2cd.learning.metrics import Nearness, nearness


def counts(*parts):
    result = np.zeros((2, 201), np.int64)
    for truth, stored, pixels in parts:
        result[truth, stored] += pixels
    return result


def test_precision_and_recall_at_each_threshold():
    precision, recall = precision_recall(counts((0, 40, 60), (1, 100, 20), (1, 180, 20)))
    assert precision[0] == 0.4 and recall[0] == 1
    assert precision[41] == 1 and recall[41] == 1
    assert recall[101] == 0.5 and recall[181] == 0 and precision[181] == 1


def test_average_precision_of_a_perfect_and_of_a_blind_detector():
    assert average_precision(counts((0, 40, 60), (1, 100, 20))) == pytest.approx(1)
    assert average_precision(counts((0, 100, 60), (1, 100, 20))) == pytest.approx(0.25)
    assert average_precision(counts((0, 100, 60))) is None


def test_a_probability_that_means_what_it_says_has_no_error():
    right = counts((0, 50, 75), (1, 50, 25), (1, 200, 7))
    assert calibration(right).error == pytest.approx(0)
    wrong = counts((0, 50, 100), (1, 200, 100))
    assert calibration(wrong).error == pytest.approx(0.125)


def test_the_curves_are_drawn(tmp_path):
    one, other = tmp_path / "c.png", tmp_path / "d.png"
    write_score_curves(counts((0, 40, 60), (1, 100, 20)), one)
    write_score_curves(counts((0, 40, 60), (1, 100, 20)), other, 0.3)
    assert one.read_bytes().startswith(b"\x89PNG")
    assert one.read_bytes() != other.read_bytes()  # the threshold is marked


def test_one_pixel_of_distance_is_forgiven_and_two_are_not():
    label = np.zeros((20, 20), np.uint8)
    label[5:10, 5:10] = 1
    for moved, score in (((1, 1), 1.0), ((0, 1), 1.0)):
        assert nearness(np.roll(label, moved, (0, 1)), label).f1 == score
    assert nearness(np.roll(label, 2, 1), label).f1 == pytest.approx(0.8)
    assert nearness(np.roll(label, 9, 1), label).f1 == 0
    blind = label.copy()
    blind[5:10, 5:8] = 255
    assert nearness(blind, label) == Nearness(10, 10, 10, 10)
    assert nearness(label * 0, label * 0).f1 is None
