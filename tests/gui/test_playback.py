"""Playing attention step by step."""

import types

import numpy as np
import pytest
import tensorflow as tf

from air.gui.playback import PHASES, STEP_SECONDS, Playback
from air.model import transformer

CANVAS = (20, 24)
BOXES = np.float32([[2, 2, 8, 6], [12, 10, 8, 6], [0, 0, 8, 6]])


def seen(count, steps=3):
    objects = np.zeros((steps, *CANVAS), np.float32)
    for step in range(count):
        x, y, width, height = BOXES[step].astype(int)
        objects[step, y : y + height, x : x + width] = 0.8
    scene = types.SimpleNamespace(
        count=count,
        presence=np.float32([0.99, 0.98, 0.01][:steps]),
        attention_boxes=BOXES[:steps],
        z_what=np.zeros((steps, 4)),
        decoded_windows=np.full((steps, 6, 8), 0.8),
        background=np.zeros(CANVAS),
    )
    return types.SimpleNamespace(
        scene=scene, objects=objects, image=np.uint8(255 * objects.sum(axis=0)), labels=(7, None)[:count]
    )


def test_it_plays_to_the_end_and_again():
    playback = Playback(seen(2), looks=1, now=10.0)
    assert playback.steps == 3  # the last one finds nothing
    playback.tick(10.0 + 1.25 * STEP_SECONDS)
    assert (playback.step, playback.position) == (1, pytest.approx(1.25))
    playback.toggle()
    playback.tick(99.0)
    assert playback.position == pytest.approx(1.25)
    playback.toggle()
    playback.tick(99.0 + 9 * STEP_SECONDS)
    assert playback.is_at_end
    assert not playback.is_playing
    assert "stop, with 2 objects" in playback.caption
    playback.toggle()
    assert (playback.position, playback.is_playing) == (0, True)
    assert Playback(seen(3), looks=1, now=0.0).steps == 3  # a full scene has no step that stops
    assert "stop, with 0 objects" in Playback(seen(0), looks=1, now=0.0).caption


def test_phases_can_be_skipped_in_both_directions():
    playback = Playback(seen(2), looks=1, now=0.0)
    visited = []
    while not playback.is_at_end:
        visited.append((playback.step, playback.phase))
        playback.skip(1)
    assert visited == [(0, phase) for phase in PHASES] + [(1, phase) for phase in PHASES] + [(2, "attend")]
    playback.skip(1)
    assert playback.is_at_end
    for _ in range(20):
        playback.skip(-1)
    assert playback.position == 0
    assert not playback.is_playing


def test_the_view_of_each_phase():
    what = seen(2)
    playback = Playback(what, looks=1, now=0.0)
    first, both = what.objects[0], what.objects.sum(axis=0)
    start = playback.view
    assert start.boxes == ((0, 0, 24, 20),)  # the window comes from the whole canvas
    assert not start.reconstruction.any()
    np.testing.assert_allclose(start.picture, both, atol=0.01)
    playback.seek(1.0 - 1e-4)
    np.testing.assert_allclose(playback.view.reconstruction, first, atol=0.01)
    np.testing.assert_allclose(playback.view.picture, both - first, atol=0.01)
    playback.seek(99)
    end = playback.view
    np.testing.assert_allclose(end.boxes, BOXES[:2])
    np.testing.assert_allclose(end.reconstruction, both, atol=1e-6)
    assert end.picture.max() < 0.01
    assert start.same_as(start)
    assert not start.same_as(end)


def test_the_glimpse_is_the_model_s_own(tiny_model, tiny_images):
    scenes = tiny_model.infer(tiny_images)
    some = int(scenes.count.argmax())
    scene = type(scenes)(*(field[some] for field in scenes))
    image, objects = np.uint8(255 * tiny_images[some]), np.array(scenes.objects[some])
    playback = Playback(types.SimpleNamespace(scene=scene, objects=objects, image=image), looks=1, now=0.0)
    z_where = np.concatenate([scene.scale[:, None], scene.shift], axis=1)[None]
    expected = transformer.crop(tf.constant(image[None] / 255, tf.float32), z_where, (8, 6))[0, 0]
    np.testing.assert_allclose(playback.glimpse, expected, atol=0.1)
    assert Playback(playback.seen, looks=2, now=0.0).glimpse.sum() <= playback.glimpse.sum() + 1e-6
