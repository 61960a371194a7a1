"""The loss: the negative ELBO in nats (section 2 of the paper), whichever way z_pres is learned."""

from types import SimpleNamespace
from typing import NamedTuple

import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, transformer
from air.model.estimators import Estimate, Proposal
from air.model.generative import LIKELIHOODS
from air.model.inference import Attention, latent_kl


class Losses(NamedTuple):
    """The negative ELBO of each scene and its parts, in nats."""

    total: tf.Tensor  # [batch], weighted with the configured weights; its gradient is what training follows
    reconstruction: tf.Tensor  # [batch]
    z_pres_kl: tf.Tensor  # [batch, steps], masked
    scale_kl: tf.Tensor  # [batch, steps], masked
    shift_kl: tf.Tensor  # [batch, steps], masked
    z_what_kl: tf.Tensor  # [batch, steps], masked


def propose(
    config: AIRConfig,
    now: SimpleNamespace,
    images: tf.Tensor,
    attention: Attention,
    prior_logits: tf.Tensor,
    noise_seed: tf.Tensor | None,
) -> tuple[Proposal, dict[str, tf.Tensor]]:
    """What an estimator of z_pres has to go by.

    Args:
        config: the model's.
        now: its values at this step.
        images: [batch, H, W] in [0, 1].
        attention: to these images.
        prior_logits: [steps] prior log-odds that a step attends to an object.
        noise_seed: [2] integers, for the decoder's noise; None for none.

    Returns:
        The proposal, and the KLs of `latent_kl`.
    """
    logits = attention.window_logits
    if noise_seed is not None and not config.decoder_noise.is_zero:
        logits += now.decoder_noise * distributions.standard_normal(tf.shape(logits), noise_seed)
    windows = tf.sigmoid(logits)

    def log_prob(seen: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
        return LIKELIHOODS[config.likelihood](seen, canvas, now.likelihood_std)

    def log_likelihood(z_pres: tf.Tensor) -> tf.Tensor:
        # Presence multiplies the window, not the canvas, because the window is smaller.
        return log_prob(
            images, transformer.render_sum(windows * z_pres[..., None, None], attention.z_where, config.canvas_size)
        )

    def log_likelihoods() -> tf.Tensor:
        return log_prob(images[:, None], transformer.render_cumsum(windows, attention.z_where, config.canvas_size))

    kl = latent_kl(attention, now)
    weighted = tf.add_n([getattr(now, f"{name}_kl_weight") * value for name, value in kl.items()])
    return Proposal(images, attention.presence_logits, prior_logits, weighted, log_likelihood, log_likelihoods), kl


def negative_elbo(now: SimpleNamespace, proposal: Proposal, kl: dict[str, tf.Tensor], estimate: Estimate) -> Losses:
    """The losses of an estimate; `now` has the configuration's values at this step, `kl` is of `propose`."""
    by_step = now.z_pres_kl_weight * estimate.z_pres_kl + estimate.attending * proposal.latent_kl
    return Losses(
        total=estimate.reconstruction + tf.reduce_sum(by_step, axis=1) + estimate.surrogate,
        reconstruction=estimate.reconstruction,
        z_pres_kl=estimate.z_pres_kl,
        **{f"{name}_kl": estimate.attending * value for name, value in kl.items()},
    )
