"""Scores have the values that are known by hand, and elsewhere those of scikit-learn and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score

from air.evaluation import scores

LEFT, RIGHT, FAR, NONE = [0, 0, 10, 10], [20, 0, 10, 10], [0, 30, 10, 10], [0, 0, 0, 0]
NAN = np.nan


def localise(detected, true, confidence=None):
    """Call `localisation` on scenes given as lists of boxes."""

    def padded(scenes):
        slots = max(map(len, scenes)) or 1
        return np.array([boxes + [NONE] * (slots - len(boxes)) for boxes in scenes], float)

    boxes, true_boxes = padded(detected), padded(true)
    confidence = np.ones(boxes.shape[:2]) if confidence is None else np.array(confidence)
    return scores.localisation(boxes, [len(b) for b in detected], confidence, true_boxes, [len(b) for b in true])


def test_counts():
    result = scores.count_accuracy([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 3, 1])
    assert result["accuracy"] == pytest.approx(4 / 7)
    assert result["absolute_error"] == pytest.approx(3 / 7)
    assert result["by_count"] == pytest.approx({"0": 0.5, "1": 1.0, "2": 1 / 3})
    assert result["confusion"] == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 1, 1, 1]]
    # Newcombe (1998), table I: 81 of 263 has the Wilson interval 0.2553 to 0.3662.
    interval = scores.count_accuracy(np.zeros(263), np.arange(263) >= 81)["interval"]
    assert interval == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_tight_boxes():
    objects = np.zeros((2, 3, 8, 9))
    objects[0, 0, 2:5, 3:7] = 0.9
    objects[0, 0, 0, 0] = 0.1
    objects[1, 2, 7, 8] = 0.5
    boxes = scores.tight_boxes(objects, 0.2)
    assert boxes[0].tolist() == [[3, 2, 4, 3], NONE, NONE]
    assert boxes[1, 2].tolist() == [8, 7, 1, 1]
    assert scores.tight_boxes(objects, 0.1)[0, 0].tolist() == [0, 0, 7, 5]


def test_iou():
    boxes = [[0, 0, 2, 2], [1, 0, 2, 2], [4, 4, 1, 1], NONE]
    expected = [[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(scores.iou(boxes, boxes), expected)


def test_matching_has_the_lowest_total_cost():
    cost = np.array([[[1.0, 2.0], [0.0, 5.0]], [[0.0, 9.0], [9.0, 0.0]]])
    pairs = scores.match(cost, np.array([2, 1]), np.array([2, 2]))
    assert list(zip(*pairs, strict=True)) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


@pytest.mark.parametrize(
    ("detected", "true", "confidence", "expected"),  # the scores: pairs, mean_iou, ap50, false_positives, missed
    [
        ([[LEFT, RIGHT], [], [FAR]], [[RIGHT, LEFT], [], [FAR]], None, (3, 1.0, 1.0, 0, 0)),
        ([[], []], [[LEFT], [RIGHT, FAR]], None, (0, NAN, 0.0, 0, 3)),
        ([[LEFT]], [[]], None, (0, NAN, 0.0, 1, 0)),
        ([[]], [[]], None, (0, NAN, NAN, 0, 0)),
        ([[LEFT, FAR]], [[LEFT]], [[0.9, 0.8]], (1, 1.0, 1.0, 1, 0)),  # ranked after all objects were found
        ([[LEFT, FAR]], [[LEFT]], [[0.8, 0.9]], (1, 1.0, 0.5, 1, 0)),
        ([[LEFT, FAR]], [[LEFT]], [[0.9, 0.9]], (1, 1.0, 0.5, 1, 0)),  # equal ones have no order
        ([[LEFT, LEFT]], [[LEFT]], [[0.9, 0.8]], (1, 1.0, 1.0, 1, 0)),  # an object is found once
    ],
)
def test_localisation(detected, true, confidence, expected):
    result = localise(detected, true, confidence)
    names = ("pairs", "mean_iou", "ap50", "false_positives", "missed")
    assert tuple(result[name] for name in names) == pytest.approx(expected, nan_ok=True)


def test_shifted_boxes():
    result = localise([[[2, 0, 10, 10]]], [[LEFT]])  # IoU 8 / 12
    assert result["mean_iou"] == pytest.approx(2 / 3)
    assert result["centre_error"] == 2.0
    assert (result["ap50"], result["ap"]) == (1.0, pytest.approx(0.4))  # a hit at 0.5, 0.55, 0.6 and 0.65 of ten thresholds


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_average_precision_is_that_of_scikit_learn_where_precision_falls(gaps):
    """There, scikit-learn's lack of interpolation makes no difference."""
    ranks = np.cumsum(sorted(gaps)) - 1
    hits = np.isin(np.arange(ranks[-1] + 3), ranks)
    confidence = np.linspace(1, 0, len(hits))
    expected = average_precision_score(hits, confidence)
    assert scores.average_precision(confidence, hits, hits.sum()) == pytest.approx(expected)
    assert scores.average_precision(confidence, hits, 2 * hits.sum()) == pytest.approx(expected / 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_interpolation_never_lowers_the_average_precision(seed):
    rng = np.random.default_rng(seed)
    confidence, hits = rng.integers(0, 5, 30) / 5, rng.random(30) < 0.5
    hits[0] = True
    ours = scores.average_precision(confidence, hits, hits.sum())
    assert average_precision_score(hits, confidence) - 1e-9 <= ours <= 1


def test_foreground_ari():
    truth = np.uint8([[[1, 1, 2, 2, 0, 0]]] * 4 + [[[0] * 6]])
    perfect, swapped, merged, background = [1, 1, 2, 2, 0, 0], [2, 2, 1, 1, 0, 0], [1] * 6, [1, 1, 2, 2, 1, 2]
    segments = np.uint8([[perfect], [swapped], [merged], [background], [perfect]])
    np.testing.assert_array_equal(scores.foreground_ari(truth, segments), [1, 1, 0, 1, NAN])


def test_mean_and_error():
    values = np.array([1.0, 2.0, 4.0])
    assert scores.mean_and_error(values) == pytest.approx({"mean": 7 / 3, "error": stats.sem(values)})
    assert np.isnan(scores.mean_and_error([1.0])["error"])
