"""The inference network at work: step by step, where it looks, what it sees there, and how the decoder pictures that.

The controller sees the canvas, which is the same at every step, so that all steps can be taken at once; or something of the
step before as well, and then they are taken in turn:

- "latents": z_where and z_what of the step before, as in the paper;
- "residual": the canvas less what the steps so far explain, the paper's DAIR variant, for which a scene with one object more
  is nothing new.

z_pres of the step before is not an input: wherever a further step counts, it is 1.

An inferred scene may be looked at twice: neighbours reach into each other's windows, and once all objects are known, each can
be placed and read without the others. This takes no training, as scenes of one object have taught how such a window looks.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, presence, transformer
from air.model.distributions import gaussian, tfd
from air.model.networks import Controller, Correction, GlimpseDecoder, GlimpseEncoder, Posterior, Refiner, clip_log_variance

Seeds = Sequence[tf.Tensor | None]  # of the draws of scale, shift and z_what; None for the mean


class Networks(NamedTuple):
    """The trainable parts that attention takes."""

    controller: Controller
    refiner: Refiner | None
    refinement: tf.Tensor  # scalar: the share of the refiner's correction that is applied
    encoder: GlimpseEncoder
    decoder: GlimpseDecoder


class Attention(NamedTuple):
    """What a batch of scenes looks like, step by step, as if every step took place."""

    presence_logits: tf.Tensor  # [batch, steps] log-odds of an object, if all steps before have one
    scale: tfd.Normal  # [batch, steps, 1] posterior of the pre-sigmoid scale
    shift: tfd.Normal  # [batch, steps, 2] posterior of the pre-tanh shift
    what: tfd.Normal  # [batch, steps, Z] posterior of z_what
    where_logits: tf.Tensor  # [batch, steps, 3] sample of pre-sigmoid scale and pre-tanh shift
    z_where: tf.Tensor  # [batch, steps, 3] the same as (scale, shift_x, shift_y), canvas units
    z_what: tf.Tensor  # [batch, steps, Z] sample
    window_logits: tf.Tensor  # [batch, steps, h, w] the decoder's answer


def attend(
    networks: Networks,
    config: AIRConfig,
    images: tf.Tensor,
    seed: tf.Tensor | None,
    *,
    looks: int = 1,
    samples: int = 1,
) -> Attention:
    """Attends to scenes.

    Args:
        networks: the model's.
        config: the model's.
        images: [batch, H, W] in [0, 1].
        seed: [2] integers; None for posterior means.
        looks: 2: look at each object again, in what the others leave unexplained of the canvas.
        samples: of each scene; with more than 1, they take the place of the scene in the batch.
    """
    seeds = [None] * 3 if seed is None else tf.unstack(tf.random.split(seed, 3))
    canvas = images[:, None]
    if config.controller_input == "canvas":
        posterior = networks.controller(images)
        if looks == 2:
            canvas = _unexplained(canvas, _look(networks, config, canvas, posterior, [None] * 3), config)
        if samples > 1:
            canvas, *fields = (_map(lambda x: tf.repeat(x, samples, axis=0), [field]) for field in (canvas, *posterior))
            posterior = Posterior(*fields)
        return _look(networks, config, canvas, posterior, seeds)
    if samples > 1:
        canvas = tf.repeat(canvas, samples, axis=0)
    posterior, attention = _attend_in_turn(networks, config, canvas, seeds)
    if looks == 2:
        return _look(networks, config, _unexplained(canvas, attention, config), posterior, seeds)
    return attention


def _attend_in_turn(networks: Networks, config: AIRConfig, canvas: tf.Tensor, seeds: Seeds) -> tuple[Posterior, Attention]:
    by_step = [
        [None] * config.max_steps if seed is None else tf.unstack(tf.random.split(seed, config.max_steps)) for seed in seeds
    ]
    controller, residual, latents = networks.controller, canvas[:, 0], None
    state, from_canvas = None, controller.read(residual)
    posteriors: list[Posterior] = []
    steps: list[Attention] = []
    for keys in zip(*by_step, strict=True):
        if steps and config.controller_input == "residual":
            windows = tf.sigmoid(tf.stop_gradient(steps[-1].window_logits))
            residual -= transformer.render_sum(windows, tf.stop_gradient(steps[-1].z_where), config.canvas_size)
            from_canvas = controller.read(residual)
        state = controller.advance(from_canvas, latents, state)
        posteriors.append(controller.answer(state.output[:, None]))
        steps.append(_look(networks, config, canvas, posteriors[-1], keys))
        if config.controller_input == "latents":
            latents = tf.concat([steps[-1].z_where, steps[-1].z_what], axis=-1)[:, 0]
    return _join(Posterior, posteriors), _join(Attention, steps)


def _join(kind: Any, steps: Sequence[NamedTuple]) -> Any:
    """All steps in one, of fields [batch, 1, ...]."""
    return kind(*(_map(lambda *parts: tf.concat(parts, axis=1), field) for field in zip(*steps, strict=True)))


def _map(function: Callable[..., tf.Tensor], fields: Sequence[tf.Tensor | tfd.Normal]) -> tf.Tensor | tfd.Normal:
    """A function of tensors, or of the means and of the deviations of Normals."""
    if not isinstance(fields[0], tfd.Normal):
        return function(*fields)
    return tfd.Normal(function(*(normal.loc for normal in fields)), function(*(normal.scale for normal in fields)))


def _look(networks: Networks, config: AIRConfig, canvas: tf.Tensor, posterior: Posterior, seeds: Seeds) -> Attention:
    """Looks where the controller says, at as many steps as it says, at a canvas [batch, 1 or steps, H, W]."""
    if networks.refiner is not None:
        posterior = _refine(networks, config, canvas, posterior)
    where = tf.concat([distributions.draw(posterior.scale, seeds[0]), distributions.draw(posterior.shift, seeds[1])], axis=-1)
    z_where = transformer.as_z_where(where)
    what = networks.encoder(transformer.crop(canvas, z_where, config.window_size))
    z_what = distributions.draw(what, seeds[2])
    logits = networks.decoder(z_what)
    return Attention(posterior.presence_logits, posterior.scale, posterior.shift, what, where, z_where, z_what, logits)


def _unexplained(canvas: tf.Tensor, attention: Attention, config: AIRConfig) -> tf.Tensor:
    """What every step's fellows leave of the canvas [batch, 1, H, W]: [batch, steps, H, W]."""
    present = presence.reached(attention.presence_logits)[..., None, None]
    objects = transformer.render(tf.sigmoid(attention.window_logits) * present, attention.z_where, config.canvas_size)
    return tf.nn.relu(canvas - (tf.reduce_sum(objects, axis=1, keepdims=True) - objects))


