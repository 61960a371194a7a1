"""Compose a canvas from the objects of a scene: they add up, or nearer ones cover what lies behind them.

    "add"   canvas = background + sum_t colour_t
    "over"  canvas = T background + (1 - T) sum_t w_t colour_t / sum_t w_t

with the transmittance T = prod_t (1 - opacity_t) of all objects and the weight w_t = opacity_t exp(nearness_t). An object has
one nearness, so of two opaque ones the nearer hides the other, in whichever order they are found.

Both are functions of sums over the objects: of colour, or of (w colour, w, -log(1 - opacity)). So one product renders all of
them, and an object can be painted or taken away without the others. Windows hold the terms of these sums (`paint`), canvases
hold the sums, and `flatten` turns these into pictures.
"""

from typing import Literal, NamedTuple

import tensorflow as tf

MAX_OPACITY = 1.0 - 1e-6
MIN_WEIGHT = 1e-6
MAX_NEARNESS = 4.0  # the weight of the nearest object is at most exp(8), 3,000 times, that of the farthest


class Composition(NamedTuple):
    """A rule, and the channels of a canvas; grey windows and canvases have no axis of channels."""

    rule: Literal["add", "over"] = "add"
    channels: int = 1  # C

    @property
    def painted_shape(self) -> tuple[int, ...]:
        """The numbers of each pixel of the decoder's output, and of what is painted: (), (C,) or (C + 2,)."""
        if self.rule == "over":
            return (self.channels + 2,)
        return (self.channels,) if self.channels > 1 else ()

    def appearance(self, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Split the decoder's output for windows into what it means.

        Args:
            logits: [batch, steps, h, w], or [batch, steps, h, w, K].

        Returns:
            Colour times opacity [batch, steps, h, w] or [batch, steps, h, w, C] and opacity [batch, steps, h, w], both in
            [0, 1], and nearness [batch, steps]. Objects that add up are as opaque as they are bright, and all equally near.
        """
        if self.rule == "add":
            colour = tf.sigmoid(logits)
            opacity = tf.reduce_max(colour, axis=-1) if self.channels > 1 else colour
            return colour, opacity, tf.zeros_like(opacity[:, :, 0, 0])
        colour, opacity, nearness = _split(logits)
        return self.drop_channel(colour * opacity), opacity[..., 0], nearness[:, :, 0, 0, 0]

    def paint(self, logits: tf.Tensor, z_pres: tf.Tensor | None = None) -> tf.Tensor:
        """Compute what the windows of objects add to a canvas: the shape of `logits`.

        Args:
            logits: [batch, steps, h, w], or [batch, steps, h, w, K], the decoder's output.
            z_pres: [batch, steps] in [0, 1], by which colours or opacities are multiplied; None for 1.
        """
        if z_pres is not None:
            z_pres = z_pres[(...,) + (None,) * (len(logits.shape) - 2)]
        if self.rule == "add":
            return tf.sigmoid(logits) if z_pres is None else tf.sigmoid(logits) * z_pres
        colour, opacity, nearness = _split(logits)
        opacity = opacity if z_pres is None else opacity * z_pres
        weight = opacity * tf.exp(nearness)
        return tf.concat([weight * colour, weight, -tf.math.log1p(-tf.minimum(opacity, MAX_OPACITY))], axis=-1)

    def repaint(self, colour: tf.Tensor, opacity: tf.Tensor, nearness: tf.Tensor) -> tf.Tensor:
        """Compute what windows of objects that cover add to a canvas, as `paint` does, from their `appearance`."""
        opacity, closeness = opacity[..., None], tf.exp(nearness)[..., None, None, None]
        thickness = -tf.math.log1p(-tf.minimum(opacity, MAX_OPACITY))
        return tf.concat([closeness * self.with_channel(colour), closeness * opacity, thickness], axis=-1)

    def flatten(self, painted: tf.Tensor, background: tf.Tensor | None = None) -> tf.Tensor:
        """Compute the picture of a canvas, [..., H, W] or [..., H, W, C].

        Args:
            painted: [..., H, W] or [..., H, W, K], the sum of what the objects paint.
            background: [..., H, W] or [..., H, W, C]; None for black.
        """
        if self.rule == "add":
            return painted if background is None else background + painted
        light, weight, thickness = painted[..., :-2], painted[..., -2:-1], painted[..., -1:]
        transmittance = tf.exp(-thickness)
        canvas = self.drop_channel((1.0 - transmittance) * light / tf.maximum(weight, MIN_WEIGHT))
        return canvas if background is None else canvas + self.drop_channel(transmittance) * background

    def visible(self, some: tf.Tensor, painted: tf.Tensor) -> tf.Tensor:
        """Compute the fraction of each pixel that shows some of the objects painted on a canvas: [..., H, W].

        Args:
            some: [..., H, W, C + 2] what they paint; of objects that cover.
            painted: [..., H, W, C + 2] what all objects paint.
        """
        share = some[..., -2] / tf.maximum(painted[..., -2], MIN_WEIGHT)
        return tf.clip_by_value(share, 0.0, 1.0) * (1.0 - tf.exp(-painted[..., -1]))

    def with_channel(self, image: tf.Tensor) -> tf.Tensor:
        """Give images [..., H, W] an axis of channels, unless they have one."""
        return image if self.channels > 1 else image[..., None]

    def drop_channel(self, image: tf.Tensor) -> tf.Tensor:
        """Drop a single channel of images [..., H, W, C]."""
        return image[..., 0] if self.channels == 1 else image

    def in_line(self, image: tf.Tensor) -> tf.Tensor:
        """Put the channels of images side by side: [..., H, W * C]."""
        return tf.concat(tf.unstack(image, axis=-1), axis=-1) if self.channels > 1 else image


def _split(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Split [..., C + 2] logits of objects that cover into colour [..., C], opacity [..., 1] and nearness [..., 1]."""
    nearness = MAX_NEARNESS * tf.tanh(logits[..., -1:] / MAX_NEARNESS)
    return tf.sigmoid(logits[..., :-2]), tf.sigmoid(logits[..., -2:-1]), nearness
