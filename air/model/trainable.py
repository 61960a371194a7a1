"""The training step of AIR as a Keras model: gradients, clipping, optimisers, statistics, and their state in files."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from air.config import AIRConfig
from air.model import presence, replicas
from air.model.estimators import Estimate, make_estimator
from air.model.images import as_float, check_first, unpack
from air.model.inference import Attention
from air.model.metrics import GroupedMean
from air.model.objective import Losses
from air.model.optimisation import Clipped, LearningRate, as_learning_rate, clip
from air.schedules import Schedule


class Differentiated(NamedTuple):
    """The losses and gradients of a batch."""

    losses: Losses
    estimate: Estimate
    z_where: tf.Tensor  # [batch, steps, 3]
    gradients: list[tf.Tensor]  # of the variables that learn from the ELBO
    baseline_gradients: list[tf.Tensor]  # of those of a baseline


class TrainableModel(replicas.ReplicatedModel):
    """A Keras model that learns from `objective`, which its subclass defines.

    Args:
        config: the model's.
        seed: fixes the random draws of training.
    """

    def __init__(self, config: AIRConfig, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config, self.seed = config, seed
        self.clip_norm: Schedule | None = None

    def make_training_state(self) -> None:
        """Make the estimator and the variables that only training changes, after the networks: files know this order."""
        self.estimator = make_estimator(self.config)
        self.baseline_optimizer: keras.optimizers.Optimizer | None = None
        # Kept by the model, not only by its optimiser, so that a model without an optimiser still knows its annealing.
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )
        # Running average of the inferred counts: the prior over n that makes the trained model a generative one.
        self.count_prior = self.add_weight(
            name="count_prior",
            shape=(self.config.max_steps + 1,),
            initializer=keras.initializers.Constant(1.0 / (self.config.max_steps + 1)),
            trainable=False,
            aggregation="mean",
        )
        # A variable, so that XLA sees one program for all seeds, and compiles it once: see `air.support.xla_cache`.
        self._seed_of_draws = tf.Variable(self.seed, trainable=False, dtype=tf.int32)
        self.statistics = GroupedMean(self.config.max_steps)

    def objective(self, images: tf.Tensor, seed: tf.Tensor, training: bool = True) -> tuple[Losses, Estimate, Attention]:
        """Estimate the negative ELBO of a batch."""
        raise NotImplementedError

    def compile(
        self,
        optimizer: Any = None,
        *,
        learning_rate: Any = 1e-3,
        baseline_learning_rate: Any = 1e-3,
        clip_norm: float | str | Schedule | None = 1.0,
        jit_compile: bool = True,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        **kwargs: Any,
    ) -> None:
        """Compile as in Keras; the loss and the metrics are the model's own.

        Args:
            optimizer: any Keras optimiser; Adam with `learning_rate` when None.
            learning_rate: number, `Schedule` or its text form, or a Keras learning-rate schedule.
            baseline_learning_rate: the same, for the baseline's own Adam, if the estimator has a baseline.
            clip_norm: global norm to which gradients are clipped, a number or schedule; None for no clipping.
            jit_compile: compile the training step with XLA.
            run_eagerly: as in Keras.
            steps_per_execution: as in Keras.
            **kwargs: refused, whatever Keras would take.

        Raises:
            ValueError: for a loss, metrics or another argument of Keras' that makes no sense here.
        """
        for name, value in kwargs.items():
            if value is not None:
                raise ValueError(f"{name}: not allowed; the loss is the negative ELBO, and the metrics are the model's own")
        self.clip_norm = None if clip_norm is None else Schedule.parse(clip_norm)
        optimizer = keras.optimizers.Adam(as_learning_rate(learning_rate)) if optimizer is None else optimizer
        if self.estimator.trainable_variables:
            # A schedule, even of one value: Keras makes a variable for a number only, and an optimiser can't restore the state
            # of one that has another number of variables.
            given = isinstance(baseline_learning_rate, keras.optimizers.schedules.LearningRateSchedule)
            rate = baseline_learning_rate if given else LearningRate(baseline_learning_rate)
            if self.baseline_optimizer is None:
                self.baseline_optimizer = keras.optimizers.Adam(rate, name="baseline_adam")
                self.baseline_optimizer.build(self.estimator.trainable_variables)
            self.baseline_optimizer.learning_rate = rate
        super().compile(optimizer, jit_compile=jit_compile, run_eagerly=run_eagerly, steps_per_execution=steps_per_execution)
        if not self.optimizer.built:
            self.optimizer.build(self.learners()[0])

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train as in Keras, on images, perhaps with true counts, which only the statistics use.

        Raises:
            DataError: for images that `infer` would refuse, in the first batch.
        """
        check_first(x, self.config.canvas_size)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as in Keras: loss, count accuracy (NaN without true counts) and reconstruction, see `fit`."""
        check_first(x, self.config.canvas_size)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Infer `Scenes` as in Keras, see `fit`."""
        check_first(x, self.config.canvas_size)
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        check_first(x, self.config.canvas_size)
        return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        check_first(x, self.config.canvas_size)
        return super().test_on_batch(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        check_first(x, self.config.canvas_size)
        return super().predict_on_batch(x)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, true_count, weight = unpack(data, self.config.canvas_size)
        batch = self.differentiate_replica(images, weight)
        limit = None if self.clip_norm is None else self.clip_norm(tf.convert_to_tensor(self.step))
        clipped = clip(replicas.mean(batch.gradients), limit)
        model, baseline = self.learners()
        # All means before any update: under a strategy they are collective operations.
        baseline_gradients, moments = replicas.mean(batch.baseline_gradients), replicas.mean(batch.estimate.moments)
        replicas.apply(self.optimizer, clipped.gradients, model)
        if baseline:
            replicas.apply(self.baseline_optimizer, baseline_gradients, baseline)
            self.estimator.follow(moments)
        self.step.assign_add(1)
        count = self._record(batch.losses, batch.estimate.z_pres, batch.z_where, true_count, clipped)
        frequencies = tf.reduce_mean(tf.one_hot(count, self.config.max_steps + 1), axis=0)
        self.count_prior.assign_add(0.01 * (frequencies - self.count_prior))
        return self.logs()

    def differentiate(self, images: tf.Tensor, weight: tf.Tensor | None = None) -> Differentiated:
        """Compute the losses of the next training step, were these its images, and their gradients.

        Args:
            images: [batch, H, W] in [0, 1].
            weight: [batch] of each scene in the mean loss; None for 1.
        """
        with tf.GradientTape() as tape:
            losses, estimate, attention = self.objective(images, self._seed(self.step))
            loss = tf.reduce_mean(losses.total if weight is None else losses.total * weight)
        sources = [[variable.value for variable in learners] for learners in self.learners()]
        # Zero: a refiner that is not asked yet is connected to nothing.
        gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return Differentiated(losses, estimate, attention.z_where, *gradients)

    def loss_of(self, images: tf.Tensor) -> tf.Tensor:
        """Compute the mean loss of the next training step, were these its images: scalar, differentiable.

        Args:
            images: [batch, H, W], integers from 0 to 255 or floats in [0, 1].
        """
        return tf.reduce_mean(self.objective(as_float(images, self.config.canvas_size), self._seed(self.step))[0].total)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, true_count, _ = unpack(data, self.config.canvas_size)
        losses, _, attention = self.objective(images, self._seed(-1), training=False)
        self._record(losses, self._presence(images), attention.z_where, true_count, Clipped([], tf.zeros([]), tf.zeros([])))
        return self.logs()

    def _record(
        self, losses: Losses, z_pres: tf.Tensor, z_where: tf.Tensor, true_count: tf.Tensor, clipped: Clipped
    ) -> tf.Tensor:
        """Add a batch to the statistics and return the inferred counts, [batch] int32."""
        count = tf.reduce_sum(presence.discrete(z_pres), axis=1)
        values = {
            "loss": losses.total,
            "reconstruction": losses.reconstruction,
            "count": count,
            "count_accuracy": tf.cast(tf.equal(tf.cast(count, tf.int32), true_count), tf.float32),
            "gradient_norm": clipped.norm + tf.zeros_like(count),
            "clipped_gradient_norm": clipped.clipped_norm + tf.zeros_like(count),
            "z_pres": z_pres,
            "scale": z_where[..., 0],
            "z_pres_kl": losses.z_pres_kl,
            "scale_kl": losses.scale_kl,
            "shift_kl": losses.shift_kl,
            "z_what_kl": losses.z_what_kl,
        }
        self.statistics.update_state(values, true_count)
        return tf.cast(count, tf.int32)

    def logs(self) -> dict[str, tf.Tensor]:
        return {name: self.statistics.overall(name) for name in self.metrics_names}

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in its order."""
        return ["loss", "count_accuracy", "reconstruction"]

    def _flatten_metrics_in_order(self, logs: dict[str, Any]) -> list[Any]:
        """Order logs as `metrics_names`; Keras' own order is by name, so that the loss would be second."""
        return [logs[name] for name in self.metrics_names]

    def learners(self) -> tuple[list[keras.Variable], list[keras.Variable]]:
        """Return the variables that learn from the ELBO, and those of a baseline, which has an optimiser of its own."""
        baseline = self.estimator.trainable_variables
        known = {id(variable) for variable in baseline}
        return [variable for variable in self.trainable_variables if id(variable) not in known], baseline

    def _seed(self, step: Any) -> tf.Tensor:
        """Return the seed of a training step: the same step draws the same numbers, also in a resumed run."""
        return tf.stack([tf.convert_to_tensor(self._seed_of_draws), tf.convert_to_tensor(step, tf.int32)])

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.statistics]

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments with which a loaded model compiles itself, to train further."""
        if not self.compiled:
            return None
        optimizer = keras.saving.serialize_keras_object(self.optimizer)
        clip_norm = None if self.clip_norm is None else str(self.clip_norm)
        config = {"optimizer": optimizer, "clip_norm": clip_norm, "jit_compile": self.jit_compile}
        if self.baseline_optimizer is not None:
            config["baseline_learning_rate"] = self.baseline_optimizer.get_config()["learning_rate"]
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.compiled:  # a checkpoint, which may lie between two rows of summaries
            for variable in self.statistics.variables:
                store[variable.name] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        statistics = {variable.name: variable for variable in self.statistics.variables}
        stored = {name: store[name] for name in store.keys()}  # noqa: SIM118, as it is no mapping
        for name in statistics.keys() & stored.keys():
            statistics[name].assign(stored.pop(name))
        super().load_own_variables(stored)
