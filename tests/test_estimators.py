"""Estimators of z_pres on proposals whose likelihoods are known: values by brute force, and gradients that are unbiased."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from air.model.estimators import NVIL, Concrete, Enumerated, Proposal

SEED = tf.constant([1, 2])
LOGITS = np.array([[0.5, -0.3, 0.8], [1.5, 0.2, -1.0]], np.float32)
PRIOR = np.array([0.3, -0.6, -1.0], np.float32)
LATENT_KL = np.array([[2.0, 3.0, 1.0], [4.0, 0.5, 2.0]], np.float32)
LOG_LIKELIHOODS = np.array([[-20.0, -5.0, -3.0, -4.0], [-30.0, -28.0, -10.0, -14.0]], np.float32)  # of n = 0 ... 3
IMAGES = np.random.default_rng(0).random((2, 4, 5), np.float32)


def values(temperature=1.0, threshold=0.99):
    """The configuration's values at a step."""
    names = {"temperature": temperature, "stop_threshold": threshold}
    return SimpleNamespace(**{name: tf.constant(value, tf.float32) for name, value in names.items()})


def proposal(logits=LOGITS, latent_kl=LATENT_KL, log_likelihoods=LOG_LIKELIHOODS, images=IMAGES, prior=PRIOR):
    """Of scenes whose log p(x | n) is given, and linear in z_pres between the counts."""
    logits, latent_kl, table = (tf.convert_to_tensor(array) for array in (logits, latent_kl, log_likelihoods))

    def log_likelihood(z_pres):
        return table[:, 0] + tf.reduce_sum(z_pres * (table[:, 1:] - table[:, :-1]), axis=1)

    return Proposal(tf.constant(images), logits, tf.constant(prior), latent_kl, log_likelihood, lambda: table)


def loss(estimate, latent_kl):
    """As `objective.negative_elbo` has it."""
    by_step = estimate.z_pres_kl + estimate.attending * latent_kl
    return estimate.reconstruction + tf.reduce_sum(by_step, axis=1) + estimate.surrogate


def gradients(estimator, arrays, now=None, seed=SEED, images=IMAGES):
    """Of each scene's loss with respect to logits, latent KLs and log-likelihoods, which every scene has for itself."""
    arrays = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        total = loss(estimator.estimate(proposal(*arrays, images=images), now or values(), seed), arrays[1])
    return [gradient.numpy().astype(np.float64) for gradient in tape.gradient(total, arrays)]


def nvil(centre=False, normalise=False, units=(6,), **averages):
    layer = NVIL(units, centre, normalise)
    layer.build((4, 5), 3)
    for name, value in averages.items():
        getattr(layer, name).assign(value)
    return layer


def reckless(layer):
    """The same estimator with a baseline that answers anything."""
    rng = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(0, 2.0, variable.shape))
    return layer


def black_box(layer, cost):
    """The same estimator, with a baseline that answers one cost per step whatever it sees."""
    layer.cost.kernel.assign(0 * layer.cost.kernel)
    layer.cost.bias.assign(cost)
    return layer


def posterior(logits):
    """q(n) in float64, [scenes, 4]."""
    p = expit(np.asarray(logits, np.float64))
    return np.stack([np.prod(p[:, :n], axis=1) * (1 - p[:, n] if n < 3 else 1) for n in range(4)], axis=1)


def concrete(z_pres, threshold=0.99):
    """Presence whose z_pres is as said: at a temperature of 1e6 the noise of a Concrete variable is below 1e-4."""
    z_pres = np.atleast_2d(z_pres)
    temperature, (batch, steps) = 1e6, z_pres.shape
    given_ = proposal(
        tf.constant(temperature * logit(z_pres), tf.float32),
        np.zeros((batch, steps), np.float32),
        np.tile(np.arange(steps + 1, dtype=np.float32), (batch, 1)),  # the likelihood is the sum of what it is given
        np.zeros((batch, 4, 5), np.float32),
        np.zeros(steps, np.float32),
    )
    answer = Concrete().estimate(given_, values(temperature, threshold), SEED)
    np.testing.assert_allclose(answer.z_pres, z_pres, atol=1e-3)
    np.testing.assert_allclose(answer.reconstruction, -(answer.z_pres * answer.attending).numpy().sum(axis=1), rtol=1e-5)
    return answer


