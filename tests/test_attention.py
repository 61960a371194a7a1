"""What the controller sees at each step, and how a refiner moves its windows."""

import numpy as np
import pytest
import tensorflow as tf

from air.model import transformer
from air.model.inference import Attention
from air.model.networks import LOG_VARIANCE_RANGE, Controller
from air.presets import PRESETS

SEED = tf.constant([1, 2])


def same_weights(target, source):
    """Gives a model the weights of another, which lacks some of its parts."""

    def shared(model):
        variables = [v for part in (model.controller, model.encoder, model.decoder) for v in part.weights]
        return [variable for variable in variables if "latent_gates" not in variable.path]

    for ours, theirs in zip(shared(target), shared(source), strict=True):
        ours.assign(theirs)


def arrays(attention):
    """All tensors of an `Attention` as arrays."""
    fields = [(f.loc, f.scale) if hasattr(f, "loc") else (f,) for f in attention]
    return dict(zip(Attention._fields, [np.concatenate([part.numpy() for part in f], axis=-1) for f in fields], strict=True))


def assert_same(left, right, steps=slice(None), **tolerance):
    for (name, a), b in zip(arrays(left).items(), arrays(right).values(), strict=True):
        np.testing.assert_allclose(a[:, steps], b[:, steps], err_msg=name, **(tolerance or {"rtol": 1e-4, "atol": 1e-5}))


def set_bias(layer, value):
    layer.kernel.assign(0 * layer.kernel)
    layer.bias.assign(0 * layer.bias + value)


@pytest.fixture
def record(monkeypatch):
    """The canvases that the controller reads, and the latents that it is given, in their order."""
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


def test_steps_in_turn_are_steps_at_once_if_they_see_nothing_new(tiny_model, make_model, tiny_images):
    """Latents that weigh nothing, or a residual that is the canvas because all windows are black."""
    at_once = tiny_model.attend(tf.constant(tiny_images), None)
    latents, residual = make_model(controller_input="latents"), make_model(controller_input="residual")
    for model in (latents, residual):
        same_weights(model, tiny_model)
    kernel = latents.controller.latent_gates.kernel
    assert np.abs(arrays(latents.attend(tf.constant(tiny_images), None))["scale"] - arrays(at_once)["scale"]).max() > 1e-3
    kernel.assign(0 * kernel)
    assert_same(latents.attend(tf.constant(tiny_images), None), at_once)
    set_bias(residual.decoder.logits, -200.0)
    black = make_model()
    same_weights(black, residual)
    assert_same(residual.attend(tf.constant(tiny_images), None), black.attend(tf.constant(tiny_images), None))


def test_a_canvas_is_read_once(tiny_model, tiny_images, record):
    tiny_model.attend(tf.constant(tiny_images), SEED)
    assert len(record["read"]) == 1
    assert record["advance"] == [None] * 3


@pytest.mark.parametrize("seed", [None, SEED])
def test_latents_are_those_of_the_step_before(seed, make_model, tiny_images, record):
    attention = make_model(controller_input="latents").attend(tf.constant(tiny_images), seed, looks=1)
    assert len(record["read"]) == 1
    first, *others = record["advance"]
    assert first is None
    for step, latents in enumerate(others):
        expected = np.concatenate([attention.z_where[:, step], attention.z_what[:, step]], axis=-1)
        np.testing.assert_array_equal(latents, expected)


def test_a_step_depends_on_latents_before_it_alone(make_model, tiny_images, monkeypatch):
    """By adding to the latents that the second step sees, and by the gradient of that."""
    model = make_model(controller_input="latents", looks=1)
    advance, added, calls = Controller.advance, tf.Variable(0.0), []

    def advancing(self, from_canvas, latents, state):
        calls.append(latents)
        return advance(self, from_canvas, latents + added if len(calls) == 2 else latents, state)

    monkeypatch.setattr(Controller, "advance", advancing)
    before = model.attend(tf.constant(tiny_images), SEED)
    calls.clear()
    with tf.GradientTape(persistent=True) as tape:
        after = model.attend(tf.constant(tiny_images), SEED)
        logits = tf.unstack(after.presence_logits, axis=1)
    assert_same(before, after, rtol=0, atol=0)
    gradients = [tape.gradient(step, added, unconnected_gradients=tf.UnconnectedGradients.ZERO).numpy() for step in logits]
    assert gradients[0] == 0
    assert np.abs(gradients[1:]).min() > 1e-6
    calls.clear()
    added.assign(0.5)
    moved = model.attend(tf.constant(tiny_images), SEED)
    assert_same(moved, before, slice(0, 1), rtol=0, atol=0)
    assert np.abs(moved.presence_logits[:, 1:] - before.presence_logits[:, 1:]).min() > 1e-6


