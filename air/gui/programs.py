"""What the window asks a model about one picture."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from air.model import AIRModel, Scenes
from air.model.generative import cross_entropy

MIN_STEPS = 12  # of a model that takes any number: people draw more objects than training shows
WARM_UP = 3  # calls: TensorFlow compiles at the first one and optimises at the next ones


class Answer(NamedTuple):
    """A scene of T steps on a canvas H x W, in NumPy arrays without the batch axis; windows and objects on its background."""

    scene: Scenes
    objects: np.ndarray  # [T, H, W] each object rendered on a canvas of its own
    loss: float  # cross-entropy of the image and the reconstruction, nats


class Programs:
    """Inference, sampling and rendering of one picture, through functions that the model and this class compile once.

    TensorFlow never frees all the memory of a compiled function, so the weights of a model that is loaded again are copied into
    the one whose functions exist already.
    """

    def __init__(self, model: AIRModel) -> None:
        self.model = model
        steps = model.config.max_steps
        self.steps = max(steps, MIN_STEPS) if model.config.takes_any_canvas else steps
        self.any_size = False  # whether `infer` can find objects of any size, see `warm_up_any_size`
        self._decode = tf.function(model.decode, autograph=False)
        self._explain = tf.function(self._objects_and_loss, autograph=False)

    def infer(self, image: np.ndarray, seed: int | None = None, quick: bool = False) -> Answer:
        """Attend to an image [H, W] in [0, 1], with posterior means or, from a seed, with samples of the posterior.

        After `warm_up_any_size` it finds objects of any size, unless it is asked to be quick or to sample.
        """
        how = {"any_size": self.any_size and not quick} if seed is None else {"sample": True, "seed": seed}
        return self._answer(image, self.model.infer(self._in_channels(image)[None], max_steps=self.steps, **how))

    def render(self, image: np.ndarray, scene: Scenes, z_what: np.ndarray) -> Answer:
        """Render a scene with another z_what [T, Z], and compare the result with an image [H, W]."""
        z_where = np.concatenate([scene.scale[:, None], scene.shift], axis=1)
        present = np.float32(np.arange(len(z_where)) < scene.count)
        decoded = self._decode(z_what[None], z_where[None], present[None], background=scene.background[None])
        return self._answer(image, decoded._replace(presence=scene.presence[None]))

    def _answer(self, image: np.ndarray, scenes: Scenes) -> Answer:
        objects, windows, loss = (np.asarray(part)[0] for part in self._explain(self._in_channels(image)[None], scenes))
        scene = Scenes(*(np.asarray(field)[0] for field in scenes))
        return Answer(scene._replace(decoded_windows=windows), objects, float(loss))

    def _objects_and_loss(self, images: tf.Tensor, scenes: Scenes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        scenes = Scenes(*map(tf.convert_to_tensor, scenes))
        in_line = self.model.composition.in_line
        loss = cross_entropy(in_line(images), in_line(scenes.reconstruction))
        return scenes.pictured_objects, scenes.pictured_windows, loss

    def _in_channels(self, image: np.ndarray) -> np.ndarray:
        """Return a grey image [H, W] as the model takes it, perhaps in colour."""
        return image if self.model.config.channels == 1 else np.repeat(image[..., None], self.model.config.channels, axis=-1)

    def take_weights(self, model: AIRModel) -> bool:
        """Copy another model's weights; return False if it has another configuration."""
        if model.config != self.model.config:
            return False
        self.model.set_weights(model.get_weights())
        return True

    def warm_up(self) -> None:
        """Compile what `infer` needs for objects of the usual size."""
        for _ in range(WARM_UP):
            self.infer(self._picture(), quick=True)

    def warm_up_any_size(self) -> None:
        """Compile what it needs for objects of any size, if the model can find them; this takes several seconds."""
        if self.model.config.takes_any_canvas:
            for _ in range(WARM_UP):
                self.model.infer(self._in_channels(self._picture())[None], max_steps=self.steps, any_size=True)
            self.any_size = True

    def warm_up_the_rest(self) -> None:
        """Compile sampling and `render`."""
        image = self._picture()
        scene = self.infer(image, seed=0).scene
        self.render(image, scene, scene.z_what)

    def _picture(self) -> np.ndarray:
        """Return a picture of one object."""
        height, width = self.model.config.canvas_size
        picture = np.zeros((height, width), np.float32)
        picture[height // 3 : height // 2, width // 3 : width // 2] = 1.0
        return picture

    def dream(self, seed: int, tries: int) -> np.ndarray:
        """Sample the prior until a scene is not empty; return it as [H, W] uint8."""
        for attempt in range(tries):
            images, scenes = self.model.generate(1, seed=seed + attempt)
            if scenes.count[0]:
                break
        grey = images[0] if images.ndim == 3 else images[0].mean(axis=-1)
        return np.rint(255 * grey).astype(np.uint8)
