"""Spatial transformer (Jaderberg et al., 2015) for attention that only scales and shifts, as in AIR.

Canvas and window are both the square [-1, 1] x [-1, 1] in *canvas units* and *window units*: -1 is the outer edge of the first
pixel, 1 the outer edge of the last. An attention window with `z_where` = (scale, shift_x, shift_y) has its centre at
(shift_x, shift_y), and its longer side is the fraction `scale` of the canvas' longer side. Pixels stay square. If canvas and
window are square too, the window is the square of side 2 * scale, so

    canvas coordinate = scale * window coordinate + shift;

otherwise each axis has a factor of its own, see `extents`.

Bilinear sampling of such a transform is separable: an image is multiplied from the left by a matrix of row weights and from
the right by one of column weights, whose entries are the hat function max(0, 1 - |source - pixel|). This is exact, has no
gather, and its gradient with respect to `z_where` is the bilinear sampler's own. Everything outside an image is 0.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Size = Sequence[Any]  # height and width in pixels: integers, or scalar tensors where a graph takes any canvas
SCALE_LOGIT_RANGE = (-7.0, 7.0)  # a twentieth of a pixel is small enough: rendering divides by the scale


def size_of(images: Any, axis: int = 1) -> Size:
    """Return the height and width of images [batch, H, W, ...], or those of another axis and the next one."""
    static = tuple(images.shape[axis : axis + 2])
    return static if None not in static else tuple(tf.unstack(tf.shape(images)[axis : axis + 2]))


def as_z_where(where: tf.Tensor, unit: float | tf.Tensor = 1.0) -> tf.Tensor:
    """Map unbounded scale and shift, [..., 3], to (scale, shift_x, shift_y) in canvas units.

    For the unit on canvases of another size than in training, see `unit`.
    """
    scale = unit * tf.sigmoid(tf.clip_by_value(where[..., :1], *SCALE_LOGIT_RANGE))
    return tf.concat([scale, tf.tanh(where[..., 1:])], axis=-1)


def longer_side(size: Size) -> float | tf.Tensor:
    """Return the longer side of a canvas or window."""
    height, width = map(_number, size)
    return tf.maximum(height, width) if tf.is_tensor(height) else max(height, width)


def unit(training_size: Size, canvas_size: Size) -> float | tf.Tensor:
    """Return the scale, on any canvas, of a window as large as a training canvas."""
    return longer_side(training_size) / longer_side(canvas_size)


def extents(scale: tf.Tensor, canvas_size: Size, window_size: Size) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the fractions of a canvas' width and height that a window takes, for scales of any shape."""
    ratio = longer_side(canvas_size) / longer_side(window_size)
    height, width = map(_number, canvas_size)
    return scale * (ratio * window_size[1] / width), scale * (ratio * window_size[0] / height)


def crop(canvas: tf.Tensor, z_where: tf.Tensor, window_size: Size) -> tf.Tensor:
    """Crop attention windows from a canvas.

    Args:
        canvas: [batch, canvas_height, canvas_width], or one for every step: [batch, steps, canvas_height, canvas_width], or
            [batch, 1 or steps, canvas_height, canvas_width, channels].
        z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units; scale above 0.
        window_size: height and width of a window, in pixels.

    Returns:
        [batch, steps, window_height, window_width], and channels if the canvas has them.
    """
    height, width = size_of(canvas, 1 if len(canvas.shape) == 3 else 2)
    scale, shift_x, shift_y = tf.unstack(z_where, axis=-1)
    extent_x, extent_y = extents(scale, (height, width), window_size)
    rows = _weights(centres(window_size[0]), extent_y, shift_y, height)
    columns = _weights(centres(window_size[1]), extent_x, shift_x, width)
    if len(canvas.shape) == 5:
        return _resample(rows, canvas, columns)
    canvas = canvas[:, None] if len(canvas.shape) == 3 else canvas
    return tf.matmul(tf.matmul(rows, canvas), columns, transpose_b=True)


def render(window: tf.Tensor, z_where: tf.Tensor, canvas_size: Size) -> tf.Tensor:
    """Render windows onto empty canvases, the inverse of `crop`.

    Args:
        window: [batch, steps, window_height, window_width].
        z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units; scale above 0.
        canvas_size: height and width of a canvas, in pixels.

    Returns:
        [batch, steps, canvas_height, canvas_width], and channels if the windows have them.
    """
    rows, columns = _render_weights(window.shape[2:4], z_where, canvas_size)
    if len(window.shape) == 5:
        return _resample(rows, window, columns)
    return tf.matmul(tf.matmul(rows, window), columns, transpose_b=True)


