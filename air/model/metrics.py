"""Averages of per-scene quantities, split by the true number of objects."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from air.model import replicas

PER_SCENE = ("loss", "reconstruction", "count", "count_accuracy", "gradient_norm", "clipped_gradient_norm")
PER_STEP = ("z_pres", "scale", "z_pres_kl", "scale_kl", "shift_kl", "z_what_kl")


class GroupedMean(keras.metrics.Metric):
    """Means of several quantities over all scenes and over those of each true count, in one small matrix product per batch.

    Those of `PER_SCENE` are called by their name, those of `PER_STEP` by name and step: "z_pres_1", "z_pres_2" ...

    Args:
        steps: T; true counts 0 ... T have a mean of their own.
    """

    def __init__(self, steps: int, name: str = "statistics", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.groups = steps + 1
        self.quantities = (*PER_SCENE, *(f"{name}_{step}" for name in PER_STEP for step in range(1, steps + 1)))
        alike = {"initializer": "zeros", "aggregation": "only_first_replica"}  # all replicas add the same
        self.sums = self.add_variable(name="sums", shape=(self.groups + 1, len(self.quantities)), **alike)
        self.scenes = self.add_variable(name="scenes", shape=(self.groups + 1,), **alike)

    def update_state(self, values: Mapping[str, tf.Tensor], count: tf.Tensor) -> None:
        """Add a batch of scenes.

        Args:
            values: [batch] each of `PER_SCENE` and [batch, steps] each of `PER_STEP`.
            count: [batch] true counts, or -1 where unknown, which only the means over all scenes include; the
                count accuracy of all is then NaN.
        """
        per_scene = tf.stack([values[name] for name in PER_SCENE], axis=1)
        columns = tf.concat([per_scene, *(values[name] for name in PER_STEP)], axis=1)
        members = tf.concat([tf.one_hot(count, self.groups), tf.ones_like(columns[:, :1])], axis=1)
        # A single scene without a true count, on any replica, makes the overall accuracy unknown.
        unknown = tf.where(tf.reduce_any(count < 0), float("nan"), 0.0)
        accuracy = [(self.groups, self.quantities.index("count_accuracy"))]
        sums = tf.tensor_scatter_nd_add(tf.matmul(members, columns, transpose_a=True), accuracy, unknown[None])
        # The means over replicas of both, as only their ratio matters.
        sums, scenes = replicas.mean([sums, tf.reduce_sum(members, axis=0)])
        self.sums.assign_add(sums)
        self.scenes.assign_add(scenes)

    def overall(self, quantity: str) -> tf.Tensor:
        """Return the mean of a quantity over all scenes, a scalar tensor."""
        return tf.math.divide_no_nan(self.sums[-1, self.quantities.index(quantity)], self.scenes[-1])

    def result(self) -> dict[str, tf.Tensor]:
        """Return the means over all scenes by quantity."""
        return {quantity: self.overall(quantity) for quantity in self.quantities}

    def by_count(self) -> dict[str, dict[str, float]]:
        """Return the means by quantity and by group: "0", "1" ... and "all"; groups without a scene are left out."""
        sums, scenes = self.sums.numpy(), self.scenes.numpy()
        names = [*(str(count) for count in range(self.groups)), "all"]
        return {
            quantity: {name: float(sums[g, q] / scenes[g]) for g, name in enumerate(names) if scenes[g]}
            for q, quantity in enumerate(self.quantities)
        }
