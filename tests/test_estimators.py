"""Estimators of z_pres on proposals with known likelihoods: values agree with brute force, and gradients are unbiased."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import KnownLikelihood
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from air.model.estimators import NVIL, Concrete, Enumerated, Proposal

SEED = tf.constant([1, 2])
LOGITS = np.array([[0.5, -0.3, 0.8], [1.5, 0.2, -1.0]], np.float32)
PRIOR = np.array([0.3, -0.6, -1.0], np.float32)
OBJECT_KL = np.array([[2.0, 3.0, 1.0], [4.0, 0.5, 2.0]], np.float32)
LOG_LIKELIHOODS = np.array([[-20.0, -5.0, -3.0, -4.0], [-30.0, -28.0, -10.0, -14.0]], np.float32)  # of n = 0 ... 3
ARRAYS = (LOGITS, OBJECT_KL, LOG_LIKELIHOODS)
IMAGES = np.random.default_rng(0).random((2, 4, 5), np.float32)
DRAWS = 20_000


def propose(logits=LOGITS, object_kl=OBJECT_KL, log_likelihoods=LOG_LIKELIHOODS, images=IMAGES, prior=PRIOR):
    logits, object_kl, table, images, prior = map(tf.convert_to_tensor, (logits, object_kl, log_likelihoods, images, prior))
    return Proposal(KnownLikelihood(images, table), logits, prior, object_kl)


def loss(estimate, object_kl):
    """The loss of each scene, as in `objective.negative_elbo`."""
    by_step = estimate.kl + estimate.attending * object_kl
    return estimate.reconstruction + tf.reduce_sum(by_step, axis=1) + estimate.surrogate


def gradients(estimator, arrays=ARRAYS, seed=SEED, images=IMAGES):
    """Gradients of each scene's loss with respect to its logits, object KLs and log-likelihoods."""
    arrays = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        total = loss(estimator.estimate(propose(*arrays, images=images), 0, seed), arrays[1])
    return [gradient.numpy().astype(np.float64) for gradient in tape.gradient(total, arrays)]


def repeat(*arrays):
    return [np.repeat(array, DRAWS, axis=0) for array in arrays]


def gradients_of_draws(estimator):
    """Gradients of many draws for each of the two scenes, [2, DRAWS, ...] each."""
    found = gradients(estimator, repeat(*ARRAYS), images=np.repeat(IMAGES, DRAWS, axis=0))
    return [gradient.reshape(2, DRAWS, -1) for gradient in found]


def variance_of(estimator):
    return gradients_of_draws(estimator)[0].var(axis=1).sum()


def posterior(logits):
    """q(n) in float64, [scenes, 4]."""
    p = expit(np.asarray(logits, np.float64))
    return np.stack([np.prod(p[:, :n], axis=1) * (1 - p[:, n] if n < 3 else 1) for n in range(4)], axis=1)


# Concrete


def relax(logits, prior=0.0, temperature=1.0, threshold=0.99, seed=SEED):
    """Concrete's estimate where log p(x | n) is n, and objects have no KL."""
    scenes, steps = logits.shape
    table = np.tile(np.arange(steps + 1, dtype=np.float32), (scenes, 1))
    images, priors = np.zeros((scenes, 1, 1), np.float32), np.full(steps, prior, np.float32)
    return Concrete(temperature, threshold).estimate(propose(logits, 0 * table[:, 1:], table, images, priors), 0, seed)


