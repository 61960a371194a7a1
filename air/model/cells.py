"""A controller with no memory but the canvas, and no weight that depends on the size of the canvas.

Every step sees the canvas, the residual (what the steps so far leave of it) and the coverage (where their windows are). It
divides them into square cells, scores each cell, and attends near the best one. One more object, or a larger canvas, is nothing
new to it: trained on scenes of up to two objects, it counts many more. Compare the paper's DAIR variant, whose LSTM sees the
residual (section 4.2), and SPAIR (Crawford and Pineau, 2019), which reads its cells once, in a fixed order.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from air.model import transformer
from air.model.distributions import gaussian
from air.model.networks import Posterior, clip_log_variance

REACH = 1.5  # cells between the centre of the chosen cells and the farthest centre of a window
RADIUS = 2  # cells around the best one that share in the choice
NEIGHBOURHOODS = (3, 5, 7)  # widths in cells over which the residual and the coverage are averaged
SHARPNESS = 4.0  # of the learned scores
INITIAL_STD = (0.22, 0.14)  # of scale and shift, before the sigmoid and the tanh
MAX_SHIFT = 0.999  # canvas units; atanh(1) is infinite


class Explained(NamedTuple):
    """Hold what the steps so far explain of a batch of canvases: all that one step passes on to the next."""

    residual: tf.Tensor  # [batch, H, W] the canvas minus all objects so far, at least 0
    coverage: tf.Tensor  # [batch, H, W] in [0, 1], 1 within an attention window
    painted: tf.Tensor | tuple[()] = ()  # [batch, H, W, ...] what objects painted so far, where the residual doesn't tell

    def by(self, decoded_windows: tf.Tensor, z_where: tf.Tensor) -> "Explained":
        """Add the objects of another step, decoded_windows [batch, 1, h, w]; no gradient passes."""
        size = transformer.size_of(self.residual)
        windows, z_where = tf.stop_gradient(decoded_windows), tf.stop_gradient(z_where)
        residual = tf.nn.relu(self.residual - transformer.render_sum(windows, z_where, size))
        return Explained(residual, self.covered_by(z_where, windows.shape[-2:]))

    def covered_by(self, z_where: tf.Tensor, window_size: tuple[int, int]) -> tf.Tensor:
        """Compute the coverage with the window of another step."""
        covered = transformer.coverage(z_where, transformer.size_of(self.residual), window_size)[:, 0]
        return tf.maximum(self.coverage, covered)


@keras.saving.register_keras_serializable(package="air")
class CellController(keras.layers.Layer):
    """Scores the cells of a canvas, and predicts from the best one where the window lies and whether there is an object.

    The canvas passes the convolutions once for all steps; a step only adds a projection of what has changed. The score of a
    cell is learned, plus its log-odds of an object, plus three terms that let counting begin within a few hundred training
    steps: the mean residual around it, so that even the first windows lie on objects; minus its coverage, so that the next
    step looks elsewhere; minus a slope from the upper left to the lower right, which decides between equals. The cells around
    the best one share in the choice by a softmax of their scores, so that gradients reach the scores. (A softmax over all cells
    would point between two objects.) As gradients only compare cells that are neighbours, a learned score may come to prefer an
    empty corner to a thin digit far away; so the best cell is the one with the best sum of its score and its probability of an
    object, times `certainty`.

    Args:
        canvas_size: height and width of a training scene in pixels, to which the scale refers on canvases of any size.
        scale_mean: prior mean of the scale before the sigmoid, where posteriors start.
        cell_size: side of a cell, in pixels.
        filters: of the convolutions; the first has the stride of a cell and twice its width, the others are 3 cells wide.
        units: width of the layer that joins the canvas and what is explained of it.
        certainty: what a certain object adds to the score of its cell where the best one is chosen.
        channels: of the canvas.
    """

    def __init__(
        self,
        canvas_size: Sequence[int],
        scale_mean: float = 0.0,
        cell_size: int = 5,
        filters: Sequence[int] = (32, 32, 64),
        units: int = 64,
        certainty: float = 5.0,
        channels: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.certainty = channels, certainty
        self.canvas_size, self.scale_mean = tuple(canvas_size), scale_mean
        self.cell_size, self.filters, self.units = cell_size, tuple(filters), units
        shapes = [(2 * cell_size, cell_size), *[(3, 1)] * (len(self.filters) - 1)]
        self.convolutions = [
            keras.layers.Conv2D(n, kernel, stride, padding="same", activation="relu", name=f"convolution_{i}")
            for i, (n, (kernel, stride)) in enumerate(zip(self.filters, shapes, strict=True))
        ]
        small = keras.initializers.RandomNormal(stddev=0.02)
        self.from_canvas = keras.layers.Dense(units, name="from_canvas")
        self.from_explained = keras.layers.Dense(units, use_bias=False, name="from_explained")
        self.score = keras.layers.Dense(1, use_bias=False, kernel_initializer=small, name="score")
        self.presence = keras.layers.Dense(1, kernel_initializer=small, name="presence")
        self.where = keras.layers.Dense(6, kernel_initializer=small, name="where")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (None, None, None, self.channels)
        for layer in self.convolutions:
            layer.build(shape)
            shape = (None, None, None, layer.filters)
        self.from_canvas.build(shape)
        self.from_explained.build((None, self.cell_size**2 + 2 * len(NEIGHBOURHOODS) + 1))
        for head in (self.score, self.presence, self.where):
            head.build((None, self.units))
        constant = keras.initializers.Constant
        self.saliency = self.add_weight(name="saliency", shape=(), initializer=constant(10.0))
        self.inhibition = self.add_weight(name="inhibition", shape=(), initializer=constant(2.0))
        self.slope = self.add_weight(name="slope", shape=(2,), initializer=constant(1.0))
        super().build(input_shape)

    def read(self, canvas: tf.Tensor) -> tf.Tensor:
        """Compute what canvases [batch, H, W], perhaps in colour, contribute to all steps: [batch, rows, columns, units]."""
        first, *others = self.convolutions
        features = self._convolve_cells(first, self._pad(canvas))
        for layer in others:
            features = layer(features)
        return self.from_canvas(features)

    def call(self, features: tf.Tensor, explained: Explained) -> Posterior:
        """Take one step, given the canvas' features from `read`."""
        size = transformer.size_of(explained.residual)
        rows, columns = transformer.size_of(features)
        pixels, covered = (self._cells(self._pad(image)) for image in explained[:2])
        covered = tf.reduce_mean(covered, axis=-1, keepdims=True)
        residual, near_covered = _around(tf.reduce_mean(pixels, axis=-1), covered[..., 0])
        # Factors that bring all inputs to the order of 1
        inputs = [3.0 * pixels, 10.0 * residual, covered, near_covered]
        hidden = tf.nn.relu(features + self.from_explained(tf.concat(inputs, axis=-1)))

        score, logits, where = self._answer(hidden)
        place = self.cell_size * (tf.stack(tf.meshgrid(tf.range(columns), tf.range(rows)), axis=-1))  # upper left, pixels
        place = tf.cast(place, tf.float32) + self.cell_size / 2
        # On a larger canvas less steep, as it must not outweigh the difference between an object and nothing.
        longest = transformer.longer_side((transformer.longer_side(size), transformer.longer_side(self.canvas_size)))
        order = tf.reduce_sum(self.slope * place, axis=-1, keepdims=True) * 2.0 / longest
        score = SHARPNESS * score + logits + self.saliency * residual[..., 1:2] - self.inhibition * covered - order
        weights = _softmax_around_best(score[..., 0], self.certainty * tf.sigmoid(logits[..., 0]))

        def choose(values: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(weights[..., None] * values, axis=(1, 2))

        where = choose(where)
        centre = choose(place)
        centre += REACH * self.cell_size * tf.tanh(where[:, :2])
        width_and_height = tf.cast(tf.stack(size[::-1]), tf.float32)
        shift = tf.clip_by_value(2.0 * centre / width_and_height - 1.0, -MAX_SHIFT, MAX_SHIFT)
        atanh_shift = 0.5 * (tf.math.log1p(shift) - tf.math.log1p(-shift))  # TFLite has no atanh
        unit = transformer.unit(self.canvas_size, size)
        log_std = tf.math.log(tf.stack([INITIAL_STD[0], *[INITIAL_STD[1] * unit] * 2]))
        log_variance = clip_log_variance(where[:, 3:] + 2.0 * log_std)
        q = {
            "scale": gaussian(self.scale_mean + where[:, None, 2:3], log_variance[:, None, :1]),
            "shift": gaussian(atanh_shift[:, None], log_variance[:, None, 1:]),
        }
        return Posterior(q, choose(logits))

    def _answer(self, hidden: tf.Tensor) -> list[tf.Tensor]:
        """Compute the heads' answers in every cell: its score, the log-odds of an object there, and where it is."""
        heads = self.score, self.presence, self.where
        kernel = tf.concat([head.kernel for head in heads], axis=-1)  # one product rather than three narrow ones
        bias = tf.concat([tf.zeros(1), self.presence.bias, self.where.bias], axis=-1)  # the score has none
        return tf.split(tf.tensordot(hidden, kernel, 1) + bias, [head.units for head in heads], axis=-1)

    def _convolve_cells(self, layer: keras.layers.Conv2D, image: tf.Tensor) -> tf.Tensor:
        """Apply the first convolution, each of whose patches is two by two cells, as one matrix product.

        On a CPU this takes less time than the convolution, and gives the same up to rounding.
        """
        side = self.cell_size
        cells = self._cells(tf.pad(image, [[0, 0], *[[side // 2, side - side // 2]] * 2, [0, 0]]))
        patches = tf.concat([cells[:, :-1, :-1], cells[:, :-1, 1:], cells[:, 1:, :-1], cells[:, 1:, 1:]], axis=-1)
        kernel = tf.reshape(layer.kernel, [2, side, 2, side, self.channels, layer.filters])
        kernel = tf.reshape(tf.transpose(kernel, [0, 2, 1, 3, 4, 5]), [-1, layer.filters])
        return tf.nn.relu(tf.tensordot(patches, kernel, 1) + layer.bias)

    def _cells(self, image: tf.Tensor) -> tf.Tensor:
        """Sort the pixels of an image [batch, H, W, channels] into cells [batch, rows, columns, values]."""
        side, channels = self.cell_size, image.shape[-1]
        rows, columns = (pixels // side for pixels in transformer.size_of(image))
        # Three times as fast as `tf.nn.space_to_depth`
        cells = tf.transpose(tf.reshape(image, [-1, rows, side, columns, side, channels]), [0, 1, 3, 2, 4, 5])
        return tf.reshape(cells, [-1, rows, columns, side * side * channels])

    def _pad(self, image: tf.Tensor) -> tf.Tensor:
        """Complete the last cells of an image [batch, H, W], so that all layers divide it alike: [batch, H', W', channels]."""
        height, width = transformer.size_of(image)
        image = image if image.shape.rank == 4 else image[..., None]
        return tf.pad(image, [[0, 0], [0, -height % self.cell_size], [0, -width % self.cell_size], [0, 0]])


def _around(*maps: tf.Tensor) -> list[tf.Tensor]:
    """Average the cells of maps [batch, rows, columns] over each neighbourhood: [batch, rows, columns, neighbourhoods].

    On a CPU, two products with matrices of weights take less time than pooling.
    """
    rows, columns = map(_neighbours, transformer.size_of(maps[0]))
    means = tf.matmul(tf.matmul(rows, tf.stack(maps, axis=1)[:, :, None]), columns, transpose_b=True)
    return tf.unstack(tf.transpose(means, [1, 0, 3, 4, 2]))


def _neighbours(cells: int | tf.Tensor) -> tf.Tensor:
    """Compute the weights of cells in the mean around each cell of a line: [neighbourhoods, cells, cells]."""
    place = tf.range(cells)
    near = tf.cast(tf.abs(place[:, None] - place) <= tf.constant(NEIGHBOURHOODS)[:, None, None] // 2, tf.float32)
    return near / tf.reduce_sum(near, axis=-1, keepdims=True)


def _softmax_around_best(score: tf.Tensor, bonus: tf.Tensor) -> tf.Tensor:
    """Compute the softmax of scores [batch, rows, columns] over the best cell and those within RADIUS of it; 0 elsewhere.

    The best one is that with the greatest sum of score and bonus.
    """
    rows, columns = transformer.size_of(score)
    flat = tf.reshape(score, [-1, rows * columns])
    best = tf.argmax(flat + tf.reshape(bonus, tf.shape(flat)), axis=1, output_type=tf.int32)[:, None]
    near_rows = tf.abs(tf.range(rows) - best // columns) <= RADIUS
    near_columns = tf.abs(tf.range(columns) - best % columns) <= RADIUS
    near = near_rows[:, :, None] & near_columns[:, None]
    return tf.reshape(tf.nn.softmax(tf.where(tf.reshape(near, tf.shape(flat)), flat, -1e9)), tf.shape(score))
