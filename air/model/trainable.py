"""All that training AIR as a Keras model needs besides the step: state, priors, optimisers, checks, statistics, files."""

from typing import Any

import keras
import tensorflow as tf

from air.config import AIRConfig
from air.model import presence, replicas
from air.model.estimators import make_estimator
from air.model.images import check_first
from air.model.metrics import GroupedMean
from air.model.objective import Losses
from air.model.optimisation import Clipped, LearningRate, as_learning_rate
from air.schedules import Schedule

MIN_FREQUENCY = 1e-6  # of a count that was never inferred in training; 0 would make bounds -inf


class TrainableModel(replicas.ReplicatedModel):
    """Base class of the model: everything that its training step uses but does not define.

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

    def prior_logits(self) -> tf.Tensor:
        """Compute the prior log-odds, now, that a step attends to an object if all before it do: [steps]."""
        c, step = self.config, tf.convert_to_tensor(self.step)
        fixed = tf.fill([c.max_steps], tf.math.log(c.z_pres_prior_odds(step)))
        if c.learn_count_prior_after is None:
            return fixed
        learned = presence.step_logits(tf.math.log(self.count_frequencies()))
        return tf.where(step < c.learn_count_prior_after, fixed, learned)

    def count_frequencies(self) -> tf.Tensor:
        """Return how often the model inferred each count in training, at least 1e-6: [steps + 1]."""
        return tf.maximum(self.count_prior, MIN_FREQUENCY)

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
            **kwargs: rejected, even those that Keras accepts.

        Raises:
            ValueError: for a loss, metrics or any other Keras argument that does not apply here, or a `clip_norm` of 0.
        """
        for name, value in kwargs.items():
            if value is not None:
                raise ValueError(f"{name}: not allowed; the loss is the negative ELBO, and the metrics are the model's own")
        self.clip_norm = None if clip_norm is None else Schedule.parse(clip_norm)
        if self.clip_norm is not None and self.clip_norm.range[0] <= 0:
            raise ValueError(f"clip_norm: {clip_norm} is not allowed; it must stay above 0, or be None for no clipping")
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
        """Train as in Keras, on images and optionally true counts, which only the metrics use.

        Raises:
            DataError: if the first batch has images that `infer` would reject.
        """
        try:
            check_first(x, self.config)
            return super().fit(x, *args, **kwargs)
        finally:
            self.stop_requested = False

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as in Keras: loss, count accuracy (NaN without true counts) and reconstruction, see `fit`.

        The counts are those of `infer(images, quick=True)`.
        """
        check_first(x, self.config)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Infer `Scenes` as in Keras, of any canvas that `infer` takes."""
        check_first(x, self.config, self.config.takes_any_canvas)
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        check_first(x, self.config)
        return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        check_first(x, self.config)
        return super().test_on_batch(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        check_first(x, self.config, self.config.takes_any_canvas)
        return super().predict_on_batch(x)

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
        """The names of the values that `evaluate` returns, in order."""
        return ["loss", "count_accuracy", "reconstruction"]

    def _flatten_metrics_in_order(self, logs: dict[str, Any]) -> list[Any]:
        """Order logs as in `metrics_names`; Keras would sort them by name and put the loss second."""
        return [logs[name] for name in self.metrics_names]

    def learners(self) -> tuple[list[keras.Variable], list[keras.Variable]]:
        """Return the variables that learn from the ELBO, and those of a baseline, which has an optimiser of its own."""
        baseline = self.estimator.trainable_variables
        known = {id(variable) for variable in baseline}
        return [variable for variable in self.trainable_variables if id(variable) not in known], baseline

    def _seed(self, step: Any) -> tf.Tensor:
        """Return the seed of a training step: the same step draws the same numbers, even in a resumed run."""
        return tf.stack([tf.convert_to_tensor(self._seed_of_draws), tf.convert_to_tensor(step, tf.int32)])

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.statistics]

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments with which a loaded model compiles itself to continue training."""
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
