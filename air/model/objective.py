"""The loss: the negative evidence lower bound (ELBO) of one scene, in nats (section 2.2 of the paper).

-ELBO = E_q [ -log p(x | z) ]  +  KL(q(z_pres | x) || p(z_pres))
        + sum over steps t that attend to an object:
            KL(q(scale_t | x) || p(scale)) + KL(q(shift_t | x) || p(shift)) + KL(q(z_what_t | x) || p(z_what))
        + KL(q(z_background | x) || p(z_background)), if there is a background

Nothing in it says where in its window an object lies. Windows that see it off-centre cut a wide one off, and pay for a second
window; so the loss may add a cost of eccentricity, as if the prior of z_what preferred centred pictures.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, generative, transformer
from air.model.composition import Composition
from air.model.estimators import Estimate, Estimator, Proposal
from air.model.generative import Rendering
from air.model.inference import Attention


class Losses(NamedTuple):
    """The terms of the negative ELBO in nats, unweighted but for the total."""

    total: tf.Tensor  # [batch] with the weights of the configuration
    reconstruction: tf.Tensor  # [batch] -log p(x | z)
    z_pres_kl: tf.Tensor  # [batch, steps]
    scale_kl: tf.Tensor  # [batch, steps] of the steps that attend to an object
    shift_kl: tf.Tensor  # [batch, steps]
    z_what_kl: tf.Tensor  # [batch, steps]

    def weighted(self, weight: tf.Tensor | None) -> "Losses":
        """Multiply the total by the weight of each scene, [batch], as Keras does; None for 1."""
        return self if weight is None else self._replace(total=self.total * weight)


def negative_elbo(
    config: AIRConfig,
    step: Any,
    images: tf.Tensor,
    attention: Attention,
    prior_logits: tf.Tensor,
    estimator: Estimator,
    std: tf.Tensor,
    seed: tf.Tensor,
    noise_seed: tf.Tensor | None = None,
) -> tuple[Losses, Estimate]:
    """Estimate the negative ELBO of each scene from one sample of the latent variables.

    Args:
        config: the model's.
        step: training step, at which annealed values are taken.
        images: [batch, H, W] in [0, 1].
        attention: the inference network's q(z | x) and a sample of it.
        prior_logits: [steps] prior log-odds that a step attends to an object, if all before it do.
        estimator: of the gradient with respect to z_pres.
        std: of the Normal likelihood.
        seed: [2] integers, of z_pres.
        noise_seed: [2] integers, of the noise on the decoder's logits; None for no noise.
    """
    # log p(x | z): the objects of all steps on one canvas
    logits = attention.window_logits
    if noise_seed is not None and not config.decoder_noise.is_zero:
        logits += config.decoder_noise(step) * distributions.standard_normal(tf.shape(logits), noise_seed)
    background, composition = attention.background, Composition(config.composition, config.channels)
    picture = None if background is None else background.picture
    rendering = Rendering(images, logits, attention.z_where, picture, composition, config.likelihood, std)

    # KL(q(z_where, z_what | x) || p(z_where, z_what)) of every step, [batch, steps] each, as if it attended to an object
    kl = distributions.kl(attention.posterior, generative.prior(config, step))
    costs = [
        config.scale_kl_weight(step) * kl["scale"],
        config.shift_kl_weight(step) * kl["shift"],
        config.z_what_kl_weight(step) * kl["z_what"],
    ]
    if not config.eccentricity_weight.is_zero:
        costs.append(config.eccentricity_weight(step) * eccentricity(composition.appearance(logits)[1]))
    object_kl = tf.add_n(costs)

    # The expectation over z_pres: which steps attend to an object, and KL(q(z_pres | x) || p(z_pres))
    proposal = Proposal(rendering, attention.presence_logits, prior_logits, object_kl)
    z_pres = estimator.estimate(proposal, step, seed)
    by_step = config.z_pres_kl_weight(step) * z_pres.kl + z_pres.attending * object_kl

    total = z_pres.reconstruction + tf.reduce_sum(by_step, axis=1) + z_pres.surrogate
    if background is not None:  # KL(q(z_background | x) || p(z_background))
        total += config.background_kl_weight(step) * background.kl

    losses = Losses(
        total=total,
        reconstruction=z_pres.reconstruction,
        z_pres_kl=z_pres.kl,
        scale_kl=z_pres.attending * kl["scale"],
        shift_kl=z_pres.attending * kl["shift"],
        z_what_kl=z_pres.attending * kl["z_what"],
    )
    return losses, z_pres


def eccentricity(opacity: tf.Tensor) -> tf.Tensor:
    """Compute the squared distance between the centres of mass of objects and those of their windows.

    Args:
        opacity: [batch, steps, h, w] of the objects in their windows, in [0, 1].

    Returns:
        [batch, steps] in half windows, squared: 1 in the middle of an edge. Objects of less than a pixel count less.
    """
    mass = tf.reduce_sum(opacity, axis=(2, 3)) + 1.0
    lines = (tf.reduce_sum(opacity, axis=2), tf.reduce_sum(opacity, axis=3))
    moments = (tf.reduce_sum(line * transformer.centres(line.shape[2]), axis=2) for line in lines)
    return tf.add_n([tf.square(moment / mass) for moment in moments])
