"""Whatever numbers a layer is driven to, its answer and its gradients stay finite; and where they are known, they are right."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from air.model import distributions, images, inference, presence, transformer
from air.model.distributions import gaussian
from air.model.estimators import NVIL, Concrete, Enumerated, Proposal
from air.model.inference import Networks
from air.model.networks import Controller, GlimpseDecoder, GlimpseEncoder, Posterior, Refiner, clip_log_variance

EXTREMES = np.array([-1e6, -200.0, -20.0, 0.0, 20.0, 200.0, 1e6], np.float32)
PAIRS = np.array(list(itertools.product(EXTREMES, repeat=2)), np.float32)  # [49, 2], as of two steps
PRIOR = tf.constant([27.0, -27.0])
SEED = tf.constant([3, 4])


def check(function, *inputs):
    """The gradients of the sum of what a function answers with, after a check that all is finite."""
    inputs = [tf.convert_to_tensor(x, tf.float32) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        answers = tf.nest.flatten(function(*inputs))
        total = tf.add_n([tf.reduce_sum(answer) for answer in answers])
    gradients = tape.gradient(total, inputs)
    for answer in answers:
        assert np.isfinite(answer).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    return [gradient.numpy() for gradient in gradients]


def check_layer(layer, function, *inputs):
    """The same for the weights of a layer."""
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.reduce_sum(answer) for answer in tf.nest.flatten(function(*inputs))])
    assert np.isfinite(total)
    for weight, gradient in zip(layer.trainable_weights, tape.gradient(total, layer.trainable_weights), strict=True):
        assert np.isfinite(gradient).all(), weight.path


def saturate(layer, factor):
    layer.set_weights([factor * np.random.default_rng(i).normal(0, 1, w.shape) for i, w in enumerate(layer.get_weights())])


def parts(normal):
    return [normal.loc, normal.scale]


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("brightness", [0.0, 1.0])
def test_networks(factor, brightness):
    """Inputs and weights that drive every unit to one of its ends."""
    canvas, window = tf.fill([4, 10, 14], brightness), tf.fill([4, 3, 8, 6], brightness)
    cnn = {"cnn_filters": (4,), "cnn_kernels": (3,), "cnn_strides": (2,), "cnn_pools": (2,)}
    controller, refiner = Controller(3, 8, (6,), **cnn), Refiner((7,), "elu")
    encoder, decoder = GlimpseEncoder((7,), 4, "softplus"), GlimpseDecoder((8, 6), (7,), "elu")
    for layer, shape in ((controller, canvas.shape), (refiner, window.shape), (encoder, window.shape), (decoder, (4, 3, 4))):
        layer.build((None, *shape[1:]))
        saturate(layer, factor)

    def control(canvas):
        posterior = controller(canvas)
        return [*parts(posterior.scale), *parts(posterior.shift), posterior.presence_logits]

    def encode(window):
        return parts(encoder(window))

    def paint(z_what):
        return tf.sigmoid(decoder(z_what))

    z_what = tf.random.stateless_normal([4, 3, 4], SEED) * factor
    for layer, function, given in (
        (controller, control, canvas),
        (refiner, refiner, window),
        (encoder, encode, window),
        (decoder, paint, z_what),
    ):
        check(function, given)
        check_layer(layer, function, given)


def test_log_variances_and_gaussian_kl():
    def kl(mean, log_variance):
        return distributions.gaussian_kl(gaussian(mean, clip_log_variance(log_variance)), 0.5, 0.01)

    to_mean, to_log_variance = check(kl, PAIRS[:, :1], PAIRS[:, 1:])
    np.testing.assert_allclose(to_mean[:, 0], (PAIRS[:, 0] - 0.5) / 0.01, rtol=1e-5)
    assert not to_log_variance[np.abs(PAIRS[:, 1]) > 15].any()  # beyond the limits


def test_distribution_of_the_count():
    check(presence.log_count, PAIRS)
    check(presence.reached, PAIRS)
    check(lambda logits: presence.count_kl(logits, PRIOR), PAIRS)
    check(presence.step_logits, np.concatenate([-np.sort(np.abs(EXTREMES)), [0.0]]))


@pytest.mark.parametrize("logit", [-20.0, -14.0, 14.0, 20.0])
def test_gradients_of_the_count_at_saturation(logit):
    """d KL / d logit = q (1 - q) (logit - prior logit), in float64."""
    (gradient,) = check(lambda logits: presence.count_kl(logits, tf.constant([2.0])), [[logit]])
    expected = expit(logit) * expit(-logit) * (logit - 2.0)
    assert gradient[0, 0] == pytest.approx(expected, rel=1e-3, abs=2e-7)
    (gradient,) = check(lambda logits: presence.log_count(logits)[:, 0], [[logit]])
    assert gradient[0, 0] == pytest.approx(-expit(logit), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_concrete_variables(temperature):
    def relaxed(logits):
        sample = distributions.draw_concrete_logit(logits, temperature, SEED)
        return tf.sigmoid(sample), distributions.concrete_kl(sample, logits, PRIOR, temperature)

    check(relaxed, PAIRS)


def test_likelihoods():
    seen = tf.constant([[[0.0, 0.5, 1.0]]] * 5)
    painted = np.repeat(np.array([-0.5, 0.0, 0.5, 1.0, 3.0], np.float32)[:, None, None], 3, axis=2)
    (gradient,) = check(lambda canvas: images.cross_entropy(seen, canvas), painted)
    assert not gradient[[0, 4]].any()  # more than white, less than black: nothing changes
    np.testing.assert_allclose(gradient[2, 0], [2.0, 0.0, -2.0], atol=1e-5)  # (canvas - image) / (canvas (1 - canvas))
    (gradient,) = check(lambda canvas: images.normal_log_prob(seen, canvas, tf.constant(0.01)), 100 * painted)
    np.testing.assert_allclose(gradient, (seen - 100 * painted) / 1e-4, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["crop", "render", "render_sum", "render_cumsum"])
def test_attention_windows(name):
    """From windows of a twentieth of a pixel to the largest ones, at and beyond the canvas' corners."""
    where = np.array([(s, x, -x) for s in EXTREMES for x in EXTREMES], np.float32)[:, None]

    def attend(source, where):
        return getattr(transformer, name)(source, inference.as_z_where(where), (10, 14))

    source = tf.random.stateless_uniform([len(where), 1, 8, 6], SEED)
    _, gradient = check(attend, source[:, 0] if name == "crop" else source, where)
    beyond = np.abs(where) > 100
    assert not gradient[beyond].any()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_refining_windows(share, tiny_config):
    refiner = Refiner((7,), "elu")
    refiner.build((None, 1, *tiny_config.window_size))
    saturate(refiner, 100.0)
    networks = Networks(None, refiner, tf.constant(share), None, None)
    canvas = tf.random.stateless_uniform([len(PAIRS), 1, *tiny_config.canvas_size], SEED)

    def refine(scale, shift, log_variance):
        posterior = Posterior(
            gaussian(scale, clip_log_variance(log_variance)), gaussian(shift, clip_log_variance(-log_variance)), scale[..., 0]
        )
        refined = inference._refine(networks, tiny_config, canvas, posterior)
        return [*parts(refined.scale), *parts(refined.shift)]

    check(refine, PAIRS[:, None, :1], np.repeat(PAIRS[:, None, 1:], 2, axis=2), PAIRS[:, None, :1])


