"""Recognition of digits by the nearest neighbours of their z_what."""

import dataclasses
import types

import numpy as np
import pytest

from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.evaluation import recognition
from air.evaluation.recognition import ReferenceSet, build, fingerprint, reference_set_path


def clusters(seed):
    """z_what [120, 5] in four well separated clusters, and their labels."""
    labels = np.repeat(np.arange(4), 30)
    return 4 * np.eye(4, 5)[labels] + np.random.default_rng(seed).normal(0, 0.3, (120, 5)), labels


@pytest.fixture
def reference_set():
    z_what, labels = clusters(seed=0)
    return ReferenceSet(z_what.astype(np.float16), labels.astype(np.int8), fingerprint=7)


def test_objects_get_the_class_of_their_neighbours(reference_set):
    z_what, labels = clusters(seed=1)
    found, confidences = reference_set.predict(z_what)
    assert (found == labels).all()
    assert (confidences > 0.99).all()
    middle = 2 * np.eye(4, 5)[:2].sum(axis=0)
    assert reference_set.predict(middle[None])[1][0] < 0.9
    assert reference_set.predict(np.zeros((0, 5)))[0].shape == (0,)
    small = ReferenceSet(np.float16([[0, 1], [5, 5]]), np.int8([3, 8]), 0)  # with fewer objects than neighbours
    assert small.predict([[0, 1], [5, 4.9]])[0].tolist() == [3, 8]


def test_objects_unlike_all_others_are_not_familiar(reference_set):
    z_what, _ = clusters(seed=1)
    assert reference_set.recognise(z_what)[2].mean() > 0.9
    assert not reference_set.recognise([np.full(5, 2.0), np.full(5, -9.0)])[2].any()  # between all clusters, and far away
    mismatch = np.linspace(0, 0.1, 120)
    measured = dataclasses.replace(reference_set, mismatch=mismatch.astype(np.float16))
    assert measured.recognise(measured.z_what, mismatch)[2].mean() == pytest.approx(recognition.FAMILIAR, abs=0.03)
    assert not measured.recognise(measured.z_what, np.full(120, 0.11))[2].any()
    alone = ReferenceSet(np.float16([[0, 1]]), np.int8([3]), 0)
    assert alone.recognise([[0, 1], [0, 5]])[2].tolist() == [True, False]


def test_the_mismatch_of_objects(tiny_model, tiny_images):
    scenes = tiny_model.infer(tiny_images)
    some = scenes.count > 0
    assert some.any()
    assert np.abs(recognition.mismatch(0.5 * scenes.reconstruction, scenes)[some]).max() < 1e-5  # however bright it is
    assert (recognition.mismatch(np.zeros_like(tiny_images), scenes) == 1).all()
    assert (recognition.mismatch(tiny_images, scenes)[some] > 1e-3).all()


def test_the_mismatch_in_colour_is_that_of_three_equal_channels(tiny_model, tiny_images):
    scenes = tiny_model.infer(tiny_images)
    coloured = scenes._replace(reconstruction=np.repeat(scenes.reconstruction[..., None], 3, axis=-1))
    images = np.repeat(tiny_images[..., None], 3, axis=-1)
    expected = recognition.mismatch(tiny_images, scenes)
    np.testing.assert_allclose(recognition.mismatch(images, coloured), expected, atol=1e-5)


@pytest.mark.parametrize("mismatch", [None, np.float16(np.linspace(0, 1, 120))])
def test_files(reference_set, tmp_path, mismatch):
    path, saved = tmp_path / "reference_set.npz", dataclasses.replace(reference_set, mismatch=mismatch)
    saved.save(path)
    loaded = ReferenceSet.load(path)
    for name in ("z_what", "labels", "fingerprint", "mismatch"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name), strict=True)


def test_the_older_name_of_the_file(tmp_path):
    assert reference_set_path(tmp_path / "air.keras") == tmp_path / "reference_set.npz"
    (tmp_path / "bank.npz").touch()
    assert reference_set_path(tmp_path) == tmp_path / "bank.npz"
    (tmp_path / "reference_set.npz").touch()
    assert reference_set_path(str(tmp_path)) == tmp_path / "reference_set.npz"


GOOD = {"z_what": np.zeros((3, 2), np.float16), "labels": np.zeros(3, np.int8), "fingerprint": np.array(1, np.uint32)}


