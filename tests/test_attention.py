"""Test what an LSTM sees at each step, and how a refiner moves the attention windows of any controller."""

import numpy as np
import pytest
import tensorflow as tf
from fitting import flatten, set_bias

from air.model import transformer
from air.model.networks import LOG_VARIANCE_RANGE, Controller

SEED = tf.constant([1, 2])


@pytest.fixture(scope="module")
def images(tiny_images):
    return tf.constant(tiny_images)


def copy_shared_weights(target, source):
    """Give a model the weights of another one that lacks some of its parts."""

    def shared(model):
        variables = [v for part in (model.controller, model.encoder, model.decoder) for v in part.weights]
        return [variable for variable in variables if "latent_gates" not in variable.path]

    for ours, theirs in zip(shared(target), shared(source), strict=True):
        ours.assign(theirs)


def assert_same(left, right, steps=slice(None), **tolerance):
    for a, b in zip(flatten(left), flatten(right), strict=True):
        np.testing.assert_allclose(a[:, steps], b[:, steps], **(tolerance or {"rtol": 1e-4, "atol": 1e-5}))


@pytest.fixture
def record(monkeypatch):
    """The canvases that the controller reads, and the latents that it is given, in order."""
    seen = {"read": [], "advance": []}
    read, advance = Controller.read, Controller.advance

    def reading(self, canvas):
        seen["read"].append(canvas)
        return read(self, canvas)

    def advancing(self, from_canvas, latents, state):
        seen["advance"].append(latents)
        return advance(self, from_canvas, latents, state)

    monkeypatch.setattr(Controller, "read", reading)
    monkeypatch.setattr(Controller, "advance", advancing)
    return seen


def test_steps_in_turn_are_steps_at_once_if_they_see_nothing_new(tiny_model, make_model, images):
    """Latents of weight 0, or a residual that is the canvas because all windows are black."""
    at_once = tiny_model.attend(images, None)
    latents, residual, black = (make_model(controller=name) for name in ("latents", "residual", "canvas"))
    copy_shared_weights(latents, tiny_model)
    kernel = latents.controller.latent_gates.kernel
    scales = [attention.posterior["scale"].loc for attention in (latents.attend(images, None), at_once)]
    assert np.abs(scales[0] - scales[1]).max() > 1e-3
    kernel.assign(0 * kernel)
    assert_same(latents.attend(images, None), at_once)
    for model in (residual, black):
        copy_shared_weights(model, tiny_model)
        set_bias(model.decoder.logits, -200.0)
    assert_same(residual.attend(images, None), black.attend(images, None))


def test_a_canvas_is_read_once(tiny_model, images, record):
    tiny_model.attend(images, SEED)
    assert len(record["read"]) == 1
    assert record["advance"] == [None] * 3


@pytest.mark.parametrize("seed", [None, SEED])
def test_latents_are_those_of_the_step_before(seed, make_model, images, record):
    attention = make_model(controller="latents").attend(images, seed, looks=1)
    assert len(record["read"]) == 1
    first, *others = record["advance"]
    assert first is None
    for step, latents in enumerate(others):
        expected = np.concatenate([attention.z_where[:, step], attention.z_what[:, step]], axis=-1)
        np.testing.assert_array_equal(latents, expected)


def test_the_residual_is_what_the_steps_before_leave(make_model, images, record):
    attention = make_model(controller="residual", decoder_bias=0.0, looks=1).attend(images, SEED)
    renders = transformer.render(tf.sigmoid(attention.window_logits), attention.z_where, (20, 24)).numpy()
    assert renders[:, 0].max() > 0.3
    assert record["advance"] == [None] * 3
    for step, canvas in enumerate(record["read"][:3]):
        np.testing.assert_allclose(canvas, images - renders[:, :step].sum(axis=1), atol=1e-5)


def test_nothing_is_left_of_an_object_that_is_rendered_exactly(make_model, record):
    model = make_model(controller="residual")
    set_bias(model.controller.heads["scale_mean"].layers[-1], -1.0)
    set_bias(model.controller.heads["shift_mean"].layers[-1], 0.3)
    window = np.random.default_rng(0).normal(size=48).astype(np.float32)
    set_bias(model.decoder.logits, window)
    z_where = transformer.as_z_where(tf.constant([[[-1.0, 0.3, 0.3]]]))
    canvas = transformer.render(tf.sigmoid(window.reshape(1, 1, 8, 6)), z_where, (20, 24))[0]
    assert canvas.numpy().max() > 0.5
    model.attend(canvas, None)
    np.testing.assert_allclose(record["read"][1], 0 * canvas, atol=1e-5)
    np.testing.assert_allclose(record["read"][2], -canvas, atol=1e-5)  # it is rendered once more


def test_only_latents_carry_gradients_from_step_to_step(make_model, images):
    norms = {}
    for name in ("canvas", "latents", "residual", "convolutional"):
        model = make_model(controller=name)
        with tf.GradientTape(persistent=True) as tape:
            logits = tf.unstack(model.attend(images, SEED).presence_logits, axis=1)
        parts = (*model.encoder.trainable_variables, *model.decoder.trainable_variables)
        norms[name] = [sum(np.abs(g).sum() for g in tape.gradient(step, parts) if g is not None) for step in logits]
    assert norms["canvas"] == norms["residual"] == norms["convolutional"] == [0, 0, 0]
    assert norms["latents"][0] == 0
    assert min(norms["latents"][1:]) > 1e-5


