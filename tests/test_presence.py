"""The distribution of the count against enumeration of its chain in float64, and the rounding of z_pres."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.special import expit

from air.model import presence

LOGITS = arrays.arrays(np.float32, st.integers(1, 6), elements=st.floats(-12, 12, width=32))


def enumerated(logits):
    """q(n) of a chain of log-odds, in float64."""
    p, absent = expit(np.asarray(logits, np.float64)), expit(-np.asarray(logits, np.float64))
    return np.array([np.prod(p[:n]) * (absent[n] if n < len(p) else 1.0) for n in range(len(p) + 1)])


@settings(max_examples=100, deadline=None)
@given(LOGITS)
def test_the_count_is_a_distribution(logits):
    log_q = presence.log_count(tf.constant(logits)).numpy().astype(np.float64)
    np.testing.assert_allclose(log_q, np.log(enumerated(logits)), rtol=1e-5, atol=1e-5)
    assert np.exp(log_q).sum() == pytest.approx(1, abs=1e-5)
    at_least = np.cumsum(enumerated(logits)[::-1])[::-1][1:]
    np.testing.assert_allclose(presence.reached(tf.constant(logits)), at_least, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(LOGITS)
def test_step_logits_undo_log_count(logits):
    again = presence.step_logits(presence.log_count(tf.constant(logits)))
    np.testing.assert_allclose(again, logits, rtol=1e-4, atol=2e-4)


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float64, st.integers(2, 7), elements=st.floats(1e-6, 1)))
def test_log_count_undoes_step_logits(prior):
    logits = presence.step_logits(tf.constant(np.log(prior), tf.float32))  # whether the prior sums to 1 or not
    np.testing.assert_allclose(np.exp(presence.log_count(logits)), prior / prior.sum(), rtol=1e-3)


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float32, (2, 4), elements=st.floats(-12, 12, width=32)))
def test_the_kl_of_the_count_is_the_sum_of_its_steps(both):
    logits, prior = both
    shares = presence.count_kl(tf.constant(logits[None]), tf.constant(prior)).numpy()[0]
    q, p = enumerated(logits), enumerated(prior)
    assert shares.sum() == pytest.approx(stats.entropy(q, p), rel=1e-3, abs=1e-4)
    assert shares.sum() == pytest.approx(np.sum(q * (np.log(q) - np.log(p))), rel=1e-3, abs=1e-4)
    assert (shares >= -1e-6).all()


def test_the_share_of_each_step():
    """q(n >= t - 1) KL(Bernoulli || Bernoulli), scene by scene."""
    logits = np.random.default_rng(0).normal(0, 2, (5, 3)).astype(np.float32)
    prior = np.array([0.5, -1.0, 2.0], np.float32)
    q, p = expit(logits.astype(np.float64)), expit(prior.astype(np.float64))
    expected = [[np.prod(row[:t]) * stats.entropy([row[t], 1 - row[t]], [p[t], 1 - p[t]]) for t in range(3)] for row in q]
    np.testing.assert_allclose(presence.count_kl(tf.constant(logits), tf.constant(prior)), expected, rtol=1e-4, atol=1e-5)


def test_extreme_logits_are_finite():
    logits = tf.constant([[1e4, -1e4, 1e4], [-1e4, 300.0, -300.0], [100.0, 100.0, 100.0], [-100.0, 0.0, 100.0]])
    prior = tf.constant([-18.0, 9.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = [
            presence.log_count(logits),
            presence.reached(logits),
            presence.count_kl(logits, prior),
            presence.step_logits(presence.log_count(logits[2])),
        ]
        total = tf.add_n([tf.reduce_sum(value) for value in values])
    for value in (*values, tape.gradient(total, logits)):
        assert np.isfinite(value).all()
    counts = np.argmax(values[0], axis=1)
    assert counts.tolist() == [1, 0, 3, 0]


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