def _refine(networks: Networks, config: AIRConfig, canvas: tf.Tensor, posterior: Posterior) -> Posterior:
    """Corrects z_where by what a first glimpse, at its posterior mean, shows.

    A window's content tells how far off it is wherever it is, so the correction is in units of the window: this is what lets
    a small network place windows more precisely than the controller, which sees the whole canvas.
    """
    scale, shift = posterior.scale, posterior.shift
    z_where = transformer.as_z_where(tf.concat([scale.loc, shift.loc], axis=-1))
    correction = _correction(networks, config, canvas, z_where)
    steepness = 1.0 - tf.square(z_where[..., 1:])  # d tanh(x) / dx
    unit = z_where[..., :1] / tf.maximum(steepness, 0.1)

    def correct(normal: tfd.Normal, move: tf.Tensor, widen: tf.Tensor) -> tfd.Normal:
        log_variance = 2.0 * tf.math.log(normal.scale) + networks.refinement * widen
        return gaussian(normal.loc + networks.refinement * move, clip_log_variance(log_variance))

    scale = correct(scale, correction.scale, correction.scale_log_variance)
    shift = correct(shift, unit * correction.shift, correction.shift_log_variance)
    return Posterior(scale, shift, posterior.presence_logits)


def _correction(networks: Networks, config: AIRConfig, canvas: tf.Tensor, z_where: tf.Tensor) -> Correction:
    """The refiner's answer; while nothing of it is applied, zeros, for it would take a fifth of a training step."""

    def asked() -> Correction:
        return networks.refiner(transformer.crop(canvas, z_where, config.window_size))

    def nothing() -> Correction:
        one, two = tf.zeros_like(z_where[..., :1]), tf.zeros_like(z_where[..., 1:])
        return Correction(one, two, one, two)

    share = tf.get_static_value(networks.refinement)
    if share is None:
        return tf.cond(networks.refinement > 0.0, asked, nothing)
    return asked() if share > 0.0 else nothing()


def latent_kl(attention: Attention, now: SimpleNamespace) -> dict[str, tf.Tensor]:
    """The KLs of "scale", "shift" and "z_what" at every step, [batch, steps] nats each, as if every step took place.

    Those of z_where are of its unbounded form, as a KL does not change under an invertible map. `now` has the configuration's
    values at the model's step.
    """
    posteriors = {"scale": attention.scale, "shift": attention.shift, "z_what": attention.what}
    return {
        name: distributions.gaussian_kl(posterior, getattr(now, f"{name}_prior_mean"), getattr(now, f"{name}_prior_variance"))
        for name, posterior in posteriors.items()
    }
