"""Scenes that are drawn while a model trains: nothing to make or to keep before, and no scene is seen twice.

stream = SceneStream(SCENES["noise"], seed=0)
scenes = stream.batch(step=1000, size=64)               # the same whenever it is asked for
batches = stream.batches(64, start_step=1000)           # a tf.data.Dataset that begins with them
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from air.data import objects
from air.data.backgrounds import Backgrounds
from air.data.generator import generate
from air.data.pipeline import prefetch
from air.data.rules import GeneratorConfig
from air.data.scenes import SceneSet

if TYPE_CHECKING:
    import tensorflow as tf

WORKERS = 2  # batches that are drawn at the same time
PREFETCHED = 8  # batches


class SceneStream:
    """Draws scenes by rules, batch by batch; a batch depends on the rules, the seed and its number alone.

    Args:
        config: the rules; all its counts are equally frequent.
        seed: of all draws.
        mnist_path: see `air.data.mnist.load`.

    Raises:
        DataError: if the digits or pictures can't be read.
        UsageError: if objects don't fit on the canvas.
    """

    def __init__(self, config: GeneratorConfig, seed: int = 0, mnist_path: str | os.PathLike[str] | None = None) -> None:
        self.config, self.seed = config, seed
        self._digits = objects.load(config, mnist_path)
        self._backgrounds: dict[str, Backgrounds] = {}  # by split
        self._generate(config.counts, np.random.default_rng(0), "train")  # an error while a model trains would be TensorFlow's

    def batch(self, step: int, size: int, split: str = "train") -> SceneSet:
        """Draw the scenes of a step, from the digits, letters and pictures of a split: "train", "validation" or "test"."""
        rng = np.random.default_rng([self.seed, step])
        return self._generate(rng.choice(self.config.counts, size), rng, split)

    def batches(self, size: int, start_step: int = 0) -> "tf.data.Dataset":
        """Return an endless data set of (images float32 [size, H, W] in [0, 1], perhaps in colour, count int32 [size])."""
        import tensorflow as tf

        channels = () if self.config.channels == 1 else (self.config.channels,)

        def draw(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scenes = self.batch(int(step), size)
            return scenes.images, scenes.count.astype(np.int32)

        def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, count = tf.numpy_function(draw, [step], (tf.uint8, tf.int32), stateful=False)
            images = tf.ensure_shape(images, [size, *self.config.canvas_size, *channels])
            return tf.cast(images, tf.float32) / 255.0, tf.ensure_shape(count, [size])

        steps = tf.data.Dataset.range(start_step, tf.int64.max)
        return prefetch(steps.map(load, num_parallel_calls=WORKERS, deterministic=True), PREFETCHED)

    def _generate(self, count: Sequence[int] | np.ndarray, rng: np.random.Generator, split: str) -> SceneSet:
        if split not in self._backgrounds:
            self._backgrounds[split] = Backgrounds(self.config, split)
        return generate(self.config, self._digits[split], count, rng, backgrounds=self._backgrounds[split])
