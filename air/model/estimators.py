"""Three ways to learn z_pres, which is discrete: relaxed, by the score function, and by summing over every count.

Each is given a `Proposal`, what the inference network proposes for every step, and answers with an `Estimate` of the negative
ELBO whose gradient a training step follows. The rest of the model does not know which one is in use.

| estimator  | z_pres in training           | gradient with respect to its log-odds                  |
|------------|------------------------------|--------------------------------------------------------|
| concrete   | relaxed, one sample          | of the relaxed bound: low variance, biased             |
| nvil       | Bernoulli, one sample        | score function with a baseline: unbiased, noisy        |
| enumerated | none: the sum over the count | exact, given a sample of z_where and z_what            |
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, networks, presence


class Proposal(NamedTuple):
    """What the inference network proposes for a batch of scenes, T steps each, whether they take place or not."""

    images: tf.Tensor  # [batch, H, W] in [0, 1]
    logits: tf.Tensor  # [batch, T] log-odds that a step attends to an object, if all steps before do
    prior_logits: tf.Tensor  # [T] the prior's
    latent_kl: tf.Tensor  # [batch, T] weighted nats of z_where and z_what
    log_likelihood: Callable[[tf.Tensor], tf.Tensor]  # z_pres [batch, T] -> log p(x | z) [batch]
    log_likelihoods: Callable[[], tf.Tensor]  # log p(x | n, z) for n = 0 ... T: [batch, T + 1]


class Estimate(NamedTuple):
    """An estimate of the parts of the negative ELBO that depend on z_pres, in nats."""

    z_pres: tf.Tensor  # [batch, T] in [0, 1], for the statistics
    reconstruction: tf.Tensor  # [batch] -log p(x | z)
    z_pres_kl: tf.Tensor  # [batch, T]
    attending: tf.Tensor  # [batch, T] the weight of a step's other KLs
    surrogate: tf.Tensor  # [batch] zeros, whose gradient completes that of the other terms
    moments: tuple[tf.Tensor, ...] = ()  # sums over the batch, for the estimator's `follow` after a training step


def _zero_valued(value: tf.Tensor) -> tf.Tensor:
    return value - tf.stop_gradient(value)


@keras.saving.register_keras_serializable(package="air")
class Concrete(keras.layers.Layer):
    """Relaxes z_pres to a Concrete variable (Maddison et al., 2017) and stops as adaptive computation time does (Graves, 2016).

    A scene stops when its running sum of 1 - z_pres reaches the threshold. The KL of z_pres counts for a scene that had not
    stopped before the step, the other KLs and the canvas for one that has not stopped after it.
    """

    def estimate(self, proposal: Proposal, now: SimpleNamespace, seed: tf.Tensor) -> Estimate:
        """Args: now: the configuration's values at this step; seed: [2] integers."""
        logit = distributions.draw_concrete_logit(proposal.logits, now.temperature, seed)
        z_pres = tf.sigmoid(logit)
        attending = tf.cast(tf.cumsum(1.0 - z_pres, axis=1) < now.stop_threshold, tf.float32)
        running = tf.concat([tf.ones_like(attending[:, :1]), attending[:, :-1]], axis=1)
        kl = distributions.concrete_kl(logit, proposal.logits, proposal.prior_logits, now.temperature)
        reconstruction = -proposal.log_likelihood(z_pres * attending)
        return Estimate(z_pres, reconstruction, running * kl, attending, tf.zeros_like(reconstruction))


