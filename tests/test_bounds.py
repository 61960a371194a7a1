"""The bounds are those of the discrete model: they agree with enumeration of the count and with SciPy's densities."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import expit

from air.errors import DataError
from air.model import bounds, distributions, generative, presence, trained
from air.model.generative import cross_entropy, normal_log_prob

pytestmark = pytest.mark.usefixtures("uncompiled")
SEED = tf.constant([3, 4])


@pytest.fixture(scope="module")
def images(tiny_images):
    return np.rint(tiny_images * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def floats(images):
    return tf.constant(images / np.float32(255))


def count_prior(model, name="frequency"):
    return bounds.count_priors(model.count_frequencies())[name]


def elbo_of(model, images, attention):
    step = int(model.step)
    prior, std = generative.prior(model.config, step), model.config.likelihood_std(step)
    return bounds.Elbo(*(field.numpy().astype(float) for field in bounds.elbo(images, attention, prior, std)))


def test_priors_of_the_count(make_model):
    model = make_model()
    model.count_prior.assign([0.5, 0.5, 0.0, 0.0])
    frequency, geometric = (count_prior(model, name) for name in ("frequency", "geometric"))
    np.testing.assert_allclose(frequency, [0.5, 0.5, 1e-6, 1e-6], rtol=1e-5)
    np.testing.assert_allclose(geometric[1:] / geometric[:-1], 0.01)
    assert frequency.sum() == pytest.approx(1)
    assert geometric.sum() == pytest.approx(1)


def test_elbo_agrees_with_brute_force(either_model, floats):
    """Every count with its own probability, canvas and KLs."""
    attention = either_model.attend(floats, SEED)
    p = expit(attention.presence_logits.numpy().astype(float))
    kl = distributions.kl(attention.posterior, generative.prior(either_model.config, 0))
    kl = tf.add_n(list(kl.values())).numpy().astype(float)
    prior, expected, total = count_prior(either_model), np.zeros((2, len(floats))), np.zeros(len(floats))
    for count in range(4):
        q = p[:, :count].prod(axis=1) * (1 - p[:, count] if count < 3 else 1)
        present = tf.tile(tf.sequence_mask([count], 3, tf.float32), [len(floats), 1])
        canvas = either_model.decode(attention.z_what, attention.z_where, present).reconstruction
        likelihoods = np.stack([-cross_entropy(floats, canvas), normal_log_prob(floats, canvas, 0.3)])
        expected += q * (likelihoods - np.log(q) + np.log(prior[count]) - kl[:, :count].sum(axis=1))
        total += q
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    elbo = elbo_of(either_model, floats, attention)
    np.testing.assert_allclose(elbo.bound("cross_entropy", prior), expected[0], rtol=1e-4)
    np.testing.assert_allclose(elbo.bound("normal", prior), expected[1], rtol=1e-4)


@pytest.mark.parametrize("controller", ["convolutional", "canvas", "latents", "residual", "dense"])
@pytest.mark.parametrize("likelihood", bounds.LIKELIHOODS)
def test_the_enumerated_loss_is_the_elbo(controller, likelihood, make_model, floats):
    """Computed in two ways from the same samples, with the learned prior of the count."""
    model = make_model(
        estimator="enumerated",
        z_what_kl_weight=1.0,
        learn_count_prior_after=0,
        controller=controller,
        likelihood=likelihood,
        likelihood_std=0.5,
        refiner_units=(5,),
        scale_prior_variance=0.4,
    )
    model.count_prior.assign([0.1, 0.2, 0.0, 0.7])
    losses, _, attention = model.objective(floats, SEED)
    expected = elbo_of(model, floats, attention).bound(likelihood, count_prior(model))
    np.testing.assert_allclose(-losses.total, expected, rtol=1e-5)


def test_elbo_is_computed_in_batches(tiny_model, images, floats, monkeypatch):
    monkeypatch.setattr(trained, "ELBO_BATCH", 3)
    sizes = []
    elbo = tiny_model.elbo(images, progress=sizes.append)
    assert sizes == [3, 3, 2]
    assert elbo.log_likelihood.shape == (8, 2)
    log_q = presence.log_count(tiny_model.controller(floats).presence_logits)
    np.testing.assert_allclose(elbo.log_q, log_q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [np.int64, lambda images: images[..., None], lambda images: images / 255, list])
def test_bounds_understand_every_form_of_image(change, tiny_model, images):
    for way in (tiny_model.elbo, lambda images: tiny_model.importance_samples(images, 2)):
        for expected, field in zip(way(images), way(change(images)), strict=True):
            np.testing.assert_allclose(field, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def samples(tiny_model, images):
    return tiny_model.importance_samples(np.repeat(images[1:5], 16, axis=0), 64, seed=5)


def test_log_weights_are_ratios_of_densities(either_model, floats):
    """log p - log q of everything but p(n), from SciPy's densities, for two samples of each scene."""
    attention = either_model.attend(floats, SEED, samples=2)
    prior = generative.prior(either_model.config, 0)
    answer = bounds.importance_samples(floats, attention, prior, tf.constant(0.3), SEED)
    z_where = attention.z_where.numpy().astype(float)
    values = {
        "scale": np.log(z_where[..., :1]) - np.log1p(-z_where[..., :1]),
        "shift": np.arctanh(z_where[..., 1:]),
        "z_what": attention.z_what.numpy(),
    }
    log_ratio = 0
    for name, value in values.items():
        q, p = attention.posterior[name], prior[name]
        log_p, log_q = (stats.norm.logpdf(value, normal.loc.numpy(), normal.scale.numpy()) for normal in (p, q))
        log_ratio = log_ratio + (log_p - log_q).sum(axis=-1)
    count = answer.count.numpy().ravel()
    assert len(set(count)) > 1
    expected = np.where(np.arange(3) < count[:, None], log_ratio, 0).sum(axis=1)
    expected -= presence.log_count(attention.presence_logits).numpy()[np.arange(16), count]
    np.testing.assert_allclose(answer.log_ratio, expected.reshape(8, 2), rtol=1e-3, atol=1e-2)


