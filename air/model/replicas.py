"""Training on several replicas of a `tf.distribute` strategy.

Together, the replicas do what one device does with the whole batch: each takes one consecutive part of it and draws the random
numbers of its own scenes, and means and sums over scenes are reduced over all replicas. Without a strategy, or with a single
replica, the functions here return what they are given.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


class ReplicatedModel(keras.Model):
    """A Keras model that `fit` can train under a strategy.

    The `train_step` of a subclass calls the functions below wherever replicas must agree, and returns `logs`.
    """

    train_function: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stop_requested = False

    def request_stop(self) -> None:
        """Stop `fit` soon, on all workers after the same step."""
        self.stop_requested = True
        if self._distribute_strategy is None:
            self.stop_training = True

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Do nothing: everything is built already, and Keras' own fails on the batches of several workers."""

    def make_train_function(self, force: bool = False) -> None:
        """Make the function that `fit` calls: `steps_per_execution` training steps on all replicas.

        Keras' own compiles the whole step with XLA, which can't reduce over replicas on CPUs, and reduces the logs of several
        workers along an axis that scalars don't have. This one also lets one worker stop all of them.
        """
        strategy = self._distribute_strategy
        if strategy is None:
            self.stop_training = self.stop_requested  # by a signal before Keras' `fit`, which has just forgotten it
            return super().make_train_function(force)
        if self.train_function is not None and not force:
            return None

        @tf.function
        def steps(iterator: Any, stop: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            for _ in tf.range(self.steps_per_execution):
                strategy.run(self.train_step, args=(next(iterator),))
            stops = strategy.run(lambda: mean([tf.identity(stop)])[0])
            return self.logs(), strategy.experimental_local_results(stops)[0]

        def train(iterator: Any) -> dict[str, tf.Tensor]:
            logs, stops = steps(iterator, tf.constant(float(self.stop_requested)))
            self.stop_training = bool(stops)
            return logs

        self.train_function = train
        return None


def own_part(draw: Callable[[Any], tf.Tensor], shape: Any) -> tf.Tensor:
    """Draw this replica's part of the random numbers that one device would draw for the global batch.

    Args:
        draw: maps a shape to numbers.
        shape: of this replica's part; its first axis is scenes.
    """
    context = _replica_context()
    if context is None:
        return draw(shape)
    scenes = shape[0]
    everybody = draw(tf.concat([[scenes * context.num_replicas_in_sync], shape[1:]], axis=0))
    first = tf.cast(context.replica_id_in_sync_group, tf.int32) * scenes
    return tf.reshape(everybody[first : first + scenes], shape)


def mean(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Average tensors over the replicas."""
    context = _replica_context()
    if context is None or not tensors:
        return list(tensors)
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, list(tensors))


def apply(optimizer: Any, gradients: Sequence[tf.Tensor], variables: Sequence[Any]) -> None:
    """Apply gradients that are the same on all replicas, over which `optimizer.apply` would sum them.

    Raises:
        ValueError: for an optimiser whose `apply` does more than `update_step`, if there are several replicas.
    """
    context = _replica_context()
    if context is None:
        # Scaled, as a LossScaleOptimizer expects; others leave gradients as they are.
        return optimizer.apply([optimizer.scale_loss(gradient) for gradient in gradients], variables)
    unsupported = ("weight_decay", "use_ema", "gradient_accumulation_steps", "loss_scale_factor", "clipnorm", "clipvalue")
    if any(getattr(optimizer, name, None) for name in (*unsupported, "global_clipnorm")):
        raise ValueError(f"{optimizer.name}: {', '.join(unsupported)} and global_clipnorm don't work with several replicas")

    def update(strategy: tf.distribute.Strategy, gradients: list[Any]) -> None:
        rate = optimizer.learning_rate
        for variable, gradient in zip(variables, gradients, strict=True):
            strategy.extended.update(
                variable.value, lambda one, its: optimizer.update_step(its, one, rate), args=(gradient,), group=False
            )
        optimizer.iterations.assign_add(1)

    return context.merge_call(update, args=(list(gradients),))


def _replica_context() -> tf.distribute.ReplicaContext | None:
    """Return the context of the replica whose step is being traced, or None if it is the only one."""
    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context
