"""An annealed learning rate for Keras' optimisers."""

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