@keras.saving.register_keras_serializable(package="air")
class NVIL(keras.layers.Layer):
    """Draws z_pres and follows its score function (Mnih and Gregor, 2014; section 3 of the paper).

    The learning signal of a step is the cost of the scene, in nats, less a baseline: a network that sees the picture predicts
    the cost of each step, given that it is reached. Neither the baseline nor centring changes the expected gradient. The KL of
    the count is not sampled but computed. A count that is never drawn teaches nothing, so the posterior must not become sure
    of itself too soon: see `air.presets.default`.

    Args:
        units: hidden layers of the baseline.
        centre: subtract a running average from the learning signal.
        normalise: divide it by its running deviation where that is above 1; this shrinks the gradient.
    """

    RATE = 0.1  # of the running averages

    def __init__(self, units: Sequence[int] = (256, 128), centre: bool = True, normalise: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.centre, self.normalise = tuple(units), centre, normalise
        self.hidden = networks.mlp(self.units, "relu", "hidden")

    def build(self, canvas_size: tuple[int, int], steps: int) -> None:
        self.cost = keras.layers.Dense(steps, name="cost")
        networks.build_chain([*self.hidden, self.cost], canvas_size[0] * canvas_size[1])
        alike = {"trainable": False, "aggregation": "only_first_replica"}  # all replicas assign the same
        self.mean = self.add_weight(name="mean", shape=(), initializer="zeros", **alike)
        self.variance = self.add_weight(name="variance", shape=(), initializer="ones", **alike)
        self.built = True

    def baseline(self, images: tf.Tensor) -> tf.Tensor:
        """The expected cost of each step, given that it is reached: [batch, T]."""
        return networks.run([*self.hidden, self.cost], tf.reshape(images, [-1, images.shape[1] * images.shape[2]]))

    def estimate(self, proposal: Proposal, now: SimpleNamespace, seed: tf.Tensor) -> Estimate:
        """Args: now: the configuration's values at this step; seed: [2] integers."""
        logits = proposal.logits
        present = presence.discrete(tf.sigmoid(logits), distributions.uniform(tf.shape(logits), seed))
        running = tf.concat([tf.ones_like(present[:, :1]), present[:, :-1]], axis=1)
        log_q = present * tf.math.log_sigmoid(logits) + (1.0 - present) * tf.math.log_sigmoid(-logits)
        reconstruction = -proposal.log_likelihood(present)
        cost = tf.stop_gradient(reconstruction + tf.reduce_sum(present * proposal.latent_kl, axis=1))[:, None]
        error = cost - self.baseline(proposal.images) - (self.mean if self.centre else 0.0)
        signal = tf.stop_gradient(error)
        if self.normalise:
            signal /= tf.maximum(1.0, tf.sqrt(self.variance))
        surrogate = tf.reduce_sum(running * (log_q * signal + tf.square(error)), axis=1)
        kl = presence.count_kl(logits, proposal.prior_logits)
        moments = tuple(tf.reduce_sum(running * power) for power in (1.0, tf.stop_gradient(error), tf.stop_gradient(error**2)))
        return Estimate(present, reconstruction, kl, present, _zero_valued(surrogate), moments)

    def follow(self, moments: Sequence[tf.Tensor]) -> None:
        """Moves the running mean and variance of the learning signal towards those of a batch, by its `Estimate.moments`."""
        steps, total, squares = moments
        offset = total / steps
        spread = tf.maximum(squares / steps - tf.square(offset), 0.0)
        if self.centre:
            self.mean.assign_add(self.RATE * offset)
        self.variance.assign_add(self.RATE * (spread - self.variance))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "centre": self.centre, "normalise": self.normalise}


@keras.saving.register_keras_serializable(package="air")
class Enumerated(keras.layers.Layer):
    """Sums over every count: the discrete model's own ELBO, given one sample of z_where and z_what.

    The posterior of the count must not become sure of itself while the windows are still poor, or two of them share a digit
    for good: see `air.presets.default`.
    """

    def estimate(self, proposal: Proposal, now: SimpleNamespace, seed: tf.Tensor) -> Estimate:
        """Args: now: the configuration's values at this step; seed: unused."""
        logits = proposal.logits
        count = tf.exp(presence.log_count(logits))
        attending = tf.cumsum(count, axis=1, reverse=True)[:, 1:]
        reconstruction = -tf.reduce_sum(count * proposal.log_likelihoods(), axis=1)
        kl = presence.count_kl(logits, proposal.prior_logits)
        return Estimate(tf.sigmoid(proposal.logits), reconstruction, kl, attending, tf.zeros_like(reconstruction))


def make_estimator(config: AIRConfig) -> keras.layers.Layer:
    """The estimator that a configuration chooses, built."""
    if config.estimator == "nvil":
        estimator = NVIL(config.baseline_units, config.centre_signal, config.normalise_signal, name="estimator")
        estimator.build(config.canvas_size, config.max_steps)
        return estimator
    return {"concrete": Concrete, "enumerated": Enumerated}[config.estimator](name="estimator")
