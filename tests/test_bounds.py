"""The bounds are those of the discrete model: brute-force enumeration of the count and SciPy's densities give the same."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from air import bounds, distributions
from air.images import cross_entropy


@pytest.fixture(scope="module")
def images(tiny_images):
    return np.rint(tiny_images * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def floats(images):
    return tf.constant(images / np.float32(255))


def test_posterior_of_the_count_is_a_distribution():
    logits = tf.constant([[0.3, -1.0, 2.0], [40.0, 40.0, 40.0], [-40.0, 5.0, 5.0]])
    log_q = bounds.log_count_posterior(logits).numpy()
    np.testing.assert_allclose(np.exp(log_q).sum(axis=1), 1, rtol=1e-6)
    p = stats.logistic.cdf([0.3, -1.0, 2.0])
    expected = [1 - p[0], p[0] * (1 - p[1]), p[0] * p[1] * (1 - p[2]), p[0] * p[1] * p[2]]
    np.testing.assert_allclose(np.exp(log_q[0]), expected, rtol=1e-5)
    assert np.isfinite(log_q).all()
    assert (log_q[1].argmax(), log_q[2].argmax()) == (3, 0)


def test_normal_likelihood(floats):
    canvas = floats[::-1]
    expected = stats.norm.logpdf(floats.numpy(), canvas.numpy(), 0.3).sum(axis=(1, 2))
    np.testing.assert_allclose(bounds.normal_log_prob(floats, canvas), expected, rtol=1e-5)


def test_priors(make_model):
    model = make_model()
    model.count_prior.assign([0.5, 0.5, 0.0, 0.0])
    priors = bounds.count_priors(model)
    np.testing.assert_allclose(priors["frequency"], [0.5, 0.5, 1e-6, 1e-6], rtol=1e-5)
    np.testing.assert_allclose(priors["geometric"][1:] / priors["geometric"][:-1], 0.01)
    for prior in priors.values():
        assert prior.sum() == pytest.approx(1)


def test_elbo_is_that_of_brute_force(tiny_model, floats):
    """Every sequence of z_pres, one by one, with its own probability, canvas and KLs."""
    model, seed = tiny_model, tf.constant([3, 4])
    c = model.config
    eager = bounds.elbo_parts.python_function  # XLA draws other random numbers from the same seed
    answer = bounds.Elbo(*(field.numpy().astype(float) for field in eager(model, floats, seed)))
    posterior = model.controller(floats)
    latents = bounds.draw_latents(model, floats, posterior, seed)
    p = tf.sigmoid(posterior.presence_logits).numpy().astype(float)
    prior = bounds.count_priors(model)["frequency"]
    kl = sum(
        distributions.gaussian_kl(d, mean, variance).numpy().astype(float)
        for d, mean, variance in (
            (posterior.scale, c.scale_prior_mean.initial, c.scale_prior_variance.initial),
            (posterior.shift, c.shift_prior_mean.initial, c.shift_prior_variance.initial),
            (latents.what, c.z_what_prior_mean.initial, c.z_what_prior_variance.initial),
        )
    )
    expected = np.zeros((len(floats), 2))
    probabilities = np.zeros(len(floats))
    for z_pres in itertools.product((0, 1), repeat=c.max_steps):
        if 1 in np.diff(z_pres):  # no object after a 0
            continue
        count = sum(z_pres)
        present = tf.tile(tf.constant([z_pres], tf.float32), [len(floats), 1])
        canvas = model.decode(latents.z_what, latents.z_where, present).reconstruction
        q = p[:, :count].prod(axis=1) * (1 - p[:, count] if count < c.max_steps else 1)
        probabilities += q
        likelihoods = np.stack([-cross_entropy(floats, canvas), bounds.normal_log_prob(floats, canvas)], axis=1)
        inner = likelihoods - (np.log(q) - np.log(prior[count]))[:, None] - kl[:, :count].sum(axis=1)[:, None]
        expected += q[:, None] * inner
    np.testing.assert_allclose(probabilities, 1, rtol=1e-6)
    np.testing.assert_allclose(answer.bound("cross_entropy", prior), expected[:, 0], rtol=1e-4)
    np.testing.assert_allclose(answer.bound("normal", prior), expected[:, 1], rtol=1e-4)


def test_batches_do_not_matter(tiny_model, images, monkeypatch):
    monkeypatch.setattr(bounds, "BATCH", 3)
    seen = []
    parts = bounds.elbo(tiny_model, images, progress=seen.append)
    assert seen == [3, 3, 2]
    assert parts.log_likelihood.shape == (8, 2)
    posterior = tiny_model.controller(tf.constant(images / np.float32(255)))
    np.testing.assert_allclose(parts.log_q, bounds.log_count_posterior(posterior.presence_logits), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def weights(tiny_model, images):
    return bounds.importance_samples(tiny_model, np.repeat(images[1:5], 16, axis=0), 64, seed=5)


def test_log_weights_are_log_ratios_of_densities(tiny_model, floats):
    """log p - log q of z_where and z_what, computed from the densities by SciPy."""
    model, c = tiny_model, tiny_model.config
    posterior = model.controller(floats)
    latents = bounds.draw_latents(model, floats, posterior, tf.constant([0, 1]))
    z_where = latents.z_where.numpy().astype(float)
    scale = np.log(z_where[..., :1]) - np.log1p(-z_where[..., :1])
    shift = np.arctanh(z_where[..., 1:])
    expected = 0
    for value, q, mean, variance in (
        (scale, posterior.scale, c.scale_prior_mean.initial, c.scale_prior_variance.initial),
        (shift, posterior.shift, c.shift_prior_mean.initial, c.shift_prior_variance.initial),
        (latents.z_what.numpy(), latents.what, c.z_what_prior_mean.initial, c.z_what_prior_variance.initial),
    ):
        ratio = stats.norm.logpdf(value, mean, variance**0.5) - stats.norm.logpdf(value, q.loc.numpy(), q.scale.numpy())
        expected = expected + ratio.sum(axis=-1)
    np.testing.assert_allclose(latents.log_ratio, expected, rtol=1e-3, atol=1e-2)


def test_counts_are_drawn_from_their_posterior(tiny_model, images, weights):
    logits = tiny_model.controller(tf.constant(images[1:5] / np.float32(255))).presence_logits
    q = np.exp(bounds.log_count_posterior(logits))
    for scene in range(4):
        drawn = np.bincount(weights.counts[16 * scene : 16 * scene + 16].ravel(), minlength=4)
        np.testing.assert_allclose(drawn / drawn.sum(), q[scene], atol=4 * 0.5 / 32)


@pytest.mark.parametrize("likelihood", bounds.LIKELIHOODS)
@pytest.mark.parametrize("prior", ["frequency", "geometric"])
def test_one_sample_averages_to_the_elbo_and_more_samples_raise_the_bound(tiny_model, images, weights, likelihood, prior):
    p = bounds.count_priors(tiny_model)[prior]
    log_weights = weights.log_weights(likelihood, p)
    repeated = np.repeat(images[1:5], 200, axis=0)
    elbo = bounds.elbo(tiny_model, repeated, seed=9).bound(likelihood, p).reshape(4, 200)
    single = bounds.importance_bound(log_weights, 1).reshape(4, 16)
    error = np.hypot(single.std(axis=1) / 4, elbo.std(axis=1) / 200**0.5)
    assert (np.abs(single.mean(axis=1) - elbo.mean(axis=1)) < 4 * error + 1e-3).all()
    means = [bounds.importance_bound(log_weights, samples).mean() for samples in (1, 2, 8, 64)]
    assert means == sorted(means)
    assert means[0] < means[-1]


def test_importance_bound_of_known_weights():
    log_weights = np.log([[1.0, 3.0, 2.0, 2.0, 9.0]])
    assert bounds.importance_bound(log_weights, 2) == pytest.approx(np.log(2))  # the fifth has no partner
    assert bounds.importance_bound(log_weights, 1) == pytest.approx(np.log(108) / 5)
    assert bounds.importance_bound(np.array([[-1e5, -1e5]]), 2) == pytest.approx(-1e5)
