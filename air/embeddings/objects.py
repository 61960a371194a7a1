"""The objects that a model infers in scenes, and the true digits that they show."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from air.data.scenes import SceneSet
from air.evaluation import scores
from air.model import transformer
from air.model.air_model import AIRModel
from air.model.images import as_float
from air.support.arrays import in_batches

BATCH = 512  # scenes whose rendered objects are in memory at a time

Picture = Literal["reconstruction", "crop"]


class Inferred(NamedTuple):
    """The inferences of a model, T steps in N scenes; a scene's objects are its first `count` steps."""

    count: np.ndarray  # type: ignore[assignment]  # [N]
    presence: np.ndarray  # [N, T] probability that the step attends to an object
    scale: np.ndarray  # [N, T] the longer side of the attention window, as a fraction of the canvas' longer side
    shift: np.ndarray  # [N, T, 2] its centre (x, y), canvas units
    attention_boxes: np.ndarray  # [N, T, 4] the attention window (x, y, width, height), pixels
    z_what: np.ndarray  # [N, T, Z] posterior means
    pictures: np.ndarray  # [N, T, h, w] uint8; [N, T, 0, 0] unless asked for

    def at(self, scene: np.ndarray, step: np.ndarray) -> "Inferred":
        """Select K objects by scene [K] and step [K]: fields [K, ...] without an axis of steps."""
        return Inferred(self.count[scene], *(field[scene, step] for field in self[1:]))


def infer(
    model: AIRModel, images: np.ndarray, picture: Picture | None = None, progress: Callable[[int], Any] | None = None
) -> Inferred:
    """Infer scenes [N, H, W] or [N, H, W, 3] uint8 deterministically, keeping one grey picture of each step, or none.

    `progress` is called with the number of scenes in each batch.
    """

    def infer_part(part: slice) -> Inferred:
        scenes = model.infer(images[part])
        if picture == "reconstruction":
            pictures = scenes.opacity  # of grey digits that add up, their brightness; of others, their shape
        elif picture == "crop":
            seen = as_float(images[part], images.shape[1:])
            pictures = transformer.crop(seen[:, None], scenes.z_where, model.config.window_size).numpy()
        else:
            pictures = np.empty((*scenes.presence.shape, 0, 0))
        if pictures.ndim == 5:  # the projector and the plots have a colour of their own for each point
            pictures = pictures.mean(axis=-1)
        latents = (scenes.count, scenes.presence, scenes.scale, scenes.shift, scenes.attention_boxes, scenes.z_what)
        return Inferred(*latents, np.round(255 * pictures).astype(np.uint8))

    return in_batches(infer_part, len(images), BATCH, progress)


def match(inferred: Inferred, scenes: SceneSet, distance: float) -> np.ndarray:
    """Pair inferred with true objects one to one: as many pairs as possible, at the least total distance of their centres.

    Scenes need count and boxes; no pair is further apart than `distance` in canvas units. Returns, for each step [N, T], the
    index of the true object in its scene, or -1.
    """
    height, width = scenes.canvas_size
    difference = scores.centres(inferred.attention_boxes)[:, :, None] - scores.centres(scenes.boxes)[:, None]
    distances = np.linalg.norm(difference / (np.array([width, height]) / 2), axis=-1)  # [N, T, M]
    near = distances <= distance
    # A pair that is too far apart costs more than all near pairs together, so a shorter total never costs a near pair.
    cost = np.where(near, distances, distance * (distances.shape[1] + distances.shape[2]))
    pairs = scores.match(cost, inferred.count, scenes.count)
    kept = near[pairs.scene, pairs.detection, pairs.truth]
    truth = np.full(inferred.presence.shape, -1)
    truth[pairs.scene[kept], pairs.detection[kept]] = pairs.truth[kept]
    return truth


def isolate(scenes: SceneSet, scene: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Erase all but one true object: of scenes [K] with segments, keep objects `truth` [K]; returns their images."""
    images, is_kept = scenes.images[scene], scenes.segments[scene] == truth[:, None, None] + 1
    return np.where(is_kept if images.ndim == 3 else is_kept[..., None], images, np.uint8(0))