def test_the_residual_is_what_the_steps_before_leave(make_model, tiny_images, record):
    attention = make_model(controller_input="residual", decoder_bias=0.0, looks=1).attend(tf.constant(tiny_images), SEED)
    windows = tf.sigmoid(attention.window_logits)
    renders = transformer.render(windows, attention.z_where, (20, 24)).numpy()
    assert record["advance"] == [None] * 3
    for step, canvas in enumerate(record["read"]):
        np.testing.assert_allclose(canvas, tiny_images - renders[:, :step].sum(axis=1), atol=1e-5)
    assert len(record["read"]) == 3
    assert renders[:, 0].max() > 0.3


def test_nothing_is_left_of_an_object_that_is_painted_as_it_is(make_model, record):
    model = make_model(controller_input="residual")
    for name in ("scale_mean", "shift_mean"):
        set_bias(model.controller.heads[name].layers[-1], {"scale_mean": -1.0, "shift_mean": 0.3}[name])
    window = np.random.default_rng(0).normal(size=48).astype(np.float32)
    set_bias(model.decoder.logits, window)
    place = [[[1 / (1 + np.exp(1.0)), np.tanh(0.3), np.tanh(0.3)]]]
    canvas = transformer.render(tf.sigmoid(window.reshape(1, 1, 8, 6)), tf.constant(place, tf.float32), (20, 24))[0]
    assert canvas.numpy().max() > 0.5
    model.attend(canvas, None)
    np.testing.assert_allclose(record["read"][1], 0 * canvas, atol=1e-5)
    np.testing.assert_allclose(record["read"][2], -canvas, atol=1e-5)  # it is painted once more


def test_only_latents_carry_gradients_from_step_to_step(make_model, tiny_images):
    norms = {}
    for name in ("canvas", "latents", "residual"):
        model = make_model(controller_input=name)
        with tf.GradientTape(persistent=True) as tape:
            logits = tf.unstack(model.attend(tf.constant(tiny_images), SEED).presence_logits, axis=1)
        parts = (*model.encoder.trainable_variables, *model.decoder.trainable_variables)
        norms[name] = [
            sum(np.abs(gradient).sum() for gradient in tape.gradient(step, parts) if gradient is not None) for step in logits
        ]
    assert norms["canvas"] == norms["residual"] == [0, 0, 0]
    assert norms["latents"][0] == 0
    assert min(norms["latents"][1:]) > 1e-5


def test_samples_of_a_scene_stand_in_its_place(make_model, tiny_images):
    """All ways of attending, to two samples of every scene, whose presence the canvas alone decides or not."""
    for name in ("canvas", "latents", "residual"):
        model = make_model(controller_input=name, refiner_units=(4,))
        twice = model.attend(tf.constant(tiny_images), SEED, samples=2)
        repeated = model.attend(tf.constant(np.repeat(tiny_images, 2, axis=0)), SEED)
        assert_same(twice, repeated)
        assert np.abs(twice.z_what[::2] - twice.z_what[1::2]).max() > 0.1


@pytest.fixture
def refined(make_model, tiny_model):
    model = make_model(refiner_units=(5,), refinement=1.0)
    same_weights(model, tiny_model)
    return model


def test_an_untrained_refiner_changes_nothing(refined, tiny_model, tiny_images):
    assert_same(refined.attend(tf.constant(tiny_images), SEED), tiny_model.attend(tf.constant(tiny_images), SEED))


