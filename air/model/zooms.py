"""Objects of other sizes than in training: look at a picture at several zooms, and keep what explains it best.

A view is the picture, shrunk or enlarged; strokes are thickened before they shrink much, as those of a pen are no thicker in
a large digit than in a small one. Windows are measured in canvas units, which mean the same place in every view, so objects
of all views can be compared: those whose footprints overlap form a group, and each group takes the objects of a single view.
Sizes may therefore differ within a scene. The view is the most probable one by its bound on log p(x), less a price for each
object; how much better than the first view it explains the pixels is measured both as seen in the view and at full size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from air.model import transformer
from air.model.exploration import Found, Price, as_scenes
from air.model.generative import ADD, LIKELIHOODS


class View(NamedTuple):
    """A way to look at a picture."""

    zoom: float
    brush: int = 1  # pixels; the maximum over so many squared thickens strokes by one less


VIEWS = (View(1.0), View(1.4), View(0.7), View(0.5, 2), View(0.35, 3))  # the first is the picture itself
MAX_UNEXPLAINED = 0.475  # of the ink in a window of another view; more in a window that covers two digits
EXTRA_PRICE = 40.0  # nats an object; or else several windows explain the many pixels of a large digit better than one
DOUBTFUL = 0.6  # of the ink, if a window of the first view leaves more unexplained: perhaps of two small digits
REBATE = 25.0  # nats, for each further object that another view has in place of doubtful ones
AT_FULL_SIZE = 0.2  # weight of the comparison at full size, where small pictures look blurred
FOOTPRINT = 0.7  # of a window's side: what an object takes up of it in training


def look(images: tf.Tensor) -> list[tf.Tensor]:
    """See images [batch, H, W] in each of `VIEWS`."""
    height, width = images.shape[1:]
    sizes = [(max(round(view.zoom * height), 1), max(round(view.zoom * width), 1)) for view in VIEWS]
    return [_seen(images, view.brush, size) for view, size in zip(VIEWS, sizes, strict=True)]


def most_probable(pictures: Sequence[tf.Tensor], found: Sequence[Found], price: Price) -> Found:
    """Choose a view for each group of objects.

    Args:
        pictures: see `look`, of grey objects that add up on black.
        found: the objects found in each of them; those that explain their windows badly don't count.
        price: of an object, to which EXTRA_PRICE is added.

    Returns:
        As many steps as each view has.
    """
    size, steps = transformer.size_of(pictures[0]), transformer.size_of(found[0].z_what)[0]
    unexplained = [_unexplained(*each) for each in zip(pictures, found, strict=True)]
    well = [tf.cast(fraction <= MAX_UNEXPLAINED, tf.float32) for fraction in unexplained]
    found = [found[0], *(each.keep(kept) for each, kept in zip(found[1:], well[1:], strict=True))]
    every = Found(*(tf.concat(field, axis=1) for field in zip(*found, strict=True)))
    group = _groups(every, size)  # [batch, views * steps]
    cost = every.present * (every.kl + price.count + EXTRA_PRICE)
    worth = _sum_by_group(-cost, group, steps) + _gains(pictures, found, every, group, price)  # [batch, views, groups]
    count = _sum_by_group(every.present, group, steps)
    doubtful = found[0].present * tf.cast(unexplained[0] > DOUBTFUL, tf.float32)
    doubtful = _sum_by_group(tf.pad(doubtful, [[0, 0], [0, (len(VIEWS) - 1) * steps]]), group, steps)[:, :1]
    worth += REBATE * tf.minimum(tf.nn.relu(count - count[:, :1]), doubtful)
    # The extra price decides between objects, not between an object and nothing.
    worth = tf.where(count > 0.0, worth, -float("inf"))
    best = tf.gather(tf.argmax(worth, axis=1, output_type=tf.int32), group, batch_dims=1)
    view = tf.repeat(tf.range(len(VIEWS)), steps)
    every = every.keep(tf.cast(best == view, tf.float32))
    order = tf.argsort(-every.present, axis=1, stable=True)[:, :steps]
    return Found(*(tf.gather(field, order, batch_dims=1) for field in every))


def _seen(images: tf.Tensor, brush: int, size: transformer.Size) -> tf.Tensor:
    """Thicken images [batch, H, W], and resize them by averaging over the pixels that become one."""
    if brush > 1:
        images = tf.nn.max_pool2d(images[..., None], brush, 1, "SAME")[..., 0]
    return tf.clip_by_value(transformer.resize(images, size), 0.0, 1.0)


def _unexplained(picture: tf.Tensor, found: Found) -> tf.Tensor:
    """Compute the fraction of the ink in each window that no object explains: [batch, steps]."""
    rest = tf.abs(picture - as_scenes(found, transformer.size_of(picture), ADD).reconstruction)
    window_size = found.window_logits.shape[-2:]
    ink, rest = (tf.reduce_sum(transformer.crop(x, found.z_where, window_size), axis=(2, 3)) for x in (picture, rest))
    return rest / tf.maximum(ink, 1e-3)


def _footprints(found: Found, canvas_size: transformer.Size) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the lower and upper corners (x, y) of what objects take up: [batch, steps, 2] each, canvas units."""
    scale, shift = found.z_where[..., 0], found.z_where[..., 1:]
    half = FOOTPRINT * tf.stack(transformer.extents(scale, canvas_size, found.window_logits.shape[-2:]), axis=-1)
    return shift - half, shift + half


