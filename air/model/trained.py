"""Ask a trained model, with NumPy arrays in and out, in batches: infer, generate, bound."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from air.model import bounds, distributions, transformer, zooms
from air.model.exploration import Found, as_scenes
from air.model.generative import Scenes, draw_prior
from air.model.images import check_images
from air.model.inference import BACKGROUND
from air.model.trainable import MIN_FREQUENCY, TrainableModel
from air.support.arrays import in_batches

BATCH = 256  # scenes at a time
ELBO_BATCH = 250
SAMPLES_BATCH = 1000  # pairs of scene and sample at a time
MAX_STEPS = 10_000
MAX_COMPILED_STEPS = 8  # XLA would take minutes for more


class TrainedModel(TrainableModel):
    """Base class of the model: everything that needs no gradient."""

    def infer(
        self,
        images: Any,
        *,
        max_steps: int | None = None,
        any_size: bool = False,
        quick: bool = False,
        sample: bool = False,
        seed: int = 0,
        batch_size: int | None = None,
        jit_compile: bool = False,
    ) -> Scenes:
        """Infer scenes: how many objects there are, where, and what they look like.

        Args:
            images: [batch, canvas_height, canvas_width], uint8 or float in [0, 1], and a last axis of 3 for a model of colour
                scenes. A convolutional controller takes any canvas at least as large as the window, and stops once every scene
                has stopped.
            max_steps: rows T of the result, and the maximum number of objects; that of the configuration when None, or
                in proportion more on a larger canvas.
            any_size: also look at enlarged and at smaller versions of the images, and keep what explains each part of
                them best: for objects of other sizes than in training.
            quick: believe the networks, even if `ascent_steps` of the configuration asks to settle doubtful objects.
            sample: draw the latent variables from their posterior instead of taking the means.
            seed: of the draws, which depend on `batch_size` too.
            batch_size: scenes at a time, which bounds memory; 256, or fewer if they are larger than in training, when None.
            jit_compile: compile with XLA for this canvas and numbers of scenes and steps: several seconds at the first call,
                then two fifths of the time for a scene.

        Returns:
            `Scenes` of NumPy arrays.

        Raises:
            DataError: for images of another shape, type or range.
            ValueError: for an impossible option, or one that only a convolutional controller offers.
        """
        images = check_images(images, self.config)
        steps = self._steps(max_steps, images.shape[1:3])
        batch_size = self._batch(BATCH, images.shape[1:3]) if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not allowed; it must be 1 or more")
        if any_size and (sample or not self.config.takes_any_size):
            needed = "sample=False" if sample else "the convolutional controller, and grey objects that add up on black"
            raise ValueError(f"any_size: True is not allowed; it needs {needed}")
        settles = self.config.ascent_steps > 0 and not quick and not sample
        infer = functools.partial(self._infer, steps=steps, option=(sample, settles), any_size=any_size, xla=jit_compile)
        return self._in_batches(infer, images, batch_size, seed, pad=jit_compile)

    def generate(
        self, scenes: int, *, count: int | None = None, seed: int = 0, canvas_size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, Scenes]:
        """Draw scenes from the model's prior.

        The number of objects is drawn from the frequencies of the counts that the model inferred in training, because the
        annealed prior of z_pres ends far below them; everything else is drawn from its prior.

        Args:
            scenes: number of scenes.
            count: objects in every scene; None to draw it.
            seed: of the draws.
            canvas_size: height and width in pixels, if other than in training; needs a convolutional controller.

        Returns:
            Images [scenes, canvas_height, canvas_width] in [0, 1], perhaps in colour, and their `Scenes`.

        Raises:
            ValueError: if count is not in 0 ... T, scenes is below 1, or the canvas is impossible.
        """
        height, width = canvas_size or self.config.canvas_size
        size, least = (height, width), self.config.smallest_canvas
        if self.config.takes_any_canvas:
            fits, allowed = height >= least[0] and width >= least[1], f"at least {least}"
        else:
            fits, allowed = size == self.config.canvas_size, f"{self.config.canvas_size}, as its controller takes no other"
        if not fits:
            raise ValueError(f"canvas_size: {size} is not allowed; it must be {allowed}")
        steps = self.config.steps_on(size)
        if scenes < 1:
            raise ValueError(f"scenes: {scenes} is not allowed; it must be 1 or more")
        if count is not None and not 0 <= count <= steps:
            raise ValueError(f"count: {count} is not allowed; it must be from 0 to max_steps = {steps}")
        seeds = tf.unstack(tf.random.split(tf.constant([seed, 0], tf.int32)))
        if count is None:
            log_prior = tf.constant(np.log(self.count_prior_on(size))[None], tf.float32)
            drawn = tf.random.stateless_categorical(log_prior, scenes, seeds[0], dtype=tf.int32)[0]
        else:
            drawn = tf.fill([scenes], count)
        present = tf.sequence_mask(drawn, steps, tf.float32)
        unit = transformer.unit(self.config.canvas_size, size)
        latents = draw_prior(self.config, tf.convert_to_tensor(self.step), scenes, steps, seeds[1], unit)
        background = None
        if self.background is not None:
            z = distributions.standard_normal(
                [scenes, self.background.latents], tf.random.experimental.stateless_fold_in(seeds[1], BACKGROUND)
            )
            background = self.background.paint(z, size)
        generated = Scenes(*(np.asarray(tensor) for tensor in self.decode(*latents, present, size, background)))
        return generated.reconstruction, generated

    def count_prior_on(self, canvas_size: tuple[int, int], max_steps: int | None = None) -> np.ndarray:
        """Return the prior p(n) from the counts that the model inferred in training: [T + 1].

        A canvas of k times the area, rounded up, has as many objects as k training scenes together.
        """
        steps = self.config.steps_on(canvas_size) if max_steps is None else max_steps
        areas = math.ceil(math.prod(canvas_size) / math.prod(self.config.canvas_size))
        frequencies = np.asarray(self.count_frequencies(), np.float64)
        prior = functools.reduce(np.convolve, [frequencies / frequencies.sum()] * areas)[: steps + 1]
        prior = np.maximum(np.pad(prior, (0, steps + 1 - len(prior))), MIN_FREQUENCY)
        return prior / prior.sum()

    def log_prob_bound(
        self,
        images: Any,
        samples: int = 100,
        *,
        seed: int = 0,
        likelihood: str | None = None,
        count_prior: Any = None,
        max_steps: int | None = None,
    ) -> np.ndarray:
        """Compute a lower bound on log p(x) of each scene, in nats: the importance-weighted bound (Burda et al., 2016).

        It is the bound of the discrete model that `infer` uses, and rises with the number of samples; with one it is a sample
        of the ELBO.

        Args:
            images: see `infer`.
            samples: of the latent variables of each scene.
            seed: of the draws.
            likelihood: "cross_entropy" or "normal"; the configured one when None.
            count_prior: [T + 1] probabilities of each count; `count_prior_on` this canvas when None.
            max_steps: number of steps T, see `infer`.

        Returns:
            [batch] float64.

        Raises:
            DataError: for images of another shape, type or range.
            ValueError: for an impossible number of samples or steps, likelihood or prior.
        """
        images = check_images(images, self.config)
        size = images.shape[1:3]
        steps = self._steps(max_steps, size)
        likelihood = self.config.likelihood if likelihood is None else likelihood
        prior = np.asarray(self.count_prior_on(size, steps) if count_prior is None else count_prior, np.float64)
        bounds.check(samples, likelihood, prior, steps)
        weights = self.importance_samples(images, samples, seed, max_steps=steps)
        return bounds.importance_bound(weights.log_weights(likelihood, prior / prior.sum()), samples)

    def elbo(
        self, images: np.ndarray, seed: int = 0, progress: Callable[[int], Any] | None = None, max_steps: int | None = None
    ) -> bounds.Elbo:
        """Compute the parts of the ELBO of scenes: exact over the count, one sample of z_where and z_what.

        Args:
            images: see `infer`.
            seed: of the samples.
            progress: called repeatedly with the number of scenes done since the last call.
            max_steps: number of steps T, see `infer`.
        """
        images = check_images(images, self.config)
        steps = self._steps(max_steps, images.shape[1:3])
        program = self._program("elbo", images.shape[1:3], steps)
        return self._in_batches(program, images, self._batch(ELBO_BATCH, images.shape[1:3], steps), seed, progress, pad=True)

    def importance_samples(
        self,
        images: np.ndarray,
        samples: int,
        seed: int = 0,
        progress: Callable[[int], Any] | None = None,
        max_steps: int | None = None,
    ) -> bounds.ImportanceSamples:
        """Draw the latent variables of each scene several times and weigh the samples, see `elbo` and `bounds`."""
        images = check_images(images, self.config)
        steps = self._steps(max_steps, images.shape[1:3])
        program = self._program("importance", images.shape[1:3], steps, samples)
        size = max(self._batch(SAMPLES_BATCH, images.shape[1:3], steps) // samples, 1)
        return self._in_batches(program, images, size, seed, progress, pad=True)

    def _infer(
        self, images: tf.Tensor, seed: tf.Tensor, *, steps: int, option: tuple[bool, bool], any_size: bool, xla: bool
    ) -> Scenes:
        """Infer scenes of images [batch, H, W] by compiled functions; without XLA, they serve all canvases and steps."""
        if not self.config.takes_any_canvas:
            return self._program("draw", self.config.canvas_size, steps, option, xla)(images, seed)

        def explore(picture: tf.Tensor) -> tuple[Found, Scenes]:
            if xla:
                return self._program("explore", tuple(picture.shape[1:3]), steps, option, xla)(picture, seed)
            return self._program("explore", (None, None), None, option)(picture, seed, tf.constant(steps))

        if not any_size:
            return explore(images)[1]
        pictures = zooms.look(images)
        return self._program("choose", (None, None), None)(pictures, [explore(picture)[0] for picture in pictures])

    def _steps(self, max_steps: int | None, canvas_size: tuple[int, int]) -> int:
        """Check a number of steps, or return the default."""
        if max_steps is None:
            return self.config.steps_on(canvas_size)
        if not self.config.takes_any_canvas and max_steps != self.config.max_steps:
            raise ValueError(
                f"max_steps: {max_steps} is not allowed; this model's controller takes {self.config.max_steps} steps"
            )
        if not 1 <= max_steps <= MAX_STEPS:
            raise ValueError(f"max_steps: {max_steps} is not allowed; it must be from 1 to {MAX_STEPS}")
        return operator.index(max_steps)  # of any integer type of NumPy's

    def _batch(self, size: int, canvas_size: tuple[int, int], steps: int = 1) -> int:
        """Return how many scenes of a canvas take as much memory as `size` training scenes do."""
        larger = math.prod(canvas_size) / math.prod(self.config.canvas_size)
        more = (steps + 1) / (self.config.max_steps + 1)
        return max(int(size / max(larger, 1.0) / max(more, 1.0)), 1)

    def _in_batches(
        self,
        program: Callable[[tf.Tensor, tf.Tensor], Any],
        images: np.ndarray,
        size: int,
        seed: int = 0,
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
            padded[: len(batch)] = batch
            fields = program(tf.constant(padded), tf.constant([seed, which.start], tf.int32))
            return type(fields)(*(field.numpy()[: len(batch)] for field in fields))

        # TensorFlow's convolutions don't take an empty batch.
        return in_batches(part, len(images), size, progress) if len(images) else part(slice(0, 0))

    def _program(
        self, name: str, canvas_size: tuple[int | None, int | None], steps: int | None, option: Any = None, xla: bool = False
    ) -> Callable[..., Any]:
        """Return a function that is compiled once for a canvas and a number of steps, or for all of them."""
        key = name, canvas_size, steps, option, xla
        if key not in self._programs:
            # TensorFlow takes functions of the same code for one that is traced again and again, and warns; not so partials.
            function = functools.partial(self._compute, name, steps, option)
            if xla or (name in ("elbo", "importance") and steps <= MAX_COMPILED_STEPS):
                options: dict[str, Any] = {"jit_compile": True}
            else:  # of any batch size, on which XLA can't branch
                options = {"input_signature": self._signature(name, canvas_size)}
            self._programs[key] = tf.function(function, autograph=False, **options)
        return self._programs[key]

    def _signature(self, name: str, canvas_size: tuple[int | None, int | None]) -> list[Any]:
        images = tf.TensorSpec([None, *canvas_size, *self.config.image_shape[2:]], tf.float32)
        if name == "choose":
            shapes = Found((), (), (3,), (self.config.z_what_size,), self.config.window_size, ())
            found = Found(*(tf.TensorSpec([None, None, *shape], tf.float32) for shape in shapes))
            return [[images] * len(zooms.VIEWS), [found] * len(zooms.VIEWS)]
        seed, steps = tf.TensorSpec([2], tf.int32), tf.TensorSpec([], tf.int32)
        return [images, seed, steps] if name == "explore" else [images, seed]

    def _compute(self, name: str, steps: int | None, option: Any, *arguments: Any) -> Any:
        if name == "choose":
            pictures, found = arguments
            return as_scenes(zooms.choose(pictures, found), transformer.size_of(pictures[0]), self.composition)
        images, seed, *max_steps = arguments
        if name in ("explore", "draw"):
            sample, settles = option
            seed = seed if sample else None
            if name == "draw":
                return self.draw(images, seed, steps)
            shrink = steps is None  # XLA must know the number of steps and the size of every batch
            return self.explore(images, seed, max_steps[0] if shrink else steps, shrink, quick=not settles)
        if name == "elbo":
            return self._elbo(images, seed, steps)
        return self._importance_samples(images, seed, steps, option)

    def _elbo(self, images: tf.Tensor, seed: tf.Tensor, steps: int) -> bounds.Elbo:
        price = self.price()
        return bounds.elbo(images, self.attend(images, seed, steps=steps), price.prior, price.std, self.composition)

    def _importance_samples(self, images: tf.Tensor, seed: tf.Tensor, steps: int, samples: int) -> bounds.ImportanceSamples:
        seeds, price = tf.unstack(tf.random.split(seed, 2)), self.price()
        attention = self.attend(images, seeds[0], samples=samples, steps=steps)
        return bounds.importance_samples(images, attention, price.prior, price.std, seeds[1], self.composition)