@pytest.mark.parametrize("controller", ["canvas", "latents", "residual", "dense", "convolutional"])
def test_samples_take_the_place_of_their_scene(controller, make_model, tiny_images):
    model = make_model(controller=controller, refiner_units=(4,))
    twice = model.attend(tf.constant(tiny_images), SEED, samples=2)
    assert_same(twice, model.attend(tf.constant(np.repeat(tiny_images, 2, axis=0)), SEED))
    assert np.abs(twice.z_what[::2] - twice.z_what[1::2]).max() > 0.1


@pytest.fixture
def refined(make_model, tiny_model):
    model = make_model(refiner_units=(5,), refinement=1.0)
    copy_shared_weights(model, tiny_model)
    return model


def test_an_untrained_refiner_changes_nothing(refined, tiny_model, images):
    assert_same(refined.attend(images, SEED), tiny_model.attend(images, SEED))


def test_a_refiner_moves_windows_in_their_own_units(refined, tiny_model, images):
    before = tiny_model.attend(images, None)
    assert np.abs(before.z_where[..., 1:]).max() < 0.9
    refined.refiner.correction.bias.assign([0.0, 0.02, -0.01, 0.0, 0.0, 0.0])
    after = refined.attend(images, None)
    extent = before.z_where[..., :1] * [24 / 24 * 6 / 8, 24 / 20]  # the window's sides beside the canvas'
    moved = (after.z_where[..., 1:] - before.z_where[..., 1:]) / extent
    np.testing.assert_allclose(moved, np.broadcast_to([0.02, -0.01], moved.shape), rtol=0.03)
    np.testing.assert_array_equal(after.posterior["scale"].loc, before.posterior["scale"].loc)
    np.testing.assert_allclose(after.posterior["shift"].scale, before.posterior["shift"].scale, rtol=1e-5)


def test_a_refiner_changes_scale_and_stds(refined, tiny_model, images):
    before, bias = tiny_model.attend(images, None), refined.refiner.correction.bias
    bias.assign([0.3, 0.0, 0.0, 1.0, -2.0, 0.5])
    after = refined.attend(images, None)
    (old_scale, old_shift), (scale, shift) = ([a.posterior[name] for name in ("scale", "shift")] for a in (before, after))
    np.testing.assert_allclose(scale.loc, old_scale.loc + 0.3, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scale.scale, old_scale.scale * np.exp(0.5), rtol=1e-5)
    np.testing.assert_allclose(shift.scale, old_shift.scale * np.exp([-1.0, 0.25]), rtol=1e-5)
    np.testing.assert_allclose(shift.loc, old_shift.loc, rtol=1e-5)
    np.testing.assert_array_equal(after.presence_logits, before.presence_logits)
    for value, limit in zip((1e4, -1e4), LOG_VARIANCE_RANGE[::-1], strict=True):
        bias.assign([0.0, 0.0, 0.0, value, value, value])
        posterior = refined.attend(images, SEED).posterior
        for name in ("scale", "shift"):
            np.testing.assert_allclose(posterior[name].scale, np.exp(0.5 * limit), rtol=1e-5)


def test_a_refiner_sees_the_first_glimpse(refined, images, monkeypatch):
    seen, call = [], type(refined.refiner).call
    monkeypatch.setattr(type(refined.refiner), "call", lambda self, window: seen.append(window) or call(self, window))
    refined.refiner.correction.bias.assign([0.3, 0.2, 0.1, 0.0, 0.0, 0.0])
    attention, where = refined.attend(images, SEED), refined.controller(images).where
    first = tf.concat([tf.sigmoid(where["scale"].loc), tf.tanh(where["shift"].loc)], axis=-1)  # the mean, uncorrected
    np.testing.assert_allclose(seen[0], transformer.crop(images, first, (8, 6)), atol=1e-5)
    assert np.abs(attention.z_where - first).max() > 0.05


def test_refinement_grows_from_nothing_to_all(make_model, refined, tiny_model, images):
    model = make_model(refiner_units=(5,), refinement="linear(0, 1, steps=2000)")
    copy_shared_weights(model, tiny_model)
    correction = np.array([0.3, 0.2, -0.1, 1.0, -2.0, 0.5])
    model.refiner.correction.bias.assign(correction)
    for step, fraction in {0: 0.0, 500: 0.25, 2000: 1.0, 10**6: 1.0}.items():
        model.step.assign(step)
        refined.refiner.correction.bias.assign(fraction * correction)
        assert_same(model.attend(images, SEED), refined.attend(images, SEED))
    assert np.abs(model.attend(images, None).z_where - tiny_model.attend(images, None).z_where).max() > 0.05


@pytest.mark.parametrize("xla", [False, True])
def test_a_refiner_is_asked_only_when_its_answer_counts(make_model, images, monkeypatch, xla):
    """Even within a step that is compiled only once for all of training."""
    model = make_model(refiner_units=(5,), refinement="linear(0, 1, steps=2000, start=10)")
    model.refiner.correction.bias.assign([0.3, 0.2, -0.1, 1.0, -2.0, 0.5])
    bias = model.refiner.correction.bias.value

    def look():
        with tf.GradientTape() as tape:
            z_where = model.attend(images, None).z_where
        return z_where, tape.gradient(z_where, bias, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    compiled = tf.function(look, jit_compile=xla)
    for step in (0, 10, 1000):
        model.step.assign(step)
        for actual, expected in zip(compiled(), look(), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
        assert np.any(expected) == (step > 10)
    monkeypatch.setattr(type(model.refiner), "call", lambda self, window: 1 / 0)
    model.step.assign(10)
    model.attend(images, SEED)
    model.step.assign(11)
    with pytest.raises(ZeroDivisionError):
        model.attend(images, SEED)
