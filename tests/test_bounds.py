"""The bounds are those of the discrete model: brute-force enumeration of the count and SciPy's densities give the same."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from air.errors import DataError
from air.model import bounds, distributions, presence
from air.model.generative import cross_entropy, normal_log_prob


@pytest.fixture(scope="module")
def images(tiny_images):
    return np.rint(tiny_images * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def floats(images):
    return tf.constant(images / np.float32(255))


def test_posterior_of_the_count_is_a_distribution():
    logits = tf.constant([[0.3, -1.0, 2.0], [40.0, 40.0, 40.0], [-40.0, 5.0, 5.0]])
    log_q = presence.log_count(logits).numpy()
    np.testing.assert_allclose(np.exp(log_q).sum(axis=1), 1, rtol=1e-6)
    p = stats.logistic.cdf([0.3, -1.0, 2.0])
    expected = [1 - p[0], p[0] * (1 - p[1]), p[0] * p[1] * (1 - p[2]), p[0] * p[1] * p[2]]
    np.testing.assert_allclose(np.exp(log_q[0]), expected, rtol=1e-5)
    assert np.isfinite(log_q).all()
    assert (log_q[1].argmax(), log_q[2].argmax()) == (3, 0)


def test_normal_likelihood(floats):
    canvas = floats[::-1]
    expected = stats.norm.logpdf(floats.numpy(), canvas.numpy(), 0.3).sum(axis=(1, 2))
    np.testing.assert_allclose(normal_log_prob(floats, canvas, 0.3), expected, rtol=1e-5)


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
    latents = model.attend(floats, seed)
    posterior = model.controller(floats)
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
        likelihoods = np.stack([-cross_entropy(floats, canvas), normal_log_prob(floats, canvas, 0.3)], axis=1)
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
    np.testing.assert_allclose(parts.log_q, presence.log_count(posterior.presence_logits), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def weights(tiny_model, images):
    return bounds.importance_samples(tiny_model, np.repeat(images[1:5], 16, axis=0), 64, seed=5)


def test_log_weights_are_log_ratios_of_densities(tiny_model, floats):
    """log p - log q of z_where and z_what, computed from the densities by SciPy."""
    model, c = tiny_model, tiny_model.config
    posterior = model.controller(floats)
    latents = model.attend(floats, tf.constant([0, 1]))
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
    log_ratio = bounds.log_ratio(latents, c.at(0))
    np.testing.assert_allclose(log_ratio, expected, rtol=1e-3, atol=1e-2)


def test_counts_are_drawn_from_their_posterior(tiny_model, images, weights):
    logits = tiny_model.controller(tf.constant(images[1:5] / np.float32(255))).presence_logits
    q = np.exp(presence.log_count(logits))
    for scene in range(4):
        drawn = np.bincount(weights.count[16 * scene : 16 * scene + 16].ravel(), minlength=4)
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


@pytest.mark.parametrize("controller_input", ["canvas", "latents", "residual"])
@pytest.mark.parametrize("likelihood", bounds.LIKELIHOODS)
def test_the_enumerated_loss_is_the_elbo(controller_input, likelihood, make_model, floats):
    """With the same samples and the learned prior of the count, from two ways to get there."""
    model = make_model(
        estimator="enumerated",
        z_what_kl_weight=1.0,
        looks=1,
        learn_count_prior_after=0,
        controller_input=controller_input,
        likelihood=likelihood,
        likelihood_std=0.5,
        refiner_units=(5,),
        scale_prior_variance=0.4,
    )
    model.count_prior.assign([0.1, 0.2, 0.0, 0.7])
    seed = tf.constant([3, 4])
    losses = model.objective(floats, seed)[0]
    elbo = bounds.elbo_parts.python_function(model, floats, tf.random.split(seed, 3)[0])
    elbo = bounds.Elbo(*(field.numpy().astype(np.float64) for field in elbo))
    np.testing.assert_allclose(-losses.total, elbo.bound(likelihood, bounds.count_priors(model)["frequency"]), rtol=1e-5)


@pytest.fixture
def uncompiled():
    """Small batches are over before XLA has compiled them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("uncompiled")
