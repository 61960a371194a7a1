"""Objects of other sizes than in training: look at a picture at several zooms, and keep the scene that explains it best.

Windows are measured in canvas units, which mean the same place at any zoom, so the scene found at each zoom is rendered and
compared at full size. The best is the most probable one, by its bound on log p(x) minus a price for each object: a large digit
has so many pixels that several windows which share it would otherwise explain it better than one. A scene found at another
zoom counts only if each of its windows is well explained there; that of a window which covers two digits is not.
"""

from collections.abc import Sequence

import tensorflow as tf

from air.model import transformer
from air.model.composition import Composition
from air.model.exploration import Found, Price, as_scenes
from air.model.generative import LIKELIHOODS
from air.model.inference import View

ZOOMS = (1.0, 1.4, 0.75, 0.55, 0.4)
MAX_UNEXPLAINED = 0.6  # of the ink in a window; in training scenes it is rarely above 0.5
EXTRA_PRICE = 60.0  # nats an object


def shrink(images: tf.Tensor, zoom: float) -> tf.Tensor:
    """Resize images [batch, H, W] or [batch, H, W, C] by a factor, averaging over the pixels that become one."""
    size = [max(round(zoom * side), 1) for side in images.shape[1:3]]
    return tf.clip_by_value(transformer.resize(images, size), 0.0, 1.0)


def most_probable(views: Sequence[View], found: Sequence[Found], composition: Composition, price: Price) -> Found:
    """Choose a zoom for each scene.

    Args:
        views: of the scenes at each of `ZOOMS`.
        found: the objects found there.
        composition: of the objects.
        price: of an object, to which EXTRA_PRICE is added.
    """
    worth = tf.stack(
        [_worth(views[0], *each, composition, price) for each in zip(ZOOMS, views, found, strict=True)], axis=1
    )  # [batch, zooms]
    best = tf.argmax(worth, axis=1)
    return Found(*(tf.gather(tf.stack(field, axis=1), best, axis=1, batch_dims=1) for field in zip(*found, strict=True)))


def _worth(full: View, zoom: float, view: View, found: Found, composition: Composition, price: Price) -> tf.Tensor:
    """Compute the bound of scenes [batch] in nats, less the prices of their objects; -inf for badly explained ones."""
    canvas = as_scenes(found, full.images.shape[1:3], composition, full.background).reconstruction
    log_prob = LIKELIHOODS[price.likelihood](composition.in_line(full.images), composition.in_line(canvas), price.std)
    worth = log_prob - tf.reduce_sum(found.present * (found.kl + price.count + EXTRA_PRICE), axis=1)
    if zoom == 1.0:
        return worth
    is_bad = (_unexplained(view, found, composition) > MAX_UNEXPLAINED) & (found.present > 0.0)
    return tf.where(tf.reduce_any(is_bad, axis=1), -float("inf"), worth)


def _unexplained(view: View, found: Found, composition: Composition) -> tf.Tensor:
    """Compute the fraction of the ink in each window [batch, steps] that a scene, found at this zoom, leaves unexplained."""
    images = view.images
    rest = tf.abs(images - as_scenes(found, images.shape[1:3], composition, view.background).reconstruction)
    ink = images if view.background is None else tf.abs(view.objects)
    if composition.channels > 1:
        ink, rest = tf.reduce_sum(ink, axis=-1), tf.reduce_sum(rest, axis=-1)
    window_size = found.window_logits.shape[2:4]
    ink, rest = (tf.reduce_sum(transformer.crop(x, found.z_where, window_size), axis=(2, 3)) for x in (ink, rest))
    return rest / tf.maximum(ink, 1e-6)
