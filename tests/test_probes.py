"""Probes read classes from z_what if they are in it, and nothing otherwise."""

import numpy as np
import pytest

from air.data.scenes import SceneSet
from air.evaluation import probes
from air.evaluation.probes import Objects


def clusters(size, seed):
    """Objects of five classes around five corners."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, size)
    return Objects(5 * np.eye(8)[labels] + 0.1 * rng.normal(size=(size, 8)), labels)


def test_separate_classes_are_recognised():
    assert probes.classification(clusters(200, 0), clusters(100, 1)) == {
        "knn": 1.0,
        "linear": 1.0,
        "reference_objects": 200,
        "objects": 100,
    }
    assert probes.clustering(clusters(200, 0), clusters=5) == {"kmeans_ami": pytest.approx(1.0)}


def test_noise_is_recognised_at_chance():
    rng = np.random.default_rng(0)
    reference, test = (Objects(rng.normal(size=(500, 8)), rng.integers(0, 5, 500)) for _ in range(2))
    result = probes.classification(reference, test)
    assert 0.1 < result["knn"] < 0.3
    assert 0.1 < result["linear"] < 0.3
    assert abs(probes.clustering(test, clusters=5)["kmeans_ami"]) < 0.05


def test_too_few_objects_are_left_out():
    few, one_class, none = (Objects(np.zeros((len(labels), 8)), np.array(labels)) for labels in ([0, 1, 2], [0] * 9, []))
    for reference, test in ((few, clusters(9, 0)), (one_class, clusters(9, 0)), (clusters(50, 0), none)):
        assert probes.classification(reference, test) == {}
    assert probes.clustering(few) == {}


def test_objects_are_matched_by_their_centres():
    boxes = np.array([[[0, 0, 4, 4], [10, 10, 4, 4]], [[5, 5, 2, 2], [0, 0, 0, 0]]], float)
    scenes = SceneSet(np.zeros((2, 20, 20), np.uint8), np.array([2, 1]), boxes, np.array([[3, 7], [5, -1]]))
    attended = np.array([[[9, 9, 6, 6], [1, 1, 4, 4], [0, 0, 9, 9]], [[19, 19, 1, 1], [5, 5, 1, 1], [4, 4, 4, 4]]], float)
    matched = probes.matched_objects(np.array([2, 3]), attended, np.arange(6).reshape(2, 3, 1), scenes)
    assert dict(zip(matched.z_what[:, 0].tolist(), matched.labels.tolist(), strict=True)) == {0: 7, 1: 3, 5: 5}
