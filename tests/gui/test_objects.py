"""The objects of a scene as the user changes them, and the ink that none explains."""

import numpy as np
import pytest

from air.gui.objects import CORNERS, MIN_LENGTH, Objects
from air.gui.residual import residual, unexplained
from air.model import transformer

CANVAS = (20, 24)


@pytest.fixture
def objects():
    boxes = np.float32([[2, 3, 6, 8], [10, 5, 9, 12]])
    return Objects(np.zeros((2, 4), np.float32), boxes, np.float32([0.9, 0.8]), np.zeros(2, bool))


def test_moving(objects):
    moved = objects.moved(0, (3.0, -1.5), CANVAS)
    assert moved.boxes[0].tolist() == [5, 1.5, 6, 8]
    assert moved.is_changed.tolist() == [True, False]
    assert (objects.boxes[0] == [2, 3, 6, 8]).all()
    far = objects.moved(0, (99, -99), CANVAS).boxes[0]
    assert (far[:2] + far[2:] / 2).tolist() == [24, 0]


@pytest.mark.parametrize("corner", CORNERS)
def test_resizing_keeps_the_opposite_corner_and_the_shape(objects, corner):
    def corners(box):
        return [box[:2] + (np.asarray(c) * box[2:]) for c in CORNERS]

    before, which = objects.boxes[1], CORNERS.index(corner)
    away = 2 * np.asarray(corner) - 1
    after = objects.resized(1, corner, tuple(corners(before)[which] + away * before[2:] / 3), CANVAS).boxes[1]
    assert after[2:] == pytest.approx(before[2:] * 4 / 3)
    np.testing.assert_allclose(corners(after)[3 - which], corners(before)[3 - which], atol=1e-5)
    tiny = objects.resized(1, corner, tuple(corners(before)[3 - which]), CANVAS).boxes[1]
    assert min(tiny[2:]) == pytest.approx(MIN_LENGTH)
    huge = objects.resized(1, corner, tuple(999 * away), CANVAS).boxes[1]
    assert max(huge[2:]) == pytest.approx(48)


def test_copying_and_deleting(objects):
    copied = objects.with_copy(1, CANVAS)
    assert copied.number == 3
    assert copied.is_changed.tolist() == [False, False, True]
    assert (copied.boxes[2, 2:] == objects.boxes[1, 2:]).all()
    assert (copied.boxes[2, :2] != objects.boxes[1, :2]).all()
    left = copied.without(0)
    assert (left.boxes == copied.boxes[1:]).all()
    assert objects.without(0).without(0).number == 0


def test_hits(objects):
    assert objects.at((3, 4)) == 0
    assert objects.at((23, 1)) is None
    assert objects._replace(boxes=np.float32([[0, 0, 20, 20], [4, 4, 3, 3]])).at((5, 5)) == 1  # the smaller one
    assert objects.corner_at(0, (8.5, 11.5), 1.0) == (1, 1)
    assert objects.corner_at(0, (5, 7), 1.0) is None


def test_a_scene_of_changed_objects_is_what_the_model_would_decode(tiny_model, tiny_images, tiny_config):
    scenes = tiny_model.infer(tiny_images)
    some = int(scenes.count.argmax())
    scene = type(scenes)(*(field[some] for field in scenes))
    objects = Objects.of(scene)
    assert objects.number == scene.count > 0
    for ours, theirs in zip(objects.as_scene(scene, CANVAS), scene, strict=True):
        rows = slice(objects.number) if np.shape(theirs)[:1] == scene.presence.shape else ...
        np.testing.assert_allclose(ours[rows], theirs[rows], atol=1e-5)
    more = objects.moved(0, (1.0, 2.0), CANVAS)
    for _ in range(4):
        more = more.with_copy(0, CANVAS)
    changed = more.as_scene(scene, CANVAS)
    assert changed.count == len(changed.presence) == objects.number + 4  # more than the model's steps
    z_where = np.concatenate([changed.scale[:, None], changed.shift], axis=1).astype(np.float32)
    np.testing.assert_allclose(transformer.attention_boxes(z_where, CANVAS, tiny_config.window_size), more.boxes, atol=1e-4)
    none = objects
    while none.number:
        none = none.without(0)
    assert none.as_scene(scene, CANVAS).count == 0
    assert (none.as_scene(scene, CANVAS).scale > 0).all()


def test_only_ink_far_from_the_reconstruction_is_unexplained():
    image = np.zeros((30, 30), np.uint8)
    image[5:25, 8:11] = image[5:25, 20:23] = 255
    explained = np.float32(image) / 255
    assert not unexplained(image, explained).any()
    assert not unexplained(image, np.roll(explained, 1, axis=1)).any()  # a pixel to the side
    half = explained.copy()
    half[:, 15:] = 0
    assert (residual(image, half) == explained - half).all()
    tint = unexplained(image, half)
    assert not tint[:, :15].any()
    assert (tint[8:22, 20:23] > 0.9).all()
    assert not tint[image == 0].any()  # only ink is tinted
