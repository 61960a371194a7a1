"""Samples, densities and KLs agree with SciPy and with numeric integration of the densities in the papers."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from scipy.special import expit

from air.model import distributions
from air.model.distributions import gaussian


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
    """Integral of p(x) function(logit(x)) over (0, 1), with y = logit(x) as the variable."""

    def integrand(y):
        return np.exp(concrete_log_density(y, log_odds, temperature)) * expit(y) * expit(-y) * function(y)

    centre, width = log_odds / temperature, 40 / temperature
    return integrate.quad(integrand, centre - width, centre + width, points=[centre], limit=400)[0]


CONCRETE = pytest.mark.parametrize(
    ("log_odds", "prior_log_odds", "temperature"),
    [(0.0, -1.0, 1.0), (2.0, -3.0, 1.0), (-1.5, 9.2, 1.0), (1.0, -20.7, 0.5), (-2.0, 1.0, 0.3), (3.0, 0.5, 2.5)],
)


@pytest.mark.parametrize(
    ("mean", "variance", "prior_mean", "prior_variance"),
    [(0.0, 1.0, 0.0, 1.0), (-0.7, 0.2, -1.0, 0.05), (2.5, 3.0, 0.5, 0.8), (1.0, 1e-3, 0.0, 1.0)],
)
def test_kl_of_gaussians_is_the_integral(mean, variance, prior_mean, prior_variance):
    q, p = stats.norm(mean, variance**0.5), stats.norm(prior_mean, prior_variance**0.5)
    low, high = q.ppf([1e-14, 1 - 1e-14])
    expected, _ = integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), low, high, limit=200)
    normals = (gaussian(tf.constant([m]), tf.math.log([v])) for m, v in ((mean, variance), (prior_mean, prior_variance)))
    kl = distributions.kl(*({"scale": normal} for normal in normals))
    np.testing.assert_allclose(kl["scale"], expected, rtol=1e-4, atol=1e-5)


def test_kl_and_log_ratio_sum_over_dimensions():
    rng = np.random.default_rng(0)
    shapes = {"scale": (2, 3, 1), "z_what": (2, 3, 4)}
    q = {name: gaussian(*rng.normal(size=(2, *shape)).astype(np.float32)) for name, shape in shapes.items()}
    p = dict.fromkeys(q, gaussian(tf.constant(0.5), tf.math.log(2.0)))
    sample = {name: tf.constant(rng.normal(size=shape), tf.float32) for name, shape in shapes.items()}
    ratio = 0
    for name, kl in distributions.kl(q, p).items():
        mean, std, z = q[name].loc.numpy(), q[name].scale.numpy(), sample[name].numpy()
        expected = 0.5 * (np.log(2 / std**2) + (std**2 + (mean - 0.5) ** 2) / 2 - 1)
        np.testing.assert_allclose(kl, expected.sum(axis=-1), rtol=1e-5, atol=1e-6)
        ratio = ratio + (stats.norm.logpdf(z, 0.5, 2**0.5) - stats.norm.logpdf(z, mean, std)).sum(axis=-1)
    np.testing.assert_allclose(distributions.log_ratio(sample, p, q), ratio, rtol=1e-4, atol=1e-5)


def test_draws_follow_the_gaussian_of_that_log_variance():
    normal = gaussian(tf.fill([20_000], 3.0), tf.fill([20_000], np.float32(np.log(0.25))))
    assert stats.kstest(distributions.draw(normal, tf.constant([1, 2])), stats.norm(3.0, 0.5).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(distributions.draw(normal, None), normal.loc)


@CONCRETE
def test_concrete_samples_follow_the_density_of_the_paper(log_odds, prior_log_odds, temperature):
    y = np.linspace(-8, 8, 33)
    log_density = distributions.concrete_logit(tf.constant(log_odds), temperature).log_prob(y.astype(np.float32))
    expected = concrete_log_density(y, log_odds, temperature) + np.log(expit(y) * expit(-y))  # of y = logit(x)
    np.testing.assert_allclose(log_density, expected, rtol=1e-4, atol=1e-4)
    logits = distributions.draw_concrete_logit(tf.fill([20_000], log_odds), temperature, tf.constant([3, 4])).numpy()
    assert stats.kstest(logits, stats.logistic(log_odds / temperature, 1 / temperature).cdf).pvalue > 1e-3
    assert np.mean(logits > 0) == pytest.approx(expit(log_odds), abs=5 * 0.5 / 20_000**0.5)  # at every temperature


@CONCRETE
def test_concrete_kl_averages_to_the_integral(log_odds, prior_log_odds, temperature):
    def log_ratio(y):
        return concrete_log_density(y, log_odds, temperature) - concrete_log_density(y, prior_log_odds, temperature)

    expected = integrate_concrete(log_ratio, log_odds, temperature)
    logits = tf.fill([200_000], log_odds)
    sample = distributions.draw_concrete_logit(logits, temperature, tf.constant([5, 6]))
    kl = distributions.concrete_kl(sample, logits, tf.constant(prior_log_odds), temperature).numpy().astype(np.float64)
    error = kl.std() / len(kl) ** 0.5
    assert error < 0.02 * expected
    assert abs(kl.mean() - expected) < 4 * error
