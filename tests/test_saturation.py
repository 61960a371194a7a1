"""Outputs and gradients stay finite for any inputs and weights; where their limits are known, they are right."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from fitting import KnownLikelihood, flatten, set_bias
from scipy.special import expit

from air.model import distributions, generative, presence, transformer
from air.model.cells import CellController, Explained
from air.model.distributions import gaussian
from air.model.estimators import NVIL, Concrete, Enumerated, Proposal
from air.model.inference import InferenceNetwork
from air.model.networks import Controller, GlimpseDecoder, GlimpseEncoder, Posterior, Refiner, clip_log_variance

EXTREMES = np.array([-1e6, -200.0, -20.0, 0.0, 20.0, 200.0, 1e6], np.float32)
PAIRS = np.array(list(itertools.product(EXTREMES, repeat=2)), np.float32)  # [49, 2], as of two steps
PRIOR = tf.constant([27.0, -27.0])
SEED = tf.constant([3, 4])


def check(function, *inputs, layer=None):
    """Check that outputs and gradients of their sum are finite; return those with respect to the inputs."""
    inputs = [tf.convert_to_tensor(x, tf.float32) for x in inputs]
    weights = layer.trainable_weights if layer else []
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = flatten(function(*inputs))
        total = tf.add_n([tf.reduce_sum(output) for output in outputs])
    gradients = tape.gradient(total, [*inputs, *weights])
    for array in (*outputs, *gradients):
        assert np.isfinite(array).all()
    return [gradient.numpy() for gradient in gradients[: len(inputs)]]


def saturate(layer, factor):
    layer.set_weights([factor * np.random.default_rng(i).normal(0, 1, w.shape) for i, w in enumerate(layer.get_weights())])


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("brightness", [0.0, 1.0])
def test_networks(factor, brightness):
    canvas, window = tf.fill([4, 10, 14], brightness), tf.fill([4, 3, 8, 6], brightness)
    cnn = {"cnn_filters": (4,), "cnn_kernels": (3,), "cnn_strides": (2,), "cnn_pools": (2,)}
    decoder, z_what = GlimpseDecoder((8, 6), (7,), "elu"), tf.random.stateless_normal([4, 3, 4], SEED) * factor
    for layer, inputs in (
        (Controller(3, 8, (6,), **cnn), canvas),
        (Refiner((7,), "elu"), window),
        (GlimpseEncoder((7,), 4, "softplus"), window),
        (decoder, z_what),
    ):
        layer.build((None, *inputs.shape[1:]))
        saturate(layer, factor)
        check(layer, inputs, layer=layer)
    check(lambda z_what: tf.sigmoid(decoder(z_what)), z_what, layer=decoder)
    cells = CellController((10, 14), cell_size=3, filters=(4, 5), units=6)
    cells.build((None, 10, 14))
    saturate(cells, factor)
    check(lambda canvas: cells(cells.read(canvas), Explained(canvas, 1.0 - canvas)), canvas, layer=cells)


def test_log_variances_and_gaussian_kl():
    prior = {"scale": gaussian(tf.constant(0.5), tf.math.log(0.01))}

    def kl(mean, log_variance):
        return distributions.kl({"scale": gaussian(mean, clip_log_variance(log_variance))}, prior)

    to_mean, to_log_variance = check(kl, PAIRS[:, :1], PAIRS[:, 1:])
    np.testing.assert_allclose(to_mean[:, 0], (PAIRS[:, 0] - 0.5) / 0.01, rtol=1e-5)
    assert not to_log_variance[np.abs(PAIRS[:, 1]) > 15].any()  # beyond the limits


def test_distribution_of_the_count():
    for function in (presence.log_count, presence.reached, lambda logits: presence.count_kl(logits, PRIOR)):
        check(function, PAIRS)
    check(presence.step_logits, np.concatenate([-np.sort(np.abs(EXTREMES)), [0.0]]))


@pytest.mark.parametrize("logit", [-20.0, -14.0, 14.0, 20.0])
def test_gradients_of_the_count_at_saturation(logit):
    """d KL / d logit = q (1 - q) (logit - prior logit), in float64."""
    (gradient,) = check(lambda logits: presence.count_kl(logits, tf.constant([2.0])), [[logit]])
    expected = expit(logit) * expit(-logit) * (logit - 2.0)
    assert gradient[0, 0] == pytest.approx(expected, rel=1e-3, abs=2e-7)
    (gradient,) = check(lambda logits: presence.log_count(logits)[:, 0], [[logit]])
    assert gradient[0, 0] == pytest.approx(-expit(logit), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("prior", [-60.0, 0.0, 27.0])
def test_concrete_variables(temperature, prior):
    def relax(logits, temperature):
        sample = distributions.draw_concrete_logit(logits, temperature, SEED)
        return tf.sigmoid(sample), distributions.concrete_kl(sample, logits, tf.constant(prior), temperature)

    check(relax, PAIRS, temperature)


def test_likelihoods():
    images = tf.constant([[[0.0, 0.5, 1.0]]] * 5)
    canvas = np.repeat(np.array([-0.5, 0.0, 0.5, 1.0, 3.0], np.float32)[:, None, None], 3, axis=2)
    (gradient,) = check(lambda canvas: generative.cross_entropy(images, canvas), canvas)
    assert not gradient[[0, 4]].any()  # constant beyond black and white
    np.testing.assert_allclose(gradient[2, 0], [2.0, 0.0, -2.0], atol=1e-5)  # (canvas - image) / (canvas (1 - canvas))
    (gradient,) = check(lambda canvas: generative.normal_log_prob(images, canvas, tf.constant(0.01)), 100 * canvas)
    np.testing.assert_allclose(gradient, (images - 100 * canvas) / 1e-4, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["crop", "render", "render_sum", "render_cumsum"])
def test_attention_windows(name):
    """From windows of a twentieth of a pixel to the largest ones, at and beyond the canvas' corners."""
    where = np.array([(s, x, -x) for s in EXTREMES for x in EXTREMES], np.float32)[:, None]

    def transform(source, where):
        return getattr(transformer, name)(source, transformer.as_z_where(where), (10, 14))

    source = tf.random.stateless_uniform([len(where), 1, 8, 6], SEED)
    _, gradient = check(transform, source[:, 0] if name == "crop" else source, where)
    assert not gradient[np.abs(where) > 100].any()


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_refining_windows(fraction, tiny_config):
    refiner = Refiner((7,), "elu")
    refiner.build((None, 1, *tiny_config.window_size))
    saturate(refiner, 100.0)
    network = InferenceNetwork(tiny_config, None, refiner, tf.constant(fraction), None, None)
    canvas = tf.random.stateless_uniform([len(PAIRS), 1, *tiny_config.canvas_size], SEED)

    def refine(scale, shift, log_variance):
        where = {
            "scale": gaussian(scale, clip_log_variance(log_variance)),
            "shift": gaussian(shift, clip_log_variance(-log_variance)),
        }
        return network._refine(canvas, Posterior(where, scale[..., 0])).where

    check(refine, PAIRS[:, None, :1], np.repeat(PAIRS[:, None, 1:], 2, axis=2), PAIRS[:, None, :1])