def running_of(answer):
    """Who had not stopped before a step: their KL of z_pres is not masked, and at such a temperature it is not 0."""
    return (np.asarray(answer.z_pres_kl) != 0).astype(float)


@pytest.mark.parametrize(
    ("z_pres", "threshold", "running", "attending"),
    [
        ([0.999, 0.999, 0.999], 0.99, [1, 1, 1], [1, 1, 1]),  # never stops
        ([0.999, 0.001, 0.999], 0.99, [1, 1, 0], [1, 0, 0]),  # stops at the second step for good
        ([0.001, 0.999, 0.999], 0.99, [1, 0, 0], [0, 0, 0]),  # empty scene: only the first KL of z_pres counts
        ([0.45, 0.6, 0.3], 0.99, [1, 1, 1], [1, 1, 0]),  # 0.55, 0.95, 1.65
        ([0.45, 0.4, 0.9], 0.99, [1, 1, 0], [1, 0, 0]),  # 0.55, 1.15, 1.25
        ([0.9, 0.8, 0.6], 0.25, [1, 1, 0], [1, 0, 0]),  # 0.1, 0.3, 0.7
        ([0.7], 0.5, [1], [1]),
        ([0.3], 0.5, [1], [0]),
        ([0.6, 0.6, 0.6, 0.6], 0.99, [1, 1, 1, 0], [1, 1, 0, 0]),  # 0.4, 0.8, 1.2, 1.6
    ],
)
def test_concrete_stopping(z_pres, threshold, running, attending):
    answer = concrete(z_pres, threshold)
    np.testing.assert_array_equal(running_of(answer), [running])
    np.testing.assert_array_equal(answer.attending, [attending])


def test_concrete_scenes_stop_on_their_own():
    answer = concrete([[0.999, 0.001, 0.9], [0.9, 0.95, 0.999]])
    np.testing.assert_array_equal(answer.attending, [[1, 0, 0], [1, 1, 1]])


def relaxed(logits, prior, temperature, threshold=0.99, seed=SEED):
    """Concrete's answer to logits [scenes, steps] alone."""
    scenes, steps = logits.shape
    nothing = np.zeros((scenes, steps + 1), np.float32)
    images = np.zeros((scenes, 1, 1), np.float32)
    given_ = proposal(logits, nothing[:, 1:], nothing, images, np.full(steps, prior, np.float32))
    return Concrete().estimate(given_, values(temperature, threshold), seed)


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
    answer = relaxed(logits, -2.0, temperature, threshold, tf.constant([seed, 0]))
    z_pres, attending, kl = (np.asarray(array) for array in (answer.z_pres, answer.attending, answer.z_pres_kl))
    assert set(np.unique(attending)) <= {0.0, 1.0}
    assert (np.diff(attending, axis=1) <= 0).all()
    assert (kl[:, 1:][attending[:, :-1] == 0] == 0).all()
    assert np.isfinite(kl).all()
    absence = np.cumsum(1 - z_pres.astype(np.float64), axis=1)
    clear = np.abs(absence - threshold) > 1e-5
    np.testing.assert_array_equal(attending[clear], (absence < threshold)[clear])


