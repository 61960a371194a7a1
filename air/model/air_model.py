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
import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, generative, presence, replicas, transformer
from air.model.ascent import LIKELY, settle
from air.model.background import BackgroundNetwork
from air.model.cells import CellController
from air.model.composition import Composition
from air.model.estimators import Estimate
from air.model.exploration import Found, Price, as_scenes, explore
from air.model.generative import Scenes, compose
from air.model.images import as_float, check_images, unpack
from air.model.inference import Attention, InferenceNetwork
from air.model.networks import Controller, DenseController, GlimpseDecoder, GlimpseEncoder, Refiner
from air.model.objective import Losses, negative_elbo
from air.model.optimisation import Clipped, clip
from air.model.trained import TrainedModel

INITIAL_STD = 0.2  # that is learned, of the Normal likelihood
GLIMPSES = "image, difference"  # of a model with a background; older ones saw something else


class Differentiated(NamedTuple):
    """The losses and gradients of a batch."""

    losses: Losses
    estimate: Estimate
    z_where: tf.Tensor  # [batch, steps, 3]
    gradients: list[tf.Tensor]  # of the variables that learn from the ELBO
    baseline_gradients: list[tf.Tensor]  # of those of a baseline


@keras.saving.register_keras_serializable(package="air")
class AIRModel(TrainedModel):
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
            self._programs: dict[Any, Any] = {}  # compiled functions, see `TrainedModel`
        finally:
            keras.config.set_dtype_policy(policy)

    def _make_networks(self) -> None:
        c = self.config
        if c.controller == "convolutional":
            cells = c.cell_size, c.cell_filters, c.cell_units, c.cell_certainty
            self.controller = CellController(c.canvas_size, float(c.scale_prior_mean(0)), *cells, c.channels, name="controller")
        elif c.controller == "dense":
            networks = c.encoder_units, c.z_what_size, c.activation
            self.controller = DenseController(c.max_steps, *networks, c.head_biases, name="controller")
        else:
            cnn = {name: getattr(c, name) for name in ("cnn_filters", "cnn_kernels", "cnn_strides", "cnn_pools")}
            own: dict[str, Any] = {name: getattr(c, name) for name in ("latent_size", "recurrence", "head_biases")}
            self.controller = Controller(c.max_steps, c.lstm_units, c.head_units, **cnn, **own, name="controller")
        self.refiner = Refiner(c.refiner_units, c.activation, name="refiner") if c.refiner_units else None
        self.encoder = None
        if c.controller != "dense":
            self.encoder = GlimpseEncoder(c.encoder_units, c.z_what_size, c.activation, name="encoder")
        self.decoder = GlimpseDecoder(
            c.window_size, c.decoder_units, c.activation, c.decoder_bias, c.channels, c.composition == "over", name="decoder"
        )
        self.background = None
        if c.background != "none":
            latents, smooth = None if c.background == "constant" else c.background_size, c.background == "smooth"
            self.background = BackgroundNetwork(
                c.canvas_size, c.channels, latents, c.background_units, smooth, name="background"
            )
        self.log_std = None
        if c.learn_likelihood_std:
            self.log_std = self.add_weight(
                name="log_std", shape=(), initializer=keras.initializers.Constant(math.log(INITIAL_STD))
            )
        self.make_training_state()
        self.build((None, *c.canvas_size))

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        c = self.config
        self.controller.build((None, *c.canvas_size))
        channels = c.channels + (c.background != "none")
        glimpse = (None, c.max_steps, *c.window_size, channels)
        if self.refiner is not None:
            self.refiner.build(glimpse)
        if self.encoder is not None:
            self.encoder.build(glimpse)
        if self.background is not None:
            self.background.build()
        self.decoder.build((None, c.max_steps, c.z_what_size))
        self.built = True

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, true_count, weight = unpack(data, self.config.image_shape)
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
            losses = losses.weighted(weight)
            loss = tf.reduce_mean(losses.total)
        sources = [[variable.value for variable in learners] for learners in self.learners()]
        # Zero: a refiner that is not asked yet is connected to nothing.
        gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return Differentiated(losses, estimate, attention.z_where, *gradients)

    def loss_of(self, images: tf.Tensor) -> tf.Tensor:
        """Compute the mean loss of the next training step, if these were its images: scalar, differentiable.

        Args:
            images: [batch, H, W], integers from 0 to 255 or floats in [0, 1].
        """
        return tf.reduce_mean(self.objective(as_float(images, self.config.image_shape), self._seed(self.step))[0].total)

    @functools.partial(tf.function, jit_compile=True)
    def _differentiate_with_xla(self, images: tf.Tensor, weight: tf.Tensor | None) -> Differentiated:
        return self.differentiate(images, weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, true_count, weight = unpack(data, self.config.image_shape)
        losses, _, attention = self.objective(images, self._seed(-1), training=False)
        losses = losses.weighted(weight)
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
            self.likelihood_std(),
            presence_seed,
            noise_seed if training else None,
        )
        return losses, estimate, attention

    def attend(
        self, images: tf.Tensor, seed: tf.Tensor | None, looks: int | None = None, samples: int = 1, steps: int | None = None
    ) -> Attention:
        """Run the inference network q(z | x), see `InferenceNetwork.attend`; looks and steps as configured when None."""
        c = self.config
        images = as_float(images, c.image_shape)
        steps = c.steps_on(images.shape[1:3]) if steps is None else steps
        return self._network().attend(images, seed, steps, looks=c.looks if looks is None else looks, samples=samples)

    def _network(self) -> InferenceNetwork:
        c = self.config
        # A constant is known when a graph is traced, so the graph needs no branch.
        constant = c.refinement.kind == "constant"
        refinement = tf.constant(c.refinement.initial) if constant else c.refinement(tf.convert_to_tensor(self.step))
        return InferenceNetwork(
            c, self.controller, self.refiner, refinement, self.encoder, self.decoder, self.background, self.likelihood_std()
        )

    def likelihood_std(self) -> tf.Tensor:
        """Compute the standard deviation of the Normal likelihood, now."""
        std = self.config.likelihood_std(tf.convert_to_tensor(self.step))
        return std if self.log_std is None else std + tf.exp(self.log_std.value)

    def call(self, images: tf.Tensor, training: bool = False) -> Scenes:
        """Infer scenes deterministically: posterior means, rounded z_pres.

        Args:
            images: [batch, canvas_height, canvas_width], integers from 0 to 255 or floats in [0, 1]; or a dictionary with them
                as "images", as `fit` takes.
            training: ignored; training draws its own samples.
        """
        images = images["images"] if isinstance(images, dict) else images
        if tf.executing_eagerly():
            images = tf.constant(check_images(images, self.config))
        return self.draw(images, None)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Export for serving as in Keras, even if the model has not been called yet."""
        if not self._called:
            self(np.zeros((1, *self.config.image_shape), np.float32))
        super().export(*args, **kwargs)

    def draw(self, images: tf.Tensor, seed: tf.Tensor | None, steps: int | None = None, quick: bool = False) -> Scenes:
        """Infer scenes with latent variables drawn from the posterior.

        Args:
            images: [batch, canvas_height, canvas_width] in [0, 1].
            seed: [2] integers; None for posterior means and rounded z_pres.
            steps: maximum number of steps, and rows of the result; as many as configured for this canvas when None.
            quick: see `infer`.
        """
        c = self.config
        images = as_float(images, c.image_shape)
        size = images.shape[1:3]
        if c.takes_any_canvas:
            return self.explore(images, seed, c.steps_on(size) if steps is None else steps, quick=quick)[1]
        seeds = [None] * 2 if seed is None else tf.unstack(tf.random.split(seed))
        attention = self.attend(images, seeds[1])
        probability = tf.sigmoid(attention.presence_logits)
        threshold = 0.5 if seed is None else distributions.uniform(tf.shape(probability), seeds[0])
        present = presence.discrete(probability, threshold)
        scenes = compose(attention.window_logits, attention.z_what, attention.z_where, present, size)
        return scenes._replace(presence=presence.cumulative_product(probability))

    def explore(
        self, images: tf.Tensor, seed: tf.Tensor | None, steps: int | tf.Tensor, shrink: bool = False, quick: bool = False
    ) -> tuple[Found, Scenes]:
        """Find objects with a convolutional controller, and compose scenes from them, see `exploration`, `draw` and `infer`."""
        network, price = self._network(), self.price()
        view = network.view(images, seed)
        settles = self.config.ascent_steps > 0 and seed is None and not quick
        found = explore(network, view, steps, price, self.config.looks, seed, shrink, LIKELY if settles else 0.5)
        if settles:
            found = settle(network, view, found, price, shrink)
        return found, as_scenes(found, transformer.size_of(images), self.composition, view.picture, trim=shrink)

    def count(self, images: tf.Tensor) -> tf.Tensor:
        """Infer the number of objects alone, [batch] int32."""
        return tf.cast(tf.reduce_sum(presence.discrete(self._presence(images)), axis=1), tf.int32)

    def _presence(self, images: tf.Tensor) -> tf.Tensor:
        """Infer deterministically and quickly the probability that each step attends to an object, if all before it do.

        Return [batch, steps].
        """
        if self.config.takes_any_canvas:  # a convolutional controller's second look may drop objects
            scenes = self.draw(images, None, quick=True)
            return tf.sequence_mask(scenes.count, scenes.presence.shape[1], tf.float32)
        posterior = self.controller(images) if self.config.attends_at_once else self.attend(images, None, looks=1)
        return tf.sigmoid(posterior.presence_logits)

    def decode(
        self,
        z_what: tf.Tensor,
        z_where: tf.Tensor,
        present: tf.Tensor,
        canvas_size: transformer.Size | None = None,
        background: tf.Tensor | None = None,
    ) -> Scenes:
        """Render scenes from their latent variables, on a canvas as large as in training unless another size is given.

        Args:
            z_what: [batch, steps, z_what_size].
            z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units.
            present: [batch, steps], 1.0 where there is an object and 0.0 elsewhere, no 1.0 after a 0.0.
            canvas_size: height and width in pixels.
            background: [batch, H, W] or [batch, H, W, C], such as `Scenes.background`; None for black.
        """
        size = canvas_size or self.config.canvas_size
        return compose(self.decoder(z_what), z_what, z_where, present, size, self.composition, background)

    @property
    def composition(self) -> Composition:
        return Composition(self.config.composition, self.config.channels)

    def price(self) -> Price:
        """Return what an object must add to the log-likelihood, now."""
        c, step = self.config, tf.convert_to_tensor(self.step)
        count = -tf.math.log(c.z_pres_prior_odds(step))
        return Price(generative.prior(c, step), count, c.likelihood, self.likelihood_std())

    @property
    def parts(self) -> list[keras.layers.Layer]:
        """The networks: controller, refiner and encoder if there are any, decoder, background if there is one."""
        parts = (self.controller, self.refiner, self.encoder, self.decoder, self.background)
        return [part for part in parts if part is not None]

    def get_config(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "seed": self.seed, "name": self.name, "glimpses": GLIMPSES}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AIRModel":
        return cls(**{name: value for name, value in config.items() if name != "glimpses"})