@pytest.mark.parametrize("make", [lambda: Concrete(0.1), Enumerated, NVIL, lambda: NVIL(normalise=True)])
@pytest.mark.parametrize("log_likelihood", [0.0, -1e6])
def test_estimators(make, log_likelihood):
    estimator = make()
    if isinstance(estimator, NVIL):
        estimator.build((4, 5), 2)
    rendering = KnownLikelihood(tf.ones([len(PAIRS), 4, 5]), tf.constant([[log_likelihood, 0.0, log_likelihood]] * len(PAIRS)))

    def losses(logits, object_kl):
        estimate = estimator.estimate(Proposal(rendering, logits, PRIOR, object_kl), 0, SEED)
        return [estimate.reconstruction, estimate.kl, estimate.attending * object_kl, estimate.surrogate]

    check(losses, PAIRS, np.full_like(PAIRS, 1e4))


def set_heads(**values):
    def change(model):
        if isinstance(model.controller, CellController):
            names = ("shift_mean", "scale_mean", "scale_log_variance", "shift_log_variance")
            set_bias(model.controller.where, np.repeat([values.get(name, 0.0) for name in names], [2, 1, 1, 2]))
            set_bias(model.controller.presence, values.get("presence", 0.0))
            return
        for name, value in values.items():
            head = model.controller.heads[name]
            set_bias(getattr(head, "layers", [head])[-1], value)

    return change