def test_log_prob_bound_is_the_importance_weighted_one(tiny_model, images):
    weights = bounds.importance_samples(tiny_model, images, 20, seed=5)
    p = bounds.count_priors(tiny_model)
    for likelihood in bounds.LIKELIHOODS:
        expected = bounds.importance_bound(weights.log_weights(likelihood, p["frequency"]), 20)
        ours = tiny_model.log_prob_bound(images, 20, seed=5, likelihood=likelihood)
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    as_configured = tiny_model.log_prob_bound(images, 20, seed=5)
    assert as_configured.shape == (8,)
    assert as_configured.dtype == np.float64
    np.testing.assert_array_equal(as_configured, tiny_model.log_prob_bound(images, 20, seed=5, likelihood="cross_entropy"))
    floats = tiny_model.log_prob_bound(images / np.float64(255), 20, seed=5)
    np.testing.assert_allclose(floats, as_configured, rtol=1e-5)
    geometric = tiny_model.log_prob_bound(images, 20, seed=5, count_prior=100.0 * p["geometric"])  # of any sum
    expected = bounds.importance_bound(weights.log_weights("cross_entropy", p["geometric"]), 20)
    np.testing.assert_allclose(geometric, expected, rtol=1e-6)
    assert np.abs(geometric - as_configured).max() > 0.1
    assert np.abs(tiny_model.log_prob_bound(images, 20, seed=6) - as_configured).max() > 0.1
    assert tiny_model.log_prob_bound(images[:0], 20).shape == (0,)


@pytest.mark.usefixtures("uncompiled")
def test_log_prob_bound_rises_with_the_number_of_samples(tiny_model, images):
    repeated = np.repeat(images[1:5], 16, axis=0)
    means = [tiny_model.log_prob_bound(repeated, samples, seed=6).mean() for samples in (1, 4, 64)]
    assert means[0] + 1 < means[1]
    assert means[1] + 1 < means[2]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("controller_input", ["canvas", "latents"])
def test_log_prob_bound_nears_the_log_likelihood(controller_input, make_model, images):
    """That of a brute-force estimate, from samples of the prior, where the likelihood is so wide that it is a good one."""
    priors = {"scale_prior_mean": 0.0, "scale_prior_variance": 1.0}  # about what an untrained posterior is
    choice = {"likelihood": "normal", "likelihood_std": 2.0, "controller_input": controller_input}
    model = make_model(max_steps=2, z_what_size=1, **choice, **priors)
    model.decoder.logits.bias.assign(0 * model.decoder.logits.bias + 1.0)  # bright windows, so that the count matters
    model.count_prior.assign([0.2, 0.5, 0.3])
    canvases, _ = model.generate(5_000, seed=3)
    some = images[[0, 3]]
    ours = model.log_prob_bound(some, 5_000, seed=1)
    for image, bound in zip(some / 255, ours, strict=True):
        log_p = stats.norm.logpdf(image, canvases, 2.0).sum(axis=(1, 2))
        p = np.exp(log_p - log_p.max())
        assert p.std() / p.mean() / len(p) ** 0.5 < 0.05
        by_count = [stats.norm.logpdf(image, canvases[i], 2.0).sum() for i in np.argsort(canvases.sum(axis=(1, 2)))[[0, -1]]]
        assert abs(by_count[0] - by_count[1]) > 3  # what is drawn does matter
        assert bound == pytest.approx(np.log(p.mean()) + log_p.max(), abs=0.2)


REFUSED = [
    ({"samples": 0}, "samples: 0"),
    ({"likelihood": "bernoulli"}, "likelihood: 'bernoulli'"),
    ({"count_prior": [0.5, 0.5]}, "count_prior: "),
    ({"count_prior": [0.5, 0.5, 0.0, 0.0]}, "count_prior: "),
    ({"count_prior": [1.0, 1.0, 1.0, np.inf]}, "count_prior: "),
    ({"count_prior": [1.0, 1.0, 1.0, np.nan]}, "count_prior: "),
]


@pytest.mark.parametrize(("arguments", "start"), REFUSED)
def test_impossible_bounds_are_refused(arguments, start, tiny_model, images):
    with pytest.raises(ValueError, match=" is not allowed; it must be ") as caught:
        tiny_model.log_prob_bound(images, **arguments)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"^images: "):
        tiny_model.log_prob_bound(images[0])
