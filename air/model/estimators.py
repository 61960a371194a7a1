"""Three ways to learn z_pres, which is discrete: relax it, follow its score function, or sum over every count.

Each estimator takes a `Proposal`, the rendered objects of all steps and the log-odds of their presence, and returns an
`Estimate` of the terms of the negative ELBO that depend on z_pres. Nothing else in the model knows which one is in use.

| estimator  | z_pres in training           | gradient with respect to its log-odds                  |
|------------|------------------------------|--------------------------------------------------------|
| concrete   | relaxed, one sample          | of the relaxed bound: low variance, biased             |
| nvil       | Bernoulli, one sample        | score function with a baseline: unbiased, noisy        |
| enumerated | none: the sum over the count | exact, given a sample of z_where and z_what            |
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, networks, presence
from air.model.generative import Rendering
from air.schedules import Schedule


class Proposal(NamedTuple):
    """The objects of T steps as the inference network proposes them, whether or not each is present."""

    rendering: Rendering
    logits: tf.Tensor  # [batch, T] log-odds that a step attends to an object, if all steps before it do
    prior_logits: tf.Tensor  # [T] the prior's
    object_kl: tf.Tensor  # [batch, T] weighted KL of z_where and z_what, nats


class Estimate(NamedTuple):
    """The terms of the negative ELBO that depend on z_pres, T steps, in nats."""

    z_pres: tf.Tensor  # [batch, T] in [0, 1], for the statistics
    reconstruction: tf.Tensor  # [batch] -log p(x | z)
    kl: tf.Tensor  # [batch, T] of z_pres
    attending: tf.Tensor  # [batch, T] weight of a step's other KLs
    surrogate: tf.Tensor  # [batch] zeros, whose gradient completes that of the other terms
    moments: tuple[tf.Tensor, ...] = ()  # sums over the batch, for `NVIL.follow` after a training step


class Estimator(keras.layers.Layer):
    """Base of the three estimators."""

    def build(self, canvas_size: tuple[int, ...], steps: int) -> None:
        """Make the variables, if any, for images of a canvas size, perhaps with channels, and a number of steps."""
        self.built = True

    def estimate(self, proposal: Proposal, step: Any, seed: tf.Tensor) -> Estimate:
        """Estimate the terms of the negative ELBO that depend on z_pres.

        Args:
            proposal: the objects of all steps.
            step: training step, at which annealed values are taken.
            seed: [2] integers.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="air")
