"""The number of objects as a chain of Bernoulli variables, one per step (section 2.1 of the paper).

Step t attends to an object with probability q_t = sigmoid(logit_t) if all steps before it do, and the first step that does not
ends the scene. So the number of objects n, of T steps, is distributed as

    q(n) = (1 - q_{n+1}) prod_{t <= n} q_t,   and for n = T the product alone.
"""

import itertools

import tensorflow as tf


def discrete(z_pres: tf.Tensor, threshold: tf.Tensor | float = 0.5) -> tf.Tensor:
    """Round z_pres and end every scene at its first 0: [batch, steps] of 0.0 and 1.0, whose sum is the count.

    With uniform random numbers as thresholds, this samples Bernoulli distributions of mean `z_pres`.
    """
    return cumulative_product(tf.cast(z_pres > threshold, tf.float32))


def cumulative_product(z_pres: tf.Tensor) -> tf.Tensor:
    """Multiply z_pres [batch, steps] over the steps so far; TFLite has no `tf.math.cumprod`."""
    return tf.stack(list(itertools.accumulate(tf.unstack(z_pres, axis=1), tf.multiply)), axis=1)


def previous(present: tf.Tensor) -> tf.Tensor:
    """Shift presence by one step, with 1 at the first step, which every scene reaches: [batch, steps]."""
    return tf.concat([tf.ones_like(present[:, :1]), present[:, :-1]], axis=1)


def log_count(logits: tf.Tensor) -> tf.Tensor:
    """Compute log q(n) from the log-odds of presence: [..., steps] -> [..., steps + 1]."""
    present = tf.cumsum(tf.math.log_sigmoid(logits), axis=-1)
    absent = tf.math.log_sigmoid(-logits)
    nothing = tf.zeros_like(absent[..., :1])
    return tf.concat([nothing, present], axis=-1) + tf.concat([absent, nothing], axis=-1)


def step_logits(log_prior: tf.Tensor) -> tf.Tensor:
    """Compute the log-odds of each step's presence from a distribution of the count, the inverse of `log_count`.

    Args:
        log_prior: [steps + 1] log p(n), finite.

    Returns:
        [steps]: log p(n >= t) - log p(n = t - 1) at step t.
    """
    more = tf.math.cumulative_logsumexp(log_prior, reverse=True)
    return more[1:] - log_prior[:-1]


def reached(logits: tf.Tensor) -> tf.Tensor:
    """Compute q(n >= t), the probability that step t attends to an object: [..., steps] log-odds -> [..., steps]."""
    return tf.exp(tf.cumsum(tf.math.log_sigmoid(logits), axis=-1))


def count_kl(logits: tf.Tensor, prior_logits: tf.Tensor) -> tf.Tensor:
    """Compute KL(q(n) || p(n)) in nats, split by step: [batch, steps], whose sum over the steps is the KL.

    By the chain rule, step t contributes q(n >= t - 1), the probability that it is reached, times the KL of two Bernoulli
    variables.

    Args:
        logits: [batch, steps] log-odds of presence, if all steps before are present.
        prior_logits: [steps], the prior's.
    """
    yes = tf.sigmoid(logits) * (tf.math.log_sigmoid(logits) - tf.math.log_sigmoid(prior_logits))
    no = tf.sigmoid(-logits) * (tf.math.log_sigmoid(-logits) - tf.math.log_sigmoid(-prior_logits))
    return previous(reached(logits)) * (yes + no)
