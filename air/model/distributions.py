"""The distributions of AIR's latent variables, on TensorFlow Probability.

Gaussians are parametrised by mean and log-variance. The Concrete (relaxed Bernoulli) distribution (Maddison et al., 2017) is
handled by its *logit*, a Logistic variable, because the density of its sigmoid is infinite at 0 and 1: with logits l and
temperature t, logit ~ Logistic(l / t, 1 / t) and z = sigmoid(logit). A KL does not change under an invertible map, so the KL of
the logits is that of the Concrete variables.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from air.model import replicas

tfd = tfp.distributions

ALGORITHM = "philox"  # named, because what TensorFlow chooses by itself takes 20 times as long under XLA on a CPU


def gaussian(mean: tf.Tensor, log_variance: tf.Tensor) -> tfd.Normal:
    return tfd.Normal(mean, tf.exp(0.5 * log_variance))


def standard_normal(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Standard Normal numbers; the same for the same seed ([2] integers), but others when compiled by XLA than when not.

    The first axis is scenes: a replica of a strategy draws its part of the global batch's numbers.
    """
    return replicas.own_part(lambda shape: tf.random.stateless_normal(shape, seed, alg=ALGORITHM), shape)


def uniform(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Uniform numbers in [0, 1), likewise."""
    return replicas.own_part(lambda shape: tf.random.stateless_uniform(shape, seed, alg=ALGORITHM), shape)


def draw(posterior: tfd.Normal, seed: tf.Tensor | None) -> tf.Tensor:
    """A reparametrised sample, or the mean where there is no seed."""
    if seed is None:
        return posterior.mean()
    return posterior.loc + posterior.scale * standard_normal(tf.shape(posterior.loc), seed)


def gaussian_kl(posterior: tfd.Normal, prior_mean: tf.Tensor | float, prior_variance: tf.Tensor | float) -> tf.Tensor:
    """KL(posterior || Normal(prior_mean, prior_variance)) in nats, summed over the last axis."""
    prior = tfd.Normal(tf.convert_to_tensor(prior_mean, tf.float32), tf.sqrt(tf.cast(prior_variance, tf.float32)))
    return tf.reduce_sum(tfd.kl_divergence(posterior, prior), axis=-1)


def concrete_logit(logits: tf.Tensor, temperature: tf.Tensor | float) -> tfd.Logistic:
    """The distribution of the logit of a Concrete variable, of the shape of `logits`."""
    return tfd.Logistic(logits / temperature, 1.0 / temperature)


def draw_concrete_logit(logits: tf.Tensor, temperature: tf.Tensor | float, seed: tf.Tensor) -> tf.Tensor:
    """A reparametrised sample of `concrete_logit`."""
    noise = tf.maximum(uniform(tf.shape(logits), seed), 1e-7)  # the quantile of 0 is infinite
    return concrete_logit(logits, temperature).quantile(noise)


def concrete_kl(
    sample_logit: tf.Tensor, logits: tf.Tensor, prior_logits: tf.Tensor, temperature: tf.Tensor | float
) -> tf.Tensor:
    """One-sample Monte-Carlo estimate of the KL of two Concrete distributions of one temperature, in nats, elementwise.

    Args:
        sample_logit: logit of a sample of the posterior.
        logits: log-odds of the posterior.
        prior_logits: log-odds of the prior.
        temperature: of both.
    """
    posterior = concrete_logit(logits, temperature)
    prior = concrete_logit(prior_logits, temperature)
    return posterior.log_prob(sample_logit) - prior.log_prob(sample_logit)