class Concrete(Estimator):
    """Relaxes z_pres to a Concrete variable (Maddison et al., 2017) and stops as adaptive computation time does (Graves, 2016).

    A scene stops when its running sum of 1 - z_pres reaches the threshold. The KL of z_pres counts for a scene that had not
    stopped before the step; the other KLs and the canvas count for one that has not stopped after it.

    Args:
        temperature: of the Concrete distributions, above 0.
        stop_threshold: of the running sum, in (0, 1).
    """

    def __init__(self, temperature: float | str | Schedule = 1.0, stop_threshold: float | str | Schedule = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature, self.stop_threshold = Schedule.parse(temperature), Schedule.parse(stop_threshold)

    def estimate(self, proposal: Proposal, step: Any, seed: tf.Tensor) -> Estimate:
        temperature = self.temperature(step)
        z_logit = distributions.draw_concrete_logit(proposal.logits, temperature, seed)
        z_pres = tf.sigmoid(z_logit)
        attending = tf.cast(tf.cumsum(1.0 - z_pres, axis=1) < self.stop_threshold(step), tf.float32)
        kl = distributions.concrete_kl(z_logit, proposal.logits, proposal.prior_logits, temperature)
        reconstruction = -proposal.rendering.log_likelihood(z_pres * attending)
        return Estimate(z_pres, reconstruction, presence.previous(attending) * kl, attending, tf.zeros_like(reconstruction))


@keras.saving.register_keras_serializable(package="air")
class NVIL(Estimator):
    """Samples z_pres and follows its score function (Mnih and Gregor, 2014; section 3 of the paper).

    The learning signal of a step is the cost of the scene, in nats, minus a baseline: a network that sees the image predicts
    the cost of each step, given that it is reached. Neither the baseline nor centring changes the expected gradient. The KL of
    the count is computed exactly, not sampled. Nothing is learned about a count that is never sampled, so the posterior must
    not become certain too soon: see `air.presets.default`.

    Args:
        units: hidden layers of the baseline.
        centre: subtract a running average from the learning signal.
        normalise: divide it by its running std where that is above 1; this shrinks the gradient.
    """

    RATE = 0.1  # of the running averages

    def __init__(self, units: Sequence[int] = (256, 128), centre: bool = True, normalise: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.centre, self.normalise = tuple(units), centre, normalise
        self.hidden = networks.mlp(self.units, "relu", "hidden")

    def build(self, canvas_size: tuple[int, ...], steps: int) -> None:
        self.cost = keras.layers.Dense(steps, name="cost")
        networks.build_chain([*self.hidden, self.cost], math.prod(canvas_size))
        alike = {"trainable": False, "aggregation": "only_first_replica"}  # all replicas assign the same
        self.mean = self.add_weight(name="mean", shape=(), initializer="zeros", **alike)
        self.variance = self.add_weight(name="variance", shape=(), initializer="ones", **alike)
        self.built = True

    def baseline(self, images: tf.Tensor) -> tf.Tensor:
        """Predict the cost of each step, given that it is reached: [batch, H, W] -> [batch, T] nats."""
        return networks.run([*self.hidden, self.cost], tf.reshape(images, [-1, math.prod(images.shape[1:])]))

    def estimate(self, proposal: Proposal, step: Any, seed: tf.Tensor) -> Estimate:
        logits = proposal.logits
        present = presence.discrete(tf.sigmoid(logits), distributions.uniform(tf.shape(logits), seed))
        running = presence.previous(present)
        log_q = present * tf.math.log_sigmoid(logits) + (1.0 - present) * tf.math.log_sigmoid(-logits)
        reconstruction = -proposal.rendering.log_likelihood(present)
        cost = tf.stop_gradient(reconstruction + tf.reduce_sum(present * proposal.object_kl, axis=1))[:, None]
        error = cost - self.baseline(proposal.rendering.images) - (self.mean if self.centre else 0.0)
        signal = tf.stop_gradient(error)
        if self.normalise:
            signal /= tf.maximum(1.0, tf.sqrt(self.variance))
        surrogate = tf.reduce_sum(running * (log_q * signal + tf.square(error)), axis=1)
        kl = presence.count_kl(logits, proposal.prior_logits)
        moments = tuple(tf.reduce_sum(running * power) for power in (1.0, tf.stop_gradient(error), tf.stop_gradient(error**2)))
        return Estimate(present, reconstruction, kl, present, surrogate - tf.stop_gradient(surrogate), moments)

    def follow(self, moments: Sequence[tf.Tensor]) -> None:
        """Move the running mean and variance of the learning signal towards those of a batch, see `Estimate.moments`."""
        steps, total, squares = moments
        offset = total / steps
        spread = tf.maximum(squares / steps - tf.square(offset), 0.0)
        if self.centre:
            self.mean.assign_add(self.RATE * offset)
        self.variance.assign_add(self.RATE * (spread - self.variance))


@keras.saving.register_keras_serializable(package="air")
class Enumerated(Estimator):
    """Sums over every count: the discrete model's own ELBO, given one sample of z_where and z_what.

    The posterior of the count must not become certain while the windows are still poor, or two of them share a digit for good:
    see `air.presets.default`.
    """

    def estimate(self, proposal: Proposal, step: Any, seed: tf.Tensor) -> Estimate:
        logits = proposal.logits
        count = tf.exp(presence.log_count(logits))
        attending = tf.cumsum(count, axis=1, reverse=True)[:, 1:]
        reconstruction = -tf.reduce_sum(count * proposal.rendering.log_likelihood_by_count(), axis=1)
        kl = presence.count_kl(logits, proposal.prior_logits)
        return Estimate(tf.sigmoid(logits), reconstruction, kl, attending, tf.zeros_like(reconstruction))


def make_estimator(config: AIRConfig) -> keras.layers.Layer:
    """Make and build the estimator that a configuration selects."""
    if config.estimator == "concrete":
        estimator = Concrete(config.temperature, config.stop_threshold, name="estimator")
    elif config.estimator == "enumerated":
        estimator = Enumerated(name="estimator")
    else:
        estimator = NVIL(config.baseline_units, config.centre_signal, config.normalise_signal, name="estimator")
    estimator.build((*config.canvas_size, config.channels), config.max_steps)
    return estimator
