"""An annealed learning rate for Keras' optimisers, and the clipping of gradients."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from air.schedules import Schedule


@keras.saving.register_keras_serializable(package="air")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """A `Schedule` as Keras' optimisers want it.

    Args:
        schedule: a number, a `Schedule` or its text form, with its number of steps.
    """

    def __init__(self, schedule: float | str | Schedule) -> None:
        self.schedule = Schedule.parse(schedule)

    def __call__(self, step: Any) -> tf.Tensor:
        return self.schedule(step)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": str(self.schedule)}


def as_learning_rate(rate: Any) -> Any:
    """A learning rate as Keras' optimisers take it, from a number, a `Schedule`, its text form or one of theirs."""
    return LearningRate(rate) if isinstance(rate, (str, Schedule)) else rate


def global_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The Euclidean norm of all elements of all tensors, a scalar.

    Same as `tf.linalg.global_norm`, whose sums XLA may not reorder and so not vectorise on a CPU: a product with a vector of
    ones takes a sixth of the time, which is a tenth of a whole training step.
    """

    def sum_of_squares(tensor: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(tf.square(tensor), [-1, tensor.shape[-1]])
        return tf.reduce_sum(tf.linalg.matvec(rows, tf.ones(rows.shape[-1])))

    return tf.sqrt(tf.add_n([sum_of_squares(tensor) for tensor in tensors]))


def clip(tensors: Sequence[tf.Tensor], limit: tf.Tensor | None) -> tuple[Sequence[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Tensors scaled down to a global norm, if they have more; and their norms before and after."""
    norm = global_norm(tensors)
    if limit is None:
        return tensors, norm, norm
    clipped, _ = tf.clip_by_global_norm(tensors, limit, use_norm=norm)
    return clipped, norm, tf.minimum(norm, limit)
