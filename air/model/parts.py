"""Parts of a canvas as large as a training scene: no window reaches farther, so what concerns one object needs no more."""

from typing import NamedTuple

import tensorflow as tf

from air.model import transformer
from air.model.cells import MAX_SHIFT

SCALES = (1e-3, 1.0 - 1e-3)  # the logit of 0 or 1 is infinite

Latents = dict[str, tf.Tensor]
"""Hold the latent variables of P fits: "scale" [P, objects, 1] before the sigmoid, "shift" [P, objects, 2] in units of the part
of the canvas that is fitted, and "z_what" [P, objects, Z]."""


class Part(NamedTuple):
    """Hold the place of a part of each of P canvases."""

    origin: tf.Tensor  # [P, 2] row and column of the upper left pixel
    size: transformer.Size  # height and width
    canvas_size: transformer.Size
    training_size: tuple[int, int]

    @classmethod
    def around(cls, centre: tf.Tensor, canvas_size: transformer.Size, training_size: tuple[int, int]) -> "Part":
        """Place parts as large as a training canvas, or as the canvas if that is smaller, around centres [P, 2] (x, y)."""
        canvas = tf.stack(canvas_size)
        size = tf.minimum(canvas, training_size)
        middle = tf.cast((centre[:, ::-1] + 1.0) / 2.0 * tf.cast(canvas, tf.float32), tf.int32)
        origin = tf.clip_by_value(middle - size // 2, 0, canvas - size)
        known = not any(map(tf.is_tensor, canvas_size))
        return cls(
            origin, tuple(map(min, canvas_size, training_size)) if known else tf.unstack(size), canvas_size, training_size
        )

    @classmethod
    def around_window(cls, z_where: tf.Tensor, canvas_size: transformer.Size, training_size: tuple[int, int]) -> "Part":
        """Place parts around attention windows [P, 3], which are at most as large as a training canvas' longer side."""
        return cls.around(z_where[:, 1:], canvas_size, (max(training_size),) * 2)

    @property
    def unit(self) -> float | tf.Tensor:
        """The scale of a window as large as a training canvas, see `transformer.unit`."""
        return transformer.unit(self.training_size, self.size)

    def cut(self, image: tf.Tensor) -> tf.Tensor:
        """Cut the parts out of canvases [P, H, W, ...]."""

        def gather() -> tf.Tensor:
            part = image
            for axis in (0, 1):
                lines = self.origin[:, axis, None] + tf.range(self.size[axis])
                part = tf.gather(part, lines, axis=axis + 1, batch_dims=1)
            return part

        if tf.is_tensor(self.size[0]):  # copying whole canvases would take a tenth of the time of inference
            return tf.cond(tf.reduce_all(tf.equal(self.size, self.canvas_size)), lambda: image, gather)
        return image if tuple(self.size) == tuple(self.canvas_size) else gather()

    def latents(self, z_where: tf.Tensor, z_what: tf.Tensor) -> Latents:
        """Return the latent variables to begin with for objects [P, objects, ...], which may reach out of the parts."""
        scale = z_where[..., :1] / transformer.unit(self.training_size, self.canvas_size)
        scale = tf.clip_by_value(scale, *SCALES)
        size, canvas_size, origin = self._in_pixels()
        shift = ((z_where[..., 1:] + 1.0) * canvas_size - 2.0 * origin) / size - 1.0
        return {"scale": tf.math.log(scale) - tf.math.log1p(-scale), "shift": shift, "z_what": z_what}

    def z_where(self, latents: Latents) -> tf.Tensor:
        """Return z_where of latent variables, [P, objects, 3] in units of the canvas, on which centres lie."""
        size, canvas_size, origin = self._in_pixels()
        shift = ((latents["shift"] + 1.0) * size + 2.0 * origin) / canvas_size - 1.0
        scale = transformer.unit(self.training_size, self.canvas_size) * tf.sigmoid(latents["scale"])
        return tf.concat([scale, tf.clip_by_value(shift, -MAX_SHIFT, MAX_SHIFT)], axis=-1)

    def _in_pixels(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return width and height of parts and of canvases, and the origins [P, 1, 2] (x, y)."""
        sizes = (tf.cast(tf.stack(size[::-1]), tf.float32) for size in (self.size, self.canvas_size))
        return *sizes, tf.cast(self.origin[:, None, ::-1], tf.float32)
