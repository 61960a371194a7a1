"""Attend, Infer, Repeat (Eslami et al., 2016) as a Keras model.

    model = AIRModel(AIRConfig())
    model.compile(learning_rate=1e-3)
    model.fit(pipeline(scenes, batch_size=64), steps_per_epoch=1000)
    model.infer(images).count

The inference network q(z | x) attends to one object per step: z_pres tells whether there is another object, z_where where it
is, and z_what what it looks like. The decoder renders each object from its z_what into the window z_where of an empty canvas.
The loss is the negative ELBO in nats (section 2 of the paper).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from air.config import AIRConfig
from air.model import bounds, distributions, generative, presence, replicas
from air.model.estimators import Estimate
from air.model.generative import Scenes, compose, draw_prior
from air.model.images import as_float, check_images, unpack
from air.model.inference import Attention, InferenceNetwork
from air.model.networks import Controller, GlimpseDecoder, GlimpseEncoder, Refiner
from air.model.objective import Losses, negative_elbo
from air.model.optimisation import Clipped, clip
from air.model.trainable import TrainableModel
from air.support.arrays import in_batches

ELBO_BATCH = 250  # scenes at a time
SAMPLES_BATCH = 1000  # pairs of scene and sample at a time


class Differentiated(NamedTuple):
    """The losses and gradients of a batch."""

    losses: Losses
    estimate: Estimate
    z_where: tf.Tensor  # [batch, steps, 3]
    gradients: list[tf.Tensor]  # of the variables that learn from the ELBO
    baseline_gradients: list[tf.Tensor]  # of those of a baseline


@keras.saving.register_keras_serializable(package="air")
class AIRModel(TrainableModel):
    """AIR. `model(images)` infers deterministically and returns `Scenes` of tensors; see also `infer` and `generate`.

    Args:
        config: an `AIRConfig`, a dictionary of its fields, or None for the defaults.
        seed: fixes the random draws of training.

    Raises:
        ConfigError: for an impossible configuration.
    """

    def __init__(self, config: AIRConfig | dict[str, Any] | None = None, seed: int = 0, **kwargs: Any) -> None:
        config = config if isinstance(config, AIRConfig) else AIRConfig.from_dict(config or {})
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")  # AIR always computes in float32, whatever policy other models use
        try:
            super().__init__(config, seed, **kwargs)
            self._make_networks()
        finally:
            keras.config.set_dtype_policy(policy)

    def _make_networks(self) -> None:
        c = self.config
        cnn = {name: getattr(c, name) for name in ("cnn_filters", "cnn_kernels", "cnn_strides", "cnn_pools")}
        self.controller = Controller(
            c.max_steps, c.lstm_units, c.head_units, **cnn, latent_size=c.latent_size, name="controller"
        )
        self.refiner = Refiner(c.refiner_units, c.activation, name="refiner") if c.refiner_units else None
        self.encoder = GlimpseEncoder(c.encoder_units, c.z_what_size, c.activation, name="encoder")
        self.decoder = GlimpseDecoder(c.window_size, c.decoder_units, c.activation, c.decoder_bias, name="decoder")
        self.make_training_state()
        self.build((None, *c.canvas_size))

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        c = self.config
        self.controller.build((None, *c.canvas_size))
        if self.refiner is not None:
            self.refiner.build((None, c.max_steps, *c.window_size))
        self.encoder.build((None, c.max_steps, *c.window_size))
        self.decoder.build((None, c.max_steps, c.z_what_size))
        self.built = True

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, true_count, weight = unpack(data, self.config.canvas_size)
        if self._distribute_strategy is None or not self.jit_compile:
            batch = self.differentiate(images, weight)
        else:  # XLA can't compile a whole step under a strategy, so it compiles this part, which is nearly all of it.
            batch = self._differentiate_with_xla(images, weight)
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
        """Compute the losses of the next training step, if these were its images, and their gradients.

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
        """Compute the mean loss of the next training step, if these were its images: scalar, differentiable.

        Args:
            images: [batch, H, W], integers from 0 to 255 or floats in [0, 1].
        """
        return tf.reduce_mean(self.objective(as_float(images, self.config.canvas_size), self._seed(self.step))[0].total)

    @functools.partial(tf.function, jit_compile=True)
    def _differentiate_with_xla(self, images: tf.Tensor, weight: tf.Tensor | None) -> Differentiated:
        return self.differentiate(images, weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, true_count, _ = unpack(data, self.config.canvas_size)
        losses, _, attention = self.objective(images, self._seed(-1), training=False)
        self._record(losses, self._presence(images), attention.z_where, true_count, Clipped([], tf.zeros([]), tf.zeros([])))
        return self.logs()

    def objective(self, images: tf.Tensor, seed: tf.Tensor, training: bool = True) -> tuple[Losses, Estimate, Attention]:
        """Estimate the negative ELBO from one sample, differentiably with respect to the weights.

        Args:
            images: [batch, canvas_height, canvas_width] in [0, 1].
            seed: [2] integers.
            training: add the decoder's noise.

        Returns:
            The losses, the estimate of what depends on z_pres, and the attention of all steps.
        """
        attend_seed, presence_seed, noise_seed = tf.unstack(tf.random.split(seed, 3))
        attention = self.attend(images, attend_seed, looks=1)
        losses, estimate = negative_elbo(
            self.config,
            tf.convert_to_tensor(self.step),
            images,
            attention,
            self.prior_logits(),
            self.estimator,
            presence_seed,
            noise_seed if training else None,
        )
        return losses, estimate, attention

    def attend(self, images: tf.Tensor, seed: tf.Tensor | None, looks: int | None = None, samples: int = 1) -> Attention:
        """Run the inference network q(z | x), see `InferenceNetwork.attend`; as many looks as configured when None."""
        c = self.config
        # A constant is known when a graph is traced, so the graph needs no branch.
        constant = c.refinement.kind == "constant"
        refinement = tf.constant(c.refinement.initial) if constant else c.refinement(tf.convert_to_tensor(self.step))
        network = InferenceNetwork(c, self.controller, self.refiner, refinement, self.encoder, self.decoder)
        return network.attend(as_float(images, c.canvas_size), seed, looks=c.looks if looks is None else looks, samples=samples)

    def call(self, images: tf.Tensor, training: bool = False) -> Scenes:
        """Infer scenes deterministically: posterior means, rounded z_pres.

        Args:
            images: [batch, canvas_height, canvas_width], integers from 0 to 255 or floats in [0, 1].
            training: ignored; training draws its own samples.
        """
        if tf.executing_eagerly():
            images = tf.constant(check_images(images, self.config.canvas_size))
        return self.draw(images, None)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Export for serving as in Keras, even if the model has not been called yet."""
        if not self._called:
            self(np.zeros((1, *self.config.canvas_size), np.float32))
        super().export(*args, **kwargs)

    def draw(self, images: tf.Tensor, seed: tf.Tensor | None) -> Scenes:
        """Infer scenes with latent variables drawn from the posterior.

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
        return scenes._replace(presence=presence.cumulative_product(probability))

    def count(self, images: tf.Tensor) -> tf.Tensor:
        """Infer the number of objects alone, [batch] int32, with glimpses only where the controller needs them."""
        present = presence.discrete(self._presence(images))
        return tf.cast(tf.reduce_sum(present, axis=1), tf.int32)

    def _presence(self, images: tf.Tensor) -> tf.Tensor:
        """Infer deterministically the probability that each step attends to an object, if all before it do: [batch, steps]."""
        needs_glimpses = self.config.controller_input != "canvas"
        posterior = self.attend(images, None, looks=1) if needs_glimpses else self.controller(images)
        return tf.sigmoid(posterior.presence_logits)

    def decode(self, z_what: tf.Tensor, z_where: tf.Tensor, present: tf.Tensor) -> Scenes:
        """Render scenes from their latent variables.

        Args:
            z_what: [batch, steps, z_what_size].
            z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units.
            present: [batch, steps], 1.0 where there is an object and 0.0 elsewhere, no 1.0 after a 0.0.
        """
        return compose(self.decoder(z_what), z_what, z_where, present, self.config.canvas_size)

    def infer(self, images: Any, *, sample: bool = False, seed: int = 0, batch_size: int = 256) -> Scenes:
        """Infer scenes: how many objects there are, where, and what they look like.

        Args:
            images: [batch, canvas_height, canvas_width], uint8 or float in [0, 1].
            sample: draw the latent variables from their posterior instead of taking the means.
            seed: of the draws, which depend on `batch_size` too.
            batch_size: scenes at a time, which bounds memory.

        Returns:
            `Scenes` of NumPy arrays.

        Raises:
            DataError: for images of another shape, type or range.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not allowed; it must be 1 or more")
        function = self._draw if sample else lambda images, seed: self._draw(images, None)
        return self._in_batches(function, check_images(images, self.config.canvas_size), batch_size, seed)

    def generate(self, scenes: int, *, count: int | None = None, seed: int = 0) -> tuple[np.ndarray, Scenes]:
        """Draw scenes from the model's prior.

        The number of objects is drawn from the frequencies of the counts that the model inferred in training, because the
        annealed prior of z_pres ends far below them; everything else is drawn from its prior.

        Args:
            scenes: number of scenes.
            count: objects in every scene; None to draw it.
            seed: of the draws.

        Returns:
            Images [scenes, canvas_height, canvas_width] in [0, 1], and their `Scenes`.

        Raises:
            ValueError: if count is not in 0 ... max_steps, or scenes is below 1.
        """
        max_steps = self.config.max_steps
        if scenes < 1:
            raise ValueError(f"scenes: {scenes} is not allowed; it must be 1 or more")
        if count is not None and not 0 <= count <= max_steps:
            raise ValueError(f"count: {count} is not allowed; it must be from 0 to max_steps = {max_steps}")
        seeds = tf.unstack(tf.random.split(tf.constant([seed, 0], tf.int32)))
        if count is None:
            log_prior = tf.math.log(self.count_frequencies())[None]
            drawn = tf.random.stateless_categorical(log_prior, scenes, seeds[0], dtype=tf.int32)[0]
        else:
            drawn = tf.fill([scenes], count)
        present = tf.sequence_mask(drawn, max_steps, tf.float32)
        latents = draw_prior(self.config, tf.convert_to_tensor(self.step), scenes, seeds[1])
        generated = Scenes(*(np.asarray(tensor) for tensor in self.decode(*latents, present)))
        return generated.reconstruction, generated

    def log_prob_bound(
        self,
        images: Any,
        samples: int = 100,
        *,
        seed: int = 0,
        likelihood: str | None = None,
        count_prior: Any = None,
    ) -> np.ndarray:
        """Compute a lower bound on log p(x) of each scene, in nats: the importance-weighted bound (Burda et al., 2016).

        It is the bound of the discrete model that `infer` uses, and rises with the number of samples; with one it is a sample
        of the ELBO.

        Args:
            images: [batch, canvas_height, canvas_width], uint8 or float in [0, 1].
            samples: of the latent variables of each scene.
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
        prior = np.asarray(self.count_frequencies() if count_prior is None else count_prior, np.float64)
        bounds.check(samples, likelihood, prior, self.config.max_steps)
        weights = self.importance_samples(check_images(images, self.config.canvas_size), samples, seed)
        return bounds.importance_bound(weights.log_weights(likelihood, prior / prior.sum()), samples)

    def elbo(self, images: np.ndarray, seed: int = 0, progress: Callable[[int], Any] | None = None) -> bounds.Elbo:
        """Compute the parts of the ELBO of scenes: exact over the count, one sample of z_where and z_what.

        Args:
            images: [N, canvas_height, canvas_width], uint8 or float in [0, 1].
            seed: of the samples.
            progress: called repeatedly with the number of scenes done since the last call.
        """
        return self._in_batches(self._elbo, images, ELBO_BATCH, seed, progress, pad=True)

    def importance_samples(
        self, images: np.ndarray, samples: int, seed: int = 0, progress: Callable[[int], Any] | None = None
    ) -> bounds.ImportanceSamples:
        """Draw the latent variables of each scene several times and weigh the samples, see `elbo` and `bounds`."""

        def function(images: tf.Tensor, seed: tf.Tensor) -> bounds.ImportanceSamples:
            return self._importance_samples(images, seed, samples)

        return self._in_batches(function, images, max(SAMPLES_BATCH // samples, 1), seed, progress, pad=True)

    def _in_batches(
        self,
        function: Callable[[tf.Tensor, tf.Tensor], Any],
        images: np.ndarray,
        size: int,
        seed: int,
        progress: Callable[[int], Any] | None = None,
        pad: bool = False,
    ) -> Any:
        """Call a compiled function of images and a seed on batches, see `in_batches`; join the fields that it returns.

        With `pad`, every batch has the same size, as another would be compiled again.
        """
        size = max(min(size, len(images)), 1)

        def part(which: slice) -> Any:
            batch = images[which]
            padded = np.zeros((size if pad else max(len(batch), 1), *images.shape[1:]), np.float32)
            padded[: len(batch)] = batch / np.float32(255) if batch.dtype == np.uint8 else batch
            fields = function(tf.constant(padded), tf.constant([seed, which.start], tf.int32))
            return type(fields)(*(field.numpy()[: len(batch)] for field in fields))

        # TensorFlow's convolutions don't take an empty batch.
        return in_batches(part, len(images), size, progress) if len(images) else part(slice(0, 0))

    @tf.function(reduce_retracing=True)
    def _draw(self, images: tf.Tensor, seed: tf.Tensor | None) -> Scenes:
        return self.draw(images, seed)

    @functools.partial(tf.function, jit_compile=True)
    def _elbo(self, images: tf.Tensor, seed: tf.Tensor) -> bounds.Elbo:
        return bounds.elbo(images, self.attend(images, seed), *self._terms())

    @functools.partial(tf.function, jit_compile=True)
    def _importance_samples(self, images: tf.Tensor, seed: tf.Tensor, samples: int) -> bounds.ImportanceSamples:
        seeds = tf.unstack(tf.random.split(seed, 2))
        attention = self.attend(images, seeds[0], samples=samples)
        return bounds.importance_samples(images, attention, *self._terms(), seeds[1])

    def _terms(self) -> tuple[distributions.Normals, tf.Tensor]:
        """Return the prior of an object's latent variables and the std of the Normal likelihood, now."""
        step = tf.convert_to_tensor(self.step)
        return generative.prior(self.config, step), self.config.likelihood_std(step)

    @property
    def parts(self) -> list[keras.layers.Layer]:
        """The networks: controller, refiner if there is one, encoder, decoder."""
        return [part for part in (self.controller, self.refiner, self.encoder, self.decoder) if part is not None]

    def get_config(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "seed": self.seed, "name": self.name}
