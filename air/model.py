"""Attend, Infer, Repeat (Eslami et al., 2016) as a Keras model, with a Concrete z_pres and ACT-style stopping.

    model = AIRModel(AIRConfig())
    model.compile(learning_rate=1e-3)
    model.fit(scenes.pipeline(data, batch_size=64), steps_per_epoch=1000)
    model.infer(images).count

An inference network q(z | x) attends to one object a step: z_pres says whether there is another object, z_where where it is,
z_what what it looks like. The decoder paints each object from its z_what into the window z_where of an empty canvas. The loss
is the negative ELBO in nats (section 2 of the paper), with pixel cross-entropy as the likelihood.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from air import distributions, presence, strategies, transformer
from air.config import AIRConfig
from air.images import as_float, check_images, cross_entropy
from air.learning_rate import LearningRate
from air.metrics import GroupedMean, global_norm
from air.networks import Controller, GlimpseDecoder, GlimpseEncoder
from air.schedules import Schedule

SCALE_LOGIT_RANGE = (-7.0, 7.0)  # a twentieth of a pixel is small enough: rendering divides by the scale


class Scenes(NamedTuple):
    """What AIR makes of a batch of scenes: B scenes, T steps, canvas H x W, windows h x w, Z latent dimensions.

    Steps that attend to nothing are included; `presence` and `count` tell them. The objects of a scene are its first `count`
    steps.
    """

    count: Any  # [B] int32, inferred number of objects
    presence: Any  # [B, T] probability that the step attends to an object
    scale: Any  # [B, T] half the side of the attention window, canvas units
    shift: Any  # [B, T, 2] its centre (x, y), canvas units
    boxes: Any  # [B, T, 4] the attention window (x, y, width, height), pixels
    z_what: Any  # [B, T, Z]
    windows: Any  # [B, T, h, w] the decoder's picture of the object, in [0, 1]
    objects: Any  # [B, T, H, W] the same on a canvas of its own, 0 for absent objects
    reconstruction: Any  # [B, H, W] all objects on one canvas, in [0, 1]


class Losses(NamedTuple):
    """The negative ELBO of each scene and its parts, in nats."""

    total: tf.Tensor  # [batch], weighted with the configured weights
    reconstruction: tf.Tensor  # [batch]
    z_pres_kl: tf.Tensor  # [batch, steps], masked
    scale_kl: tf.Tensor  # [batch, steps], masked
    shift_kl: tf.Tensor  # [batch, steps], masked
    z_what_kl: tf.Tensor  # [batch, steps], masked


@keras.saving.register_keras_serializable(package="air")
class AIRModel(keras.Model):
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
        self.controller = Controller(c.max_steps, c.lstm_units, c.head_units, **cnn, name="controller")
        self.encoder = GlimpseEncoder(c.encoder_units, c.z_what_size, c.activation, name="encoder")
        self.decoder = GlimpseDecoder(c.window_size, c.decoder_units, c.activation, c.decoder_bias, name="decoder")
        # Kept by the model, not only by its optimiser, so that a model without an optimiser still knows its annealing.
        alike = {"trainable": False, "aggregation": "only_first_replica"}  # all replicas assign the same
        self.step = self.add_weight(name="step", shape=(), dtype="int32", initializer="zeros", **alike)
        # Running average of the inferred counts: the prior over n that makes the trained model a generative one.
        self.count_prior = self.add_weight(
            name="count_prior",
            shape=(c.max_steps + 1,),
            initializer=keras.initializers.Constant(1.0 / (c.max_steps + 1)),
            **alike,
        )
        self.statistics = GroupedMean(self._quantities(), groups=c.max_steps + 1)
        self.clip_norm: Schedule | None = None
        self.stop_requested = False  # see `strategies.request_stop`
        self.build((None, *c.canvas_size))

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        c = self.config
        self.controller.build((None, *c.canvas_size))
        self.encoder.build((None, c.max_steps, *c.window_size))
        self.decoder.build((None, c.max_steps, c.z_what_size))
        self.built = True

    def compile(
        self,
        optimizer: Any = None,
        *,
        learning_rate: Any = 1e-3,
        clip_norm: float | str | Schedule | None = 1.0,
        jit_compile: bool = True,
        **kwargs: Any,
    ) -> None:
        """As in Keras; the loss is the model's own.

        Args:
            optimizer: any Keras optimiser; Adam with `learning_rate` when None.
            learning_rate: number, `Schedule` or its text form, or a Keras learning-rate schedule.
            clip_norm: global norm to which gradients are clipped, likewise; None for no clipping.
            jit_compile: compile the training step with XLA.
            **kwargs: `run_eagerly` and `steps_per_execution`, as in Keras.
        """
        self.clip_norm = None if clip_norm is None else Schedule.parse(clip_norm)
        if isinstance(learning_rate, (str, Schedule)):
            learning_rate = LearningRate(learning_rate)
        optimizer = keras.optimizers.Adam(learning_rate) if optimizer is None else optimizer
        # XLA can't compile a whole step under a strategy, so it compiles this part, which is nearly all of it.
        self.replica_differentiate = strategies.replica_function(self.differentiate, jit_compile)
        super().compile(optimizer=optimizer, loss=None, jit_compile=jit_compile, **kwargs)
        if self._distribute_strategy is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Not needed: the constructor and `compile` build everything. Keras' own fails on the batches of several workers."""

    def make_train_function(self, force: bool = False) -> Any:
        if self._distribute_strategy is None:
            return super().make_train_function(force)
        if force or self.train_function is None:
            self.train_function = strategies.train_function(self, self._distribute_strategy)
        return self.train_function

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
        images = as_float(images)
        posterior = self.controller(images)
        seeds = [None] * 4 if seed is None else tf.unstack(tf.random.split(seed, 4))
        probability = tf.sigmoid(posterior.presence_logits)
        threshold = 0.5 if seed is None else distributions.uniform(tf.shape(probability), seeds[0])
        present = presence.discrete(probability, threshold)
        z_where = _z_where(distributions.draw(posterior.scale, seeds[1]), distributions.draw(posterior.shift, seeds[2]))
        windows = transformer.crop(images, z_where, self.config.window_size)
        z_what = distributions.draw(self.encoder(windows), seeds[3])
        return self.decode(z_what, z_where, present)._replace(presence=tf.math.cumprod(probability, axis=1))

    def count(self, images: tf.Tensor) -> tf.Tensor:
        """The inferred number of objects alone, [batch] int32, without looking at any of them."""
        present = presence.discrete(tf.sigmoid(self.controller(images).presence_logits))
        return tf.cast(tf.reduce_sum(present, axis=1), tf.int32)

    def decode(self, z_what: tf.Tensor, z_where: tf.Tensor, present: tf.Tensor) -> Scenes:
        """Paints scenes from their latents.

        Args:
            z_what: [batch, steps, z_what_size].
            z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units.
            present: [batch, steps], 1.0 where there is an object and 0.0 elsewhere, no 1.0 after a 0.0.
        """
        windows = tf.sigmoid(self.decoder(z_what))
        objects = transformer.render(windows, z_where, self.config.canvas_size) * present[..., None, None]
        return Scenes(
            count=tf.cast(tf.reduce_sum(present, axis=1), tf.int32),
            presence=present,
            scale=z_where[..., 0],
            shift=z_where[..., 1:],
            boxes=transformer.boxes(z_where, self.config.canvas_size),
            z_what=z_what,
            windows=windows,
            objects=objects,
            reconstruction=tf.clip_by_value(tf.reduce_sum(objects, axis=1), 0.0, 1.0),
        )

    def objective(
        self, images: tf.Tensor, seed: tf.Tensor, training: bool = True
    ) -> tuple[Losses, presence.Presence, tf.Tensor]:
        """One-sample estimate of the negative ELBO, differentiable with respect to the weights.

        Args:
            images: [batch, canvas_height, canvas_width] in [0, 1].
            seed: [2] integers.
            training: add the decoder's noise.

        Returns:
            The losses, z_pres, and z_where [batch, steps, 3].
        """
        c = self.config
        now = c.at(tf.convert_to_tensor(self.step))
        seeds = tf.unstack(tf.random.split(seed, 5))
        posterior = self.controller(images)
        z_pres = presence.concrete(
            posterior.presence_logits,
            tf.math.log(now.z_pres_prior_odds),
            now.temperature,
            now.stop_threshold,
            seeds[0],
        )
        z_where = _z_where(distributions.draw(posterior.scale, seeds[1]), distributions.draw(posterior.shift, seeds[2]))
        what = self.encoder(transformer.crop(images, z_where, c.window_size))
        logits = self.decoder(distributions.draw(what, seeds[3]))
        if training and not c.decoder_noise.is_zero:
            logits += now.decoder_noise * distributions.standard_normal(tf.shape(logits), seeds[4])
        # Presence multiplies the window, not the canvas, because the window is smaller.
        windows = tf.sigmoid(logits) * (z_pres.z_pres * z_pres.attending)[..., None, None]
        canvas = transformer.paint(windows, z_where, c.canvas_size)

        def kl(name: str, latent: distributions.tfd.Normal) -> tf.Tensor:
            mean, variance = getattr(now, f"{name}_prior_mean"), getattr(now, f"{name}_prior_variance")
            return distributions.gaussian_kl(latent, mean, variance)

        losses = Losses(
            total=tf.zeros([]),
            reconstruction=cross_entropy(images, canvas),
            z_pres_kl=z_pres.kl * z_pres.running,
            scale_kl=z_pres.attending * kl("scale", posterior.scale),
            shift_kl=z_pres.attending * kl("shift", posterior.shift),
            z_what_kl=z_pres.attending * kl("z_what", what),
        )
        weights = {name: getattr(now, f"{name}_weight") for name in Losses._fields if name.endswith("_kl")}
        weighted = tf.add_n([weight * getattr(losses, name) for name, weight in weights.items()])
        losses = losses._replace(total=losses.reconstruction + tf.reduce_sum(weighted, axis=1))
        return losses, z_pres, z_where

    def loss_of(self, images: tf.Tensor) -> tf.Tensor:
        """The loss of the next training step, were these its images: scalar."""
        return tf.reduce_mean(self.objective(images, self._seed(self.step))[0].total)

    def differentiate(self, images: tf.Tensor) -> tuple[tuple[Losses, presence.Presence, tf.Tensor], list[tf.Tensor]]:
        """The objective of a training step, and the gradients of its mean over these images."""
        with tf.GradientTape() as tape:
            found = self.objective(images, self._seed(self.step))
            loss = tf.reduce_mean(found[0].total)
        return found, tape.gradient(loss, self.trainable_variables)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, counts = _unpack(data)
        (losses, z_pres, z_where), gradients = self.replica_differentiate(images)
        gradients = strategies.mean(gradients)
        norm = global_norm(gradients)
        clipped = norm
        if self.clip_norm is not None:
            limit = self.clip_norm(tf.convert_to_tensor(self.step))
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
            clipped = tf.minimum(norm, limit)
        strategies.apply(self.optimizer, gradients, self.trainable_variables)
        self.step.assign_add(1)
        count = self._record(losses, z_pres, z_where, counts, norm, clipped)
        (seen,) = strategies.mean([tf.reduce_mean(tf.one_hot(count, self.config.max_steps + 1), axis=0)])
        self.count_prior.assign_add(0.01 * (seen - self.count_prior))
        return self.logs()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, counts = _unpack(data)
        losses, z_pres, z_where = self.objective(images, self._seed(-1), training=False)
        z_pres = z_pres._replace(z_pres=tf.sigmoid(self.controller(images).presence_logits))
        self._record(losses, z_pres, z_where, counts, tf.zeros([]), tf.zeros([]))
        return self.logs()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.statistics]

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` needs again when a model is loaded to be trained on."""
        if not self.compiled:
            return None
        optimizer = keras.saving.serialize_keras_object(self.optimizer)
        clip_norm = None if self.clip_norm is None else str(self.clip_norm)
        return {"optimizer": optimizer, "clip_norm": clip_norm, "jit_compile": self.jit_compile}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**{**config, "optimizer": keras.saving.deserialize_keras_object(config["optimizer"])})
        self.optimizer.build(self.trainable_variables)

    def _quantities(self) -> tuple[str, ...]:
        by_step = ("z_pres", "scale", "z_pres_kl", "scale_kl", "shift_kl", "z_what_kl")
        return (
            *("loss", "reconstruction", "count", "count_accuracy", "gradient_norm", "clipped_gradient_norm"),
            *(f"{name}_{step}" for name in by_step for step in range(1, self.config.max_steps + 1)),
        )

    def _record(
        self,
        losses: Losses,
        z_pres: presence.Presence,
        z_where: tf.Tensor,
        true_count: tf.Tensor,
        norm: tf.Tensor,
        clipped: tf.Tensor,
    ) -> tf.Tensor:
        """Adds a batch to the statistics, in the order of `_quantities`, and returns the inferred counts."""
        count = tf.reduce_sum(presence.discrete(z_pres.z_pres), axis=1)
        right = tf.cast(tf.equal(tf.cast(count, tf.int32), true_count), tf.float32)
        scene = [
            losses.total,
            losses.reconstruction,
            count,
            right,
            norm + tf.zeros_like(count),
            clipped + tf.zeros_like(count),
        ]
        by_step = [z_pres.z_pres, z_where[..., 0], *losses[2:]]
        self.statistics.update_state(tf.concat([tf.stack(scene, axis=1), *by_step], axis=1), true_count)
        return tf.cast(count, tf.int32)

    def _seed(self, step: Any) -> tf.Tensor:
        """The seed of a training step's draws: the same step draws the same numbers, also in a resumed run."""
        return tf.stack([tf.constant(self.seed, tf.int32), tf.convert_to_tensor(step, tf.int32)])

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
        batches = []
        for start in range(0, max(len(images), 1), batch_size):
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
        seeds = tf.unstack(tf.random.split(tf.constant([seed, 0], tf.int32), 4))
        if count is None:
            log_prior = tf.math.log(self.count_prior + 1e-20)[None]
            counts = tf.random.stateless_categorical(log_prior, scenes, seeds[0], dtype=tf.int32)[0]
        else:
            counts = tf.fill([scenes], count)
        now = c.at(self.step)
        prior = {
            "scale": (now.scale_prior_mean, now.scale_prior_variance, 1),
            "shift": (now.shift_prior_mean, now.shift_prior_variance, 2),
            "z_what": (now.z_what_prior_mean, now.z_what_prior_variance, c.z_what_size),
        }
        drawn = {
            name: mean + variance**0.5 * distributions.standard_normal([scenes, c.max_steps, size], key)
            for key, (name, (mean, variance, size)) in zip(seeds[1:], prior.items(), strict=True)
        }
        present = tf.sequence_mask(counts, c.max_steps, tf.float32)
        painted = self.decode(drawn["z_what"], _z_where(drawn["scale"], drawn["shift"]), present)
        painted = Scenes(*(tensor.numpy() for tensor in painted))
        return painted.reconstruction, painted

    @tf.function(reduce_retracing=True)
    def _deterministic(self, images: tf.Tensor) -> Scenes:
        return self.draw(images, None)

    @tf.function(reduce_retracing=True)
    def _sampled(self, images: tf.Tensor, seed: tf.Tensor) -> Scenes:
        return self.draw(images, seed)

    def get_config(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "seed": self.seed, "name": self.name}


def _unpack(data: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Images in [0, 1] and true counts, -1 where the data has no counts."""
    images, counts = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    if isinstance(images, (tuple, list)):
        (images,) = images
    counts = tf.fill(tf.shape(images)[:1], -1) if counts is None else tf.cast(counts, tf.int32)
    return as_float(images), counts


def _z_where(scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """(scale, shift_x, shift_y) in canvas units from the unbounded [..., 1] and [..., 2]."""
    return tf.concat([tf.sigmoid(tf.clip_by_value(scale, *SCALE_LOGIT_RANGE)), tf.tanh(shift)], axis=-1)
