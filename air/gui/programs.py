"""Ask a model about one picture, as the window does."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from air.config import AIRConfig
from air.model import AIRModel, Scenes, transformer
from air.model.generative import cross_entropy

MIN_STEPS = 12  # of a model that takes any number: people draw more objects than training shows
WARM_UP = 3  # calls: TensorFlow compiles at the first one and optimises at the next ones
DRAWS = 16  # of z_what, to see what its dimensions do
MAX_HIDDEN = 0.02  # of the ink that a dream keeps
CanvasSize = tuple[int, int]  # height and width


class Answer(NamedTuple):
    """A scene of T steps on a canvas H x W, in NumPy arrays without the batch axis; its windows on its background.

    In colour, all but the loss have a last axis of 3.
    """

    scene: Scenes
    objects: np.ndarray  # [T, H, W] what each object adds to the canvas of those before it, below 0 where it is darker
    loss: float  # cross-entropy of the image and the reconstruction, nats


class Programs:
    """Inference, sampling and rendering of one picture, through functions that the model and this class compile once.

    TensorFlow never frees all the memory of a compiled function, so the weights of a model that is loaded again are copied into
    the one whose functions exist already.
    """

    def __init__(self, model: AIRModel) -> None:
        self.model = model
        self._picture = _picture(model.config)  # to compile with
        self.looks_thoroughly = False  # see `warm_up_thorough_look`
        # After the second canvas, these two serve any other.
        self._decode = tf.function(self._decode_scenes, autograph=False, reduce_retracing=True)
        self._explain = tf.function(self._objects_and_loss, autograph=False, reduce_retracing=True)
        self._windows = tf.function(self._decode_windows, autograph=False)

    def infer(self, image: np.ndarray, seed: int | None = None, quick: bool = False) -> Answer:
        """Attend to an image of the model's channels in [0, 1], with posterior means or, from a seed, with its samples.

        After `warm_up_thorough_look` it finds objects of any size and settles doubtful ones, as far as the model can, unless it
        is asked to be quick or to sample.
        """
        quick = quick or not self.looks_thoroughly
        any_size = self.model.config.takes_any_size and not quick
        how = {"any_size": any_size, "quick": quick} if seed is None else {"sample": True, "seed": seed}
        scenes = self.model.infer(image[None], max_steps=self._steps(image.shape[:2]), **how)
        return self._answer(image, scenes)

    def render(self, image: np.ndarray, scene: Scenes) -> Answer:
        """Render a scene whose count, presence, scale, shift or z_what were changed, and compare the result with an image."""
        present = np.float32(np.arange(len(scene.scale)) < scene.count)
        background = scene.background[None]
        decoded = self._decode(scene.z_what[None], scene.z_where[None], present[None], background)
        return self._answer(image, decoded._replace(presence=scene.presence[None]))

    def _answer(self, image: np.ndarray, scenes: Scenes) -> Answer:
        objects, windows, loss = (np.asarray(part)[0] for part in self._explain(image[None], scenes))
        scene = Scenes(*(np.asarray(field)[0] for field in scenes))
        return Answer(scene._replace(decoded_windows=windows), objects, float(loss))

    def _decode_scenes(self, z_what: tf.Tensor, z_where: tf.Tensor, present: tf.Tensor, background: tf.Tensor) -> Scenes:
        return self.model.decode(z_what, z_where, present, transformer.size_of(background), background)

    def _objects_and_loss(self, images: tf.Tensor, scenes: Scenes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        scenes = Scenes(*map(tf.convert_to_tensor, scenes))
        in_line = self.model.composition.in_line
        loss = cross_entropy(in_line(images), in_line(scenes.reconstruction))
        return scenes.added(self.model.composition), scenes.pictured_windows, loss

    def _decode_windows(self, z_what: tf.Tensor) -> tf.Tensor:
        return self.model.composition.appearance(self.model.decoder(z_what[None]))[0][0]

    def take_weights(self, model: AIRModel) -> bool:
        """Copy another model's weights; return False if it has another configuration."""
        if model.config != self.model.config:
            return False
        self.model.set_weights(model.get_weights())
        return True

    def warm_up(self) -> None:
        """Compile what `infer` needs to look quickly."""
        for _ in range(WARM_UP):
            self.infer(self._picture, quick=True)

    def warm_up_thorough_look(self) -> None:
        """Compile what it needs to look thoroughly, if the model can do more than look quickly; this takes several seconds."""
        if self.model.config.takes_any_size or self.model.config.ascent_steps:
            any_size, steps = self.model.config.takes_any_size, self._steps(self._picture.shape[:2])
            for _ in range(WARM_UP):
                self.model.infer(self._picture[None], max_steps=steps, any_size=any_size)
            self.looks_thoroughly = True

    def warm_up_the_rest(self) -> None:
        """Compile `render` and sampling."""
        image = self._picture
        self.render(image, self.infer(image, quick=True).scene)
        self.infer(image, seed=0)

    def _steps(self, canvas_size: CanvasSize) -> int:
        steps = self.model.config.steps_on(canvas_size)
        return max(steps, MIN_STEPS) if self.model.config.takes_any_canvas else steps

    def dream(self, seed: int, kept: np.ndarray, tries: int) -> np.ndarray:
        """Sample the prior until a scene is not empty and hides little of what is kept; return both as one uint8 picture.

        `kept` is [H, W] or [H, W, 3], what objects add to a canvas.
        """
        for attempt in range(tries):
            images, scenes = self.model.generate(1, seed=seed + attempt, canvas_size=kept.shape[:2])
            added = np.abs(images[0] - scenes.background[0])
            if scenes.count[0] and np.minimum(np.abs(kept), added).sum() <= MAX_HIDDEN * np.abs(kept).sum():
                break
        return np.rint(255 * np.clip(kept + images[0], 0, 1)).astype(np.uint8)

    def vary(self, z_what: np.ndarray, dimensions: list[int], values: tuple[float, ...]) -> np.ndarray:
        """Decode z_what [Z] with each of several dimensions set to each of several values: [dimensions, values, h, w]."""
        varied = np.tile(z_what, (len(dimensions), len(values), 1))
        for i, dimension in enumerate(dimensions):
            varied[i, :, dimension] = values
        windows = self._windows(np.float32(varied.reshape(-1, len(z_what))))
        return windows.numpy().reshape(*varied.shape[:2], *windows.shape[1:])

    def effects(self) -> np.ndarray:
        """Measure how much each dimension of z_what changes a decoded window, [Z].

        It is the mean absolute difference between a standard deviation of the prior above and below its mean, with the other
        dimensions drawn from the prior.
        """
        c = self.model.config
        mean, std = c.z_what_prior_mean.end, c.z_what_prior_variance.end**0.5
        drawn = mean + std * np.random.default_rng(0).standard_normal((DRAWS, c.z_what_size))
        ends = np.stack([self.vary(z_what, list(range(c.z_what_size)), (mean - std, mean + std)) for z_what in drawn])
        changes = np.abs(ends[:, :, 1] - ends[:, :, 0])
        return changes.mean(axis=(0, *range(2, changes.ndim)))


def _picture(config: AIRConfig) -> np.ndarray:
    """Return a picture of one object."""
    height, width = config.canvas_size
    picture = np.zeros(config.image_shape, np.float32)
    picture[height // 3 : height // 2, width // 3 : width // 2] = 1.0
    return picture
