"""The second look: each object in what the others leave unexplained, on scenes whose objects are known."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit

from air.model import bounds, inference, transformer
from air.model.distributions import gaussian
from air.model.inference import Attention, Networks
from air.model.networks import Posterior

SEED = tf.constant([1, 2])
SIZE, WINDOW = (20, 24), (8, 6)
SURE = 50.0  # log-odds
APART = [[0.2, -0.6, -0.6], [0.25, 0.1, 0.5], [0.2, 0.7, -0.3]]
OVERLAPPING = [[0.4, -0.2, -0.1], [0.45, 0.1, 0.2], [0.3, 0.2, -0.3]]
BRIGHTNESS = 0.3  # of an object at most, so that three never exceed 1


def normal(mean, deviation=1e-3):
    return gaussian(tf.constant(mean, tf.float32), tf.fill(np.shape(mean), 2 * np.log(np.float32(deviation))))


@pytest.fixture(autouse=True)
def uncompiled():
    """Small batches are over before XLA has compiled them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def windows():
    """What the objects look like: [1, 3, 8, 6]."""
    return np.random.default_rng(0).uniform(0.05, BRIGHTNESS, (1, 3, *WINDOW)).astype(np.float32)


def objects_at(windows, places):
    """Each object on a canvas of its own: [1, 3, 20, 24]."""
    return transformer.render(tf.constant(windows), tf.constant([places]), SIZE).numpy()


def networks(places, presence_logits, decoder):
    """A controller that says where the objects are; an encoder whose z_what is the window itself."""
    places = np.array([places])
    posterior = Posterior(normal(logit(places[..., :1])), normal(np.arctanh(places[..., 1:])), tf.constant([presence_logits]))
    return Networks(
        controller=lambda images: posterior,
        refiner=None,
        refinement=tf.constant(1.0),
        encoder=lambda window: normal(tf.reshape(window, [*window.shape[:2], 48])),
        decoder=decoder,
    )


def knowing(windows):
    """A decoder that paints the objects as they are, whatever it is asked."""
    return lambda z_what: tf.constant(logit(windows))


def hand_made(windows, places, presence_logits):
    nothing = normal(np.zeros((1, 3, 1)))
    return Attention(
        presence_logits=tf.constant([presence_logits], tf.float32),
        scale=nothing,
        shift=nothing,
        what=nothing,
        where_logits=tf.zeros([1, 3, 3]),
        z_where=tf.constant([places]),
        z_what=tf.zeros([1, 3, 48]),
        window_logits=tf.constant(logit(windows)),
    )


@pytest.mark.parametrize("places", [APART, OVERLAPPING])
def test_nothing_but_the_object_itself_is_left(places, windows, tiny_config):
    objects = objects_at(windows, places)
    canvas = tf.constant(objects.sum(axis=1, keepdims=True))
    left = inference._unexplained(canvas, hand_made(windows, places, [SURE] * 3), tiny_config)
    np.testing.assert_allclose(left, objects, atol=1e-5)
    np.testing.assert_allclose(  # nor anything below 0, where more is painted than there is
        inference._unexplained(0.5 * canvas, hand_made(windows, places, [SURE] * 3), tiny_config),
        np.maximum(objects - 0.5 * canvas, 0),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("presence_logits", "share"),
    [
        ([-SURE, SURE, SURE], [0, 0, 0]),  # the scene ends at its first step without an object
        ([SURE, -SURE, SURE], [1, 0, 0]),
        ([SURE, 0.0, SURE], [1, 0.5, 0.5]),
        ([np.log(3.0), np.log(3.0), 0.0], [3 / 4, 9 / 16, 9 / 32]),
    ],
)
def test_objects_explain_as_much_as_they_are_likely(presence_logits, share, windows, tiny_config):
    objects = objects_at(windows, OVERLAPPING)
    canvas = np.full((1, 1, *SIZE), 1.0, np.float32)
    left = inference._unexplained(tf.constant(canvas), hand_made(windows, OVERLAPPING, presence_logits), tiny_config)
    for step in range(3):
        others = sum(share[other] * objects[:, other] for other in range(3) if other != step)
        np.testing.assert_allclose(left[:, step], canvas[:, 0] - others, atol=1e-5)


@pytest.mark.parametrize("seed", [None, SEED])
def test_a_window_shows_its_object_without_the_others(seed, windows, tiny_config):
    objects = objects_at(windows, OVERLAPPING)
    images = tf.constant(objects.sum(axis=1))
    parts = networks(OVERLAPPING, [SURE] * 3, knowing(windows))
    first, second = (inference.attend(parts, tiny_config, images, seed, looks=looks) for looks in (1, 2))
    alone = transformer.crop(tf.constant(objects), second.z_where, WINDOW).numpy().reshape(1, 3, 48)
    together = transformer.crop(images, first.z_where, WINDOW).numpy().reshape(1, 3, 48)
    tolerance = 1e-5 if seed is None else 0.02  # the first look is at the means, a thousandth away
    np.testing.assert_allclose(second.what.loc, alone, atol=tolerance)
    np.testing.assert_allclose(first.what.loc, together, atol=1e-5)
    assert np.abs(alone - together).max(axis=(0, 2)).min() > 0.1  # each has something of another in its window
    np.testing.assert_array_equal(first.z_where, second.z_where)  # the same seed


