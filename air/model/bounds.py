"""Lower bounds on log p(x) under the discrete model, in nats per scene.

The discrete model is the one that `infer` uses, not its Concrete relaxation: z_pres is Bernoulli, and after its first 0 a scene
has no more objects. So the number of objects n has the posterior q(n | x) of `presence` (section 2.1 of the paper), with q_t
the controller's probability that step t attends to an object. There are two bounds:

    ELBO = E_q(z_where, z_what) [ sum_n q(n) log p(x | n, z) ] - KL(q(n) || p(n)) - sum_t q(n >= t) KL_t(z_where, z_what),

with the sum over n exact and one sample of the rest, minus the KL of the background's latents if there are any; and the
importance-weighted bound (Burda et al., 2016)

    IWAE_K = E [ log 1/K sum_k p(x, n_k, z_k) / q(n_k, z_k | x) ]

with K samples of everything.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from air.model import distributions, presence
from air.model.composition import Composition
from air.model.distributions import Normals
from air.model.generative import ADD, LIKELIHOODS, Rendering
from air.model.inference import Attention

GEOMETRIC_ODDS = 0.01


class Elbo(NamedTuple):
    """The parts of the ELBO of N scenes, T steps, in nats; L likelihoods in the order of `LIKELIHOODS`."""

    log_likelihood: Any  # [N, L] expected log p(x | n, z)
    log_q: Any  # [N, T + 1] log q(n | x)
    where_kl: Any  # [N]
    what_kl: Any  # [N]
    background_kl: Any  # [N]

    def count_kl(self, prior: np.ndarray) -> np.ndarray:
        """Compute KL(q(n) || p(n)) for p(n) of [T + 1]: [N]."""
        return (np.exp(self.log_q) * (self.log_q - np.log(prior))).sum(axis=1)

    def bound(self, likelihood: str, prior: np.ndarray) -> np.ndarray:
        """Compute the ELBO of each scene, [N]."""
        expected = self.log_likelihood[:, list(LIKELIHOODS).index(likelihood)]
        return expected - self.count_kl(prior) - self.where_kl - self.what_kl - self.background_kl


class ImportanceSamples(NamedTuple):
    """The parts of log importance weights, K samples of each of N scenes, in nats; L likelihoods as in `LIKELIHOODS`."""

    log_likelihood: Any  # [N, K, L] log p(x | n, z)
    log_ratio: Any  # [N, K] log p(z_where, z_what | n) - log q(z | x), without log p(n)
    count: Any  # [N, K] n

    def log_weights(self, likelihood: str, prior: np.ndarray) -> np.ndarray:
        """Compute log p(x, z) - log q(z | x) for p(n) of [T + 1]: [N, K]."""
        return self.log_likelihood[..., list(LIKELIHOODS).index(likelihood)] + self.log_ratio + np.log(prior)[self.count]


def count_priors(frequencies: np.ndarray) -> dict[str, np.ndarray]:
    """Return the priors p(n) for which bounds are reported, each [T + 1].

    Args:
        frequencies: [T + 1] how often each count was inferred in training, above 0: the "frequency" prior (type-II maximum
            likelihood). The "geometric" one is proportional to 0.01^n.
    """
    frequency = np.asarray(frequencies, np.float64)
    geometric = GEOMETRIC_ODDS ** np.arange(len(frequency))
    return {"frequency": frequency / frequency.sum(), "geometric": geometric / geometric.sum()}


def elbo(images: tf.Tensor, attention: Attention, prior: Normals, std: tf.Tensor, composition: Composition = ADD) -> Elbo:
    """Compute the parts of the ELBO of a batch of scenes, as tensors.

    Args:
        images: [batch, H, W] in [0, 1].
        attention: q(z | x) and one sample of it for each scene.
        prior: p(z) of an object.
        std: of the Normal likelihood.
        composition: of the objects.
    """
    log_q = presence.log_count(attention.presence_logits)
    attending = presence.reached(attention.presence_logits)
    rendering = _rendering(images, attention, composition, std)
    canvases = tf.clip_by_value(rendering.canvases(), 0.0, 1.0)
    log_prob = [rendering.log_prob(images[:, None], canvases, likelihood) for likelihood in LIKELIHOODS]
    log_likelihood = tf.stack([tf.reduce_sum(tf.exp(log_q) * each, axis=1) for each in log_prob], axis=1)
    kl = distributions.kl(attention.posterior, prior)
    where_kl = tf.reduce_sum(attending * (kl["scale"] + kl["shift"]), axis=1)
    what_kl = tf.reduce_sum(attending * kl["z_what"], axis=1)
    background = attention.background
    return Elbo(log_likelihood, log_q, where_kl, what_kl, tf.zeros_like(what_kl) if background is None else background.kl)


def importance_samples(
    images: tf.Tensor,
    attention: Attention,
    prior: Normals,
    std: tf.Tensor,
    seed: tf.Tensor,
    composition: Composition = ADD,
) -> ImportanceSamples:
    """Draw the count of each sample of z_where and z_what, and weigh the samples, as tensors.

    Args:
        images: [batch, H, W] in [0, 1].
        attention: q(z | x) and samples of it, [batch * K, ...], those of each scene next to each other.
        prior: p(z) of an object.
        std: of the Normal likelihood.
        seed: [2] integers, of the counts.
        composition: of the objects.
    """
    logits = attention.presence_logits
    samples = tf.shape(logits)[0] // tf.shape(images)[0]
    log_q = presence.log_count(logits)
    rows = tf.repeat(images, samples, axis=0)
    # One uniform number u draws n: step t attends if u < q(n >= t).
    present = tf.cast(distributions.uniform([tf.shape(rows)[0], 1], seed) < presence.reached(logits), tf.float32)
    count = tf.cast(tf.reduce_sum(present, axis=1), tf.int32)
    rendering = _rendering(rows, attention, composition, std)
    canvas = tf.clip_by_value(rendering.canvas(present), 0.0, 1.0)
    log_ratio = distributions.log_ratio(attention.sample, prior, attention.posterior)
    log_weight = tf.reduce_sum(present * log_ratio, axis=1) - tf.gather(log_q, count, batch_dims=1)
    if attention.background is not None:
        log_weight += attention.background.log_ratio
    log_likelihood = tf.stack([rendering.log_prob(rows, canvas, likelihood) for likelihood in LIKELIHOODS], axis=1)

    def by_scene(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [-1, samples, *values.shape[1:]])

    return ImportanceSamples(by_scene(log_likelihood), by_scene(log_weight), by_scene(count))


def _rendering(images: tf.Tensor, attention: Attention, composition: Composition, std: tf.Tensor) -> Rendering:
    picture = None if attention.background is None else attention.background.picture
    return Rendering(images, attention.window_logits, attention.z_where, picture, composition, "normal", std)


def importance_bound(log_weights: np.ndarray, samples: int) -> np.ndarray:
    """Compute the importance-weighted bound of each scene, [N], for a number of samples.

    Args:
        log_weights: [N, K].
        samples: at most K; the bound is the mean of those of K // samples groups.
    """
    from scipy.special import logsumexp

    groups = log_weights.shape[1] // samples
    grouped = log_weights[:, : groups * samples].reshape(len(log_weights), groups, samples)
    return (logsumexp(grouped, axis=2) - math.log(samples)).mean(axis=1)


def check(samples: int, likelihood: str, count_prior: np.ndarray, max_steps: int) -> None:
    """Raise a ValueError that names the argument if bounds can't be computed."""
    if samples < 1:
        raise ValueError(f"samples: {samples} is not allowed; it must be 1 or more")
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood: {likelihood!r} is not allowed; it must be one of {', '.join(LIKELIHOODS)}")
    if count_prior.shape != (max_steps + 1,) or not ((count_prior > 0) & np.isfinite(count_prior)).all():
        raise ValueError(f"count_prior: {count_prior} is not allowed; it must be {max_steps + 1} numbers above 0")
