"""A model's functions, compiled for one picture."""

import numpy as np
import tensorflow as tf

from air.model import AIRModel, Scenes
from air.model.generative import cross_entropy

Answer = tuple[Scenes, tf.Tensor]
"""Scenes with a batch axis of 1, and the cross-entropy [1] of the image and their reconstruction, in nats."""


class Programs:
    """Inference, sampling and rendering, compiled for a batch of one.

    TensorFlow never frees all the memory of a compiled function, so the weights of a model that is loaded again are copied into
    the functions that exist already. `means`, `sample` and `render` are compiled `_means`, `_sample` and `_render`.
    """

    def __init__(self, model: AIRModel) -> None:
        self.model = model
        c = model.config
        self._blank = np.zeros((1, *c.canvas_size), np.float32)
        image = tf.TensorSpec([1, *c.canvas_size], tf.float32)
        seed = tf.TensorSpec([2], tf.int32)
        latents = [tf.TensorSpec([1, c.max_steps, *shape], tf.float32) for shape in ([c.z_what_size], [3], [])]
        self.means = tf.function(self._means, [image], jit_compile=True, autograph=False)
        # XLA would take longer to compile these two than they ever save.
        self.sample = tf.function(self._sample, [image, seed], autograph=False)
        self.render = tf.function(self._render, [image, *latents], autograph=False)

    def _means(self, image: tf.Tensor) -> Answer:
        """Attend to an image [1, H, W] in [0, 1] with posterior means."""
        return _with_loss(image, self.model(image))

    def _sample(self, image: tf.Tensor, seed: tf.Tensor) -> Answer:
        """Attend to an image with samples of the posterior, drawn from a seed [2]."""
        return _with_loss(image, self.model.draw(image, seed))

    def _render(self, image: tf.Tensor, z_what: tf.Tensor, z_where: tf.Tensor, z_pres: tf.Tensor) -> Answer:
        """Render latents [1, T, ...], and compare the result with an image."""
        return _with_loss(image, self.model.decode(z_what, z_where, z_pres))

    def take_weights(self, model: AIRModel) -> bool:
        """Copy another model's weights; return False if it has another configuration."""
        if model.config != self.model.config:
            return False
        self.model.set_weights(model.get_weights())
        return True

    def warm_up(self) -> None:
        """Compile `means`; TensorFlow compiles at the first call and optimises at the next ones."""
        for _ in range(3):
            self.means(self._blank)

    def warm_up_the_rest(self) -> None:
        """Trace `sample` and `render`."""
        scenes, _ = self.sample(self._blank, np.zeros(2, np.int32))
        steps = scenes.z_what.shape[:2]
        self.render(self._blank, scenes.z_what, np.ones((*steps, 3), np.float32), np.zeros(steps, np.float32))

    def dream(self, seed: int, tries: int) -> np.ndarray:
        """Sample the prior until a scene is not empty; return it as [H, W] uint8."""
        for attempt in range(tries):
            images, scenes = self.model.generate(1, seed=seed + attempt)
            if scenes.count[0]:
                break
        return np.rint(255 * images[0]).astype(np.uint8)


def _with_loss(image: tf.Tensor, scenes: Scenes) -> Answer:
    return scenes, cross_entropy(image, scenes.reconstruction)
