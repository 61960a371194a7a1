"""The number of objects as a chain of yes and no: its distributions, and how one reads it from z_pres.

The step t attends to an object with probability q_t = sigmoid(logit_t) if all steps before it do, and the first that does not
ends the scene. So the number of objects n of T steps is distributed as (section 2.1 of the paper)

    q(n) = (1 - q_{n+1}) prod_{t <= n} q_t,   and for n = T the product alone.
"""

import tensorflow as tf


def discrete(z_pres: tf.Tensor, threshold: tf.Tensor | float = 0.5) -> tf.Tensor:
    """Rounds z_pres and ends every scene at its first 0: [batch, steps] of 0.0 and 1.0, whose sum is the count.

    With uniform random numbers as thresholds, it draws from Bernoulli distributions of mean `z_pres`.
    """
    return tf.math.cumprod(tf.cast(z_pres > threshold, tf.float32), axis=1)


def log_count(logits: tf.Tensor) -> tf.Tensor:
    """log q(n): [..., steps] log-odds of presence -> [..., steps + 1]."""
    present = tf.cumsum(tf.math.log_sigmoid(logits), axis=-1)
    absent = tf.math.log_sigmoid(-logits)
    nothing = tf.zeros_like(absent[..., :1])
    return tf.concat([nothing, present], axis=-1) + tf.concat([absent, nothing], axis=-1)


def step_logits(log_prior: tf.Tensor) -> tf.Tensor:
    """The log-odds of each step's presence that make up a distribution of the count, the inverse of `log_count`.

    Args:
        log_prior: [steps + 1] log p(n), finite.

    Returns:
        [steps]: log p(n >= t) - log p(n = t - 1) at step t.
    """
    more = tf.math.cumulative_logsumexp(log_prior, reverse=True)
    return more[1:] - log_prior[:-1]


def reached(logits: tf.Tensor) -> tf.Tensor:
    """q(n >= t), how likely the step t attends to an object: [..., steps] log-odds -> [..., steps]."""
    return tf.exp(tf.cumsum(tf.math.log_sigmoid(logits), axis=-1))


def count_kl(logits: tf.Tensor, prior_logits: tf.Tensor) -> tf.Tensor:
    """KL(q(n) || p(n)) in nats, as the share of each step; the sum over the steps is the whole.

    By the chain rule the share of step t is q(n >= t - 1), that the step is reached, times the KL of two Bernoulli variables.

    Args:
        logits: [batch, steps] log-odds of presence, if all steps before are present.
        prior_logits: [steps], the prior's.
    """
    before = reached(logits)[:, :-1]
    before = tf.concat([tf.ones_like(logits[:, :1]), before], axis=1)
    yes = tf.sigmoid(logits) * (tf.math.log_sigmoid(logits) - tf.math.log_sigmoid(prior_logits))
    no = tf.sigmoid(-logits) * (tf.math.log_sigmoid(-logits) - tf.math.log_sigmoid(-prior_logits))
    return before * (yes + no)
