"""Images as the model takes them: one gate for every way in."""

import warnings
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from air.config import AIRConfig
from air.errors import DataError

BACKGROUND = 0.1  # brightness above which a pixel is not an empty canvas
BRIGHT_BORDER = 0.2  # fraction of the border that may be bright: objects cross it now and then


class Batch(NamedTuple):
    """A batch of `fit`."""

    images: tf.Tensor  # [batch, H, W] in [0, 1]
    count: tf.Tensor  # [batch] int32 true counts, -1 where unknown
    weight: tf.Tensor | None  # [batch] of each scene in the loss


def as_float(images: Any, shape: tuple[int, ...]) -> tf.Tensor:
    """Convert images of integers from 0 to 255, or of floats in [0, 1], to float32 in [0, 1].

    Args:
        images: [batch, H, W], [batch, H, W, 1] or [batch, H, W, 3].
        shape: of an image if their own is unknown, in a graph for several ranks.

    Returns:
        [batch, H, W] or [batch, H, W, 3].
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank is None:
        images = tf.reshape(images, [-1, *shape])
    elif images.shape.rank == 4 and images.shape[-1] == 1:  # a channel axis
        images = images[..., 0]
    return tf.cast(images, tf.float32) / 255.0 if images.dtype.is_integer else tf.cast(images, tf.float32)


def unpack(data: Any, shape: tuple[int, ...]) -> Batch:
    """Unpack what `fit` passes to a step: images, perhaps with true counts and weights; or a dictionary with "images"."""
    images, count, weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(images, dict):
        images, count = images["images"], images.get("count", images.get("counts", count))
    if isinstance(images, (tuple, list)):
        (images,) = images
    count = tf.fill(tf.shape(images)[:1], -1) if count is None else tf.cast(tf.reshape(count, [-1]), tf.int32)
    return Batch(as_float(images, shape), count, None if weight is None else tf.cast(tf.reshape(weight, [-1]), tf.float32))


def check_images(images: Any, config: AIRConfig) -> np.ndarray:
    """Check images and convert them to a float32 array in [0, 1].

    Args:
        images: [batch, height, width], perhaps with a channel axis of 1, or [batch, height, width, 3] for a model of colour
            scenes: integers from 0 to 255, or floats in [0, 1].
        config: the model's, which decides which canvases it takes.

    Returns:
        [batch, height, width] or [batch, height, width, 3].

    Raises:
        DataError: unless they are such images.
    """
    return _as_unit(_checked(images, config, config.takes_any_canvas))


def _checked(images: Any, config: AIRConfig, any_canvas: bool) -> np.ndarray:
    """Return images as an array of their own type, without a channel axis of 1, or raise DataError, see `check_images`."""
    height, width = config.smallest_canvas if any_canvas else config.canvas_size
    channels = [] if config.channels == 1 else [config.channels]
    allowed = f"{['batch', height, width, *channels]}".replace("'", "") + (
        ", the window's size, or larger" if any_canvas else ""
    )
    try:
        images = np.asarray(images)
    except ValueError:
        raise DataError(f"images: not an array; it must be one of shape {allowed}") from None
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    fits = (
        images.ndim == 3 + len(channels)
        and images.shape[3:] == tuple(channels)
        and (images.shape[1] >= height and images.shape[2] >= width if any_canvas else images.shape[1:3] == (height, width))
    )
    if not fits:
        raise DataError(f"images: shape {images.shape} is not allowed; it must be {allowed}")
    is_integer = images.dtype.kind in "ui"
    if not is_integer and images.dtype.kind != "f":
        raise DataError(f"images: type {images.dtype} is not allowed; it must be integers from 0 to 255, or floats in [0, 1]")
    most = 255 if is_integer else 1
    if images.dtype != np.uint8 and images.size and not (images.min() >= 0 and images.max() <= most):
        span = f"from {images.min():g} to {images.max():g}"
        raise DataError(f"images: values {span} are not allowed; integers must be from 0 to 255, floats in [0, 1]")
    return images


def _as_unit(images: np.ndarray) -> np.ndarray:
    """Convert checked images to float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255) if images.dtype.kind in "ui" else images.astype(np.float32)


def check_first(data: Any, config: AIRConfig, any_canvas: bool = False) -> None:
    """Check what `fit`, `evaluate` or `predict` is given before its first step: an array as a whole, else the first batch.

    A generator is taken on trust, as looking at its first batch would use it up. Images that have a background give a warning.

    Args:
        data: as in Keras.
        config: the model's.
        any_canvas: whether to take any canvas at least as large as the window, not only that of the configuration.

    Raises:
        DataError: unless these are images that `check_images` takes.
    """
    if isinstance(data, tf.data.Dataset):
        data = next(iter(data.take(1)), None)
    elif isinstance(data, keras.utils.PyDataset):
        data = data[0]
    while isinstance(data, (tuple, list)) and data:
        data = data[0]
    if isinstance(data, dict):
        if "images" not in data:
            raise DataError(f"images: missing from the data, which has {', '.join(map(str, data))}")
        data = data["images"]
    if isinstance(data, (np.ndarray, tf.Tensor)):
        note = config.background == "none" and unpaintable_background(_as_unit(_checked(data, config, any_canvas)[:1000]))
        if note:
            warnings.warn(note, stacklevel=3)


def unpaintable_background(images: np.ndarray) -> str | None:
    """Describe in one line the background of images [batch, H, W] in [0, 1], if they aren't bright on black."""
    if not images.size:
        return None
    darkest = float(np.median(images.min(axis=(1, 2))))
    border = np.concatenate([images[:, [0, -1]].ravel(), images[:, :, [0, -1]].ravel()])
    bright = float((border > BACKGROUND).mean())
    if darkest <= BACKGROUND and bright <= BRIGHT_BORDER:
        return None
    return (
        f"images: they seem to have a background (darkest pixel {darkest:.2f} in the median scene, {bright:.0%} of the border "
        f"brighter than {BACKGROUND}), which this model can't render, so that it won't learn to count; train with "
        "--preset backgrounds, or invert the images if they are dark objects on white"
    )
