"""The second look: each object in what the others leave unexplained, on scenes whose objects are known."""

import numpy as np
import pytest
import tensorflow as tf
from fitting import set_bias
from scipy.special import logit

from air.model import transformer
from air.model.distributions import gaussian
from air.model.inference import Attention, InferenceNetwork
from air.model.networks import Posterior

pytestmark = pytest.mark.usefixtures("uncompiled")
SEED = tf.constant([1, 2])
SIZE, WINDOW = (20, 24), (8, 6)
SURE = 50.0  # log-odds
APART = np.array([[[0.2, -0.6, -0.6], [0.25, 0.1, 0.5], [0.2, 0.7, -0.3]]], np.float32)  # z_where
OVERLAPPING = np.array([[[0.4, -0.2, -0.1], [0.45, 0.1, 0.2], [0.3, 0.2, -0.3]]], np.float32)
# What the objects look like: so dim that three never exceed 1.
WINDOWS = np.random.default_rng(0).uniform(0.05, 0.3, (1, 3, *WINDOW)).astype(np.float32)
LSTMS = pytest.mark.parametrize("controller", ["canvas", "latents", "residual"])


def objects_at(z_where):
    """Each object on a canvas of its own: [1, 3, 20, 24]."""
    return transformer.render(tf.constant(WINDOWS), z_where, SIZE).numpy()


def network(config, z_where, decoder):
    """A controller that knows where the objects are, and an encoder whose z_what is the window itself."""

    def narrow(mean):
        return gaussian(tf.cast(mean, tf.float32), tf.fill(np.shape(mean), 2 * np.log(np.float32(1e-3))))

    where = {"scale": narrow(logit(z_where[..., :1])), "shift": narrow(np.arctanh(z_where[..., 1:]))}
    return InferenceNetwork(
        config,
        controller=lambda images: Posterior(where, tf.fill([1, 3], SURE)),
        refiner=None,
        refinement=tf.constant(1.0),
        encoder=lambda window: narrow(tf.reshape(window, [*window.shape[:2], 48])),
        decoder=decoder,
    )


def decode_truth(z_what):
    """Render the true objects, whatever z_what is."""
    return tf.constant(logit(WINDOWS))


def decode_glimpse(z_what):
    """Render what the encoder saw."""
    probability = tf.clip_by_value(tf.reshape(z_what, [*z_what.shape[:2], *WINDOW]), 1e-7, 1 - 1e-6)
    return tf.math.log(probability) - tf.math.log1p(-probability)


def unexplained(config, canvas, z_where, presence_logits):
    attention = Attention(tf.constant([presence_logits], tf.float32), {}, {}, tf.constant(z_where), tf.constant(logit(WINDOWS)))
    return network(config, z_where, decode_truth)._unexplained(tf.constant(canvas, tf.float32), attention).numpy()


