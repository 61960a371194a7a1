"""Averages of per-scene quantities, split by the true number of objects."""

from typing import Any

import keras
import tensorflow as tf

from air.model import replicas


def quantities(steps: int) -> tuple[str, ...]:
    """The names of what is averaged while a model of so many steps is trained."""
    by_step = ("z_pres", "scale", "z_pres_kl", "scale_kl", "shift_kl", "z_what_kl")
    return (
        *("loss", "reconstruction", "count", "count_accuracy", "gradient_norm", "clipped_gradient_norm"),
        *(f"{name}_{step}" for name in by_step for step in range(1, steps + 1)),
    )


class GroupedMean(keras.metrics.Metric):
    """Means of several quantities over all scenes and over those of each true count, in one small matrix product a batch.

    Args:
        quantities: names of the quantities.
        groups: true counts 0 ... groups - 1 have a mean of their own.
    """

    def __init__(self, quantities: tuple[str, ...], groups: int, name: str = "statistics", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.quantities, self.groups = quantities, groups
        alike = {"initializer": "zeros", "aggregation": "only_first_replica"}  # all replicas add the same
        self.sums = self.add_variable(name="sums", shape=(groups + 1, len(quantities)), **alike)
        self.scenes = self.add_variable(name="scenes", shape=(groups + 1,), **alike)

    def update_state(self, values: tf.Tensor, counts: tf.Tensor) -> None:
        """Args: values: [batch, quantities]; counts: [batch] true counts, or -1 where unknown (counted under "all" only)."""
        members = tf.concat([tf.one_hot(counts, self.groups), tf.ones_like(values[:, :1])], axis=1)
        # Their means over replicas, as only the ratio of both counts.
        sums, scenes = replicas.mean([tf.matmul(members, values, transpose_a=True), tf.reduce_sum(members, axis=0)])
        self.sums.assign_add(sums)
        self.scenes.assign_add(scenes)

    def overall(self, quantity: str) -> tf.Tensor:
        """The mean over all scenes, a scalar tensor."""
        return tf.math.divide_no_nan(self.sums[-1, self.quantities.index(quantity)], self.scenes[-1])

    def result(self) -> dict[str, tf.Tensor]:
        """The means over all scenes by quantity."""
        return {quantity: self.overall(quantity) for quantity in self.quantities}

    def by_count(self) -> dict[str, dict[str, float]]:
        """The means by quantity and by group: "0", "1" ... and "all"; groups without a scene are left out."""
        sums, scenes = self.sums.numpy(), self.scenes.numpy()
        names = [*(str(count) for count in range(self.groups)), "all"]
        return {
            quantity: {name: float(sums[g, q] / scenes[g]) for g, name in enumerate(names) if scenes[g]}
            for q, quantity in enumerate(self.quantities)
        }
