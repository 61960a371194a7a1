"""The objects that a model finds in scenes, one by one, and the true digits that they show."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from air.data.scenes import SceneSet
from air.evaluation import scores
from air.model import transformer
from air.model.air_model import AIRModel
from air.model.images import as_float

BATCH = 500  # scenes at a time

Picture = Literal["reconstruction", "crop"]


class Attention(NamedTuple):
    """What a model attends to: N scenes, T steps, Z latent dimensions, windows h x w.

    A subset of `air.model.air_model.Scenes`; the objects of a scene are its first `counts` steps.
    """

    counts: np.ndarray  # [N]
    presence: np.ndarray  # [N, T] probability that the step attends to an object
    scale: np.ndarray  # [N, T] half the side of the attention window, canvas units
    shift: np.ndarray  # [N, T, 2] its centre (x, y), canvas units
    attention_boxes: np.ndarray  # [N, T, 4] the attention window (x, y, width, height), pixels
    z_what: np.ndarray  # [N, T, Z] posterior means
    pictures: np.ndarray | None  # [N, T, h, w] uint8, reconstructions or crops

    def at(self, scene: np.ndarray, step: np.ndarray) -> "Attention":
        """The objects of K scenes and steps, fields without their axis of steps: [K], [K, 2], [K, Z] ..."""
        return Attention(
            self.count[scene],
            *(None if field is None else field[scene, step] for field in self[1:]),
        )


def attend(
    model: AIRModel,
    images: np.ndarray,
    picture: Picture | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Attention:
    """Infers scenes deterministically, without the canvases that `AIRModel.infer` returns.

    Args:
        model: to ask.
        images: [N, H, W] uint8, at least one, of the model's canvas size.
        picture: which pictures of objects to keep; None for none.
        progress: called with the number of scenes inferred since the last call.
    """

    @tf.function(reduce_retracing=True)  # drops whatever of the model's answer is not returned
    def infer(batch: tf.Tensor) -> list[tf.Tensor]:
        found = model(batch)
        fields = [found.count, found.presence, found.scale, found.shift, found.attention_boxes, found.z_what]
        if picture == "reconstruction":
            fields.append(found.decoded_windows)
        elif picture == "crop":
            z_where = tf.concat([found.scale[..., None], found.shift], axis=-1)
            fields.append(transformer.crop(as_float(batch), z_where, model.config.window_size))
        if picture:
            fields[-1] = tf.cast(tf.round(255.0 * fields[-1]), tf.uint8)
        return fields

    batches = []
    for start in range(0, len(images), BATCH):
        batch = tf.constant(images[start : start + BATCH])
        batches.append([field.numpy() for field in infer(batch)])
        if progress is not None:
            progress(len(batch))
    fields = [np.concatenate(field) for field in zip(*batches, strict=True)]
    return Attention(*fields, *([] if picture else [None]))


def match(attention: Attention, scenes: SceneSet, distance: float) -> np.ndarray:
    """Which true object each step shows, one to one.

    As many as possible are paired, at the least total distance of their centres (Hungarian method).

    Args:
        attention: to N scenes in T steps.
        scenes: the N scenes with counts and boxes.
        distance: greatest distance of a pair's centres, canvas units.

    Returns:
        [N, T] position among the scene's true objects; -1 for a step that shows none of them.
    """
    height, width = scenes.canvas_size
    apart = scores.centres(attention.attention_boxes)[:, :, None] - scores.centres(scenes.boxes)[:, None]
    distances = np.linalg.norm(apart / (np.array([width, height]) / 2), axis=-1)
    near = distances <= distance
    # One pair too far apart costs more than all near ones together, so that none is traded for a shorter total.
    cost = np.where(near, distances, distance * (distances.shape[1] + distances.shape[2]))
    pairs = scores.match(cost, attention.count, scenes.count)
    truth = np.full(attention.presence.shape, -1)
    kept = near[pairs.scene, pairs.detection, pairs.truth]
    truth[pairs.scene[kept], pairs.detection[kept]] = pairs.truth[kept]
    return truth


def alone(scenes: SceneSet, scene: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Scenes with nothing but one digit, at its place.

    Args:
        scenes: with segments.
        scene: [K].
        truth: [K] position among the scene's true objects.

    Returns:
        [K, H, W] uint8.
    """
    return np.where(scenes.segments[scene] == truth[:, None, None] + 1, scenes.images[scene], np.uint8(0))