@pytest.mark.parametrize(
    ("z_pres", "threshold", "running", "attending"),
    [
        ([[0.999, 0.999, 0.999]], 0.99, [[1, 1, 1]], [[1, 1, 1]]),  # never stops
        ([[0.999, 0.001, 0.999]], 0.99, [[1, 1, 0]], [[1, 0, 0]]),  # stops at the second step for good
        ([[0.001, 0.999, 0.999]], 0.99, [[1, 0, 0]], [[0, 0, 0]]),  # empty scene: only the first KL of z_pres counts
        ([[0.45, 0.6, 0.3]], 0.99, [[1, 1, 1]], [[1, 1, 0]]),  # 0.55, 0.95, 1.65
        ([[0.9, 0.8, 0.6]], 0.25, [[1, 1, 0]], [[1, 0, 0]]),  # 0.1, 0.3, 0.7
        ([[0.7]], 0.5, [[1]], [[1]]),
        ([[0.3]], 0.5, [[1]], [[0]]),
        ([[0.6, 0.6, 0.6, 0.6]], 0.99, [[1, 1, 1, 0]], [[1, 1, 0, 0]]),  # 0.4, 0.8, 1.2, 1.6
        ([[0.999, 0.001, 0.9], [0.9, 0.95, 0.999]], 0.99, [[1, 1, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 1]]),
    ],
)
def test_concrete_stopping(z_pres, threshold, running, attending):
    # At a temperature of 1e6 the noise of a Concrete variable is below 1e-4, and its KL is not 0 unless it is masked.
    estimate = relax(tf.constant(1e6 * logit(z_pres), tf.float32), temperature=1e6, threshold=threshold)
    np.testing.assert_allclose(estimate.z_pres, z_pres, atol=1e-3)
    np.testing.assert_array_equal(estimate.kl.numpy() != 0, running)
    np.testing.assert_array_equal(estimate.attending, attending)
    np.testing.assert_allclose(estimate.reconstruction, -(estimate.z_pres * attending).numpy().sum(axis=1), rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    temperature=st.floats(0.1, 5),
    threshold=st.floats(0.01, 0.99),
    steps=st.integers(1, 6),
    spread=st.floats(0.1, 60),
    seed=st.integers(0, 10**6),
)
def test_concrete_masks(temperature, threshold, steps, spread, seed):
    logits = np.random.default_rng(seed).normal(0, spread, (16, steps)).astype(np.float32)
    estimate = relax(logits, -2.0, temperature, threshold, tf.constant([seed, 0]))
    z_pres, attending, kl = (np.asarray(array) for array in (estimate.z_pres, estimate.attending, estimate.kl))
    assert set(np.unique(attending)) <= {0.0, 1.0}
    assert (np.diff(attending, axis=1) <= 0).all()
    assert (kl[:, 1:][attending[:, :-1] == 0] == 0).all()
    assert np.isfinite(kl).all()
    absence = np.cumsum(1 - z_pres.astype(np.float64), axis=1)
    clear = np.abs(absence - threshold) > 1e-5
    np.testing.assert_array_equal(attending[clear], (absence < threshold)[clear])


# Enumerated


def exact_loss(logits):
    """The sum over every count, [2] nats."""
    q, p = posterior(logits), posterior(PRIOR[None])
    cost = np.concatenate([np.zeros((2, 1)), np.cumsum(OBJECT_KL, axis=1)], axis=1) - LOG_LIKELIHOODS
    return (q * (cost + np.log(q / p))).sum(axis=1)


