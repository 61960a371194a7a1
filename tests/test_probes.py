"""The probes read classes from z_what where they are in it, and nothing where they are not."""

import numpy as np
import pytest

from air.data.scenes import SceneSet
from air.evaluation import probes
from air.evaluation.probes import Objects


def clusters(size, seed, spread=0.1):
    """Objects of five classes around five corners."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, size)
    return Objects(5 * np.eye(8)[labels] + spread * rng.normal(size=(size, 8)), labels)


def test_separate_classes_are_told_apart():
    assert probes.classification(clusters(200, 0), clusters(100, 1)) == {"knn": 1.0, "linear": 1.0, "bank": 200, "objects": 100}
    assert probes.clustering(clusters(200, 0), clusters=5) == {"kmeans_ami": pytest.approx(1.0)}


def test_noise_tells_nothing():
    rng = np.random.default_rng(0)
    bank, test = (Objects(rng.normal(size=(500, 8)), rng.integers(0, 5, 500)) for _ in range(2))
    result = probes.classification(bank, test)
    assert 0.1 < result["knn"] < 0.3
    assert 0.1 < result["linear"] < 0.3
    assert abs(probes.clustering(test, clusters=5)["kmeans_ami"]) < 0.05


def test_too_little_is_left_out():
    few = Objects(np.zeros((3, 8)), np.arange(3))
    one_class = Objects(np.zeros((9, 8)), np.zeros(9))
    assert probes.classification(few, clusters(9, 0)) == {}
    assert probes.classification(one_class, clusters(9, 0)) == {}
    assert probes.classification(clusters(50, 0), Objects(np.zeros((0, 8)), np.zeros(0))) == {}
    assert probes.clustering(few) == {}


def test_objects_are_matched_by_their_centres():
    boxes = np.array([[[0, 0, 4, 4], [10, 10, 4, 4]], [[5, 5, 2, 2], [0, 0, 0, 0]]], float)
    scenes = SceneSet(np.zeros((2, 20, 20), np.uint8), np.array([2, 1]), boxes, np.array([[3, 7], [5, -1]]))
    windows = np.array([[[9, 9, 6, 6], [1, 1, 4, 4], [0, 0, 9, 9]], [[19, 19, 1, 1], [5, 5, 1, 1], [4, 4, 4, 4]]], float)
    z_what = np.arange(6).reshape(2, 3, 1)
    matched = probes.matched_objects(np.array([2, 3]), windows, z_what, scenes)
    assert dict(zip(matched.z_what[:, 0].tolist(), matched.labels.tolist(), strict=True)) == {0: 7, 1: 3, 5: 5}
