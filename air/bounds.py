"""Lower bounds of log p(x) under the discrete model, in nats per scene.

The discrete model is the one that `infer` uses, not its Concrete relaxation: z_pres is Bernoulli, and after its first 0 a scene
has no more objects. So the number of objects n has the posterior (section 2.1 of the paper)

    q(n | x) = (1 - q_{n+1}) prod_{t <= n} q_t,   and for n = T the product alone,

where q_t is the controller's probability that step t attends to an object. Two bounds:

    ELBO = E_q(z_where, z_what) [ sum_n q(n) log p(x | n, z) ] - KL(q(n) || p(n)) - sum_t q(n >= t) KL_t(z_where, z_what),

with the sum over n exact and one sample of the rest; and the importance-weighted bound (Burda et al., 2016)

    IWAE_K = E [ log 1/K sum_k p(x, n_k, z_k) / q(n_k, z_k | x) ]

with K samples of everything. The KLs of z_where are those of its unbounded form, as KLs do not change under invertible maps.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from air import distributions, transformer
from air.images import cross_entropy
from air.model import AIRModel
from air.networks import Posterior

DEVIATION = 0.3  # of the Normal likelihood, as in the paper
LEAST_PRIOR = 1e-6  # of a count that was never inferred in training; 0 would make the bound -inf
GEOMETRIC_ODDS = 0.01
BATCH = 250  # scenes at a time for the ELBO
ROWS = 1000  # pairs of scene and sample at a time for the importance-weighted bound


def normal_log_prob(images: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
    """log Normal(images; canvas, 0.3^2) of scenes [..., H, W], summed over the pixels."""
    pixels = images.shape[-1] * images.shape[-2]
    squares = tf.reduce_sum(tf.square(images - canvas), axis=(-2, -1))
    return -squares / (2 * DEVIATION**2) - pixels * (math.log(DEVIATION) + 0.5 * math.log(2 * math.pi))


LIKELIHOODS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "cross_entropy": lambda images, canvas: -cross_entropy(images, canvas),
    "normal": normal_log_prob,
}
"""log p(x | canvas) of [B, H, W]: the pixel cross-entropy of training, which isn't normalised over grey values; Normal(0.3)."""


def count_priors(model: AIRModel) -> dict[str, np.ndarray]:
    """The priors p(n) under which bounds are stated, each [T + 1].

    "frequency" has the frequencies of the counts that the model inferred in training (type-II maximum likelihood), at least
    1e-6 each; "geometric" is proportional to 0.01^n.
    """
    frequency = np.maximum(model.count_prior.numpy().astype(np.float64), LEAST_PRIOR)
    geometric = GEOMETRIC_ODDS ** np.arange(model.config.max_steps + 1)
    return {"frequency": frequency / frequency.sum(), "geometric": geometric / geometric.sum()}


def log_count_posterior(presence_logits: tf.Tensor) -> tf.Tensor:
    """log q(n | x): [batch, steps] log-odds of presence -> [batch, steps + 1]."""
    present = tf.cumsum(tf.math.log_sigmoid(presence_logits), axis=1)
    present = tf.concat([tf.zeros_like(present[:, :1]), present], axis=1)
    absent = tf.math.log_sigmoid(-presence_logits)
    return present + tf.concat([absent, tf.zeros_like(absent[:, :1])], axis=1)


class Latents(NamedTuple):
    """A sample of z_where and z_what for every step, and what it takes to weigh it."""

    z_where: tf.Tensor  # [batch, steps, 3] canvas units
    z_what: tf.Tensor  # [batch, steps, Z]
    what: Any  # the posterior of z_what given z_where, a Normal [batch, steps, Z]
    log_ratio: tf.Tensor  # [batch, steps] log p(z_where, z_what) - log q(z_where, z_what | x)


