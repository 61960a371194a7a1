"""The distributions of AIR's latent variables, built on TensorFlow Probability.

An object has three latent variables, the keys of every posterior q and prior p in this package:

    "scale"   [..., 1]  the longer side of its attention window over the canvas', before a sigmoid
    "shift"   [..., 2]  the centre of that window (x, y), before a tanh
    "z_what"  [..., Z]  the appearance of the object

Gaussians are parametrised by mean and log-variance. A Concrete (relaxed Bernoulli) variable (Maddison et al., 2017) is
represented by its *logit*, because the density of its sigmoid is infinite at 0 and 1: with log-odds l and temperature t, the
logit is Logistic(l / t, 1 / t), and z = sigmoid(logit). A KL does not change under an invertible map, so the KL of the logits
is that of the Concrete variables, and the KLs of scale and shift are those of z_where.
"""

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from air.model import replicas

LATENTS = ("scale", "shift", "z_what")
Normals = dict[str, tfd.Normal]
"""A distribution for each of some latent variables, by name."""

ALGORITHM = "philox"  # TensorFlow's own choice takes 20 times as long under XLA on a CPU


def gaussian(mean: tf.Tensor, log_variance: tf.Tensor) -> tfd.Normal:
    return tfd.Normal(mean, tf.exp(0.5 * log_variance))


def standard_normal(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw standard normal numbers, the same for the same seed ([2] integers) but different with and without XLA.

    The first axis is scenes: a replica of a strategy draws its part of the global batch's numbers.
    """
    return replicas.own_part(lambda shape: tf.random.stateless_normal(shape, seed, alg=ALGORITHM), shape)


def uniform(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw uniform numbers in [0, 1), under the same conditions as `standard_normal`."""
    return replicas.own_part(lambda shape: tf.random.stateless_uniform(shape, seed, alg=ALGORITHM), shape)


def draw(normal: tfd.Normal, seed: tf.Tensor | None) -> tf.Tensor:
    """Draw a reparametrised sample, or return the mean when there is no seed."""
    if seed is None:
        return normal.mean()
    return normal.loc + normal.scale * standard_normal(tf.shape(normal.loc), seed)


def kl(q: Normals, p: Normals) -> dict[str, tf.Tensor]:
    """Compute KL(q || p) of each latent variable in nats, summed over its dimensions: [..., Z] -> [...]."""
    return {name: tf.reduce_sum(tfd.kl_divergence(q[name], p[name]), axis=-1) for name in q}


def log_ratio(sample: dict[str, tf.Tensor], p: Normals, q: Normals) -> tf.Tensor:
    """Compute log p(sample) - log q(sample) in nats, summed over all latent variables and their dimensions."""
    return tf.add_n([tf.reduce_sum(p[name].log_prob(z) - q[name].log_prob(z), axis=-1) for name, z in sample.items()])


def concrete_logit(logits: tf.Tensor, temperature: tf.Tensor | float) -> tfd.Logistic:
    """Return the distribution of the logit of a Concrete variable, of the shape of `logits`."""
    return tfd.Logistic(logits / temperature, 1.0 / temperature)


def draw_concrete_logit(logits: tf.Tensor, temperature: tf.Tensor | float, seed: tf.Tensor) -> tf.Tensor:
    """Draw a reparametrised sample of `concrete_logit`."""
    noise = tf.maximum(uniform(tf.shape(logits), seed), 1e-7)  # the quantile of 0 is infinite
    return concrete_logit(logits, temperature).quantile(noise)


def concrete_kl(
    sample_logit: tf.Tensor, logits: tf.Tensor, prior_logits: tf.Tensor, temperature: tf.Tensor | float
) -> tf.Tensor:
    """Estimate the KL of two Concrete distributions from one sample, in nats, elementwise.

    Args:
        sample_logit: the logit of a sample of the posterior.
        logits: log-odds of the posterior.
        prior_logits: log-odds of the prior.
        temperature: of both.
    """
    posterior = concrete_logit(logits, temperature)
    prior = concrete_logit(prior_logits, temperature)
    return posterior.log_prob(sample_logit) - prior.log_prob(sample_logit)
