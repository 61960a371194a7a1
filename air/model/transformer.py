"""Spatial transformer (Jaderberg et al., 2015) for attention that only scales and shifts, as in AIR.

Canvas and window are both the square [-1, 1] x [-1, 1] in *canvas units* and *window units*: -1 is the outer edge of the first
pixel, 1 the outer edge of the last. An attention window with `z_where` = (scale, shift_x, shift_y) is the square of side
2 * scale around (shift_x, shift_y), so

    canvas coordinate = scale * window coordinate + shift.

Bilinear sampling of such a transform is separable: an image is multiplied from the left by a matrix of row weights and from
the right by one of column weights, whose entries are the hat function max(0, 1 - |source - pixel|). This is exact, has no
gather, and its gradient with respect to `z_where` is the bilinear sampler's own. Everything outside an image is 0.
"""

import tensorflow as tf

SCALE_LOGIT_RANGE = (-7.0, 7.0)  # a twentieth of a pixel is small enough: rendering divides by the scale


def as_z_where(where: tf.Tensor) -> tf.Tensor:
    """Map unbounded scale and shift, [..., 3], to (scale, shift_x, shift_y) in canvas units."""
    return tf.concat([tf.sigmoid(tf.clip_by_value(where[..., :1], *SCALE_LOGIT_RANGE)), tf.tanh(where[..., 1:])], axis=-1)


def crop(canvas: tf.Tensor, z_where: tf.Tensor, window_size: tuple[int, int]) -> tf.Tensor:
    """Crop attention windows from a canvas.

    Args:
        canvas: [batch, canvas_height, canvas_width], or one for every step: [batch, steps, canvas_height, canvas_width].
        z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units; scale above 0.
        window_size: height and width of a window, in pixels.

    Returns:
        [batch, steps, window_height, window_width].
    """
    height, width = canvas.shape[-2:]
    scale, shift_x, shift_y = tf.unstack(z_where, axis=-1)
    rows = _weights(_centres(window_size[0]), scale, shift_y, height)
    columns = _weights(_centres(window_size[1]), scale, shift_x, width)
    canvas = canvas[:, None] if canvas.shape.rank == 3 else canvas
    return tf.matmul(tf.matmul(rows, canvas), columns, transpose_b=True)


def render(window: tf.Tensor, z_where: tf.Tensor, canvas_size: tuple[int, int]) -> tf.Tensor:
    """Render windows onto empty canvases, the inverse of `crop`.

    Args:
        window: [batch, steps, window_height, window_width].
        z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units; scale above 0.
        canvas_size: height and width of a canvas, in pixels.

    Returns:
        [batch, steps, canvas_height, canvas_width].
    """
    rows, columns = _render_weights(window, z_where, canvas_size)
    return tf.matmul(tf.matmul(rows, window), columns, transpose_b=True)


def render_sum(window: tf.Tensor, z_where: tf.Tensor, canvas_size: tuple[int, int]) -> tf.Tensor:
    """Render all steps onto one canvas, [batch, canvas_height, canvas_width], without a canvas for each step."""
    rows, columns = _render_weights(window, z_where, canvas_size)
    height, width = canvas_size
    contracted = window.shape[1] * window.shape[3]  # the columns of all windows side by side: one product sums over the steps
    rows = tf.reshape(tf.transpose(tf.matmul(rows, window), [0, 2, 1, 3]), [-1, height, contracted])
    columns = tf.reshape(tf.transpose(columns, [0, 2, 1, 3]), [-1, width, contracted])
    return tf.matmul(rows, columns, transpose_b=True)


def render_cumsum(window: tf.Tensor, z_where: tf.Tensor, canvas_size: tuple[int, int]) -> tf.Tensor:
    """Render the first 0, 1 ... T steps onto one canvas each, [batch, steps + 1, canvas_height, canvas_width]."""
    objects = render(window, z_where, canvas_size)
    return tf.cumsum(tf.pad(objects, [[0, 0], [1, 0], [0, 0], [0, 0]]), axis=1)


def attention_boxes(z_where: tf.Tensor, canvas_size: tuple[int, int]) -> tf.Tensor:
    """Compute attention windows as (x, y, width, height) in pixels, x and y at the upper left corner: [..., 4]."""
    scale, shift_x, shift_y = tf.unstack(z_where, axis=-1)
    height, width = canvas_size
    return tf.stack(
        [(shift_x - scale + 1) * width / 2, (shift_y - scale + 1) * height / 2, scale * width, scale * height], axis=-1
    )


def _centres(size: int) -> tf.Tensor:
    """Compute the coordinates of the pixels' centres, from edge -1 to edge 1."""
    return (2.0 * tf.range(size, dtype=tf.float32) + 1.0) / size - 1.0


def _render_weights(window: tf.Tensor, z_where: tf.Tensor, canvas_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute weights of rows and columns [batch, steps, canvas, window] that read a window at every pixel of the canvas."""
    height, width = window.shape[-2:]
    scale, shift_x, shift_y = tf.unstack(z_where, axis=-1)
    inverse = 1.0 / scale
    rows = _weights(_centres(canvas_size[0]), inverse, -shift_y * inverse, height)
    columns = _weights(_centres(canvas_size[1]), inverse, -shift_x * inverse, width)
    return rows, columns


def _weights(target: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, source_size: int) -> tf.Tensor:
    """Compute bilinear weights [..., target, source] that read a line of `source_size` pixels at scale * target + shift."""
    source = scale[..., None] * target + shift[..., None]
    position = ((source + 1.0) * source_size - 1.0) / 2.0
    return tf.nn.relu(1.0 - tf.abs(position[..., None] - tf.range(source_size, dtype=tf.float32)))
