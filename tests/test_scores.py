"""Scores have the values that they must have in cases where these are known, and scikit-learn's and SciPy's elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import adjusted_rand_score, average_precision_score, confusion_matrix

from air.evaluation import scores

LEFT, RIGHT, FAR = [0, 0, 10, 10], [20, 0, 10, 10], [0, 30, 10, 10]
NONE = [0, 0, 0, 0]


def localise(detected, true, confidence=None):
    """`localisation` of scenes given as lists of boxes."""

    def padded(scenes):
        slots = max(map(len, scenes)) or 1
        return np.array([boxes + [NONE] * (slots - len(boxes)) for boxes in scenes], float)

    boxes, true_boxes = padded(detected), padded(true)
    confidence = np.ones(boxes.shape[:2]) if confidence is None else np.array(confidence)
    return scores.localisation(boxes, [len(b) for b in detected], confidence, true_boxes, [len(b) for b in true])


def test_wilson_interval():
    # Newcombe (1998), table I: 81 of 263 has the Wilson interval 0.2553 to 0.3662.
    assert scores.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    low, high = scores.wilson_interval(50, 50)
    assert low == pytest.approx(50 / (50 + stats.norm.ppf(0.975) ** 2))
    assert high == 1.0


def test_counts():
    true, inferred = [0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 3, 1]
    result = scores.count_accuracy(true, inferred)
    assert result["accuracy"] == pytest.approx(4 / 7)
    assert result["by_count"] == pytest.approx({"0": 0.5, "1": 1.0, "2": 1 / 3})
    assert result["confusion"] == confusion_matrix(true, inferred)[:3].tolist()
    assert result["interval"] == scores.wilson_interval(4, 7)


def test_counts_when_all_is_right():
    result = scores.count_accuracy([0, 1, 2], [0, 1, 2])
    assert (result["accuracy"], result["confusion"]) == (1.0, np.eye(3).tolist())


def test_tight_boxes():
    objects = np.zeros((2, 3, 8, 9))
    objects[0, 0, 2:5, 3:7] = 0.9
    objects[0, 0, 0, 0] = 0.1
    objects[1, 2, 7, 8] = 0.5
    boxes = scores.tight_boxes(objects, 0.2)
    assert boxes[0, 0].tolist() == [3, 2, 4, 3]
    assert boxes[1, 2].tolist() == [8, 7, 1, 1]
    assert not boxes[0, 1:].any()
    assert scores.tight_boxes(objects, 0.1)[0, 0].tolist() == [0, 0, 7, 5]


def test_iou():
    boxes = [[0, 0, 2, 2], [1, 0, 2, 2], [4, 4, 1, 1], NONE]
    expected = [[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(scores.iou(boxes, boxes), expected)


def test_matching_is_the_best_of_all():
    cost = np.array([[[1.0, 2.0], [0.0, 5.0]], [[0.0, 9.0], [9.0, 0.0]]])
    pairs = scores.match(cost, np.array([2, 1]), np.array([2, 2]))
    assert list(zip(*pairs, strict=True)) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


def test_perfect_boxes_in_any_order():
    result = localise([[LEFT, RIGHT], [], [FAR]], [[RIGHT, LEFT], [], [FAR]])
    assert result == {
        "pairs": 3, "mean_iou": 1.0, "centre_error": 0.0, "ap50": 1.0, "ap": 1.0, "false_positives": 0, "missed": 0
    }  # fmt: skip


def test_no_boxes_at_all():
    result = localise([[], []], [[LEFT], [RIGHT, FAR]])
    assert (result["pairs"], result["ap50"], result["missed"], result["false_positives"]) == (0, 0.0, 3, 0)
    assert np.isnan(result["mean_iou"])


def test_nothing_to_find():
    result = localise([[LEFT]], [[]])
    assert (result["ap50"], result["false_positives"], result["missed"]) == (0.0, 1, 0)
    assert np.isnan(localise([[]], [[]])["ap50"])


def test_one_false_positive():
    assert localise([[LEFT, FAR]], [[LEFT]], [[0.9, 0.8]])["ap50"] == 1.0  # ranked after all objects were found
    result = localise([[LEFT, FAR]], [[LEFT]], [[0.8, 0.9]])
    assert (result["ap50"], result["false_positives"], result["missed"]) == (0.5, 1, 0)
    assert localise([[LEFT, FAR]], [[LEFT]], [[0.9, 0.9]])["ap50"] == 0.5  # of equals, none comes first


def test_an_object_counts_once():
    result = localise([[LEFT, LEFT]], [[LEFT]], [[0.9, 0.8]])
    assert (result["ap50"], result["false_positives"]) == (1.0, 1)


def test_shifted_boxes():
    result = localise([[[2, 0, 10, 10]]], [[LEFT]])  # IoU 8 / 12
    assert result["mean_iou"] == pytest.approx(2 / 3)
    assert result["centre_error"] == 2.0
    assert (result["ap50"], result["ap"]) == (1.0, pytest.approx(0.4))  # right at 0.5, 0.55, 0.6 and 0.65 of ten thresholds


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_average_precision_is_that_of_scikit_learn_where_precision_falls(gaps):
    # Without the interpolation, which scikit-learn doesn't do, both are the same.
    hits = np.cumsum(sorted(gaps)) - 1
    right = np.isin(np.arange(hits[-1] + 3), hits)
    confidence = np.linspace(1, 0, len(right))
    expected = average_precision_score(right, confidence)
    assert scores.average_precision(confidence, right, right.sum()) == pytest.approx(expected)
    assert scores.average_precision(confidence, right, 2 * right.sum()) == pytest.approx(expected / 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_interpolation_never_lowers_the_average_precision(seed):
    rng = np.random.default_rng(seed)
    confidence, right = rng.integers(0, 5, 30) / 5, rng.random(30) < 0.5
    right[0] = True
    ours = scores.average_precision(confidence, right, right.sum())
    assert average_precision_score(right, confidence) - 1e-9 <= ours <= 1


def test_segments_are_the_brightest_object():
    objects = np.zeros((1, 2, 2, 2))
    objects[0, 0], objects[0, 1] = [[0.5, 0.1], [0, 0]], [[0.4, 0.2], [0, 0.3]]
    assert scores.segment(objects).tolist() == [[[1, 2], [0, 2]]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**31 - 1))
def test_ari_is_that_of_scikit_learn(most_true, most_inferred, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, most_true + 1, (6, 4, 5)).astype(np.uint8)
    inferred = rng.integers(0, most_inferred + 1, (6, 4, 5)).astype(np.uint8)
    inferred[0] = truth[0]
    truth[1] = 0
    for ours, t, i in zip(scores.foreground_ari(truth, inferred), truth, inferred, strict=True):
        expected = adjusted_rand_score(t[t > 0], i[t > 0]) if t.any() else np.nan
        assert ours == pytest.approx(expected, nan_ok=True)


def test_ari_of_known_cases():
    truth = np.array([[[1, 1, 2, 2, 0, 0]]] * 4, np.uint8)
    perfect, swapped, merged, background = [1, 1, 2, 2, 0, 0], [2, 2, 1, 1, 0, 0], [1] * 6, [1, 1, 2, 2, 1, 2]
    inferred = np.array([[perfect], [swapped], [merged], [background]], np.uint8)
    assert scores.foreground_ari(truth, inferred).tolist() == [1, 1, 0, 1]


def test_mean_and_error():
    values = np.array([1.0, 2.0, 4.0])
    assert scores.mean_and_error(values) == pytest.approx({"mean": 7 / 3, "error": stats.sem(values)})
    assert np.isnan(scores.mean_and_error([1.0])["error"])