def draw_latents(model: AIRModel, images: tf.Tensor, posterior: Posterior, seed: tf.Tensor) -> Latents:
    """Draws z_where and z_what from their posterior.

    Args:
        model: whose encoder reads the windows.
        images: [batch, H, W] in [0, 1].
        posterior: the controller's answer to these images.
        seed: [2] integers.
    """
    c, now = model.config, model.config.at(tf.convert_to_tensor(model.step))
    seeds = tf.unstack(tf.random.split(seed, 3))
    scale, shift = posterior.scale.sample(seed=seeds[0]), posterior.shift.sample(seed=seeds[1])
    z_where = tf.concat([tf.sigmoid(scale), tf.tanh(shift)], axis=-1)
    what = model.encoder(transformer.crop(images, z_where, c.window_size))
    z_what = what.sample(seed=seeds[2])
    ratios = [
        _log_ratio(scale, posterior.scale, now.scale_prior_mean, now.scale_prior_variance),
        _log_ratio(shift, posterior.shift, now.shift_prior_mean, now.shift_prior_variance),
        _log_ratio(z_what, what, now.z_what_prior_mean, now.z_what_prior_variance),
    ]
    return Latents(z_where, z_what, what, tf.add_n(ratios))


def _log_ratio(sample: tf.Tensor, posterior: Any, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
    prior = distributions.tfd.Normal(mean, tf.sqrt(variance))
    return tf.reduce_sum(prior.log_prob(sample) - posterior.log_prob(sample), axis=-1)


class Elbo(NamedTuple):
    """The parts of the ELBO of each scene, in nats; L likelihoods in the order of `LIKELIHOODS`."""

    log_likelihood: np.ndarray  # [N, L] expected log p(x | n, z)
    log_q: np.ndarray  # [N, T + 1] log q(n | x)
    where_kl: np.ndarray  # [N]
    what_kl: np.ndarray  # [N]

    def count_kl(self, prior: np.ndarray) -> np.ndarray:
        """KL(q(n) || p(n)) for p(n) of [T + 1]: [N]."""
        return (np.exp(self.log_q) * (self.log_q - np.log(prior))).sum(axis=1)

    def bound(self, likelihood: str, prior: np.ndarray) -> np.ndarray:
        """The ELBO of each scene, [N]."""
        expected = self.log_likelihood[:, list(LIKELIHOODS).index(likelihood)]
        return expected - self.count_kl(prior) - self.where_kl - self.what_kl


def elbo(model: AIRModel, images: np.ndarray, seed: int = 0, progress: Callable[[int], Any] | None = None) -> Elbo:
    """The ELBO of scenes, its expectation over n exact and that over z_where and z_what from one sample.

    Args:
        model: to judge.
        images: [N, H, W] uint8.
        seed: of the samples.
        progress: called now and then with the number of scenes done since the last call.
    """
    parts = functools.partial(elbo_parts, model)
    return Elbo(*_in_batches(parts, images, BATCH, seed, progress))


@functools.partial(tf.function, jit_compile=True)
def elbo_parts(model: AIRModel, images: tf.Tensor, seed: tf.Tensor) -> Elbo:
    """`elbo` of one batch [batch, H, W] in [0, 1], as tensors."""
    c, now = model.config, model.config.at(tf.convert_to_tensor(model.step))
    posterior = model.controller(images)
    latents = draw_latents(model, images, posterior, seed)
    log_q = log_count_posterior(posterior.presence_logits)
    attending = tf.exp(tf.cumsum(tf.math.log_sigmoid(posterior.presence_logits), axis=1))  # q(n >= t)
    objects = model.decode(latents.z_what, latents.z_where, tf.ones_like(attending)).objects
    canvases = tf.cumsum(tf.pad(objects, [[0, 0], [1, 0], [0, 0], [0, 0]]), axis=1)
    log_likelihood = tf.stack(
        [
            tf.add_n([
                tf.exp(log_q[:, n]) * log_prob(images, tf.clip_by_value(canvases[:, n], 0.0, 1.0))
                for n in range(c.max_steps + 1)
            ])
            for log_prob in LIKELIHOODS.values()
        ],
        axis=1,
    )  # fmt: skip
    where_kl = distributions.gaussian_kl(posterior.scale, now.scale_prior_mean, now.scale_prior_variance)
    where_kl += distributions.gaussian_kl(posterior.shift, now.shift_prior_mean, now.shift_prior_variance)
    what_kl = distributions.gaussian_kl(latents.what, now.z_what_prior_mean, now.z_what_prior_variance)
    return Elbo(log_likelihood, log_q, tf.reduce_sum(attending * where_kl, axis=1), tf.reduce_sum(attending * what_kl, axis=1))


class Weights(NamedTuple):
    """The parts of the logarithms of importance weights, K samples of each scene; L likelihoods as in `LIKELIHOODS`."""

    log_likelihood: np.ndarray  # [N, K, L] log p(x | n, z)
    log_ratio: np.ndarray  # [N, K] log p(z_where, z_what | n) - log q(z | x), without log p(n)
    counts: np.ndarray  # [N, K] n

    def log_weights(self, likelihood: str, prior: np.ndarray) -> np.ndarray:
        """log p(x, z) - log q(z | x) for p(n) of [T + 1]: [N, K]."""
        return self.log_likelihood[..., list(LIKELIHOODS).index(likelihood)] + self.log_ratio + np.log(prior)[self.counts]


def importance_samples(
    model: AIRModel, images: np.ndarray, samples: int, seed: int = 0, progress: Callable[[int], Any] | None = None
) -> Weights:
    """Draws n, z_where and z_what of each scene several times and weighs them.

    Args:
        model: to judge.
        images: [N, H, W] uint8.
        samples: K, of each scene.
        seed: of the samples.
        progress: called now and then with the number of scenes done since the last call.
    """
    parts = functools.partial(_importance_parts, model, samples)
    return Weights(*_in_batches(parts, images, max(ROWS // samples, 1), seed, progress))


@functools.partial(tf.function, jit_compile=True)
def _importance_parts(model: AIRModel, samples: int, images: tf.Tensor, seed: tf.Tensor) -> Weights:
    posterior = model.controller(images)
    log_q = tf.repeat(log_count_posterior(posterior.presence_logits), samples, axis=0)
    rows = tf.repeat(images, samples, axis=0)
    scale, shift = (
        distributions.tfd.Normal(tf.repeat(d.loc, samples, axis=0), tf.repeat(d.scale, samples, axis=0))
        for d in (posterior.scale, posterior.shift)
    )
    seeds = tf.unstack(tf.random.split(seed, 2))
    latents = draw_latents(model, rows, Posterior(scale, shift, posterior.presence_logits), seeds[0])
    # One uniform number u draws n: the step t attends if u < q(n >= t) = 1 - q(n < t).
    uniform = tf.random.stateless_uniform([tf.shape(rows)[0], 1], seeds[1])
    attends = tf.cast(uniform < 1.0 - tf.cumsum(tf.exp(log_q), axis=1)[:, :-1], tf.float32)
    counts = tf.cast(tf.reduce_sum(attends, axis=1), tf.int32)
    canvas = model.decode(latents.z_what, latents.z_where, attends).reconstruction
    log_ratio = tf.reduce_sum(attends * latents.log_ratio, axis=1) - tf.gather(log_q, counts, batch_dims=1)
    log_likelihood = tf.stack([log_prob(rows, canvas) for log_prob in LIKELIHOODS.values()], axis=1)

    def by_scene(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [-1, samples, *values.shape[1:]])

    return Weights(by_scene(log_likelihood), by_scene(log_ratio), by_scene(counts))


def importance_bound(log_weights: np.ndarray, samples: int) -> np.ndarray:
    """The importance-weighted bound with a number of samples, of each scene: [N].

    Args:
        log_weights: [N, K].
        samples: at most K; the bound is the mean of those of K // samples groups.
    """
    from scipy.special import logsumexp

    groups = log_weights.shape[1] // samples
    grouped = log_weights[:, : groups * samples].reshape(len(log_weights), groups, samples)
    return (logsumexp(grouped, axis=2) - math.log(samples)).mean(axis=1)


def _in_batches(
    function: Callable[[tf.Tensor, tf.Tensor], NamedTuple],
    images: np.ndarray,
    size: int,
    seed: int,
    progress: Callable[[int], Any] | None,
) -> list[np.ndarray]:
    """The fields of a compiled function's answer for all scenes; every batch has one size, as another would compile again."""
    size = min(size, len(images))
    answers = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        full = np.zeros((size, *batch.shape[1:]), np.float32)
        full[: len(batch)] = batch / np.float32(255)
        answers.append([field.numpy()[: len(batch)] for field in function(tf.constant(full), tf.constant([seed, start]))])
        if progress is not None:
            progress(len(batch))
    return [np.concatenate(fields) for fields in zip(*answers, strict=True)]
