"""Any canvas and any number of objects: what `infer`, `predict`, `generate` and the prior of the count say about them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fitting import assert_same_scenes, draw_blobs, teach_to_count
from scipy import stats
from scipy.special import logit

from air.errors import DataError
from air.model.cells import CellController

pytestmark = pytest.mark.usefixtures("uncompiled")
CENTRES = {  # of blobs (x, y), in reading order, by canvas
    (20, 24): [(6, 6), (18, 14)],
    (8, 9): [(4, 4)],
    (47, 25): [(6, 6), (18, 9), (6, 20), (16, 33), (6, 40)],
    (60, 70): [(8, 8), (30, 8), (50, 10), (11, 40), (33, 44), (60, 50)],
}
CANVASES = pytest.mark.parametrize("size", CENTRES)


def on_canvas(size, *counts):
    """Draw pictures with the first blobs of a canvas: [batch, H, W]."""
    return np.stack([draw_blobs(size, CENTRES[size][:count]) for count in counts])


def found_centres(scenes, scene, size):
    """The centres (x, y) of a scene's objects, in pixels."""
    return (scenes.shift[scene, : scenes.count[scene]] + 1) / 2 * [size[1], size[0]]


def assert_found(centres, scenes, scene, size):
    assert scenes.count[scene] == len(centres)
    found = found_centres(scenes, scene, size)
    for centre in centres:
        assert np.abs(found - centre).max(axis=1).min() < 2


@CANVASES
def test_every_number_is_found_on_every_canvas(size, tiny_cells):
    total = len(CENTRES[size])
    images = on_canvas(size, total, 0, max(total - 2, 1))
    scenes = tiny_cells.infer(images)
    for scene, count in enumerate((total, 0, max(total - 2, 1))):
        assert_found(CENTRES[size][:count], scenes, scene, size)
    present = np.arange(scenes.presence.shape[1]) < scenes.count[:, None]
    width, height = scenes.attention_boxes[present, 2:].T
    np.testing.assert_allclose(height, 0.4 * 24, rtol=0.05)  # the mean of the prior of the scale, on a training canvas
    np.testing.assert_allclose(width, height * 6 / 8, rtol=1e-5)
    assert scenes.objects.shape == (3, tiny_cells.config.steps_on(size), *size)
    np.testing.assert_allclose(scenes.objects.sum(axis=1).clip(0, 1), scenes.reconstruction, atol=1e-5)


