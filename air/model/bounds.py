"""Lower bounds of log p(x) under the discrete model, in nats per scene.

The discrete model is the one that `infer` uses, not its Concrete relaxation: z_pres is Bernoulli, and after its first 0 a scene
has no more objects. So the number of objects n has the posterior q(n | x) of `air.model.presence` (section 2.1 of the paper), with
q_t the controller's probability that step t attends to an object. Two bounds:

    ELBO = E_q(z_where, z_what) [ sum_n q(n) log p(x | n, z) ] - KL(q(n) || p(n)) - sum_t q(n >= t) KL_t(z_where, z_what),

with the sum over n exact and one sample of the rest; and the importance-weighted bound (Burda et al., 2016)

    IWAE_K = E [ log 1/K sum_k p(x, n_k, z_k) / q(n_k, z_k | x) ]

with K samples of everything. The KLs of z_where are those of its unbounded form, as KLs do not change under invertible maps.
"""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from air.model import distributions, presence, transformer
from air.model.generative import LIKELIHOODS
from air.model.inference import Attention, latent_kl

if TYPE_CHECKING:
    from air.model.air_model import AIRModel

GEOMETRIC_ODDS = 0.01
BATCH = 250  # scenes at a time for the ELBO
ROWS = 1000  # pairs of scene and sample at a time for the importance-weighted bound


def count_priors(model: "AIRModel") -> dict[str, np.ndarray]:
    """The priors p(n) under which bounds are stated, each [T + 1].

    "frequency" has the frequencies of the counts that the model inferred in training (type-II maximum likelihood), at least
    1e-6 each; "geometric" is proportional to 0.01^n.
    """
    frequency = model.count_frequencies().numpy().astype(np.float64)
    geometric = GEOMETRIC_ODDS ** np.arange(model.config.max_steps + 1)
    return {"frequency": frequency / frequency.sum(), "geometric": geometric / geometric.sum()}


def log_ratio(attention: Attention, now: Any) -> tf.Tensor:
    """log p(z_where, z_what) - log q(z_where, z_what | x) of the samples of each step, [batch, steps].

    `now` has the configuration's values at the model's step.
    """
    samples = {
        "scale": (attention.where_logits[..., :1], attention.scale),
        "shift": (attention.where_logits[..., 1:], attention.shift),
        "z_what": (attention.z_what, attention.what),
    }
    ratios = []
    for name, (sample, posterior) in samples.items():
        variance = getattr(now, f"{name}_prior_variance")
        prior = distributions.tfd.Normal(getattr(now, f"{name}_prior_mean"), tf.sqrt(variance))
        ratios.append(tf.reduce_sum(prior.log_prob(sample) - posterior.log_prob(sample), axis=-1))
    return tf.add_n(ratios)


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


def elbo(model: "AIRModel", images: np.ndarray, seed: int = 0, progress: Callable[[int], Any] | None = None) -> Elbo:
    """The ELBO of scenes, its expectation over n exact and that over z_where and z_what from one sample.

    Args:
        model: to judge.
        images: [N, H, W], uint8 or float in [0, 1].
        seed: of the samples.
        progress: called now and then with the number of scenes done since the last call.
    """
    parts = functools.partial(elbo_parts, model)
    return Elbo(*_in_batches(parts, images, BATCH, seed, progress))


@functools.partial(tf.function, jit_compile=True)
def elbo_parts(model: "AIRModel", images: tf.Tensor, seed: tf.Tensor) -> Elbo:
    """`elbo` of one batch [batch, H, W] in [0, 1], as tensors."""
    c, now = model.config, model.config.at(tf.convert_to_tensor(model.step))
    attention = model.attend(images, seed)
    log_q = presence.log_count(attention.presence_logits)
    attending = presence.reached(attention.presence_logits)
    canvases = transformer.render_cumsum(tf.sigmoid(attention.window_logits), attention.z_where, c.canvas_size)
    canvases = tf.clip_by_value(canvases, 0.0, 1.0)
    log_likelihood = tf.stack(
        [
            tf.reduce_sum(tf.exp(log_q) * log_prob(images[:, None], canvases, now.likelihood_std), axis=1)
            for log_prob in LIKELIHOODS.values()
        ],
        axis=1,
    )
    kl = latent_kl(attention, now)
    where_kl = tf.reduce_sum(attending * (kl["scale"] + kl["shift"]), axis=1)
    return Elbo(log_likelihood, log_q, where_kl, tf.reduce_sum(attending * kl["z_what"], axis=1))