BAD = [
    *(("z_what", value) for value in (np.zeros(3), np.zeros((0, 2)), np.full((3, 2), np.nan))),
    *(("labels", value) for value in (np.zeros(2, np.int8), np.array([0, 1, -1]))),
    ("fingerprint", np.array(1.5)),
    *(("mismatch", value) for value in (np.zeros(2), np.full(3, np.nan))),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_damaged_files(tmp_path, field, value):
    np.savez(tmp_path / "reference_set.npz", **{**GOOD, field: value})
    with pytest.raises(DataError, match=rf"reference_set\.npz: {field}: .* is not allowed"):
        ReferenceSet.load(tmp_path / "reference_set.npz")


BOXES = np.float32([[2, 2, 4, 4], [10, 10, 4, 4]])


class Oracle:
    """Stands for a model that finds every object; z_what is the class, and the weights are one array."""

    def __init__(self, canvas_size=(20, 24), blind=False, any_size=False):
        takes = dict.fromkeys(("takes_any_canvas", "takes_any_size"), any_size)
        self.config = types.SimpleNamespace(canvas_size=canvas_size, z_what_size=3, smallest_canvas=(8, 18), **takes)
        self.parts = [types.SimpleNamespace(get_weights=lambda: [np.ones(3, np.float32)])] * 3
        self.blind, self.seen = blind, 0

    def infer(self, images, any_size):
        self.seen += len(images)
        height, width = images.shape[1:]
        self.sizes = getattr(self, "sizes", set()) | {(height, width, any_size)}
        left, right, top, bottom = width // 4, 3 * width // 4, height // 4, 3 * height // 4
        count = images[:, top, left].astype(int) * (not self.blind)
        boxes = np.tile(BOXES * np.float32([width / 24, height / 20] * 2), (len(images), 1, 1))
        z_what = images[:, [top, bottom], right, None].astype(np.float32) + np.zeros(3, np.float32)
        windows = {
            "scale": boxes[..., 2] / 24,
            "shift": 0 * boxes[..., :2],
            "z_where": np.float32(np.concatenate([boxes[..., 2:3] / 24, 0 * boxes[..., :2]], axis=-1)),
            "decoded_windows": np.zeros((*boxes.shape[:2], 4, 4)),
        }
        reconstruction = np.zeros(images.shape, np.float32)
        found = {"count": count, "attention_boxes": boxes, "z_what": z_what, "reconstruction": reconstruction}
        return types.SimpleNamespace(**found, **windows)


@pytest.fixture
def scenes():
    """300 scenes of 0 to 2 objects, whose count is in the upper left quarter, and whose classes are in those on the right."""
    rng = np.random.default_rng(0)
    counts, labels = rng.integers(0, 3, 300), rng.integers(0, 5, (300, 2))
    labels[np.arange(2) >= counts[:, None]] = -1
    images = np.zeros((300, 20, 24), np.uint8)
    images[:, :10, :12] = counts[:, None, None]
    images[:, :, 12:] = np.maximum(labels, 0).repeat(10, axis=1)[..., None]
    boxes = BOXES * (labels >= 0)[..., None]
    return SceneSet(images, counts, boxes, labels)


def test_a_reference_set_is_balanced_and_correct(scenes):
    model = Oracle()
    reference_set = build(model, scenes, per_class=10, batch_size=50)
    assert np.bincount(reference_set.labels).tolist() == [10] * 5
    assert (reference_set.z_what[:, 0] == reference_set.labels).all()
    assert (reference_set.mismatch == 1).all()  # as nothing is reconstructed
    assert model.seen < len(scenes)
    reference_set.check(model)
    model.parts[1] = types.SimpleNamespace(get_weights=lambda: [np.zeros(3, np.float32)])
    with pytest.raises(DataError, match="other weights"):
        reference_set.check(model)


def test_as_many_small_objects_are_added_for_a_model_that_finds_them(scenes):
    model = Oracle(any_size=True)
    reference_set = build(model, scenes, per_class=10, batch_size=15)
    assert np.bincount(reference_set.labels).tolist() == [22] * 5  # 2 from each of six ways to shrink a scene
    assert (reference_set.z_what[:, 0] == reference_set.labels).all()
    sizes = {(18, 22, True), (16, 20, True), (15, 18, True)}  # 0.75 for 0.6 and 0.7, as the window is 18 pixels wide
    assert model.sizes == {(20, 24, False), *sizes}
    model.config.smallest_canvas = model.config.canvas_size
    assert np.bincount(build(model, scenes, per_class=10).labels).tolist() == [10] * 5  # there is no room to shrink


@pytest.mark.parametrize(("thicker", "side"), [(False, 6), (True, 7)])
def test_a_shrunk_scene(thicker, side):
    images = np.zeros((1, 40, 48), np.uint8)
    images[0, 10:22, 20:32] = 200
    scenes = SceneSet(images, [1], [[[20, 10, 12, 12]]], [[3]])
    shrunk = recognition._shrink(scenes, 0.5, thicker)
    assert shrunk.images.shape == (1, 20, 24)
    np.testing.assert_array_equal(shrunk.boxes, [[[10, 5, 6, 6]]])
    assert shrunk.images.sum() / 200 == pytest.approx(side**2 - (0.25 * 4 if thicker else 0), rel=0.03)


def test_scenes_without_a_reference_set(scenes):
    with pytest.raises(DataError, match="no labels"):
        build(Oracle(), SceneSet(scenes.images, scenes.count, scenes.boxes))
    with pytest.raises(DataError, match="canvas_size"):
        build(Oracle((20, 20)), scenes)
    with pytest.raises(DataError, match="finds no object"):
        build(Oracle(blind=True), scenes)
    with pytest.raises(DataError, match="finds no object"):
        build(Oracle(), scenes.select(scenes.count == 0))
    with pytest.raises(DataError, match="finds no object"):
        build(Oracle(), dataclasses.replace(scenes.select(scenes.count == 1), images=scenes.images[scenes.count == 1] + 1))


@pytest.mark.parametrize("part", ["controller", "refiner", "encoder", "decoder"])
def test_the_fingerprint_depends_on_all_weights_that_determine_z_what(part, make_model):
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
    monkeypatch.setattr("air.training.checkpoints.load", lambda path: Oracle())
    recognition.main([str(tmp_path), "--data", str(tmp_path), "--per-class", "7"])
    assert "35 objects of 5 classes" in capsys.readouterr().out
    assert len(ReferenceSet.load(tmp_path / "reference_set.npz").labels) == 35
    with pytest.raises(UsageError, match="per_class: 0 is not allowed"):
        recognition.main(["--per-class", "0"])


def test_advice_can_be_pasted_into_a_shell():
    assert recognition.command("my model") == "python -m air.evaluation.recognition 'my model'"