def test_concrete_kl_is_of_the_sample_where_a_scene_runs():
    logits = np.random.default_rng(0).normal(-1, 1.5, (500, 3)).astype(np.float32)
    prior, temperature = -3.0, 0.8
    answer = relaxed(logits, prior, temperature, seed=tf.constant([5, 6]))
    sample = logit(answer.z_pres.numpy().astype(np.float64))
    exact = np.abs(sample) < 6  # beyond, float32 z_pres forgets its logit
    assert exact.mean() > 0.7
    running = np.concatenate([np.ones((500, 1)), answer.attending[:, :-1]], axis=1)
    assert 0 < running[exact].mean() < 1
    log_q = stats.logistic.logpdf(sample, logits / temperature, 1 / temperature)
    expected = running * (log_q - stats.logistic.logpdf(sample, prior / temperature, 1 / temperature))
    np.testing.assert_allclose(answer.z_pres_kl.numpy()[exact], expected[exact], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_rounded_concrete_is_bernoulli(temperature):
    """P(round(z) = 1) = sigmoid(logits) at every temperature (Maddison et al., 2017)."""
    log_odds = np.array([-3.0, -0.5, 0.0, 1.0, 4.0], np.float32)
    logits = np.tile(log_odds, (20000, 1))
    rounded = np.round(relaxed(logits, 0.0, temperature, seed=tf.constant([3, 4])).z_pres.numpy())
    p = expit(log_odds)
    np.testing.assert_array_less(np.abs(rounded.mean(axis=0) - p), 5 * (p * (1 - p) / len(logits)) ** 0.5)
    correlation = np.corrcoef(rounded, rowvar=False) - np.eye(5)
    assert np.abs(correlation).max() < 0.04  # steps have noise of their own


def test_concrete_gradients_reach_the_logits():
    logits = tf.constant([[1.0, 0.8], [60.0, -60.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        answer = relaxed(logits, -5.0, 1.0, threshold=1.9)
        both = tf.reduce_sum(answer.z_pres + answer.z_pres_kl)
    gradient = tape.gradient(both, logits).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[0] != 0).all()


def exact_loss(logits):
    """The sum over every count, [2] nats."""
    q, p = posterior(logits), posterior(PRIOR[None])
    expected = np.zeros(2)
    for n in range(4):
        expected += q[:, n] * (LATENT_KL[:, :n].sum(axis=1) - LOG_LIKELIHOODS[:, n] + np.log(q[:, n] / p[:, n]))
    return expected


def test_enumerated_is_the_sum_over_every_count():
    answer = Enumerated().estimate(proposal(), values(), SEED)
    np.testing.assert_allclose(loss(answer, LATENT_KL), exact_loss(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(answer.z_pres, expit(LOGITS), rtol=1e-5)


def test_enumerated_gradient_by_finite_differences():
    to_logits, to_kl, to_likelihood = gradients(Enumerated(), (LOGITS, LATENT_KL, LOG_LIKELIHOODS))
    for step in range(3):
        h = 1e-5 * np.eye(3)[step]
        slope = (exact_loss(LOGITS + h) - exact_loss(LOGITS - h)) / 2e-5
        np.testing.assert_allclose(to_logits[:, step], slope, rtol=1e-4, atol=1e-4)
    q = posterior(LOGITS)
    np.testing.assert_allclose(to_likelihood, -q, rtol=1e-5)
    np.testing.assert_allclose(to_kl, np.cumsum(q[:, ::-1], axis=1)[:, 2::-1], rtol=1e-5)


NVILS = {
    "bare": lambda: black_box(nvil(), [0.0] * 3),
    "centred": lambda: black_box(nvil(centre=True, mean=20.0), [0.0] * 3),
    "with any baseline": lambda: reckless(nvil()),
    "with both": lambda: reckless(nvil(centre=True, mean=-10.0)),
}
DRAWS = 20_000


def draws_of(estimator, now=None, seed=SEED):
    """Gradients of many draws of each of the two scenes, [2, DRAWS, ...] each."""
    arrays = [np.repeat(array, DRAWS, axis=0) for array in (LOGITS, LATENT_KL, LOG_LIKELIHOODS)]
    found = gradients(estimator, arrays, now, seed, images=np.repeat(IMAGES, DRAWS, axis=0))
    return [gradient.reshape(2, DRAWS, -1) for gradient in found]


@pytest.mark.parametrize("name", NVILS)
def test_nvil_is_unbiased(name):
    exact = gradients(Enumerated(), (LOGITS, LATENT_KL, LOG_LIKELIHOODS))
    for draws, expected in zip(draws_of(NVILS[name]()), exact, strict=True):
        error = draws.std(axis=1) / DRAWS**0.5
        assert (np.abs(draws.mean(axis=1) - expected) < 4.5 * error + 1e-6).all()
        assert 0 < error.max() < 0.1 * np.abs(expected).max()


def test_nvil_is_unbiased_through_a_whole_model(make_model, tiny_images):
    """Where the log-odds of a step depend on the latents drawn before it; with the same latents for both estimators."""
    common = {"seed": 4, "controller_input": "latents", "baseline_units": (5,)}
    exact, sampled = make_model(estimator="enumerated", **common), make_model(estimator="nvil", **common)
    parts = ("controller", "encoder", "decoder")
    for part in parts:
        getattr(sampled, part).set_weights(getattr(exact, part).get_weights())
    images, rng = tf.constant(np.repeat(tiny_images[1:4], 20, axis=0)), np.random.default_rng(0)
    costs = exact.objective(images, SEED)[0]
    sampled.estimator.mean.assign(tf.reduce_mean(costs.reconstruction))  # or noise would hide a bias
    names = ("presence", "shift_mean", "recurrent_gates", "latent_gates", "encoder/parameters", "decoder/logits")

    def chosen(model):
        variables = [variable for part in parts for variable in getattr(model, part).trainable_variables]
        return [variable for variable in variables if any(name in variable.path for name in names)]

    directions = [tf.constant(rng.normal(size=variable.shape), tf.float32) for variable in chosen(exact)]

    @tf.function
    def slopes(seed):
        """Of the mean loss along a random direction of each weight array, by both."""
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
    assert (np.abs(expected.mean(axis=0)) > 4.5 * error).sum() > len(error) / 3  # or it would say little


def expected_costs():
    """E[cost | step t is reached], which the baseline shall learn, [2, 3]."""
    cost = np.concatenate([np.zeros((2, 1)), np.cumsum(LATENT_KL, axis=1)], axis=1) - LOG_LIKELIHOODS
    q = posterior(LOGITS)
    return np.stack([(q * cost)[:, t:].sum(axis=1) / q[:, t:].sum(axis=1) for t in range(3)], axis=1)


def nvil_ideal():
    """An NVIL whose baseline tells the two scenes and their steps apart perfectly."""
    layer = nvil(units=())
    pictures = IMAGES.reshape(2, -1).astype(np.float64)
    layer.cost.kernel.assign(np.linalg.pinv(pictures) @ expected_costs())
    layer.cost.bias.assign(np.zeros(3))
    np.testing.assert_allclose(layer.baseline(tf.constant(IMAGES)), expected_costs(), rtol=1e-4)
    return layer


def test_a_baseline_and_centring_reduce_the_variance():
    variance = {}
    estimators = {"bare": NVILS["bare"](), "centred": NVILS["centred"](), "ideal": nvil_ideal()}
    for name, estimator in estimators.items():
        variance[name] = draws_of(estimator)[0].var(axis=1).sum()
    assert variance["centred"] < 0.5 * variance["bare"]
    assert variance["ideal"] < 0.5 * variance["centred"]


def test_normalising_shrinks_the_signal_and_never_swells_it():
    kl = gradients(Enumerated(), (LOGITS, 0 * LATENT_KL, 0 * LOG_LIKELIHOODS))[0]  # all that is not the signal's
    arrays = (LOGITS, LATENT_KL, LOG_LIKELIHOODS)
    plain = gradients(black_box(nvil(variance=25.0), [10.0] * 3), arrays)[0] - kl
    assert np.abs(plain).max() > 1
    for variance, factor in ((25.0, 1 / 5), (1.0, 1.0), (0.04, 1.0)):
        normalised = gradients(black_box(nvil(normalise=True, variance=variance), [10.0] * 3), arrays)[0] - kl
        np.testing.assert_allclose(normalised, factor * plain, rtol=1e-3, atol=1e-4)


def test_the_surrogate_is_zero_whose_gradient_is_not():
    for name, make in NVILS.items():
        layer = make()
        with tf.GradientTape() as tape:
            answer = layer.estimate(proposal(), values(), SEED)
        np.testing.assert_array_equal(answer.surrogate, np.zeros(2), err_msg=name)
        assert any(np.any(g) for g in tape.gradient(answer.surrogate, layer.trainable_variables))
    for estimator in (Concrete(), Enumerated()):
        np.testing.assert_array_equal(estimator.estimate(proposal(), values(), SEED).surrogate, np.zeros(2))


def test_nvil_draws_the_count_from_its_posterior():
    rows = [np.repeat(array, DRAWS, axis=0) for array in (LOGITS, LATENT_KL, LOG_LIKELIHOODS, IMAGES)]
    answer = nvil().estimate(proposal(*rows), values(), SEED)
    proposed, prior = posterior(LOGITS), posterior(PRIOR[None])
    assert (np.diff(answer.z_pres, axis=1) <= 0).all()
    counts = answer.z_pres.numpy().sum(axis=1).astype(int).reshape(2, DRAWS)
    for drawn, q in zip(counts, proposed, strict=True):
        assert stats.chisquare(np.bincount(drawn, minlength=4), DRAWS * q).pvalue > 1e-3
    np.testing.assert_array_equal(answer.attending, answer.z_pres)
    found = -LOG_LIKELIHOODS[np.repeat([0, 1], DRAWS), counts.ravel()]
    np.testing.assert_allclose(answer.reconstruction, found, rtol=1e-5)
    kl = (proposed * np.log(proposed / prior)).sum(axis=1)
    np.testing.assert_allclose(answer.z_pres_kl.numpy().sum(axis=1), np.repeat(kl, DRAWS), rtol=1e-4)


@pytest.mark.parametrize("centre", [True, False])
def test_running_averages(centre):
    layer = reckless(nvil(centre=centre, mean=3.0, variance=16.0))
    answer = layer.estimate(proposal(), values(), SEED)
    present = answer.z_pres.numpy().astype(bool)
    running = np.concatenate([[[True]] * 2, present[:, :-1]], axis=1)
    cost = answer.reconstruction.numpy() + (present * LATENT_KL).sum(axis=1)
    error = (cost[:, None] - layer.baseline(tf.constant(IMAGES)).numpy() - (3.0 if centre else 0.0))[running]
    assert (float(layer.mean), float(layer.variance)) == (3.0, 16.0)  # until a training step moves them
    layer.follow(answer.moments)
    assert float(layer.mean) == pytest.approx(3.0 + 0.1 * error.mean() if centre else 3.0, rel=1e-4)
    assert float(layer.variance) == pytest.approx(0.9 * 16.0 + 0.1 * error.var(), rel=1e-4)


def test_the_baseline_learns_the_expected_costs():
    """On fixed proposals, with the running average of the signal in its part."""
    import keras

    layer, optimizer = nvil(centre=True, units=(16,)), keras.optimizers.Adam(0.02)
    optimizer.build(layer.trainable_variables)
    rows = [np.repeat(array, 300, axis=0) for array in (LOGITS, LATENT_KL, LOG_LIKELIHOODS, IMAGES)]

    @tf.function
    def step(number):
        with tf.GradientTape() as tape:
            answer = layer.estimate(proposal(*rows), values(), tf.stack([0, number]))
            total = tf.reduce_mean(loss(answer, rows[1]))
        optimizer.apply(tape.gradient(total, layer.trainable_variables), layer.trainable_variables)
        layer.follow(answer.moments)

    for number in range(500):
        step(tf.constant(number))
    learned = layer.baseline(tf.constant(IMAGES)).numpy() + float(layer.mean)
    np.testing.assert_allclose(learned, expected_costs(), atol=0.7)
    assert np.ptp(expected_costs()) > 10
    bare = draws_of(NVILS["bare"]())[0].var(axis=1).sum()
    assert draws_of(layer)[0].var(axis=1).sum() < 0.05 * bare


@pytest.mark.parametrize("make", [Concrete, Enumerated, *NVILS.values()])
def test_extreme_logits_are_finite(make):
    estimator = make()
    logits = np.array([[60.0, -60.0, 60.0], [-200.0, 200.0, 0.0]], np.float32)
    for found in gradients(estimator, (logits, LATENT_KL, LOG_LIKELIHOODS)):
        assert np.isfinite(found).all()
    answer = estimator.estimate(proposal(logits), values(), SEED)
    assert np.isfinite(loss(answer, LATENT_KL)).all()
