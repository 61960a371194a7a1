"""Objects of other sizes than in training: look at a picture at several zooms, and keep what explains it best.

A view is the picture, shrunk or enlarged; strokes are thickened before they shrink much, as those of a pen are no thicker in
a large digit than in a small one. Windows are measured in canvas units, which mean the same place in every view, so objects
of all views can be compared.

What is found in the picture itself is kept, until another view has a better explanation. Objects of both whose footprints
overlap form a group, and each group takes the objects of one side; sizes may therefore differ within a scene. A side is judged
by the ink that it leaves unexplained, as seen in the other view, and by the number of its objects: windows that divide a large
object explain it nearly as well as one around it does, but one window around two small objects explains neither.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from air.model import transformer
from air.model.exploration import Found, as_scenes
from air.model.generative import ADD


class View(NamedTuple):
    """A way to look at a picture."""

    zoom: float
    brush: int = 1  # pixels; the maximum over so many squared thickens strokes by one less
    fewer: float = 0.0  # of the ink: fewer objects are preferred even if they leave that much more of it unexplained


# The first is the picture itself. The smaller a view, the better one object imitates two in it, so the less it may leave. Each
# threshold divides right from wrong choices best on scenes of training digits of 0.6 to 2 times their size, and on drawings.
VIEWS = (View(1.0), View(1.4, 1, 0.17), View(0.7, 1, 0.17), View(0.5, 2, 0.13), View(0.35, 3, 0.09))
MORE = 0.3  # of the ink: more objects are preferred only if they leave that much less of it unexplained
POWER = 1.25  # of differences in brightness: a missing stroke weighs more than the dim edges of many
FOOTPRINT = 0.7  # of a window's side: what an object takes up of it in training


def look(images: tf.Tensor) -> list[tf.Tensor]:
    """See images [batch, H, W] in each of `VIEWS`."""
    height, width = images.shape[1:]
    sizes = [(max(round(view.zoom * height), 1), max(round(view.zoom * width), 1)) for view in VIEWS]
    return [_seen(images, view.brush, size) for view, size in zip(VIEWS, sizes, strict=True)]


def choose(pictures: Sequence[tf.Tensor], found: Sequence[Found]) -> Found:
    """Choose a view for each group of objects.

    Args:
        pictures: see `look`, of grey objects that add up on black.
        found: the objects found in each of them.

    Returns:
        As many steps as each view has.
    """
    best, canvas_size = found[0], transformer.size_of(pictures[0])
    for picture, others, view in zip(pictures[1:], found[1:], VIEWS[1:], strict=True):
        best = _better(best, others, picture, view, canvas_size)
    return best


def _better(best: Found, others: Found, picture: tf.Tensor, view: View, canvas_size: transformer.Size) -> Found:
    """Replace groups of objects by the others that are found in a view, where these explain its picture better."""
    steps, size = transformer.size_of(best.z_what)[0], transformer.size_of(picture)
    former = _seen(as_scenes(best, canvas_size, ADD).reconstruction, view.brush, size)
    more_rest = _rest(picture, as_scenes(others, size, ADD).reconstruction) - _rest(picture, former)
    both = Found(*(tf.concat(fields, axis=1) for fields in zip(best, others, strict=True)))
    group = _groups(both, canvas_size)  # [batch, 2 * steps]
    label = _label(both, group, canvas_size, size)
    ink, more_rest = (_sum_by_label(values, label, 2 * steps) for values in (_rest(picture, 0.0), more_rest))

    in_others = tf.range(2 * steps) >= steps
    more = tf.where(in_others, both.present, -both.present)
    more = _sum_by_label(more[:, None], group[:, None], 2 * steps)  # objects: [batch, groups]
    replaced = more_rest < tf.where(more < 0.0, view.fewer, tf.where(more > 0.0, -MORE, 0.0)) * ink
    both = both.keep(tf.cast(tf.gather(replaced, group, batch_dims=1) == in_others, tf.float32))
    return both.objects_first(steps)


def _seen(images: tf.Tensor, brush: int, size: transformer.Size) -> tf.Tensor:
    """Thicken images [batch, H, W], and resize them by averaging over the pixels that become one."""
    if brush > 1:
        images = tf.nn.max_pool2d(images[..., None], brush, 1, "SAME")[..., 0]
    return tf.clip_by_value(transformer.resize(images, size), 0.0, 1.0)


def _rest(picture: tf.Tensor, reconstruction: tf.Tensor | float) -> tf.Tensor:
    """Compute how much of each pixel's ink a reconstruction leaves unexplained."""
    return tf.abs(picture - reconstruction) ** POWER


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
