"""Pictures as a model takes them, and how likely it finds them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from air.errors import DataError

PROBABILITY_RANGE = (1e-6, 1.0 - 1e-6)  # XLA folds log(1 - r + tiny) to log(1 - r), which is -inf at 1: clip instead


def as_float(images: tf.Tensor) -> tf.Tensor:
    """Images in [0, 1], from bytes or floats."""
    images = tf.convert_to_tensor(images)
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else tf.cast(images, tf.float32)


def unpack(data: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Images in [0, 1] and true counts, -1 where the data has no counts."""
    images, counts = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    if isinstance(images, (tuple, list)):
        (images,) = images
    counts = tf.fill(tf.shape(images)[:1], -1) if counts is None else tf.cast(counts, tf.int32)
    return as_float(images), counts


def check_images(images: Any, canvas_size: tuple[int, int]) -> np.ndarray:
    """Images in [0, 1] as a float32 array [batch, height, width].

    Raises:
        DataError: unless they are an array of that shape, of bytes, or of floats in [0, 1].
    """
    height, width = canvas_size
    try:
        images = np.asarray(images)
    except ValueError:
        raise DataError(f"images: not an array; it must be one of shape [batch, {height}, {width}]") from None
    if images.ndim != 3 or images.shape[1:] != (height, width):
        raise DataError(f"images: shape {images.shape} is not allowed; it must be [batch, {height}, {width}]")
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 255.0
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"images: type {images.dtype} is not allowed; it must be uint8, or float in [0, 1]")
    if images.size and not (images.min() >= 0.0 and images.max() <= 1.0):
        span = f"from {images.min():g} to {images.max():g}"
        raise DataError(f"images: values {span} are not allowed; floats must be in [0, 1]")
    return images.astype(np.float32)


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