def _groups(found: Found, canvas_size: transformer.Size) -> tf.Tensor:
    """Number objects [batch, steps] by the first one of their group: those whose footprints overlap, also by way of others."""
    lower, upper = _footprints(found, canvas_size)
    overlap = tf.reduce_all((lower[:, :, None] < upper[:, None]) & (lower[:, None] < upper[:, :, None]), axis=-1)
    overlap &= (found.present[:, :, None] > 0.0) & (found.present[:, None] > 0.0)
    steps = tf.shape(found.present)[1]

    def first(group: tf.Tensor) -> tf.Tensor:
        return tf.minimum(group, tf.reduce_min(tf.where(overlap, group[:, None], steps), axis=2))

    start = tf.broadcast_to(tf.range(steps), tf.shape(found.present))
    return tf.while_loop(
        lambda before, group: tf.reduce_any(group < before), lambda _, group: (group, first(group)), (start, first(start))
    )[1]


def _sum_by_group(values: tf.Tensor, group: tf.Tensor, steps: int | tf.Tensor) -> tf.Tensor:
    """Sum values of objects [batch, views * steps] over the objects of a view and group: [batch, views, views * steps]."""
    groups = len(VIEWS) * steps
    return tf.reduce_sum(tf.reshape(values[..., None] * tf.one_hot(group, groups), [-1, len(VIEWS), steps, groups]), axis=2)


def _gains(pictures: Sequence[tf.Tensor], found: Sequence[Found], every: Found, group: tf.Tensor, price: Price) -> tf.Tensor:
    """Compute by how much each view explains the pixels of each group better than the first: [batch, views, groups] nats."""

    def log_prob(seen: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:  # of each pixel
        return LIKELIHOODS[price.likelihood](seen[..., None, None], canvas[..., None, None], price.std)

    images, size = pictures[0], transformer.size_of(pictures[0])
    groups = tf.shape(group)[1]
    first = as_scenes(found[0], size, ADD).reconstruction
    gains = [tf.zeros_like(group, tf.float32)]
    for picture, each, view in zip(pictures[1:], found[1:], VIEWS[1:], strict=True):
        ways = [(1.0, images, first)]  # an enlarged picture shows nothing more
        if view.zoom < 1.0:
            in_view = (1.0 - AT_FULL_SIZE) / view.zoom**2, picture, _seen(first, view.brush, transformer.size_of(picture))
            ways = [in_view, (AT_FULL_SIZE, images, first)]
        gain = 0.0
        for weight, seen, former in ways:
            seen_size = transformer.size_of(seen)
            better = log_prob(seen, as_scenes(each, seen_size, ADD).reconstruction) - log_prob(seen, former)
            gain += weight * _sum_by_label(better, _label(every, group, size, seen_size), groups)
        gains.append(gain)
    return tf.stack(gains, axis=1)


def _label(found: Found, group: tf.Tensor, canvas_size: transformer.Size, size: transformer.Size) -> tf.Tensor:
    """Compute for each pixel of a view [batch, height, width] the group whose footprints it lies in; one more without any."""
    lower, upper = _footprints(found, canvas_size)

    def inside(axis: int, pixels: int | tf.Tensor) -> tf.Tensor:  # [batch, steps, pixels]
        centres = transformer.centres(pixels)
        return tf.cast((lower[..., axis, None] <= centres) & (centres < upper[..., axis, None]), tf.float32)

    rows, columns = inside(1, size[0]) * found.present[..., None], inside(0, size[1])
    footprints = tf.matmul(rows, columns, transpose_a=True)
    numbers = tf.matmul(rows * tf.cast(group, tf.float32)[..., None], columns, transpose_a=True)
    # Footprints that overlap are of one group, so that their mean is its number.
    return tf.where(footprints > 0.0, tf.cast(tf.round(numbers / tf.maximum(footprints, 1.0)), tf.int32), tf.shape(group)[1])


def _sum_by_label(values: tf.Tensor, label: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Sum values [batch, height, width] over the pixels of each label: [batch, labels]."""
    batch = tf.shape(label)[0]
    label += (labels + 1) * tf.range(batch)[:, None, None]
    return tf.reshape(tf.math.unsorted_segment_sum(values, label, (labels + 1) * batch), [batch, labels + 1])[:, :-1]