def test_enumerated_is_the_sum_over_every_count():
    estimate = Enumerated().estimate(propose(), 0, SEED)
    np.testing.assert_allclose(loss(estimate, OBJECT_KL), exact_loss(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(estimate.z_pres, expit(LOGITS), rtol=1e-5)


def test_enumerated_gradient_agrees_with_finite_differences():
    to_logits, to_kl, to_likelihood = gradients(Enumerated())
    slopes = [(exact_loss(LOGITS + h) - exact_loss(LOGITS - h)) / 2e-5 for h in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(to_logits, np.transpose(slopes), rtol=1e-4, atol=1e-4)
    q = posterior(LOGITS)
    np.testing.assert_allclose(to_likelihood, -q, rtol=1e-5)
    np.testing.assert_allclose(to_kl, np.cumsum(q[:, ::-1], axis=1)[:, 2::-1], rtol=1e-5)


# NVIL


def nvil(centre=False, normalise=False, units=(6,), **averages):
    layer = NVIL(units, centre, normalise)
    layer.build((4, 5), 3)
    for name, value in averages.items():
        getattr(layer, name).assign(value)
    return layer


def with_random_baseline(layer):
    rng = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(0, 2.0, variable.shape))
    return layer


def with_constant_baseline(layer, cost=0.0):
    layer.cost.kernel.assign(0 * layer.cost.kernel)
    layer.cost.bias.assign([cost] * 3)
    return layer


NVILS = {
    "bare": lambda: with_constant_baseline(nvil()),
    "centred": lambda: with_constant_baseline(nvil(centre=True, mean=20.0)),
    "with any baseline": lambda: with_random_baseline(nvil()),
    "with both": lambda: with_random_baseline(nvil(centre=True, mean=-10.0)),
}


@pytest.mark.parametrize("name", NVILS)
def test_nvil_is_unbiased(name):
    for draws, expected in zip(gradients_of_draws(NVILS[name]()), gradients(Enumerated()), strict=True):
        error = draws.std(axis=1) / DRAWS**0.5
        assert (np.abs(draws.mean(axis=1) - expected) < 4.5 * error + 1e-6).all()
        assert 0 < error.max() < 0.1 * np.abs(expected).max()


@pytest.mark.slow
def test_nvil_is_unbiased_through_a_whole_model(make_model, tiny_images):
    """The log-odds of a step depend on the latents drawn before it, which are the same for both estimators."""
    common = {"seed": 4, "controller": "latents", "baseline_units": (5,)}
    exact, sampled = make_model(estimator="enumerated", **common), make_model(estimator="nvil", **common)
    parts = ("controller", "encoder", "decoder")
    for part in parts:
        getattr(sampled, part).set_weights(getattr(exact, part).get_weights())
    images, rng = tf.constant(np.repeat(tiny_images[1:4], 20, axis=0)), np.random.default_rng(0)
    reconstruction = exact.objective(images, SEED)[0].reconstruction
    sampled.estimator.mean.assign(tf.reduce_mean(reconstruction))  # or noise would hide a bias
    names = ("presence", "shift_mean", "recurrent_gates", "latent_gates", "encoder/parameters", "decoder/logits")

    def chosen(model):
        variables = [variable for part in parts for variable in getattr(model, part).trainable_variables]
        return [variable for variable in variables if any(name in variable.path for name in names)]

    directions = [tf.constant(rng.normal(size=variable.shape), tf.float32) for variable in chosen(exact)]

    @tf.function
    def slopes(seed):
        """Slopes of the mean loss of both along a random direction of each weight array."""
        found = []
        for model in (exact, sampled):
            with tf.GradientTape() as tape:
                total = tf.reduce_mean(model.objective(images, seed)[0].total)
            pairs = zip(tape.gradient(total, chosen(model)), directions, strict=True)
            found.append(tf.stack([tf.reduce_sum(gradient * direction) for gradient, direction in pairs]))
        return found

    expected, drawn = np.swapaxes([np.stack(slopes(tf.constant([0, draw]))) for draw in range(150)], 0, 1).astype(np.float64)
    difference = drawn - expected
    error = difference.std(axis=0) / len(difference) ** 0.5
    assert error.min() > 0
    assert (np.abs(difference.mean(axis=0)) < 4.5 * error).all()
    assert (np.abs(expected.mean(axis=0)) > 4.5 * error).sum() > len(error) / 3  # or it would prove little


def expected_costs():
    """E[cost | step t is reached], which the baseline should learn, [2, 3]."""
    cost = np.concatenate([np.zeros((2, 1)), np.cumsum(OBJECT_KL, axis=1)], axis=1) - LOG_LIKELIHOODS
    q = posterior(LOGITS)
    return np.stack([(q * cost)[:, t:].sum(axis=1) / q[:, t:].sum(axis=1) for t in range(3)], axis=1)


def test_a_baseline_and_centring_reduce_the_variance():
    ideal = with_constant_baseline(nvil(units=()))
    ideal.cost.kernel.assign(np.linalg.pinv(IMAGES.reshape(2, -1).astype(np.float64)) @ expected_costs())
    np.testing.assert_allclose(ideal.baseline(tf.constant(IMAGES)), expected_costs(), rtol=1e-4)
    bare, centred = (variance_of(NVILS[name]()) for name in ("bare", "centred"))
    assert variance_of(ideal) < 0.5 * centred < 0.25 * bare


def test_normalising_shrinks_the_signal_but_never_enlarges_it():
    kl = gradients(Enumerated(), (LOGITS, 0 * OBJECT_KL, 0 * LOG_LIKELIHOODS))[0]  # all that does not come from the signal

    def signal(**settings):
        return gradients(with_constant_baseline(nvil(**settings), 10.0))[0] - kl

    plain = signal(variance=25.0)
    assert np.abs(plain).max() > 1
    for variance, factor in ((25.0, 1 / 5), (1.0, 1.0), (0.04, 1.0)):
        np.testing.assert_allclose(signal(normalise=True, variance=variance), factor * plain, rtol=1e-3, atol=1e-4)


def test_the_surrogate_is_0_but_its_gradient_is_not():
    for name, make in NVILS.items():
        layer = make()
        with tf.GradientTape() as tape:
            surrogate = layer.estimate(propose(), 0, SEED).surrogate
        np.testing.assert_array_equal(surrogate, np.zeros(2), err_msg=name)
        assert any(np.any(g) for g in tape.gradient(surrogate, layer.trainable_variables))
    for estimator in (Concrete(), Enumerated()):
        np.testing.assert_array_equal(estimator.estimate(propose(), 0, SEED).surrogate, np.zeros(2))


def test_nvil_draws_the_count_from_its_posterior():
    estimate = nvil().estimate(propose(*repeat(*ARRAYS, IMAGES)), 0, SEED)
    q, p = posterior(LOGITS), posterior(PRIOR[None])
    assert (np.diff(estimate.z_pres, axis=1) <= 0).all()
    counts = estimate.z_pres.numpy().sum(axis=1).astype(int)
    for drawn, expected in zip(counts.reshape(2, DRAWS), q, strict=True):
        assert stats.chisquare(np.bincount(drawn, minlength=4), DRAWS * expected).pvalue > 1e-3
    np.testing.assert_array_equal(estimate.attending, estimate.z_pres)
    np.testing.assert_allclose(estimate.reconstruction, -LOG_LIKELIHOODS[np.repeat([0, 1], DRAWS), counts], rtol=1e-5)
    kl = (q * np.log(q / p)).sum(axis=1)
    np.testing.assert_allclose(estimate.kl.numpy().sum(axis=1), np.repeat(kl, DRAWS), rtol=1e-4)


@pytest.mark.parametrize("centre", [True, False])
def test_running_averages(centre):
    layer = with_random_baseline(nvil(centre=centre, mean=3.0, variance=16.0))
    estimate = layer.estimate(propose(), 0, SEED)
    present = estimate.z_pres.numpy().astype(bool)
    running = np.concatenate([[[True]] * 2, present[:, :-1]], axis=1)
    cost = estimate.reconstruction.numpy() + (present * OBJECT_KL).sum(axis=1)
    error = (cost[:, None] - layer.baseline(tf.constant(IMAGES)).numpy() - (3.0 if centre else 0.0))[running]
    assert (float(layer.mean), float(layer.variance)) == (3.0, 16.0)  # until a training step moves them
    layer.follow(estimate.moments)
    assert float(layer.mean) == pytest.approx(3.0 + 0.1 * error.mean() if centre else 3.0, rel=1e-4)
    assert float(layer.variance) == pytest.approx(0.9 * 16.0 + 0.1 * error.var(), rel=1e-4)


def test_the_baseline_and_the_running_average_learn_the_expected_costs():
    layer, optimizer = nvil(centre=True, units=(16,)), keras.optimizers.Adam(0.02)
    optimizer.build(layer.trainable_variables)
    rows = [np.repeat(array, 300, axis=0) for array in (*ARRAYS, IMAGES)]

    @tf.function
    def step(number):
        with tf.GradientTape() as tape:
            estimate = layer.estimate(propose(*rows), 0, tf.stack([0, number]))
            total = tf.reduce_mean(loss(estimate, rows[1]))
        optimizer.apply(tape.gradient(total, layer.trainable_variables), layer.trainable_variables)
        layer.follow(estimate.moments)

    for number in range(500):
        step(tf.constant(number))
    learned = layer.baseline(tf.constant(IMAGES)).numpy() + float(layer.mean)
    np.testing.assert_allclose(learned, expected_costs(), atol=0.7)
    assert np.ptp(expected_costs()) > 10
    assert variance_of(layer) < 0.05 * variance_of(NVILS["bare"]())