@pytest.mark.parametrize("price", [0.0, 1e5])  # with the second, no object is worth it at a second look
@pytest.mark.parametrize("looks", [1, 2])
def test_scenes_that_leave_the_batch_are_found_as_if_they_stayed(looks, price, make_model, monkeypatch):
    size, counts = (60, 70), [0, 3, 1, 0, 2]
    model = teach_to_count(make_model(controller="convolutional", z_pres_prior_odds=0.1, looks=looks))
    expensive = model.price()._replace(count=tf.constant(price))
    monkeypatch.setattr(model, "price", lambda: expensive)
    images = tf.constant(on_canvas(size, *counts))
    stayed, _ = model.explore(images, None, 5)
    left, scenes = model.explore(images, None, 5, shrink=True)
    assert scenes.count.numpy().tolist() == ([0] * 5 if price and looks == 2 else counts)
    for name, expected, actual in zip(stayed._fields, stayed, left, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_every_way_finds_the_same_on_another_canvas(tiny_cells):
    images = on_canvas((47, 25), 5, 0, 3)
    scenes = tiny_cells.infer(images)
    assert_same_scenes(tiny_cells(images), scenes)
    assert_same_scenes(tiny_cells.predict(images, verbose=0), scenes)
    np.testing.assert_array_equal(tiny_cells.count(images), scenes.count)


def test_all_stop_when_the_last_scene_stops(tiny_cells, monkeypatch):
    calls, call = [], CellController.call
    monkeypatch.setattr(CellController, "call", lambda self, *inputs: calls.append(None) or call(self, *inputs))
    size = (60, 70)
    for counts, steps in (((0, 0), 1), ((0, 3), 4), ((6, 1), 7)):
        calls.clear()
        scenes = tiny_cells.infer(on_canvas(size, *counts), max_steps=20)
        assert scenes.count.tolist() == list(counts)
        assert len(calls) == steps  # one to see that there is nothing left
        assert not scenes.presence[:, steps:].any()


@pytest.mark.parametrize("max_steps", [1, 2, 4, 9, 10_000])
def test_at_most_so_many_objects_are_found(max_steps, tiny_cells):
    size = (47, 25)
    scenes, unlimited = tiny_cells.infer(on_canvas(size, 4), max_steps=max_steps), tiny_cells.infer(on_canvas(size, 4))
    assert scenes.presence.shape == scenes.scale.shape == (1, max_steps)
    assert scenes.count == min(max_steps, 4)
    found, expected = (found_centres(each, 0, size) for each in (scenes, unlimited))
    np.testing.assert_allclose(found, expected[: len(found)], atol=0.1)


def test_a_large_canvas(tiny_cells):
    size, centres = (300, 310), [(x, y) for y in range(30, 300, 60) for x in range(20, 300, 50)]
    scenes = tiny_cells.infer(draw_blobs(size, centres)[None], max_steps=40)
    assert_found(centres, scenes, 0, size)
    assert tiny_cells.infer(np.zeros((1, *size)), max_steps=40).count == 0


HUNDRED = """
import resource, sys, numpy as np
from fitting import draw_blobs, teach_to_count
from air import AIRConfig
from air.model import AIRModel
model = teach_to_count(AIRModel(AIRConfig(z_pres_prior_odds=0.1)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
centres = [(x, y) for y in range(50, 1000, 100) for x in range(50, 1000, 100)]
images = np.stack([draw_blobs((1000, 1000), centres, std=2.5), np.zeros((1000, 1000), np.float32)])
print(*model.infer(images).count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_hundred_objects_in_bounded_memory():
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder.parent}"}
    done = subprocess.run([sys.executable, "-c", HUNDRED], env=environment, capture_output=True, text=True, timeout=1200)
    first, second, kilobytes = map(int, done.stdout.split())
    assert (first, second) == (100, 0), done.stderr
    assert kilobytes < 1.5e6


@pytest.mark.parametrize("shape", [(2, 7, 24), (2, 20, 5), (7, 24), (2, 8, 6, 3)])
@pytest.mark.parametrize("way", ["infer", "__call__", "predict", "log_prob_bound"])
def test_canvases_smaller_than_the_window_are_refused(way, shape, tiny_cells):
    with pytest.raises(DataError) as caught:
        getattr(tiny_cells, way)(np.zeros(shape, np.float32))
    message = f"images: shape {shape} is not allowed; it must be [batch, 8, 6], the window's size, or larger"
    assert message in str(caught.value)  # which Keras surrounds, if it calls the model


@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_training_takes_its_own_canvas_only(way, make_model):
    model = make_model(controller="convolutional")
    model.compile()
    with pytest.raises(DataError, match=r"^images: shape \(2, 20, 25\) is not allowed; it must be \[batch, 20, 24\]$"):
        getattr(model, way)(np.zeros((2, 20, 25), np.float32))


@pytest.mark.parametrize("max_steps", [0, -1, 10_001])
def test_impossible_numbers_of_steps_are_refused(max_steps, tiny_cells, tiny_images):
    for way in (tiny_cells.infer, tiny_cells.log_prob_bound, tiny_cells.elbo):
        with pytest.raises(ValueError, match=f"^max_steps: {max_steps} is not allowed; it must be from 1 to 10000$"):
            way(tiny_images, max_steps=max_steps)


def test_a_number_of_steps_may_be_of_any_integer_type(tiny_cells, tiny_images):
    for max_steps in (np.uint8(2), np.int64(2)):
        assert tiny_cells.infer(tiny_images, max_steps=max_steps).presence.shape == (8, 2)
        assert tiny_cells.elbo(tiny_images, max_steps=max_steps).log_q.shape == (8, 3)
    with pytest.raises(TypeError):
        tiny_cells.infer(tiny_images, max_steps=2.5)


LSTM = {
    "images: shape (1, 21, 24) is not allowed; it must be [batch, 20, 24]": {"images": np.zeros((1, 21, 24))},
    "max_steps: 4 is not allowed; this model's controller takes 3 steps": {"max_steps": 4},
    "any_size: True is not allowed; it needs the convolutional controller": {"any_size": True},
}


@pytest.mark.parametrize("message", LSTM)
def test_an_lstm_takes_its_own_canvas_and_steps_only(message, tiny_model, tiny_images):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_model.infer(**{"images": tiny_images, **LSTM[message]})
    assert tiny_model.infer(tiny_images, max_steps=3).scale.shape == (8, 3)


def test_samples_have_one_size(tiny_cells, tiny_images):
    with pytest.raises(ValueError, match="any_size: True is not allowed; it needs sample=False"):
        tiny_cells.infer(tiny_images, any_size=True, sample=True)


@pytest.mark.parametrize("size", [(20, 24), (33, 61), (8, 6), (8, 80)])
def test_scenes_are_generated_on_any_canvas(size, tiny_cells):
    """With objects as large, in pixels, as in training."""
    steps = tiny_cells.config.steps_on(size)
    for count in (None, 0, 2, steps):
        images, scenes = tiny_cells.generate(40, count=count, seed=1, canvas_size=size)
        assert images.shape == (40, *size)
        assert scenes.presence.shape == (40, steps)
        assert scenes.objects.shape == (40, steps, *size)
        assert set(scenes.count) == {count} if count is not None else len(set(scenes.count)) > 2
    scale = scenes.scale.ravel().astype(float) * max(size) / 24
    prior = tiny_cells.price().prior["scale"]
    assert stats.kstest(logit(scale), stats.norm(float(prior.loc), float(prior.scale)).cdf).pvalue > 1e-3


@pytest.mark.parametrize("size", [(7, 24), (20, 5), (0, 0)])
def test_scenes_are_not_generated_on_impossible_canvases(size, tiny_cells, tiny_model):
    for model, other in ((tiny_cells, size), (tiny_model, size), (tiny_model, (24, 20))):
        with pytest.raises(ValueError, match=f"^canvas_size: {re.escape(str(other))} is not allowed; it must be ") as caught:
            model.generate(2, canvas_size=other)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^count: 4 is not allowed; it must be from 0 to max_steps = 3$"):
        tiny_cells.generate(2, count=4)


def test_a_training_canvas_may_be_smaller_than_the_window(make_model):
    model = make_model(controller="convolutional", canvas_size=(14, 16), window_size=(20, 12))
    images, _ = model.generate(3, seed=0)
    assert images.shape == (3, 14, 16)
    assert len(model.infer(images).count) == 3
    assert model.generate(2, canvas_size=(14, 12))[0].shape == (2, 14, 12)
    with pytest.raises(ValueError, match=r"^canvas_size: \(13, 16\) is not allowed; it must be at least \(14, 12\)$"):
        model.generate(2, canvas_size=(13, 16))


def test_generated_counts_follow_the_prior_on_the_canvas(make_model):
    model = make_model(controller="convolutional")
    model.count_prior.assign([0.2, 0.5, 0.3, 0.0])
    _, scenes = model.generate(3000, canvas_size=(20, 48))
    expected = model.count_prior_on((20, 48))
    np.testing.assert_allclose(np.bincount(scenes.count, minlength=7) / 3000, expected, atol=5 * 0.5 / 3000**0.5)


def test_the_prior_of_the_count_on_a_canvas(make_model):
    """It is that of as many training scenes together as the canvas has room for, rounded up."""
    model = make_model(controller="convolutional")
    frequencies = np.array([0.1, 0.6, 0.3, 0.0])
    model.count_prior.assign(frequencies)
    one, two = frequencies, np.array([0.01, 0.12, 0.42, 0.36, 0.09, 0, 0])
    for size, max_steps, expected in (
        ((20, 24), None, one),
        ((8, 6), None, one),
        ((40, 24), None, two),
        ((20, 25), None, two[:5] / two[:5].sum()),  # 4 steps
        ((40, 24), 2, two[:3] / two[:3].sum()),
        ((20, 24), 6, [*one, 0, 0, 0]),
        ((40, 36), None, np.convolve(one, two)),
    ):
        prior = model.count_prior_on(size, max_steps)
        assert prior.sum() == pytest.approx(1)
        assert (prior > 0).all()
        np.testing.assert_allclose(prior, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 24), (29, 31)])
def test_bounds_on_any_canvas(size, tiny_cells):
    """They are finite, and rise with the number of samples."""
    images = on_canvas((20, 24), 2, 0, 1)
    images = np.pad(images, [(0, 0), (0, size[0] - 20), (0, size[1] - 24)])
    one, many = (tiny_cells.log_prob_bound(np.repeat(images, 8, axis=0), samples) for samples in (1, 20))
    assert np.isfinite([one, many]).all()
    assert many.mean() > one.mean()
    elbo, steps = tiny_cells.elbo(images), tiny_cells.config.steps_on(size)
    assert elbo.log_q.shape == (3, steps + 1)
    assert np.isfinite(elbo.bound("cross_entropy", tiny_cells.count_prior_on(size))).all()
    assert tiny_cells.elbo(images, max_steps=2).log_q.shape == (3, 3)