def set_refiner(value):
    def change(model):
        for variable in model.refiner.trainable_variables:
            variable.assign(0 * variable + value)

    return change


HEADS = {"presence": 1e4, "shift_mean": 1e4, "scale_mean": -1e4, "scale_log_variance": 1e4, "shift_log_variance": -1e4}
SATURATED = {
    "as built": lambda model: None,
    "huge weights": lambda model: model.set_weights([w * 30 if w.ndim else w for w in model.get_weights()]),
    "black decoder": lambda model: set_bias(model.decoder.logits, -200),
    "white decoder": lambda model: set_bias(model.decoder.logits, 200),
    "certain presence": set_heads(presence=60),
    "certain absence": set_heads(presence=-60),
    "tiny windows": set_heads(scale_mean=-50),
    "vanishing windows": set_heads(scale_mean=-200),
    "whole canvas": set_heads(scale_mean=200),
    "in the corner": set_heads(shift_mean=200),
    "wide": set_heads(shift_log_variance=1e4),
    "narrow": set_heads(scale_log_variance=-1e4),
    "refined far away": set_refiner(1e3),
    "refined to nothing": set_refiner(-1e3),
    "all heads": set_heads(**HEADS),
    "all heads, reversed": set_heads(**{name: -value for name, value in HEADS.items()}),
}
LSTMS = ("canvas", "latents", "residual")
WAYS = [(estimator, name) for estimator in ("concrete", "nvil", "enumerated") for name in (*LSTMS, "dense")]
CASES = [(name, "concrete", "canvas") for name in SATURATED]
for case in ("huge weights", "white decoder", "certain presence", "certain absence"):
    CASES += [(case, "nvil", "latents"), (case, "enumerated", "residual")]
CASES += [(name, ("concrete", "nvil", "enumerated")[i % 3], "convolutional") for i, name in enumerate(SATURATED)]
CASES += [(list(SATURATED)[-2 + i % 2], *way) for i, way in enumerate(WAYS) if way != ("concrete", "canvas")]


@pytest.mark.parametrize(("name", "estimator", "controller"), CASES)
def test_whole_models(name, estimator, controller, make_model, tiny_images):
    likelihood = "cross_entropy" if estimator == "concrete" else "normal"
    refiner = {"refiner_units": (4,) if "refined" in name else (), "refinement": 1.0}
    ways = {"estimator": estimator, "controller": controller, "likelihood": likelihood}
    model = make_model(**ways, **refiner, temperature=0.1)
    SATURATED[name](model)
    black_and_white = np.stack([np.zeros((20, 24), np.float32), np.ones((20, 24), np.float32)])
    images = np.concatenate([black_and_white, tiny_images[:4]])
    for step in (0, 10**6):  # prior odds of 1e4 and of 1e-4
        model.step.assign(step)
        batch = model.differentiate(tf.constant(images))
        assert np.isfinite(batch.losses.total).all()
        model_variables, baseline_variables = model.learners()
        for variable, gradient in zip(model_variables, batch.gradients, strict=True):
            assert np.isfinite(gradient).all(), variable.path
        for variable, gradient in zip(baseline_variables, batch.baseline_gradients, strict=True):
            assert np.isfinite(gradient).all(), variable.path
    for field, array in model(images)._asdict().items():
        assert np.isfinite(array).all(), field
