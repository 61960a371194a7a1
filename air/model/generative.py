"""The generative model p(x, z): a scene is the sum of its objects, each painted from z_what into the window z_where."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, transformer

PROBABILITY_RANGE = (1e-6, 1.0 - 1e-6)  # XLA folds log(1 - r + tiny) to log(1 - r), which is -inf at 1: clip instead


class Scenes(NamedTuple):
    """What AIR makes of a batch of scenes: B scenes, T steps, canvas H x W, windows h x w, Z latent dimensions.

    Steps that attend to nothing are included; `presence` and `count` tell them. The objects of a scene are its first `count`
    steps.
    """

    count: Any  # [B] int32, inferred number of objects
    presence: Any  # [B, T] probability that the step attends to an object
    scale: Any  # [B, T] half the side of the attention window, canvas units
    shift: Any  # [B, T, 2] its centre (x, y), canvas units
    attention_boxes: Any  # [B, T, 4] the attention window (x, y, width, height), pixels
    z_what: Any  # [B, T, Z]
    decoded_windows: Any  # [B, T, h, w] the decoder's picture of the object, in [0, 1]
    objects: Any  # [B, T, H, W] the same on a canvas of its own, 0 for absent objects
    reconstruction: Any  # [B, H, W] all objects on one canvas, in [0, 1]


def compose(
    logits: tf.Tensor, z_what: tf.Tensor, z_where: tf.Tensor, present: tf.Tensor, canvas_size: tuple[int, int]
) -> Scenes:
    """Puts the decoder's windows together to scenes.

    Args:
        logits: [batch, steps, h, w] the decoder's answer to z_what.
        z_what: [batch, steps, z_what_size].
        z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units.
        present: [batch, steps], 1.0 where there is an object and 0.0 elsewhere, no 1.0 after a 0.0.
        canvas_size: height and width, in pixels.
    """
    windows = tf.sigmoid(logits)
    objects = transformer.render(windows, z_where, canvas_size) * present[..., None, None]
    return Scenes(
        count=tf.cast(tf.reduce_sum(present, axis=1), tf.int32),
        presence=present,
        scale=z_where[..., 0],
        shift=z_where[..., 1:],
        attention_boxes=transformer.attention_boxes(z_where, canvas_size),
        z_what=z_what,
        decoded_windows=windows,
        objects=objects,
        reconstruction=tf.clip_by_value(tf.reduce_sum(objects, axis=1), 0.0, 1.0),
    )


def draw_prior(config: AIRConfig, now: SimpleNamespace, scenes: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws z_what [scenes, steps, z_what_size] and z_where [scenes, steps, 3] from their priors.

    Args:
        config: the model's.
        now: its values at the model's step.
        scenes: how many.
        seed: [2] integers.
    """
    sizes = {"scale": 1, "shift": 2, "z_what": config.z_what_size}
    drawn = {}
    for key, (name, size) in zip(tf.unstack(tf.random.split(seed, 3)), sizes.items(), strict=True):
        noise = distributions.standard_normal([scenes, config.max_steps, size], key)
        drawn[name] = getattr(now, f"{name}_prior_mean") + getattr(now, f"{name}_prior_variance") ** 0.5 * noise
    return drawn["z_what"], transformer.as_z_where(tf.concat([drawn["scale"], drawn["shift"]], axis=-1))


def cross_entropy(images: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of grey values and Bernoulli probabilities, in nats, summed over the pixels of each scene.

    Args:
        images: [..., height, width] in [0, 1].
        canvas: [..., height, width] probabilities.
    """
    canvas = tf.clip_by_value(canvas, *PROBABILITY_RANGE)
    return -tf.reduce_sum(images * tf.math.log(canvas) + (1.0 - images) * tf.math.log1p(-canvas), axis=(-2, -1))


def normal_log_prob(images: tf.Tensor, canvas: tf.Tensor, deviation: tf.Tensor | float) -> tf.Tensor:
    """log Normal(images; canvas, deviation^2) in nats, summed over the pixels of each scene, see `cross_entropy`."""
    pixels = images.shape[-1] * images.shape[-2]
    squares = tf.reduce_sum(tf.square(images - canvas), axis=(-2, -1))
    return -squares / (2 * deviation**2) - pixels * (tf.math.log(deviation) + 0.5 * math.log(2 * math.pi))


LIKELIHOODS: dict[str, Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "cross_entropy": lambda images, canvas, deviation: -cross_entropy(images, canvas),
    "normal": normal_log_prob,
}
"""log p(x | canvas) by images, canvas and deviation: the pixel cross-entropy, which isn't normalised over grey values, and
the paper's Normal, the only one with a deviation."""
