"""Objects of other sizes than in training: look at a picture at several zooms, and keep the scene that explains it best.

Windows are measured in canvas units, which mean the same place at any zoom, so the scene found at each zoom is rendered and
compared at full size. The best is the most probable one, by its bound on log p(x) minus a price for each object: a large digit
has so many pixels that several windows which share it would otherwise explain it better than one. A scene found at another
zoom counts only if each of its windows is well explained there; that of a window which covers two digits is not.
"""

from collections.abc import Sequence

import tensorflow as tf

from air.model import transformer
from air.model.exploration import Found, Price, as_scenes
from air.model.generative import LIKELIHOODS

ZOOMS = (1.0, 1.4, 0.75, 0.55, 0.4)
MAX_UNEXPLAINED = 0.6  # of the ink in a window; in training scenes it is rarely above 0.5
EXTRA_PRICE = 60.0  # nats an object


def shrink(images: tf.Tensor, zoom: float) -> tf.Tensor:
    """Resize images [batch, H, W] to a fraction of their sides, averaging over the pixels that become one."""
    size = [max(round(zoom * side), 1) for side in images.shape[1:]]
    return tf.clip_by_value(tf.image.resize(images[..., None], size, antialias=True)[..., 0], 0.0, 1.0)


def most_probable(images: tf.Tensor, found: Sequence[Found], price: Price) -> Found:
    """Choose a zoom for each scene.

    Args:
        images: [batch, H, W] in [0, 1].
        found: the objects found at each of `ZOOMS`.
        price: of an object, to which EXTRA_PRICE is added.
    """
    worth = tf.stack([_worth(images, *each, price) for each in zip(ZOOMS, found, strict=True)], axis=1)  # [batch, zooms]
    best = tf.argmax(worth, axis=1)
    return Found(*(tf.gather(tf.stack(field, axis=1), best, axis=1, batch_dims=1) for field in zip(*found, strict=True)))


def _worth(images: tf.Tensor, zoom: float, found: Found, price: Price) -> tf.Tensor:
    """Compute the bound of scenes [batch] in nats, less the prices of their objects; -inf for badly explained ones."""
    canvas = as_scenes(found, images.shape[1:]).reconstruction
    log_prob = LIKELIHOODS[price.likelihood](images, canvas, price.std)
    worth = log_prob - tf.reduce_sum(found.present * (found.kl + price.count + EXTRA_PRICE), axis=1)
    if zoom == 1.0:
        return worth
    is_bad = (_unexplained(shrink(images, zoom), found) > MAX_UNEXPLAINED) & (found.present > 0.0)
    return tf.where(tf.reduce_any(is_bad, axis=1), -float("inf"), worth)


def _unexplained(images: tf.Tensor, found: Found) -> tf.Tensor:
    """Compute the fraction of the ink in each window [batch, steps] that a scene, found at this zoom, leaves unexplained."""
    rest = tf.abs(images - as_scenes(found, images.shape[1:]).reconstruction)
    window_size = found.window_logits.shape[-2:]
    ink, rest = (tf.reduce_sum(transformer.crop(x, found.z_where, window_size), axis=(2, 3)) for x in (images, rest))
    return rest / tf.maximum(ink, 1e-6)