def test_counts_are_drawn_from_their_posterior(tiny_model, floats, samples):
    q = np.exp(presence.log_count(tiny_model.controller(floats[1:5]).presence_logits))
    for scene, drawn in enumerate(samples.count.reshape(4, -1)):
        np.testing.assert_allclose(np.bincount(drawn, minlength=4) / drawn.size, q[scene], atol=4 * 0.5 / 32)


@pytest.mark.parametrize("likelihood", bounds.LIKELIHOODS)
@pytest.mark.parametrize("prior", ["frequency", "geometric"])
def test_one_sample_averages_to_the_elbo_and_more_samples_raise_the_bound(tiny_model, images, samples, likelihood, prior):
    p = count_prior(tiny_model, prior)
    log_weights = samples.log_weights(likelihood, p)
    elbo = tiny_model.elbo(np.repeat(images[1:5], 200, axis=0), seed=9).bound(likelihood, p).reshape(4, 200)
    single = bounds.importance_bound(log_weights, 1).reshape(4, 16)
    error = np.hypot(single.std(axis=1) / 4, elbo.std(axis=1) / 200**0.5)
    assert (np.abs(single.mean(axis=1) - elbo.mean(axis=1)) < 4 * error + 1e-3).all()
    means = [bounds.importance_bound(log_weights, number).mean() for number in (1, 2, 8, 64)]
    assert (np.diff(means) > 0).all()


def test_importance_bound_of_known_weights():
    log_weights = np.log([[1.0, 3.0, 2.0, 2.0, 9.0]])
    assert bounds.importance_bound(log_weights, 2) == pytest.approx(np.log(2))  # the fifth has no partner
    assert bounds.importance_bound(log_weights, 1) == pytest.approx(np.log(108) / 5)
    assert bounds.importance_bound(np.array([[-1e5, -1e5]]), 2) == pytest.approx(-1e5)


