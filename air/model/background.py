"""What lies behind the objects of a scene, painted from few latent variables, so that it can't show the objects.

    z_background ~ Normal(0, 1)
    "constant"   one colour, uniform in [0, 1]: the quantile that each latent has
    "learned"    a mean picture, plus what a small network makes of the latents

A learned background has the size of a training canvas; on canvases of another size, both the image that it is inferred from and
its picture are resized.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from air.model import distributions, transformer
from air.model.distributions import gaussian, tfd
from air.model.networks import build_chain, clip_log_variance, mlp, run

INITIAL_LOG_VARIANCE = -2.0  # of the posterior of the latents


class Background(NamedTuple):
    """The backgrounds of a batch of scenes."""

    picture: tf.Tensor  # [batch, H, W] or [batch, H, W, C]; in [0, 1] but for errors
    kl: tf.Tensor  # [batch] KL(q || p) of their latents, nats
    log_ratio: tf.Tensor  # [batch] log p(z) - log q(z | x) of the sample, nats


@keras.saving.register_keras_serializable(package="air")
class BackgroundNetwork(keras.layers.Layer):
    """Infers the latents of a background from a scene, and paints it.

    Args:
        canvas_size: height and width of a training scene, in pixels.
        channels: C of the scenes.
        latents: number of them; None for "constant", which has C.
        units: hidden units of the network that infers them, and of the one that paints.
    """

    def __init__(
        self, canvas_size: Sequence[int], channels: int = 1, latents: int | None = 8, units: int = 128, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.canvas_size, self.channels, self.units = tuple(canvas_size), channels, units
        self.is_constant, self.latents = latents is None, latents or channels
        self.pixels = self.canvas_size[0] * self.canvas_size[1] * channels
        self.encoder = [*mlp([units], "elu", "encoder"), keras.layers.Dense(2 * self.latents, name="parameters")]
        small = keras.initializers.RandomNormal(stddev=0.01)
        picture = keras.layers.Dense(
            self.pixels, kernel_initializer=small, bias_initializer=keras.initializers.Constant(0.3), name="picture"
        )
        self.decoder = [] if self.is_constant else [*mlp([units], "elu", "decoder"), picture]

    def build(self, input_shape: Any = None) -> None:
        build_chain(self.encoder, self.pixels)
        build_chain(self.decoder, self.latents)
        super().build(input_shape)

    def call(self, images: tf.Tensor, seed: tf.Tensor | None) -> Background:
        """Infer backgrounds of images [batch, H, W] or [batch, H, W, C]; without a seed of the latents, from their means."""
        resized = transformer.resize(images, self.canvas_size)
        mean, log_variance = tf.split(run(self.encoder, tf.reshape(resized, [-1, self.pixels])), 2, axis=-1)
        q = gaussian(mean, clip_log_variance(log_variance + INITIAL_LOG_VARIANCE))
        p = tfd.Normal(tf.zeros_like(mean), tf.ones_like(mean))
        z = distributions.draw(q, seed)
        log_ratio = tf.reduce_sum(p.log_prob(z) - q.log_prob(z), axis=-1)
        kl = tf.reduce_sum(tfd.kl_divergence(q, p), axis=-1)
        return Background(self.paint(z, transformer.size_of(images)), kl, log_ratio)

    def paint(self, z: tf.Tensor, canvas_size: transformer.Size) -> tf.Tensor:
        """Paint backgrounds of any size from latents [batch, latents]."""
        if self.is_constant:
            picture = tf.tile(tfd.Normal(0.0, 1.0).cdf(z)[:, None, None], [1, *canvas_size, 1])
        else:
            picture = tf.reshape(run(self.decoder, z), [-1, *self.canvas_size, self.channels])
            picture = transformer.resize(picture, canvas_size)
        return picture[..., 0] if self.channels == 1 else picture
