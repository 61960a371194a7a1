"""Samples and KLs agree with numeric integration of the densities in the papers."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from scipy.special import expit

from air.model import distributions


def concrete_log_density(logit, log_odds, temperature):
    """Log-density on (0, 1) of the binary Concrete distribution (Maddison et al., 2017, eq. 26) at x = sigmoid(logit).

    p(x) = t a x^(-t-1) (1-x)^(-t-1) / (a x^-t + (1-x)^-t)^2, in logarithms so that x may be close to 0 or 1.
    """
    log_x, log_rest, t = -np.logaddexp(0, -logit), -np.logaddexp(0, logit), temperature
    return (
        np.log(t)
        + log_odds
        - (t + 1) * (log_x + log_rest)
        - 2 * np.logaddexp(log_odds - t * log_x, -t * log_rest)
    )  # fmt: skip


def integrate_concrete(function, log_odds, temperature):
    """Integral of p(x) function(x) over (0, 1), with x = sigmoid(y) as the variable."""

    def integrand(y):
        return np.exp(concrete_log_density(y, log_odds, temperature)) * expit(y) * expit(-y) * function(y)

    centre, width = log_odds / temperature, 40 / temperature
    return integrate.quad(integrand, centre - width, centre + width, points=[centre], limit=400)[0]


CONCRETE = [(0.0, -1.0, 1.0), (2.0, -3.0, 1.0), (-1.5, 9.2, 1.0), (1.0, -20.7, 0.5), (-2.0, 1.0, 0.3), (3.0, 0.5, 2.5)]


@pytest.mark.parametrize(
    ("mean", "variance", "prior"),
    [(0.0, 1.0, (0.0, 1.0)), (-0.7, 0.2, (-1.0, 0.05)), (2.5, 3.0, (0.5, 0.8)), (1.0, 1e-3, (0, 1))],
)
def test_gaussian_kl(mean, variance, prior):
    p, q = stats.norm(mean, variance**0.5), stats.norm(prior[0], prior[1] ** 0.5)
    low, high = p.ppf([1e-14, 1 - 1e-14])
    expected, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), low, high, limit=200)
    posterior = distributions.gaussian(tf.constant([mean]), tf.math.log(tf.constant([variance])))
    np.testing.assert_allclose(distributions.gaussian_kl(posterior, *map(float, prior)), expected, rtol=1e-4, atol=1e-5)


def test_gaussian_kl_sums_over_the_last_axis():
    rng = np.random.default_rng(0)
    mean, log_variance = rng.normal(size=(2, 3, 4)).astype(np.float32), rng.normal(size=(2, 3, 4)).astype(np.float32)
    whole = distributions.gaussian_kl(distributions.gaussian(mean, log_variance), 0.5, 2.0)
    assert whole.shape == (2, 3)
    parts = [distributions.gaussian_kl(distributions.gaussian(mean[..., i : i + 1], log_variance[..., i : i + 1]), 0.5, 2.0)
             for i in range(4)]  # fmt: skip
    np.testing.assert_allclose(whole, sum(parts), rtol=1e-5)


def test_gaussian_takes_the_log_of_the_variance():
    samples = distributions.gaussian(tf.fill([20000], 3.0), tf.fill([20000], np.float32(np.log(0.25)))).sample(seed=[1, 2])
    assert stats.kstest(samples, stats.norm(3.0, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("log_odds", "_", "temperature"), CONCRETE)
def test_concrete_samples_follow_the_density_of_the_paper(log_odds, _, temperature):
    logits = distributions.concrete_logit(tf.fill([20000], log_odds), temperature).sample(seed=[3, 4]).numpy()
    points = np.quantile(logits, [0.1, 0.35, 0.6, 0.9])
    for point in points:
        below = integrate_concrete(lambda y, point=point: float(y <= point), log_odds, temperature)
        # Five standard errors of the share of 20,000 samples, and what integrating over a jump costs.
        assert np.mean(logits <= point) == pytest.approx(below, abs=5 * 0.5 / 20000**0.5 + 2e-3)
    assert np.mean(logits > 0) == pytest.approx(expit(log_odds), abs=5 * 0.5 / 20000**0.5)
    assert integrate_concrete(lambda y: 1.0, log_odds, temperature) == pytest.approx(1, abs=1e-6)
    assert stats.kstest(logits, stats.logistic(log_odds / temperature, 1 / temperature).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("log_odds", "prior_log_odds", "temperature"), CONCRETE)
def test_concrete_kl_averages_to_the_integral(log_odds, prior_log_odds, temperature):
    expected = integrate_concrete(
        lambda y: concrete_log_density(y, log_odds, temperature) - concrete_log_density(y, prior_log_odds, temperature),
        log_odds,
        temperature,
    )
    logits = tf.fill([200_000], log_odds)
    samples = distributions.concrete_logit(logits, temperature).sample(seed=[5, 6])
    kl = distributions.concrete_kl(samples, logits, tf.constant(prior_log_odds), temperature).numpy().astype(np.float64)
    error = kl.std() / len(kl) ** 0.5
    assert error < 0.02 * expected
    assert abs(kl.mean() - expected) < 4 * error


def test_concrete_kl_of_equal_distributions_is_zero_at_every_sample():
    logits = tf.constant([-3.0, 0.0, 5.0])
    samples = distributions.concrete_logit(logits, 0.7).sample(seed=[1, 1])
    np.testing.assert_allclose(distributions.concrete_kl(samples, logits, logits, 0.7), 0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("log_odds", [-60.0, -20.0, 0.0, 20.0, 60.0])
def test_saturation_is_finite(log_odds, temperature):
    logits, temperature = tf.fill([1000], log_odds), tf.constant(temperature)
    for prior in (-20.7, 0.0, 9.2, -60.0, 60.0):
        with tf.GradientTape() as tape:
            tape.watch([logits, temperature])
            samples = distributions.concrete_logit(logits, temperature).sample(seed=[7, 8])
            z = tf.sigmoid(samples)
            kl = distributions.concrete_kl(samples, logits, tf.constant(prior), temperature)
            both = tf.reduce_mean(kl) + tf.reduce_mean(z)
        assert np.isfinite(kl).all()
        assert ((z >= 0) & (z <= 1)).numpy().all()
        assert np.mean(z > 0.5) == pytest.approx(expit(log_odds), abs=0.08)
        for gradient in tape.gradient(both, [logits, temperature]):
            assert np.isfinite(gradient).all()