def test_log_prob_bound_is_importance_weighted(tiny_model, images):
    samples = tiny_model.importance_samples(images, 20, seed=5)

    def expected(likelihood, prior):
        return bounds.importance_bound(samples.log_weights(likelihood, count_prior(tiny_model, prior)), 20)

    bound = tiny_model.log_prob_bound(images, 20, seed=5)
    assert (bound.shape, bound.dtype) == ((8,), np.float64)
    np.testing.assert_allclose(bound, expected("cross_entropy", "frequency"), rtol=1e-6)
    normal = tiny_model.log_prob_bound(images, 20, seed=5, likelihood="normal")
    np.testing.assert_allclose(normal, expected("normal", "frequency"), rtol=1e-6)
    unnormalised = 100.0 * count_prior(tiny_model, "geometric")
    geometric = tiny_model.log_prob_bound(images, 20, seed=5, count_prior=unnormalised)
    np.testing.assert_allclose(geometric, expected("cross_entropy", "geometric"), rtol=1e-6)
    np.testing.assert_allclose(tiny_model.log_prob_bound(images / np.float64(255), 20, seed=5), bound, rtol=1e-5)
    for other in (geometric, tiny_model.log_prob_bound(images, 20, seed=6)):
        assert np.abs(other - bound).max() > 0.1
    assert tiny_model.log_prob_bound(images[:0], 20).shape == (0,)


@pytest.mark.parametrize("controller", ["convolutional", "canvas", "latents"])
def test_log_prob_bound_approaches_the_log_likelihood(controller, make_model, images):
    """Compare with a brute-force estimate from samples of the prior, accurate because the likelihood is wide."""
    priors = {"scale_prior_mean": 0.0, "scale_prior_variance": 1.0}  # similar to an untrained posterior
    choice = {"likelihood": "normal", "likelihood_std": 2.0, "controller": controller}
    model = make_model(max_steps=2, z_what_size=1, **choice, **priors)
    if controller == "convolutional":  # as wide as the prior
        model.controller.where.bias.assign([0, 0, 0, 3, 4, 4])
    model.decoder.logits.bias.assign(0 * model.decoder.logits.bias + 1.0)  # bright windows, so that the count matters
    model.count_prior.assign([0.2, 0.5, 0.3])
    canvases, _ = model.generate(5_000, seed=3)
    some = images[[0, 3]]
    for image, bound in zip(some / 255, model.log_prob_bound(some, 5_000, seed=1), strict=True):
        log_p = stats.norm.logpdf(image, canvases, 2.0).sum(axis=(1, 2))
        p = np.exp(log_p - log_p.max())
        assert p.std() / p.mean() / len(p) ** 0.5 < 0.05
        assert np.ptp(log_p) > 3  # it does matter what is drawn
        assert bound == pytest.approx(np.log(p.mean()) + log_p.max(), abs=0.2)


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ({"samples": 0}, "samples: 0"),
        ({"likelihood": "bernoulli"}, "likelihood: 'bernoulli'"),
        ({"count_prior": [0.5, 0.5]}, "count_prior: "),
        ({"count_prior": [0.5, 0.5, 0.0, 0.0]}, "count_prior: "),
        ({"count_prior": [1.0, 1.0, 1.0, np.nan]}, "count_prior: "),
    ],
)
def test_impossible_bounds_are_refused(arguments, start, tiny_model, images):
    with pytest.raises(ValueError, match=" is not allowed; it must be ") as caught:
        tiny_model.log_prob_bound(images, **arguments)
    assert str(caught.value).startswith(start)
    with pytest.raises(DataError, match=r"^images: "):
        tiny_model.log_prob_bound(images[0])
