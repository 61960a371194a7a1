"""The `tf.data` pipeline that feeds scenes to a model."""

from typing import TYPE_CHECKING

import numpy as np

from air.data.scenes import SceneSet
from air.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf


def check_batch_size(batch_size: int, scenes: int) -> None:
    """Raises UsageError if a batch can't have this many of so many scenes."""
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
    """Batches of scenes, which depend on nothing but the arguments.

    The order of epoch e is a permutation drawn from (seed, e) alone: a run that was interrupted after `start_step`
    steps goes on with exactly the batches that it would have seen.

    Args:
        scenes: the data set.
        batch_size: scenes in a batch, B.
        seed: of the permutations, in [0, 2^63).
        shuffle: whether each epoch has an order of its own; otherwise the file's.
        epochs: after how many epochs the batches end; None: never.
        drop_remainder: leaves out the scenes of an epoch that don't fill a batch, so that all batches have one shape.
        start_step: batches at the beginning that are left out.

    Returns:
        A data set of (images float32 [B, H, W] in [0, 1], counts int32 [B], -1 where unknown).

    Raises:
        UsageError: for a batch_size with which there are no batches, or a negative start_step.
    """
    check_batch_size(batch_size, len(scenes) if drop_remainder else batch_size)
    if start_step < 0:
        raise UsageError(f"start_step: {start_step} is not allowed; it must be at least 0")
    import tensorflow as tf  # here, as everything else about scenes does without

    size = len(scenes)
    batches = size // batch_size if drop_remainder else -(-size // batch_size)
    with tf.device("CPU:0"):
        images = tf.constant(scenes.images)
        counts = tf.constant(np.full(size, -1, np.int32) if scenes.count is None else scenes.count.astype(np.int32))

    def epoch_order(epoch: tf.Tensor) -> tf.Tensor:
        if not shuffle:
            return tf.range(size, dtype=tf.int64)
        seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
        keys = tf.random.stateless_uniform([size], seeds, minval=None, maxval=None, dtype=tf.int64, alg="philox")
        return tf.argsort(keys, stable=True)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = epoch_order(epoch)
        first = tf.where(epoch == start_step // batches, start_step % batches, 0)
        return tf.data.Dataset.range(tf.cast(first, tf.int64), batches).map(
            lambda batch: order[batch * batch_size : (batch + 1) * batch_size]
        )

    def gather(members: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if drop_remainder:
            members = tf.ensure_shape(members, [batch_size])
        return tf.cast(tf.gather(images, members), tf.float32) / 255.0, tf.gather(counts, members)

    numbers = tf.data.Dataset.range(start_step // batches, tf.int64.max if epochs is None else epochs)
    dataset = numbers.flat_map(epoch_batches).map(gather, num_parallel_calls=2, deterministic=True)
    if epochs is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(max(epochs * batches - start_step, 0)))
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and its thread may keep an iterator from ending for seconds
    return dataset.prefetch(4).with_options(options)
