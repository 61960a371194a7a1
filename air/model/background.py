"""Paint what lies behind the objects of a scene from few latent variables, so that it can't show the objects.

    z_background ~ Normal(0, 1)
    "constant"   one colour, uniform in [0, 1]: the quantile that each latent has
    "learned"    a mean picture, plus what a small network makes of the latents
    "smooth"     the same, but of waves that are as long as the canvas or longer, which objects in a regular layout are not

A background from latents has the size of a training canvas. On a larger canvas it is inferred tile by tile, so that the network
sees objects as large as in training, and the pictures of the tiles, half of whose width overlaps, are blended.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from air.model import distributions, transformer
from air.model.distributions import gaussian, tfd
from air.model.networks import build_chain, clip_log_variance, mlp, run

INITIAL_LOG_VARIANCE = -2.0  # of the posterior of the latents
INITIAL_GREY = 0.3  # of a picture
FREQUENCIES = 3  # of a smooth background along each axis: 0, 1 and 2 half waves on a training canvas


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
        smooth: whether to paint long waves only.
    """

    def __init__(
        self,
        canvas_size: Sequence[int],
        channels: int = 1,
        latents: int | None = 8,
        units: int = 128,
        smooth: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.canvas_size, self.channels, self.units, self.smooth = tuple(canvas_size), channels, units, smooth
        self.is_constant, self.latents = latents is None, latents or channels
        self.pixels = self.canvas_size[0] * self.canvas_size[1] * channels
        self.encoder = [*mlp([units], "elu", "encoder"), keras.layers.Dense(2 * self.latents, name="parameters")]
        small = keras.initializers.RandomNormal(stddev=0.01)
        grey = keras.initializers.Constant(INITIAL_GREY)
        picture = keras.layers.Dense(
            FREQUENCIES**2 * channels if smooth else self.pixels,
            kernel_initializer=small,
            bias_initializer="zeros" if smooth else grey,
            name="picture",
        )
        self.decoder = [] if self.is_constant else [*mlp([units], "elu", "decoder"), picture]

    def build(self, input_shape: Any = None) -> None:
        build_chain(self.encoder, self.pixels)
        build_chain(self.decoder, self.latents)
        super().build(input_shape)

    def call(self, images: tf.Tensor, seed: tf.Tensor | None) -> Background:
        """Infer backgrounds of images [batch, H, W] or [batch, H, W, C]; without a seed of the latents, from their means."""
        size = transformer.size_of(images)
        is_static = not tf.is_tensor(size[0])
        if is_static and size == self.canvas_size:
            return self._infer(images, seed)
        if self.is_constant:
            found = self._infer(transformer.resize(images, self.canvas_size), seed)
            return found._replace(picture=transformer.resize(found.picture, size))
        larger = max if is_static else tf.maximum
        tiled = tuple(larger(*sides) for sides in zip(size, self.canvas_size, strict=True))
        rows, columns = (_Tiles.along(*sides) for sides in zip(tiled, self.canvas_size, strict=True))
        images = transformer.resize(images, tiled)
        images = images if self.channels > 1 else images[..., None]
        tiles = columns.cut(rows.cut(images, 1), 3)  # [batch, rows, h, columns, w, C]
        tiles = tf.transpose(tiles, [0, 1, 3, 2, 4, 5])
        found = self._infer(tf.reshape(tiles, [-1, *self.canvas_size, self.channels]), seed)
        pictures = tf.reshape(found.picture, tf.shape(tiles))
        blended = tf.einsum("yri,brsijc,xsj->byxc", rows.weights, pictures, columns.weights)
        picture = transformer.resize(tf.reshape(blended, [-1, *tiled, self.channels]), size)
        of_scene = (tf.reduce_sum(tf.reshape(of_tile, [tf.shape(images)[0], -1]), axis=1) for of_tile in found[1:])
        return Background(picture if self.channels > 1 else picture[..., 0], *of_scene)

    def _infer(self, images: tf.Tensor, seed: tf.Tensor | None) -> Background:
        """Infer backgrounds of images that are as large as a training canvas."""
        mean, log_variance = tf.split(run(self.encoder, tf.reshape(images, [-1, self.pixels])), 2, axis=-1)
        q = gaussian(mean, clip_log_variance(log_variance + INITIAL_LOG_VARIANCE))
        p = tfd.Normal(tf.zeros_like(mean), tf.ones_like(mean))
        z = distributions.draw(q, seed)
        log_ratio = tf.reduce_sum(p.log_prob(z) - q.log_prob(z), axis=-1)
        kl = tf.reduce_sum(tfd.kl_divergence(q, p), axis=-1)
        return Background(self.paint(z, self.canvas_size), kl, log_ratio)

    def paint(self, z: tf.Tensor, canvas_size: transformer.Size) -> tf.Tensor:
        """Paint backgrounds of any size from latents [batch, latents]."""
        if self.is_constant:
            picture = tf.tile(tfd.Normal(0.0, 1.0).cdf(z)[:, None, None], [1, *canvas_size, 1])
        else:
            if self.smooth:
                waves = tf.reshape(run(self.decoder, z), [-1, FREQUENCIES, FREQUENCIES, self.channels])
                rows, columns = (_waves(side) for side in self.canvas_size)
                picture = INITIAL_GREY + tf.einsum("yf,bfgc,xg->byxc", rows, waves, columns)
            else:
                picture = tf.reshape(run(self.decoder, z), [-1, *self.canvas_size, self.channels])
            picture = transformer.resize(picture, canvas_size)
        return picture[..., 0] if self.channels == 1 else picture


def _waves(side: int) -> np.ndarray:
    """Return the cosines of a discrete cosine transform with the lowest frequencies: [side, frequencies] float32."""
    return np.cos(np.pi * np.arange(FREQUENCIES) * (np.arange(side)[:, None] + 0.5) / side).astype(np.float32)


class _Tiles(NamedTuple):
    """The tiles along one axis of a canvas, evenly spread, about half a tile apart."""

    places: tf.Tensor  # [tiles, length] the pixels of each tile
    weights: tf.Tensor  # [canvas, tiles, length] by which a pixel blends them; greatest in the middle of a tile

    @classmethod
    def along(cls, canvas: int | tf.Tensor, length: int) -> "_Tiles":
        number = -(-2 * canvas // length) - 1
        starts = tf.cast(tf.round(tf.linspace(0.0, tf.cast(canvas - length, tf.float32), number)), tf.int32)
        within = tf.range(length)
        places = starts[:, None] + within
        hat = tf.cast(tf.minimum(within + 1, length - within), tf.float32)
        weights = tf.where(tf.range(canvas)[:, None, None] == places, hat, 0.0)
        return cls(places, weights / tf.reduce_sum(weights, axis=(1, 2), keepdims=True))

    def cut(self, images: tf.Tensor, axis: int) -> tf.Tensor:
        """Cut tiles along an axis of images, which becomes two: tiles and length."""
        return tf.gather(images, self.places, axis=axis)
