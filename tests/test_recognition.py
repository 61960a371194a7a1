"""Recognition of digits by their z_what."""

import types

import numpy as np
import pytest

from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.evaluation import recognition
from air.evaluation.recognition import Bank, build, fingerprint


def clusters(per_class=30, classes=4, size=5, seed=0):
    """z_what in well separated clusters, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    return (4 * np.eye(classes, size)[labels] + rng.normal(0, 0.3, (len(labels), size))).astype(np.float32), labels


@pytest.fixture
def bank():
    return Bank(*clusters(), fingerprint=7)


def test_objects_get_the_class_of_their_neighbours(bank):
    z_what, labels = clusters(seed=1)
    found, confidences = bank.predict(z_what)
    assert (found == labels).all()
    assert (confidences > 0.99).all()
    middle = (4 * np.eye(4, 5)[0] + 4 * np.eye(4, 5)[1]) / 2
    _, unsure = bank.predict(middle[None])
    assert unsure[0] < 0.9
    assert bank.predict(np.zeros((0, 5)))[0].shape == (0,)


def test_small_banks_and_exact_hits():
    bank = Bank(np.float32([[0, 1], [5, 5]]), np.array([3, 8]), 0)
    labels, confidences = bank.predict(np.float32([[0, 1], [5, 4.9]]))
    assert labels.tolist() == [3, 8]
    assert (confidences > 0.9).all()


def test_a_saved_bank_is_the_same(bank, tmp_path):
    path = tmp_path / "reference_set.npz"
    bank.save(path)
    loaded = Bank.load(path)
    assert loaded.fingerprint == 7
    assert loaded.z_what.dtype == np.float16
    assert (loaded.z_what == bank.z_what).all()
    assert (loaded.labels == bank.labels).all()


GOOD = {"z_what": np.zeros((3, 2), np.float16), "labels": np.zeros(3, np.int8), "fingerprint": np.array(1, np.uint32)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("z_what", np.zeros(3, np.float32)),
        ("z_what", np.zeros((0, 2), np.float32)),
        ("z_what", np.zeros((3, 2), np.int32)),
        ("z_what", np.full((3, 2), np.nan)),
        ("labels", np.zeros(2, np.int8)),
        ("labels", np.array([0, 1, -1])),
        ("labels", np.array([0, 1, 128])),
        ("labels", np.zeros(3)),
        ("labels", np.array([None, 1, 2])),
        ("fingerprint", np.zeros(2, np.uint32)),
        ("fingerprint", np.array(1.5)),
    ],
)
def test_broken_banks_are_refused(tmp_path, field, value):
    path = tmp_path / "reference_set.npz"
    np.savez(path, **{**GOOD, field: value})
    with pytest.raises(DataError, match=field):
        Bank.load(path)


def test_files_that_are_no_banks(tmp_path):
    path = tmp_path / "reference_set.npz"
    with pytest.raises(DataError, match="no such file"):
        Bank.load(path)
    path.write_bytes(b"hello")
    with pytest.raises(DataError, match=r"bank\.npz"):
        Bank.load(path)
    np.savez(path, z_what=GOOD["z_what"])
    with pytest.raises(DataError, match="labels"):
        Bank.load(path)


class Oracle:
    """Stands for a model that finds every object; z_what is the class, and the fingerprint is of no weights."""

    def __init__(self, canvas_size, blind=False):
        self.config = types.SimpleNamespace(canvas_size=canvas_size, z_what_size=3)
        self.parts = [types.SimpleNamespace(get_weights=lambda: [np.ones(3, np.float32)])] * 3
        self.blind, self.seen = blind, 0

    def infer(self, images):
        self.seen += len(images)
        counts = images[:, 0, 0].astype(int) * (not self.blind)
        boxes = np.stack([[[2, 2, 4, 4], [10, 10, 4, 4]]] * len(images)).astype(np.float32)
        z_what = images[:, 0, 1:3, None].astype(np.float32) + np.zeros(3, np.float32)
        return types.SimpleNamespace(count=counts, boxes=boxes, z_what=z_what)


@pytest.fixture
def scenes():
    """300 scenes of 0 to 2 objects, whose count and classes are in their first pixels."""
    rng = np.random.default_rng(0)
    counts, labels = rng.integers(0, 3, 300), rng.integers(0, 5, (300, 2))
    labels[np.arange(2) >= counts[:, None]] = -1
    images = np.zeros((300, 20, 24), np.uint8)
    images[:, 0, 0], images[:, 0, 1:3] = counts, np.maximum(labels, 0)
    boxes = np.stack([[[2, 2, 4, 4], [10, 10, 4, 4]]] * 300).astype(np.float32) * (labels >= 0)[..., None]
    return SceneSet(images, counts, boxes, labels)


def test_a_bank_is_balanced_and_right(scenes):
    model = Oracle((20, 24))
    bank = build(model, scenes, per_class=10, batch_size=50)
    assert np.bincount(bank.labels).tolist() == [10] * 5
    assert (bank.z_what[:, 0] == bank.labels).all()
    assert model.seen < len(scenes)
    bank.check(model)
    model.parts[1] = types.SimpleNamespace(get_weights=lambda: [np.zeros(3, np.float32)])
    with pytest.raises(DataError, match="other weights"):
        bank.check(model)


def test_what_no_bank_can_be_made_of(scenes):
    with pytest.raises(DataError, match="no labels"):
        build(Oracle((20, 24)), SceneSet(scenes.images, scenes.count, scenes.boxes))
    with pytest.raises(DataError, match="canvas_size"):
        build(Oracle((20, 20)), scenes)
    with pytest.raises(DataError, match="finds no object"):
        build(Oracle((20, 24), blind=True), scenes)
    with pytest.raises(UsageError, match="per_class"):
        build(Oracle((20, 24)), scenes, per_class=0)


def test_the_fingerprint_is_of_the_weights(tiny_model, make_model):
    assert fingerprint(tiny_model) == fingerprint(tiny_model)
    assert fingerprint(tiny_model) != fingerprint(make_model(seed=1))


@pytest.mark.parametrize("part", ["controller", "refiner", "encoder", "decoder"])
def test_the_fingerprint_is_of_all_weights_that_decide_z_what(part, make_model):
    model = make_model()
    before, variable = fingerprint(model), getattr(model, part).trainable_variables[-1]
    value = variable.numpy()
    variable.assign(value + 1e-3)
    assert fingerprint(model) != before
    variable.assign(value)
    model.count_prior.assign([0.7, 0.1, 0.1, 0.1])
    assert fingerprint(model) == before


def test_the_command(tmp_path, scenes, monkeypatch, capsys):
    scenes.save(tmp_path / "train.npz")
    monkeypatch.setattr("air.training.checkpoints.load", lambda path: Oracle((20, 24)))
    recognition.main([str(tmp_path), "--data", str(tmp_path), "--per-class", "7"])
    assert "35 objects of 5 classes" in capsys.readouterr().out
    assert len(Bank.load(tmp_path / "reference_set.npz").labels) == 35