@pytest.mark.parametrize("make", [Concrete, Enumerated, NVIL, lambda: NVIL(normalise=True)])
@pytest.mark.parametrize("log_likelihood", [0.0, -1e6])
def test_estimators(make, log_likelihood):
    scenes, estimator = tf.ones([len(PAIRS), 4, 5]), make()
    if isinstance(estimator, NVIL):
        estimator.build((4, 5), 2)
    now = SimpleNamespace(temperature=tf.constant(0.1), stop_threshold=tf.constant(0.99))
    table = tf.constant([[log_likelihood, 0.0, log_likelihood]] * len(PAIRS))

    def loss(logits, latent_kl):
        given = Proposal(
            scenes, logits, PRIOR, latent_kl, lambda z_pres: table[:, 0] * tf.reduce_sum(z_pres, axis=1), lambda: table
        )
        estimate = estimator.estimate(given, now, SEED)
        return [estimate.reconstruction, estimate.z_pres_kl, estimate.attending * latent_kl, estimate.surrogate]

    check(loss, PAIRS, np.full_like(PAIRS, 1e4))


HEADS = {"presence": 1e4, "shift_mean": 1e4, "scale_mean": -1e4, "scale_log_variance": 1e4, "shift_log_variance": -1e4}


@pytest.mark.parametrize(("sign", "likelihood"), [(1.0, "cross_entropy"), (-1.0, "normal")])
@pytest.mark.parametrize("controller_input", ["canvas", "latents", "residual"])
@pytest.mark.parametrize("estimator", ["concrete", "enumerated", "nvil"])
def test_whole_models(sign, likelihood, controller_input, estimator, make_model, tiny_images):
    """All heads as sure of themselves as can be: no step or every step, windows in the corners."""
    model = make_model(estimator=estimator, controller_input=controller_input, likelihood=likelihood, temperature=0.1)
    for name, value in HEADS.items():
        bias = model.controller.heads[name].layers[-1].bias
        bias.assign(tf.fill(bias.shape, sign * value))
    losses, _, _, gradients = model.differentiate(tf.constant(tiny_images))
    assert np.isfinite(losses.total).all()
    for gradient in tf.nest.flatten(gradients):
        assert np.isfinite(gradient).all()
