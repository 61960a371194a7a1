"""A model's compiled programs for one picture at a time, and their way from one load of a model to the next."""

from typing import Any

import numpy as np
import tensorflow as tf

from air.model.air_model import AIRModel
from air.model.generative import cross_entropy


class Programs:
    """What the demo asks of a model, compiled for a batch of one.

    TensorFlow never gives back all the memory of a compiled program, so weights that are loaded anew move into the programs
    that are there, see `take_weights`.

    `means` gives the scene in an image [1, H, W] in [0, 1], `sample` a sample of it by a seed [2], `paint` the scene of given
    latents; each with the cross-entropy [1] of the image and the scene's reconstruction, in nats.
    """

    def __init__(self, model: AIRModel) -> None:
        self.model = model
        config = model.config
        image = tf.TensorSpec([1, *config.canvas_size], tf.float32)
        seed = tf.TensorSpec([2], tf.int32)
        z_what = tf.TensorSpec([1, config.max_steps, config.z_what_size], tf.float32)
        z_where = tf.TensorSpec([1, config.max_steps, 3], tf.float32)
        present = tf.TensorSpec([1, config.max_steps], tf.float32)

        @tf.function(input_signature=[image], jit_compile=True, autograph=False)
        def means(image: tf.Tensor) -> Any:
            scenes = model(image)
            return scenes, cross_entropy(image, scenes.reconstruction)

        # These two are not compiled, which would take longer than they ever save.
        @tf.function(input_signature=[image, seed], autograph=False)
        def sample(image: tf.Tensor, seed: tf.Tensor) -> Any:
            scenes = model.draw(image, seed)
            return scenes, cross_entropy(image, scenes.reconstruction)

        @tf.function(input_signature=[image, z_what, z_where, present], autograph=False)
        def paint(image: tf.Tensor, z_what: tf.Tensor, z_where: tf.Tensor, present: tf.Tensor) -> Any:
            scenes = model.decode(z_what, z_where, present)
            return scenes, cross_entropy(image, scenes.reconstruction)

        self.means, self.sample, self.paint = means, sample, paint

    def take_weights(self, model: AIRModel) -> bool:
        """Puts the weights of another model in place of these; False if that has another configuration."""
        if model.config != self.model.config:
            return False
        for own, other in zip(self.model.variables, model.variables, strict=True):
            own.assign(other)
        return True

    def warm_up(self) -> None:
        """Makes what every picture needs: TensorFlow compiles at the first call, and optimises at the next ones."""
        blank = np.zeros((1, *self.model.config.canvas_size), np.float32)
        for _ in range(3):
            self.means(blank)

    def warm_up_the_rest(self) -> None:
        """Traces what is seldom used."""
        config = self.model.config
        blank = np.zeros((1, *config.canvas_size), np.float32)
        scenes, _ = self.sample(blank, np.zeros(2, np.int32))
        z_where = np.ones((1, config.max_steps, 3), np.float32)
        self.paint(blank, scenes.z_what, z_where, np.zeros((1, config.max_steps), np.float32))

    def dream(self, seed: int, tries: int) -> np.ndarray:
        """A scene drawn from the prior, [H, W] uint8: the first one that is not empty."""
        for attempt in range(tries):
            images, scenes = self.model.generate(1, seed=seed + attempt)
            if scenes.count[0]:
                break
        return np.rint(255 * images[0]).astype(np.uint8)
