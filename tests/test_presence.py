"""Who counts at which step, for z_pres whose values are known, and that presence is drawn as often as it should be."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from air import presence


def presence_of(z_pres, threshold=0.99):
    """Presence whose z_pres is as said: at a temperature of 1e6 the noise of a Concrete variable is below 1e-4."""
    temperature = 1e6
    logits = tf.constant(temperature * logit(np.atleast_2d(z_pres)), tf.float32)
    answer = presence.concrete(logits, tf.constant(0.0), tf.constant(temperature), threshold, tf.constant([1, 2]))
    np.testing.assert_allclose(answer.z_pres, np.atleast_2d(z_pres), atol=1e-3)
    return answer


@pytest.mark.parametrize(
    ("z_pres", "threshold", "running", "attending"),
    [
        ([0.999, 0.999, 0.999], 0.99, [1, 1, 1], [1, 1, 1]),  # never stops
        ([0.999, 0.001, 0.999], 0.99, [1, 1, 0], [1, 0, 0]),  # stops at the second step for good
        ([0.001, 0.999, 0.999], 0.99, [1, 0, 0], [0, 0, 0]),  # empty scene: only the first KL of z_pres counts
        ([0.5, 0.6, 0.3], 0.99, [1, 1, 1], [1, 1, 0]),  # 0.5, 0.9, 1.6
        ([0.5, 0.4, 0.9], 0.99, [1, 1, 0], [1, 0, 0]),  # 0.5, 1.1, 1.2
        ([0.9, 0.8, 0.5], 0.25, [1, 1, 0], [1, 0, 0]),  # 0.1, 0.3, 0.8
        ([0.7], 0.5, [1], [1]),
        ([0.3], 0.5, [1], [0]),
        ([0.6, 0.6, 0.6, 0.6], 0.99, [1, 1, 1, 0], [1, 1, 0, 0]),  # 0.4, 0.8, 1.2, 1.6
    ],
)
def test_stopping(z_pres, threshold, running, attending):
    answer = presence_of(z_pres, threshold)
    np.testing.assert_array_equal(answer.running, [running])
    np.testing.assert_array_equal(answer.attending, [attending])


def test_scenes_stop_on_their_own():
    answer = presence_of([[0.999, 0.001, 0.9], [0.9, 0.95, 0.999]])
    np.testing.assert_array_equal(answer.attending, [[1, 0, 0], [1, 1, 1]])


@settings(max_examples=50, deadline=None)
@given(
    temperature=st.floats(0.1, 5),
    threshold=st.floats(0.01, 0.99),
    steps=st.integers(1, 6),
    spread=st.floats(0.1, 60),
    seed=st.integers(0, 10**6),
)
def test_masks(temperature, threshold, steps, spread, seed):
    logits = np.random.default_rng(seed).normal(0, spread, (16, steps)).astype(np.float32)
    answer = presence.concrete(logits, tf.constant(-2.0), tf.constant(temperature), threshold, tf.constant([seed, 0]))
    z_pres, running, attending = (np.asarray(array) for array in (answer.z_pres, answer.running, answer.attending))
    assert set(np.unique([running, attending])) <= {0.0, 1.0}
    assert (np.diff(attending, axis=1) <= 0).all()
    assert (np.diff(running, axis=1) <= 0).all()
    assert (running[:, 0] == 1).all()
    np.testing.assert_array_equal(running[:, 1:], attending[:, :-1])
    absence = np.cumsum(1 - z_pres.astype(np.float64), axis=1)
    clear = np.abs(absence - threshold) > 1e-5
    np.testing.assert_array_equal(attending[clear], (absence < threshold)[clear])


def test_kl_is_of_the_sample_and_not_masked():
    logits = np.random.default_rng(0).normal(-1, 1.5, (500, 3)).astype(np.float32)
    prior, temperature = -3.0, 0.8
    answer = presence.concrete(logits, tf.constant(prior), tf.constant(temperature), 0.99, tf.constant([5, 6]))
    sample = logit(answer.z_pres.numpy().astype(np.float64))
    exact = np.abs(sample) < 6  # beyond, float32 z_pres forgets its logit
    assert exact.mean() > 0.7
    assert (answer.running.numpy()[exact] == 0).any()
    expected = stats.logistic.logpdf(sample, logits / temperature, 1 / temperature) - stats.logistic.logpdf(
        sample, prior / temperature, 1 / temperature
    )
    np.testing.assert_allclose(answer.kl.numpy()[exact], expected[exact], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_rounded_presence_is_bernoulli(temperature):
    """P(round(z) = 1) = sigmoid(logits) at every temperature (Maddison et al., 2017)."""
    log_odds = np.array([-3.0, -0.5, 0.0, 1.0, 4.0], np.float32)
    logits = np.tile(log_odds, (20000, 1))
    answer = presence.concrete(logits, tf.constant(0.0), tf.constant(temperature), 0.99, tf.constant([3, 4]))
    rounded = np.round(answer.z_pres.numpy())
    p = expit(log_odds)
    np.testing.assert_array_less(np.abs(rounded.mean(axis=0) - p), 5 * (p * (1 - p) / len(logits)) ** 0.5)
    correlation = np.corrcoef(rounded, rowvar=False) - np.eye(5)
    assert np.abs(correlation).max() < 0.04  # steps have noise of their own


@pytest.mark.parametrize(
    ("z_pres", "expected"),
    [
        ([0.9, 0.8, 0.7], [1, 1, 1]),
        ([0.9, 0.4, 0.9], [1, 0, 0]),
        ([0.1, 0.9, 0.9], [0, 0, 0]),
        ([0.51, 0.51, 0.49], [1, 1, 0]),
        ([1.0, 0.0, 1.0], [1, 0, 0]),
    ],
)
def test_discrete_ends_at_the_first_zero(z_pres, expected):
    np.testing.assert_array_equal(presence.discrete(tf.constant([z_pres])), [expected])


def test_discrete_draws_from_thresholds():
    rng = np.random.default_rng(0)
    thresholds = rng.random((50_000, 3), np.float32)
    drawn = presence.discrete(tf.tile([[0.8, 0.5, 0.3]], [50_000, 1]), tf.constant(thresholds)).numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), [0.8, 0.8 * 0.5, 0.8 * 0.5 * 0.3], atol=0.01)


def test_gradients_reach_the_logits():
    logits = tf.constant([[1.0, -1.0], [60.0, -60.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        answer = presence.concrete(logits, tf.constant(-5.0), tf.constant(1.0), 0.99, tf.constant([1, 2]))
        both = tf.reduce_sum(answer.z_pres + answer.kl)
    gradient = tape.gradient(both, logits).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[0] != 0).all()
