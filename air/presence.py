"""z_pres: whether a step attends to an object, relaxed for training and discrete for inference."""

from typing import NamedTuple

import tensorflow as tf

from air import distributions


class Presence(NamedTuple):
    """z_pres of all steps of a scene, and who counts in the objective.

    A scene *stops* when its running sum of 1 - z_pres reaches the threshold, as in adaptive computation time (Graves, 2016).
    """

    z_pres: tf.Tensor  # [batch, steps] in [0, 1]
    kl: tf.Tensor  # [batch, steps] nats, not masked
    running: tf.Tensor  # [batch, steps] 1.0 where the scene had not stopped before the step
    attending: tf.Tensor  # [batch, steps] 1.0 where the scene has not stopped after the step


def concrete(logits: tf.Tensor, prior_logits: tf.Tensor, temperature: tf.Tensor, threshold: float, seed: tf.Tensor) -> Presence:
    """Draws z_pres from its Concrete posterior.

    Args:
        logits: [batch, steps] posterior log-odds of presence.
        prior_logits: scalar prior log-odds.
        temperature: scalar above 0.
        threshold: of the running sum of 1 - z_pres, in (0, 1).
        seed: [2] integers.
    """
    logit = distributions.draw_concrete_logit(logits, temperature, seed)
    z_pres = tf.sigmoid(logit)
    absence = tf.cumsum(1.0 - z_pres, axis=1)
    attending = tf.cast(absence < threshold, tf.float32)
    running = tf.concat([tf.ones_like(attending[:, :1]), attending[:, :-1]], axis=1)
    kl = distributions.concrete_kl(logit, logits, prior_logits, temperature)
    return Presence(z_pres, kl, running, attending)


def discrete(z_pres: tf.Tensor, threshold: tf.Tensor | float = 0.5) -> tf.Tensor:
    """Rounds z_pres and ends every scene at its first 0: [batch, steps] of 0.0 and 1.0, whose sum is the count.

    With uniform random numbers as thresholds, it draws from Bernoulli distributions of mean `z_pres`.
    """
    return tf.math.cumprod(tf.cast(z_pres > threshold, tf.float32), axis=1)
