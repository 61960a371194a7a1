"""Images as the model takes them."""

from typing import Any

import numpy as np
import tensorflow as tf

from air.errors import DataError


def as_float(images: tf.Tensor) -> tf.Tensor:
    """Convert images of bytes, or of floats in [0, 1], to float32 in [0, 1]."""
    images = tf.convert_to_tensor(images)
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else tf.cast(images, tf.float32)


def unpack(data: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Split a batch of `fit` into images in [0, 1] and true counts, -1 where the data has none."""
    images, count = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    if isinstance(images, (tuple, list)):
        (images,) = images
    count = tf.fill(tf.shape(images)[:1], -1) if count is None else tf.cast(count, tf.int32)
    return as_float(images), count


def check_images(images: Any, canvas_size: tuple[int, int]) -> np.ndarray:
    """Check images and convert them to a float32 array [batch, height, width] in [0, 1].

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