def render_sum(window: tf.Tensor, z_where: tf.Tensor, canvas_size: Size) -> tf.Tensor:
    """Render all steps onto one canvas, [batch, canvas_height, canvas_width], without a canvas for each step."""
    rows, columns = _render_weights(window.shape[2:4], z_where, canvas_size)
    if len(window.shape) == 5:
        return tf.einsum("btiwc,btjw->bijc", tf.einsum("btih,bthwc->btiwc", rows, window), columns)
    height, width = canvas_size
    # The columns of all windows side by side, so that one product sums over the steps
    contracted = size_of(window)[0] * window.shape[3]
    rows = tf.reshape(tf.transpose(tf.matmul(rows, window), [0, 2, 1, 3]), [-1, height, contracted])
    columns = tf.reshape(tf.transpose(columns, [0, 2, 1, 3]), [-1, width, contracted])
    return tf.matmul(rows, columns, transpose_b=True)


def render_cumsum(window: tf.Tensor, z_where: tf.Tensor, canvas_size: Size) -> tf.Tensor:
    """Render the first 0, 1 ... T steps onto one canvas each, [batch, steps + 1, canvas_height, canvas_width]."""
    objects = render(window, z_where, canvas_size)
    return tf.cumsum(tf.pad(objects, [[0, 0], [1, 0], *[[0, 0]] * (objects.shape.rank - 2)]), axis=1)


def coverage(z_where: tf.Tensor, canvas_size: Size, window_size: Size) -> tf.Tensor:
    """Render windows of 1 onto empty canvases: [batch, steps, canvas_height, canvas_width]."""
    rows, columns = _render_weights(window_size, z_where, canvas_size)
    return tf.reduce_sum(rows, axis=-1)[..., :, None] * tf.reduce_sum(columns, axis=-1)[..., None, :]


def resize(images: tf.Tensor, size: Size) -> tf.Tensor:
    """Resize images [batch, H, W] or [batch, H, W, C] to a height and a width, averaging over the pixels that become one."""
    if not tf.is_tensor(size[0]) and tuple(images.shape[1:3]) == tuple(size):
        return images
    if len(images.shape) == 4:
        return tf.image.resize(images, size, antialias=True)
    return tf.image.resize(images[..., None], size, antialias=True)[..., 0]


def attention_boxes(z_where: tf.Tensor, canvas_size: Size, window_size: Size) -> tf.Tensor:
    """Compute attention windows as (x, y, width, height) in pixels, x and y at the upper left corner: [..., 4]."""
    scale, shift_x, shift_y = tf.unstack(z_where, axis=-1)
    extent_x, extent_y = extents(scale, canvas_size, window_size)
    height, width = map(_number, canvas_size)
    corner = [(shift_x - extent_x + 1) * width / 2, (shift_y - extent_y + 1) * height / 2]
    return tf.stack([*corner, extent_x * width, extent_y * height], axis=-1)


def _resample(rows: tf.Tensor, image: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Multiply each channel of images [batch, 1 or steps, height, width, channels] by the weights of rows and columns."""
    channels_first = tf.transpose(image, [0, 1, 4, 2, 3])
    resampled = tf.matmul(tf.matmul(rows[:, :, None], channels_first), columns[:, :, None], transpose_b=True)
    return tf.transpose(resampled, [0, 1, 3, 4, 2])


def centres(size: int | tf.Tensor) -> tf.Tensor:
    """Compute the coordinates of the centres of so many pixels in a line, from edge -1 to edge 1."""
    return (2.0 * tf.cast(tf.range(size), tf.float32) + 1.0) / _number(size) - 1.0


def _number(side: int | tf.Tensor) -> float | tf.Tensor:
    """Return a number of pixels to compute with."""
    return tf.cast(side, tf.float32) if tf.is_tensor(side) else float(side)


def _render_weights(window_size: Size, z_where: tf.Tensor, canvas_size: Size) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute weights of rows and columns [batch, steps, canvas, window] that read a window at every pixel of the canvas."""
    height, width = window_size
    scale, shift_x, shift_y = tf.unstack(z_where, axis=-1)
    extent_x, extent_y = extents(scale, canvas_size, window_size)
    rows = _weights(centres(canvas_size[0]), 1.0 / extent_y, -shift_y / extent_y, height)
    columns = _weights(centres(canvas_size[1]), 1.0 / extent_x, -shift_x / extent_x, width)
    return rows, columns


def _weights(target: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, source_size: int | tf.Tensor) -> tf.Tensor:
    """Compute bilinear weights [..., target, source] that read a line of `source_size` pixels at scale * target + shift."""
    source = scale[..., None] * target + shift[..., None]
    position = ((source + 1.0) * _number(source_size) - 1.0) / 2.0
    return tf.nn.relu(1.0 - tf.abs(position[..., None] - tf.cast(tf.range(source_size), tf.float32)))
