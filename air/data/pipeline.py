"""The `tf.data` pipeline that feeds scenes to a model.

batches = pipeline(scenes, batch_size=64, seed=0)                     # endless; yields (images, count)
batches = pipeline(scenes, batch_size=64, seed=0, start_step=1000)    # the same from its 1,001st batch on
"""

from typing import TYPE_CHECKING

import numpy as np

from air.data.scenes import SceneSet
from air.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf


def check_batch_size(batch_size: int, scenes: int) -> None:
    """Raise UsageError unless `scenes` scenes fill a batch."""
    if not 1 <= batch_size <= scenes:
        raise UsageError(f"batch_size: {batch_size} is not allowed; it must be at least 1 and at most the {scenes} scenes")


def pipeline(
    scenes: SceneSet,
    batch_size: int,
    seed: int = 0,
    *,
    shuffle: bool = True,
    epochs: int | None = None,
    drop_remainder: bool = True,
    start_step: int = 0,
) -> "tf.data.Dataset":
    """Batch scenes in an order that depends on the arguments alone.

    The order of epoch e is a permutation drawn from (seed, e) only, so a run that was interrupted after `start_step` steps
    resumes with exactly the batches that it would have seen.

    Args:
        scenes: the data set.
        batch_size: scenes in a batch, B.
        seed: seed of the permutations, in [0, 2^63).
        shuffle: give each epoch an order of its own, rather than the file's.
        epochs: number of epochs; endless if None.
        drop_remainder: leave out the scenes of an epoch that don't fill a batch, so that all batches have one shape.
        start_step: number of batches to skip at the beginning.

    Returns:
        A data set of (images float32 [B, H, W] in [0, 1], count int32 [B], -1 where unknown).

    Raises:
        UsageError: if there are too few scenes for a batch.
    """
    check_batch_size(batch_size, len(scenes) if drop_remainder else batch_size)
    import tensorflow as tf  # imported here so that checks do not load it

    size = len(scenes)
    batches = size // batch_size if drop_remainder else -(-size // batch_size)
    with tf.device("CPU:0"):
        images = tf.constant(scenes.images)
        count = tf.constant(np.full(size, -1, np.int32) if scenes.count is None else scenes.count.astype(np.int32))

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(size, dtype=tf.int64)
        if shuffle:
            seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
            keys = tf.random.stateless_uniform([size], seeds, minval=None, maxval=None, dtype=tf.int64, alg="philox")
            order = tf.argsort(keys, stable=True)
        first = tf.where(epoch == start_step // batches, start_step % batches, 0)
        numbers = tf.data.Dataset.range(tf.cast(first, tf.int64), batches)
        return numbers.map(lambda batch: order[batch * batch_size : (batch + 1) * batch_size])

    def gather(members: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if drop_remainder:
            members = tf.ensure_shape(members, [batch_size])
        return tf.cast(tf.gather(images, members), tf.float32) / 255.0, tf.gather(count, members)

    numbers = tf.data.Dataset.range(start_step // batches, tf.int64.max if epochs is None else epochs)
    dataset = numbers.flat_map(epoch_batches).map(gather, num_parallel_calls=2, deterministic=True)
    if epochs is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(max(epochs * batches - start_step, 0)))
    return prefetch(dataset, 4)


def prefetch(batches: "tf.data.Dataset", number: int) -> "tf.data.Dataset":
    """Prepare so many batches ahead, and tune nothing: the tuner's thread can delay the end of an iterator by seconds."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(number).with_options(options)