@pytest.mark.parametrize("z_where", [APART, OVERLAPPING])
def test_only_the_object_itself_is_left(z_where, tiny_config):
    objects = objects_at(z_where)
    canvas = objects.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(unexplained(tiny_config, canvas, z_where, [SURE] * 3), objects, atol=1e-5)
    darker = unexplained(tiny_config, 0.5 * canvas, z_where, [SURE] * 3)  # where more is rendered than there is, nothing
    np.testing.assert_allclose(darker, np.maximum(objects - 0.5 * canvas, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("presence_logits", "fraction"),
    [
        ([-SURE, SURE, SURE], [0, 0, 0]),  # the scene ends at its first step without an object
        ([SURE, -SURE, SURE], [1, 0, 0]),
        ([SURE, 0.0, SURE], [1, 0.5, 0.5]),
        ([np.log(3.0), np.log(3.0), 0.0], [3 / 4, 9 / 16, 9 / 32]),
    ],
)
def test_objects_explain_in_proportion_to_their_probability(presence_logits, fraction, tiny_config):
    objects = objects_at(OVERLAPPING) * np.reshape(fraction, (1, 3, 1, 1))
    left = unexplained(tiny_config, np.ones((1, 1, *SIZE)), OVERLAPPING, presence_logits)
    others = objects.sum(axis=1, keepdims=True) - objects
    np.testing.assert_allclose(left, 1 - others, atol=1e-5)


@pytest.mark.parametrize("seed", [None, SEED])
def test_a_window_shows_its_object_without_the_others(seed, tiny_config):
    objects = objects_at(OVERLAPPING)
    images = tf.constant(objects.sum(axis=1))
    parts = network(tiny_config, OVERLAPPING, decode_truth)
    first, second = (parts.attend(images, seed, 3, looks=looks) for looks in (1, 2))
    alone = transformer.crop(tf.constant(objects), second.z_where, WINDOW).numpy().reshape(1, 3, 48)
    together = transformer.crop(images, first.z_where, WINDOW).numpy().reshape(1, 3, 48)
    tolerance = 1e-5 if seed is None else 0.02  # the first look is at the means, a thousandth away
    np.testing.assert_allclose(second.posterior["z_what"].loc, alone, atol=tolerance)
    np.testing.assert_allclose(first.posterior["z_what"].loc, together, atol=1e-5)
    assert np.abs(alone - together).max(axis=(0, 2)).min() > 0.1  # each window has a part of another object in it
    np.testing.assert_array_equal(first.z_where, second.z_where)  # the same seed


@pytest.mark.parametrize(("z_where", "same"), [(APART, True), (OVERLAPPING, False)])
def test_objects_that_keep_apart_look_the_same_again(z_where, same, tiny_config):
    images = tf.constant(objects_at(z_where).sum(axis=1))
    parts = network(tiny_config, z_where, decode_glimpse)
    first, second = (parts.attend(images, None, 3, looks=looks).z_what for looks in (1, 2))
    difference = np.abs(first - second).max()
    assert difference < 1e-5 if same else difference > 0.1


@LSTMS
def test_black_windows_explain_nothing(controller, make_model, tiny_images):
    model = make_model(controller=controller, refinement=1.0)
    set_bias(model.refiner.correction, [0.2, 0.1, -0.1, 0.1, 0.1, 0.1])
    set_bias(model.decoder.logits, -200.0)
    first, second = (model.attend(tf.constant(tiny_images), None, looks=looks) for looks in (1, 2))
    for name in ("z_where", "z_what", "presence_logits"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-5)


@pytest.fixture(scope="module")
def bright(make_model):
    """Build an untrained model whose windows are grey, wide and overlapping, and whose z_what depends on them."""

    def make(**changes):
        model = make_model(**{"decoder_bias": -0.5, "seed": 2, **changes})
        model.controller.heads["scale_mean"].layers[-1].bias.assign([0.0])
        model.controller.heads["presence"].layers[-1].bias.assign([1.5])
        kernel = model.encoder.parameters.kernel
        kernel.assign(kernel * np.where(np.arange(8) < 4, 8.0, 1.0))  # the means
        return model

    return make


@LSTMS
def test_inference_looks_twice_by_default(controller, bright, tiny_images):
    once, twice = (bright(controller=controller, **changes) for changes in ({"looks": 1}, {}))
    first, second = once.infer(tiny_images), twice.infer(tiny_images)
    assert np.abs(first.z_what - second.z_what).max() > 0.1
    assert np.abs(first.decoded_windows - second.decoded_windows).max() > 0.01
    for name in ("count", "presence", "scale", "shift"):  # the controller looks once, and the refiner is untrained
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(twice.count(tf.constant(tiny_images)), second.count)
    explicit = [once.attend(tf.constant(tiny_images), SEED, looks=2), twice.attend(tf.constant(tiny_images), SEED)]
    np.testing.assert_array_equal(*(attention.z_what for attention in explicit))


def test_the_second_look_moves_windows_too(bright, tiny_images):
    model = bright(refinement=1.0)
    kernel = model.refiner.correction.kernel
    kernel.assign(np.random.default_rng(0).normal(0, 0.3, kernel.shape))
    first, second = (model.attend(tf.constant(tiny_images), None, looks=looks) for looks in (1, 2))
    assert np.abs(first.z_where - second.z_where).max() > 0.01