def test_a_refiner_moves_windows_in_their_own_units(refined, tiny_model, tiny_images):
    before = tiny_model.attend(tf.constant(tiny_images), None)
    assert np.abs(before.z_where[..., 1:]).max() < 0.9
    refined.refiner.correction.bias.assign([0.0, 0.02, -0.01, 0.0, 0.0, 0.0])
    after = refined.attend(tf.constant(tiny_images), None)
    moved = (after.z_where[..., 1:] - before.z_where[..., 1:]) / before.z_where[..., :1]
    np.testing.assert_allclose(moved, np.broadcast_to([0.02, -0.01], moved.shape), rtol=0.03)
    np.testing.assert_array_equal(after.scale.loc, before.scale.loc)
    np.testing.assert_allclose(after.shift.scale, before.shift.scale, rtol=1e-5)


def test_a_refiner_changes_scale_and_deviations(refined, tiny_model, tiny_images):
    before = tiny_model.attend(tf.constant(tiny_images), None)
    refined.refiner.correction.bias.assign([0.3, 0.0, 0.0, 1.0, -2.0, 0.5])
    after = refined.attend(tf.constant(tiny_images), None)
    np.testing.assert_allclose(after.scale.loc, before.scale.loc + 0.3, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after.scale.scale, before.scale.scale * np.exp(0.5), rtol=1e-5)
    np.testing.assert_allclose(after.shift.scale, before.shift.scale * np.exp([-1.0, 0.25]), rtol=1e-5)
    np.testing.assert_allclose(after.shift.loc, before.shift.loc, rtol=1e-5)
    np.testing.assert_array_equal(after.presence_logits, before.presence_logits)
    for value, limit in zip((1e4, -1e4), LOG_VARIANCE_RANGE[::-1], strict=True):
        refined.refiner.correction.bias.assign([0.0, 0.0, 0.0, value, value, value])
        far = refined.attend(tf.constant(tiny_images), SEED)
        for deviation in (far.scale.scale, far.shift.scale):
            np.testing.assert_allclose(deviation, np.exp(0.5 * limit), rtol=1e-5)


def test_a_refiner_sees_the_first_glimpse(refined, tiny_images, monkeypatch):
    seen, call = [], type(refined.refiner).call
    monkeypatch.setattr(type(refined.refiner), "call", lambda self, window: seen.append(window) or call(self, window))
    refined.refiner.correction.bias.assign([0.3, 0.2, 0.1, 0.0, 0.0, 0.0])
    attention = refined.attend(tf.constant(tiny_images), SEED)
    images = tf.constant(tiny_images)
    posterior = refined.controller(images)
    place = tf.concat([tf.sigmoid(posterior.scale.loc), tf.tanh(posterior.shift.loc)], axis=-1)  # the mean, uncorrected
    np.testing.assert_allclose(seen[0], transformer.crop(images, place, (8, 6)), atol=1e-5)
    assert np.abs(attention.z_where - place).max() > 0.05


def test_refinement_grows_from_nothing_to_all(make_model, refined, tiny_model, tiny_images):
    model, images = make_model(refiner_units=(5,), refinement="linear(0, 1, steps=2000)"), tf.constant(tiny_images)
    correction = [0.3, 0.2, -0.1, 1.0, -2.0, 0.5]
    shares = {0: 0.0, 500: 0.25, 2000: 1.0, 10**6: 1.0}
    same_weights(model, tiny_model)
    for step, share in shares.items():
        model.step.assign(step)
        model.refiner.correction.bias.assign(correction)
        refined.refiner.correction.bias.assign(share * np.array(correction))
        assert_same(model.attend(images, SEED), refined.attend(images, SEED))
    assert np.abs(model.attend(images, None).z_where - tiny_model.attend(images, None).z_where).max() > 0.05


@pytest.mark.parametrize("xla", [False, True])
def test_a_refiner_is_asked_only_when_its_answer_counts(make_model, tiny_images, monkeypatch, xla):
    """Also within a compiled step, which is made once for all of training."""
    model, images = make_model(refiner_units=(5,), refinement="linear(0, 1, steps=2000, start=10)"), tf.constant(tiny_images)
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


def test_refinement_is_nothing_at_first_and_all_at_last_by_default():
    model, training = PRESETS["default"]()
    shares = [float(model.refinement(step)) for step in range(0, training.iterations, 500)]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
