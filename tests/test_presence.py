"""The distribution of the count against enumeration of its chain in float64, and the rounding of z_pres."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import expit

from air.model import presence

LOGIT = st.floats(-12, 12, width=32)


def enumerated(logits):
    """q(n) of a chain of log-odds, in float64."""
    p, absent = expit(np.asarray(logits, np.float64)), expit(-np.asarray(logits, np.float64))
    return np.array([np.prod(p[:n]) * (absent[n] if n < len(p) else 1.0) for n in range(len(p) + 1)])


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.integers(1, 6), elements=LOGIT))
def test_log_count_agrees_with_enumeration(logits):
    log_q, q = presence.log_count(tf.constant(logits)), enumerated(logits)
    np.testing.assert_allclose(log_q, np.log(q), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(presence.reached(tf.constant(logits)), np.cumsum(q[::-1])[::-1][1:], rtol=1e-4)
    np.testing.assert_allclose(presence.step_logits(log_q), logits, rtol=1e-4, atol=2e-4)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, st.integers(2, 7), elements=st.floats(1e-6, 1)))
def test_log_count_inverts_step_logits(prior):
    logits = presence.step_logits(tf.constant(np.log(prior), tf.float32))  # the prior need not sum to 1
    np.testing.assert_allclose(np.exp(presence.log_count(logits)), prior / prior.sum(), rtol=1e-3)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, (3, 4), elements=LOGIT))
def test_count_kl_agrees_with_enumeration(logits):
    """Two scenes: their KL is the sum over the steps of q(n >= t - 1) KL(Bernoulli || Bernoulli)."""
    *posteriors, prior = logits
    by_step = presence.count_kl(tf.constant(logits[:2]), tf.constant(prior)).numpy()
    np.testing.assert_allclose(
        by_step.sum(axis=1), [stats.entropy(enumerated(q), enumerated(prior)) for q in posteriors], rtol=1e-3, atol=1e-4
    )
    p = expit(prior.astype(np.float64))
    for row, q in zip(by_step, expit(logits[:2].astype(np.float64)), strict=True):
        expected = [np.prod(q[:t]) * stats.entropy([q[t], 1 - q[t]], [p[t], 1 - p[t]]) for t in range(4)]
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-4)


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


def test_discrete_draws_with_uniform_thresholds():
    thresholds = np.random.default_rng(0).random((50_000, 3), np.float32)
    drawn = presence.discrete(tf.tile([[0.8, 0.5, 0.3]], [50_000, 1]), tf.constant(thresholds)).numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), [0.8, 0.8 * 0.5, 0.8 * 0.5 * 0.3], atol=0.01)