def seen(z_what):
    """A decoder that paints what the encoder saw."""
    return tf.reshape(logit_of(z_what), [*z_what.shape[:2], *WINDOW])


def logit_of(probability):
    probability = tf.clip_by_value(probability, 1e-7, 1 - 1e-6)
    return tf.math.log(probability) - tf.math.log1p(-probability)


@pytest.mark.parametrize(("places", "same"), [(APART, True), (OVERLAPPING, False)])
def test_objects_that_keep_apart_look_the_same_again(places, same, windows, tiny_config):
    images = tf.constant(objects_at(windows, places).sum(axis=1))
    parts = networks(places, [SURE] * 3, seen)
    first, second = (inference.attend(parts, tiny_config, images, None, looks=looks) for looks in (1, 2))
    difference = np.abs(first.what.loc - second.what.loc).max()
    assert difference < 1e-5 if same else difference > 0.1


@pytest.mark.parametrize("controller_input", ["canvas", "latents", "residual"])
def test_what_is_painted_black_explains_nothing(controller_input, make_model, tiny_images):
    model = make_model(controller_input=controller_input, refinement=1.0)
    for layer, bias in ((model.refiner.correction, [0.2, 0.1, -0.1, 0.1, 0.1, 0.1]), (model.decoder.logits, -200.0)):
        layer.kernel.assign(0 * layer.kernel)
        layer.bias.assign(0 * layer.bias + bias)
    first, second = (model.attend(tf.constant(tiny_images), None, looks=looks) for looks in (1, 2))
    np.testing.assert_allclose(first.z_where, second.z_where, atol=1e-6)
    np.testing.assert_allclose(first.z_what, second.z_what, atol=1e-5)
    np.testing.assert_allclose(first.presence_logits, second.presence_logits, atol=1e-5)


@pytest.fixture(scope="module")
def bright(make_model):
    """Builds a model, untrained, whose windows are grey, wide and on top of each other, and whose z_what depends on them."""

    def make(**changes):
        model = make_model(**{"decoder_bias": -0.5, "seed": 2, **changes})
        for part in ("scale_mean", "presence"):
            model.controller.heads[part].layers[-1].bias.assign([{"scale_mean": 0.0, "presence": 1.5}[part]])
        kernel = model.encoder.parameters.kernel
        kernel.assign(kernel * np.where(np.arange(8) < 4, 8.0, 1.0))  # the means
        return model

    return make


@pytest.mark.parametrize("controller_input", ["canvas", "latents", "residual"])
def test_inference_looks_twice_by_default(controller_input, bright, tiny_images):
    once, twice = (bright(controller_input=controller_input, **changes) for changes in ({"looks": 1}, {}))
    first, second = once.infer(tiny_images), twice.infer(tiny_images)
    assert np.abs(first.z_what - second.z_what).max() > 0.1
    assert np.abs(first.decoded_windows - second.decoded_windows).max() > 0.01
    for name in ("count", "presence", "scale", "shift"):  # the controller looks once, and the refiner is not trained
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(twice.count(tf.constant(tiny_images)), second.count)
    explicit = [once.attend(tf.constant(tiny_images), SEED, looks=2), twice.attend(tf.constant(tiny_images), SEED)]
    np.testing.assert_array_equal(*(answer.z_what for answer in explicit))


def test_a_refiner_is_asked_again(bright, tiny_images):
    """What the others leave unexplained moves the window, too."""
    model = bright(refinement=1.0)
    rng = np.random.default_rng(0)
    model.refiner.correction.kernel.assign(rng.normal(0, 0.3, model.refiner.correction.kernel.shape))
    first, second = (model.attend(tf.constant(tiny_images), None, looks=looks) for looks in (1, 2))
    assert np.abs(first.z_where - second.z_where).max() > 0.01


@pytest.mark.parametrize("controller_input", ["canvas", "latents"])
def test_samples_of_the_second_look_give_bounds(controller_input, bright, tiny_images):
    """The ELBO is what a single weight is on average, below the importance-weighted bound, which rises with the samples."""
    choice = {"likelihood": "normal", "likelihood_std": 1.0, "controller_input": controller_input}
    model = bright(**choice)
    model.count_prior.assign([0.1, 0.2, 0.3, 0.4])
    images, prior = np.repeat(tiny_images[1:4], 100, axis=0), bounds.count_priors(model)["frequency"]

    def by_scene(values):
        values = values.reshape(3, -1)
        return values.mean(axis=1), values.std(axis=1) / values.shape[1] ** 0.5

    elbo, elbo_error = by_scene(bounds.elbo(model, images, seed=9).bound("normal", prior))
    once, _ = by_scene(bounds.elbo(bright(**choice, looks=1), images, seed=9).bound("normal", prior))
    assert np.abs(elbo - once).max() > 1e-3  # the second look does matter
    weights = bounds.importance_samples(model, images, 32, seed=5).log_weights("normal", prior)
    single, error = by_scene(bounds.importance_bound(weights, 1))
    assert (np.abs(single - elbo) < 4.5 * np.hypot(error, elbo_error)).all()
    rising = [by_scene(bounds.importance_bound(weights, samples))[0] for samples in (1, 2, 8, 32)]
    assert (np.diff(rising, axis=0) > 0).all()
    assert (rising[-1] > elbo + 4.5 * elbo_error).all()