class Weights(NamedTuple):
    """The parts of the logarithms of importance weights, K samples of each scene; L likelihoods as in `LIKELIHOODS`."""

    log_likelihood: np.ndarray  # [N, K, L] log p(x | n, z)
    log_ratio: np.ndarray  # [N, K] log p(z_where, z_what | n) - log q(z | x), without log p(n)
    count: np.ndarray  # [N, K] n

    def log_weights(self, likelihood: str, prior: np.ndarray) -> np.ndarray:
        """log p(x, z) - log q(z | x) for p(n) of [T + 1]: [N, K]."""
        return self.log_likelihood[..., list(LIKELIHOODS).index(likelihood)] + self.log_ratio + np.log(prior)[self.count]


def importance_samples(
    model: "AIRModel", images: np.ndarray, samples: int, seed: int = 0, progress: Callable[[int], Any] | None = None
) -> Weights:
    """Draws n, z_where and z_what of each scene several times and weighs them.

    Args:
        model: to judge.
        images: [N, H, W], uint8 or float in [0, 1].
        samples: K, of each scene.
        seed: of the samples.
        progress: called now and then with the number of scenes done since the last call.
    """
    parts = functools.partial(_importance_parts, model, samples)
    return Weights(*_in_batches(parts, images, max(ROWS // samples, 1), seed, progress))


@functools.partial(tf.function, jit_compile=True)
def _importance_parts(model: "AIRModel", samples: int, images: tf.Tensor, seed: tf.Tensor) -> Weights:
    now = model.config.at(tf.convert_to_tensor(model.step))
    seeds = tf.unstack(tf.random.split(seed, 2))
    attention = model.attend(images, seeds[0], samples=samples)
    log_q = presence.log_count(attention.presence_logits)
    rows = tf.repeat(images, samples, axis=0)
    # One uniform number u draws n: the step t attends if u < q(n >= t).
    attends = tf.cast(
        distributions.uniform([tf.shape(rows)[0], 1], seeds[1]) < presence.reached(attention.presence_logits), tf.float32
    )
    counts = tf.cast(tf.reduce_sum(attends, axis=1), tf.int32)
    canvas = model.decode(attention.z_what, attention.z_where, attends).reconstruction
    log_weight = tf.reduce_sum(attends * log_ratio(attention, now), axis=1) - tf.gather(log_q, counts, batch_dims=1)
    log_likelihood = tf.stack([log_prob(rows, canvas, now.likelihood_std) for log_prob in LIKELIHOODS.values()], axis=1)

    def by_scene(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [-1, samples, *values.shape[1:]])

    return Weights(by_scene(log_likelihood), by_scene(log_weight), by_scene(counts))


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
    size = max(min(size, len(images)), 1)
    answers = []
    for start in range(0, max(len(images), 1), size):
        batch = images[start : start + size]
        full = np.zeros((size, *batch.shape[1:]), np.float32)
        full[: len(batch)] = batch / np.float32(255) if batch.dtype == np.uint8 else batch
        answers.append([field.numpy()[: len(batch)] for field in function(tf.constant(full), tf.constant([seed, start]))])
        if progress is not None:
            progress(len(batch))
    return [np.concatenate(fields) for fields in zip(*answers, strict=True)]


def log_prob_bound(
    model: "AIRModel", images: np.ndarray, samples: int, seed: int, likelihood: str, count_prior: np.ndarray
) -> np.ndarray:
    """See `AIRModel.log_prob_bound`; `images` are in [0, 1]."""
    counts = model.config.max_steps + 1
    if samples < 1:
        raise ValueError(f"samples: {samples} is not allowed; it must be 1 or more")
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood: {likelihood!r} is not allowed; it must be one of {', '.join(LIKELIHOODS)}")
    if count_prior.shape != (counts,) or not ((count_prior > 0) & np.isfinite(count_prior)).all():
        raise ValueError(f"count_prior: {count_prior} is not allowed; it must be {counts} numbers above 0")
    weights = importance_samples(model, images, samples, seed)
    return importance_bound(weights.log_weights(likelihood, count_prior / count_prior.sum()), samples)
