"""Attend, Infer, Repeat (Eslami et al., 2016) as a Keras model.

    model = AIRModel(AIRConfig())
    model.compile(learning_rate=1e-3)
    model.fit(scenes.pipeline(data, batch_size=64), steps_per_epoch=1000)
    model.infer(images).count

An inference network q(z | x) attends to one object a step: z_pres says whether there is another object, z_where where it is,
z_what what it looks like. The decoder paints each object from its z_what into the window z_where of an empty canvas. The loss
is the negative ELBO in nats (section 2 of the paper).

`air.model.inference` has the inference network's steps, `air.model.estimators` the ways to learn the discrete z_pres.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from air.config import AIRConfig
from air.model import bounds, distributions, presence, replicas
from air.model.estimators import Estimate, make_estimator
from air.model.generative import Scenes, compose, draw_prior
from air.model.images import as_float, check_images, unpack
from air.model.inference import Attention, Networks, attend
from air.model.metrics import GroupedMean, quantities
from air.model.networks import Controller, GlimpseDecoder, GlimpseEncoder, Refiner
from air.model.objective import Losses, negative_elbo, propose
from air.model.optimisation import LearningRate, as_learning_rate, clip
from air.schedules import Schedule

MIN_PRIOR = 1e-6  # of a count that was never inferred in training; 0 would make bounds -inf


@keras.saving.register_keras_serializable(package="air")
class AIRModel(replicas.ReplicatedModel):
    """AIR. `model(images)` infers deterministically and returns `Scenes` of tensors; see also `infer` and `generate`.

    Args:
        config: an `AIRConfig`, a dictionary of its fields, or None for the defaults.
        seed: fixes the random draws of training.

    Raises:
        ConfigError: for an impossible configuration.
    """

    def __init__(self, config: AIRConfig | dict[str, Any] | None = None, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config if isinstance(config, AIRConfig) else AIRConfig.from_dict(config or {})
        self.seed = seed
        c = self.config
        cnn = {name: getattr(c, name) for name in ("cnn_filters", "cnn_kernels", "cnn_strides", "cnn_pools")}
        self.controller = Controller(
            c.max_steps, c.lstm_units, c.head_units, **cnn, latent_size=c.latent_size, name="controller"
        )
        self.refiner = Refiner(c.refiner_units, c.activation, name="refiner") if c.refiner_units else None
        self.encoder = GlimpseEncoder(c.encoder_units, c.z_what_size, c.activation, name="encoder")
        self.decoder = GlimpseDecoder(c.window_size, c.decoder_units, c.activation, c.decoder_bias, name="decoder")
        self.estimator = make_estimator(c)
        self.baseline_optimizer: keras.optimizers.Optimizer | None = None
        # Kept by the model, not only by its optimiser, so that a model without an optimiser still knows its annealing.
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )
        # Running average of the inferred counts: the prior over n that makes the trained model a generative one.
        self.count_prior = self.add_weight(
            name="count_prior",
            shape=(c.max_steps + 1,),
            initializer=keras.initializers.Constant(1.0 / (c.max_steps + 1)),
            trainable=False,
            aggregation="mean",
        )
        # A variable, so that XLA sees the same program whatever the seed, and compiles it once: see `air.support.xla_cache`.
        self._seed_of_draws = tf.Variable(seed, trainable=False, dtype=tf.int32)
        self.statistics = GroupedMean(quantities(c.max_steps), groups=c.max_steps + 1)
        self.clip_norm: Schedule | None = None
        self.build((None, *c.canvas_size))

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        c = self.config
        self.controller.build((None, *c.canvas_size))
        if self.refiner is not None:
            self.refiner.build((None, c.max_steps, *c.window_size))
        self.encoder.build((None, c.max_steps, *c.window_size))
        self.decoder.build((None, c.max_steps, c.z_what_size))
        self.built = True

    def compile(
        self,
        optimizer: Any = None,
        *,
        learning_rate: Any = 1e-3,
        baseline_learning_rate: Any = 1e-3,
        clip_norm: float | str | Schedule | None = 1.0,
        jit_compile: bool = True,
        **kwargs: Any,
    ) -> None:
        """As in Keras; the loss is the model's own.

        Args:
            optimizer: any Keras optimiser; Adam with `learning_rate` when None.
            learning_rate: number, `Schedule` or its text form, or a Keras learning-rate schedule.
            baseline_learning_rate: likewise, of the baseline's own Adam, if the estimator of z_pres has a baseline.
            clip_norm: global norm to which gradients are clipped, likewise; None for no clipping.
            jit_compile: compile the training step with XLA.
            **kwargs: `run_eagerly` and `steps_per_execution`, as in Keras.
        """
        self.clip_norm = None if clip_norm is None else Schedule.parse(clip_norm)
        optimizer = keras.optimizers.Adam(as_learning_rate(learning_rate)) if optimizer is None else optimizer
        if self.estimator.trainable_variables:
            # A schedule, even of one value: Keras has a variable only for numbers, and reads no state into an optimiser with
            # another number of variables.
            given = isinstance(baseline_learning_rate, keras.optimizers.schedules.LearningRateSchedule)
            rate = baseline_learning_rate if given else LearningRate(baseline_learning_rate)
            if self.baseline_optimizer is None:
                self.baseline_optimizer = keras.optimizers.Adam(rate, name="baseline_adam")
                self.baseline_optimizer.build(self.estimator.trainable_variables)
            self.baseline_optimizer.learning_rate = rate
        super().compile(optimizer=optimizer, loss=None, jit_compile=jit_compile, **kwargs)
        if not self.optimizer.built:
            self.optimizer.build(self.learners()[0])

    def call(self, images: tf.Tensor, training: bool = False) -> Scenes:
        """Infers scenes deterministically: posterior means, rounded z_pres.

        Args:
            images: [batch, canvas_height, canvas_width] in [0, 1].
            training: ignored; the training step draws its own samples.
        """
        return self.draw(images, None)

    def draw(self, images: tf.Tensor, seed: tf.Tensor | None) -> Scenes:
        """Infers scenes with latents drawn from the posterior.

        Args:
            images: [batch, canvas_height, canvas_width] in [0, 1].
            seed: [2] integers; None for posterior means and rounded z_pres.
        """
        seeds = [None] * 2 if seed is None else tf.unstack(tf.random.split(seed))
        attention = self.attend(images, seeds[1])
        probability = tf.sigmoid(attention.presence_logits)
        threshold = 0.5 if seed is None else distributions.uniform(tf.shape(probability), seeds[0])
        present = presence.discrete(probability, threshold)
        scenes = compose(attention.window_logits, attention.z_what, attention.z_where, present, self.config.canvas_size)
        return scenes._replace(presence=tf.math.cumprod(probability, axis=1))

    def attend(self, images: tf.Tensor, seed: tf.Tensor | None, looks: int | None = None, samples: int = 1) -> Attention:
        """What the inference network makes of images [batch, canvas_height, canvas_width] in [0, 1], see `attention.attend`."""
        share = self.config.refinement
        # A constant is known while a graph is made, which then has no branch for it.
        refinement = tf.constant(share.initial) if share.kind == "constant" else share(tf.convert_to_tensor(self.step))
        networks = Networks(self.controller, self.refiner, refinement, self.encoder, self.decoder)
        looks = self.config.looks if looks is None else looks
        return attend(networks, self.config, as_float(images), seed, looks=looks, samples=samples)

    def count(self, images: tf.Tensor) -> tf.Tensor:
        """The inferred number of objects alone, [batch] int32, looking at them only where the controller has to."""
        present = presence.discrete(self._presence(images))
        return tf.cast(tf.reduce_sum(present, axis=1), tf.int32)

    def _presence(self, images: tf.Tensor) -> tf.Tensor:
        """How likely each step attends to an object, if all steps before do, inferred deterministically: [batch, steps]."""
        looking = self.config.controller_input != "canvas"
        posterior = self.attend(images, None, looks=1) if looking else self.controller(images)
        return tf.sigmoid(posterior.presence_logits)

    def decode(self, z_what: tf.Tensor, z_where: tf.Tensor, present: tf.Tensor) -> Scenes:
        """Paints scenes from their latents.

        Args:
            z_what: [batch, steps, z_what_size].
            z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units.
            present: [batch, steps], 1.0 where there is an object and 0.0 elsewhere, no 1.0 after a 0.0.
        """
        return compose(self.decoder(z_what), z_what, z_where, present, self.config.canvas_size)

    def objective(self, images: tf.Tensor, seed: tf.Tensor, training: bool = True) -> tuple[Losses, Estimate, Attention]:
        """One-sample estimate of the negative ELBO, differentiable with respect to the weights.

        Args:
            images: [batch, canvas_height, canvas_width] in [0, 1].
            seed: [2] integers.
            training: add the decoder's noise.

        Returns:
            The losses, the estimate of what depends on z_pres, and the steps' attention.
        """
        attending, presence_seed, noise = tf.unstack(tf.random.split(seed, 3))
        attention = self.attend(images, attending, looks=1)
        now = self.config.at(tf.convert_to_tensor(self.step))
        proposal, kl = propose(self.config, now, images, attention, self.prior_logits(), noise if training else None)
        estimate = self.estimator.estimate(proposal, now, presence_seed)
        return negative_elbo(now, proposal, kl, estimate), estimate, attention

    def count_frequencies(self) -> tf.Tensor:
        """How often the model inferred each count in training, at least 1e-6: [steps + 1]."""
        return tf.maximum(self.count_prior, MIN_PRIOR)

    def prior_logits(self) -> tf.Tensor:
        """The prior log-odds that a step attends to an object if all before it do, at this training step: [steps]."""
        c, step = self.config, tf.convert_to_tensor(self.step)
        fixed = tf.fill([c.max_steps], tf.math.log(c.z_pres_prior_odds(step)))
        if c.learn_count_prior_after is None:
            return fixed
        learned = presence.step_logits(tf.math.log(self.count_frequencies()))
        return tf.where(step < c.learn_count_prior_after, fixed, learned)

    def loss_of(self, images: tf.Tensor) -> tf.Tensor:
        """The loss of the next training step, were these its images: scalar; see `differentiate` for its gradients."""
        return tf.reduce_mean(self.objective(images, self._seed(self.step))[0].total)

    def differentiate(self, images: tf.Tensor) -> tuple[Losses, Estimate, tf.Tensor, tuple[list[tf.Tensor], ...]]:
        """What a training step makes of these images: losses, estimate, z_where, and the gradients of each of `learners`."""
        with tf.GradientTape() as tape:
            losses, estimate, attention = self.objective(images, self._seed(self.step))
            loss = tf.reduce_mean(losses.total)
        sources = [[variable.value for variable in learners] for learners in self.learners()]
        # Zero: a refiner that is not asked yet is connected to nothing.
        gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return losses, estimate, attention.z_where, tuple(gradients)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, counts = unpack(data)
        losses, estimate, z_where, gradients = self.replica_differentiate(images)
        gradients, baseline_gradients, moments = map(replicas.mean, (*gradients, estimate.moments))
        limit = None if self.clip_norm is None else self.clip_norm(tf.convert_to_tensor(self.step))
        gradients, norm, clipped = clip(gradients, limit)
        model, baseline = self.learners()
        replicas.apply(self.optimizer, gradients, model)
        if baseline:
            replicas.apply(self.baseline_optimizer, baseline_gradients, baseline)
            self.estimator.follow(moments)
        self.step.assign_add(1)
        count = self._record(losses, estimate.z_pres, z_where, counts, norm, clipped)
        seen = tf.reduce_mean(tf.one_hot(count, self.config.max_steps + 1), axis=0)
        self.count_prior.assign_add(0.01 * (seen - self.count_prior))
        return self.logs()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, counts = unpack(data)
        losses, _, attention = self.objective(images, self._seed(-1), training=False)
        self._record(losses, self._presence(images), attention.z_where, counts, tf.zeros([]), tf.zeros([]))
        return self.logs()

    @property
    def parts(self) -> list[keras.layers.Layer]:
        """The networks: controller, refiner where there is one, encoder, decoder."""
        return [part for part in (self.controller, self.refiner, self.encoder, self.decoder) if part is not None]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.statistics]

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` needs again when a model is loaded to be trained on."""
        if not self.compiled:
            return None
        optimizer = keras.saving.serialize_keras_object(self.optimizer)
        clip_norm = None if self.clip_norm is None else str(self.clip_norm)
        config = {"optimizer": optimizer, "clip_norm": clip_norm, "jit_compile": self.jit_compile}
        if self.baseline_optimizer is not None:
            config["baseline_learning_rate"] = self.baseline_optimizer.get_config()["learning_rate"]
        return config

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

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

    def learners(self) -> tuple[list[keras.Variable], list[keras.Variable]]:
        """The variables that learn from the ELBO, and those of a baseline, which learns at a rate of its own."""
        baseline = self.estimator.trainable_variables
        known = {id(variable) for variable in baseline}
        return [variable for variable in self.trainable_variables if id(variable) not in known], baseline

    def _record(
        self,
        losses: Losses,
        z_pres: tf.Tensor,
        z_where: tf.Tensor,
        true_count: tf.Tensor,
        norm: tf.Tensor,
        clipped: tf.Tensor,
    ) -> tf.Tensor:
        """Adds a batch to the statistics, in the order of `metrics.quantities`, and returns the inferred counts."""
        count = tf.reduce_sum(presence.discrete(z_pres), axis=1)
        right = tf.cast(tf.equal(tf.cast(count, tf.int32), true_count), tf.float32)
        norms = [value + tf.zeros_like(count) for value in (norm, clipped)]
        scene = [losses.total, losses.reconstruction, count, right, *norms]
        by_step = [z_pres, z_where[..., 0], *losses[2:]]
        self.statistics.update_state(tf.concat([tf.stack(scene, axis=1), *by_step], axis=1), true_count)
        return tf.cast(count, tf.int32)

    def _seed(self, step: Any) -> tf.Tensor:
        """The seed of a training step's draws: the same step draws the same numbers, also in a resumed run."""
        return tf.stack([tf.convert_to_tensor(self._seed_of_draws), tf.convert_to_tensor(step, tf.int32)])

    def logs(self) -> dict[str, tf.Tensor]:
        return {name: self.statistics.overall(name) for name in ("loss", "count_accuracy", "reconstruction")}

    def infer(self, images: Any, *, sample: bool = False, seed: int = 0, batch_size: int = 256) -> Scenes:
        """Attends to scenes.

        Args:
            images: [batch, canvas_height, canvas_width], uint8 or float in [0, 1].
            sample: draw the latents from their posterior instead of taking the means.
            seed: of the draws, which depend on `batch_size` too.
            batch_size: scenes at a time, which bounds memory.

        Returns:
            `Scenes` of NumPy arrays.

        Raises:
            DataError: for images of another shape, type or range.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not allowed; it must be 1 or more")
        images = check_images(images, self.config.canvas_size)
        if not len(images):  # TensorFlow's convolutions don't take an empty batch
            return Scenes(*(field[:0] for field in self.infer(np.zeros((1, *self.config.canvas_size), np.float32))))
        batches = []
        for start in range(0, len(images), batch_size):
            key = tf.constant([seed, start], tf.int32)
            batch = tf.constant(images[start : start + batch_size])
            batches.append(self._sampled(batch, key) if sample else self._deterministic(batch))
        return Scenes(*(np.concatenate([tensor.numpy() for tensor in field]) for field in zip(*batches, strict=True)))

    def generate(self, scenes: int, *, count: int | None = None, seed: int = 0) -> tuple[np.ndarray, Scenes]:
        """Draws scenes from the model's prior.

        The number of objects is drawn from the frequencies of the counts that the model inferred while training, because the
        annealed prior of z_pres ends far below them; everything else is drawn from its prior.

        Args:
            scenes: how many.
            count: objects in every scene; None to draw it.
            seed: of the draws.

        Returns:
            Images [scenes, canvas_height, canvas_width] in [0, 1], and their `Scenes`.

        Raises:
            ValueError: if count is not in 0 ... max_steps, or scenes is below 1.
        """
        c = self.config
        if scenes < 1:
            raise ValueError(f"scenes: {scenes} is not allowed; it must be 1 or more")
        if count is not None and not 0 <= count <= c.max_steps:
            raise ValueError(f"count: {count} is not allowed; it must be from 0 to max_steps = {c.max_steps}")
        seeds = tf.unstack(tf.random.split(tf.constant([seed, 0], tf.int32)))
        if count is None:
            log_prior = tf.math.log(self.count_frequencies())[None]
            counts = tf.random.stateless_categorical(log_prior, scenes, seeds[0], dtype=tf.int32)[0]
        else:
            counts = tf.fill([scenes], count)
        present = tf.sequence_mask(counts, c.max_steps, tf.float32)
        painted = self.decode(*draw_prior(c, c.at(self.step), scenes, seeds[1]), present)
        painted = Scenes(*(tensor.numpy() for tensor in painted))
        return painted.reconstruction, painted

    def log_prob_bound(
        self,
        images: Any,
        samples: int = 100,
        *,
        seed: int = 0,
        likelihood: str | None = None,
        count_prior: Any = None,
    ) -> np.ndarray:
        """A lower bound of log p(x) of each scene, in nats: the importance-weighted bound (Burda et al., 2016).

        It is of the discrete model, the one that `infer` uses, and rises with the number of samples; with one it is a sample
        of the ELBO.

        Args:
            images: [batch, canvas_height, canvas_width], uint8 or float in [0, 1].
            samples: of the latents of each scene.
            seed: of the draws.
            likelihood: "cross_entropy" or "normal"; the configured one when None.
            count_prior: [max_steps + 1] probabilities of each count; the frequencies inferred in training when None.

        Returns:
            [batch] float64.

        Raises:
            DataError: for images of another shape, type or range.
            ValueError: for an impossible number of samples, likelihood or prior.
        """
        likelihood = self.config.likelihood if likelihood is None else likelihood
        count_prior = self.count_frequencies() if count_prior is None else count_prior
        images = check_images(images, self.config.canvas_size)
        return bounds.log_prob_bound(self, images, samples, seed, likelihood, np.asarray(count_prior, np.float64))

    @tf.function(reduce_retracing=True)
    def _deterministic(self, images: tf.Tensor) -> Scenes:
        return self.draw(images, None)

    @tf.function(reduce_retracing=True)
    def _sampled(self, images: tf.Tensor, seed: tf.Tensor) -> Scenes:
        return self.draw(images, seed)

    def get_config(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "seed": self.seed, "name": self.name}
