"""The objects of a scene, which the user may move, resize, reshape, copy and delete."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from air.gui.pen import Point

if TYPE_CHECKING:  # the window opens before TensorFlow is loaded
    from air.model import Scenes

MIN_LENGTH = 3.0  # pixels of a canvas, of the shorter side of an attention window
MAX_LENGTH = 2.0  # times the longer side of the canvas, of the longer side of an attention window
CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))  # (x, y) in widths and heights of an attention window
COPY_OFFSET = 0.25  # of the size of the copied window


class Objects(NamedTuple):
    """N objects on a canvas; every change returns new ones."""

    z_what: np.ndarray  # [N, Z]
    boxes: np.ndarray  # [N, 4] attention windows (x, y, width, height), pixels of the canvas
    presence: np.ndarray  # [N] probabilities
    is_changed: np.ndarray  # [N] bool, whether the user changed the object

    @classmethod
    def of(cls, scene: "Scenes") -> "Objects":
        """Return the objects of one scene, without a batch axis."""
        n = int(scene.count)
        return cls(scene.z_what[:n], scene.attention_boxes[:n], scene.presence[:n], np.zeros(n, bool))

    def as_scene(self, like: "Scenes", canvas_size: tuple[int, int]) -> "Scenes":
        """Return a scene of these objects, to be decoded.

        Args:
            like: the scene that they come from; it fills the rows after the objects.
            canvas_size: height and width, in pixels.
        """
        more = max(len(like.presence) - self.number, 0)
        boxes, z_what = (
            np.concatenate([ours, theirs[len(theirs) - more :]])
            for ours, theirs in ((self.boxes, like.attention_boxes), (self.z_what, like.z_what))
        )
        shift = 2 * (boxes[:, :2] + boxes[:, 2:] / 2) / np.array(canvas_size[::-1], np.float32) - 1
        scale = boxes[:, 2] * (like.scale[0] / like.attention_boxes[0, 2])
        presence = np.concatenate([self.presence, np.zeros(more, np.float32)])
        return like._replace(
            count=np.int32(self.number), presence=presence, scale=scale, shift=shift, attention_boxes=boxes, z_what=z_what
        )

    @property
    def number(self) -> int:
        return len(self.z_what)

    def reshaped(self, index: int, dimension: int, value: float) -> "Objects":
        """Set one dimension of an object's z_what."""
        z_what = self.z_what.copy()
        z_what[index, dimension] = value
        return self._replace(z_what=z_what)._mark(index)

    def moved(self, index: int, by: Point, canvas_size: tuple[int, int]) -> "Objects":
        """Move an object by (x, y) pixels; its centre stays on the canvas (height, width)."""
        x, y, width, height = self.boxes[index]
        centre = np.clip((x + width / 2 + by[0], y + height / 2 + by[1]), 0, canvas_size[::-1])
        return self._placed(index, (*(centre - (width / 2, height / 2)), width, height))

    def resized(self, index: int, corner: Point, to: Point, canvas_size: tuple[int, int]) -> "Objects":
        """Drag one of CORNERS of an object's window to (x, y) in pixels; the opposite corner stays, and so does its shape."""
        box = self.boxes[index]
        size, away = box[2:], 2 * np.asarray(corner) - 1  # the directions in which the corner is dragged
        fixed = box[:2] + (1 - np.asarray(corner)) * size
        zoom = np.max((np.asarray(to) - fixed) * away / size)
        zoom = np.clip(zoom, MIN_LENGTH / min(size), MAX_LENGTH * max(canvas_size) / max(size))
        start = fixed - (1 - np.asarray(corner)) * size * zoom
        return self._placed(index, (*start, *(size * zoom)))

    def without(self, index: int) -> "Objects":
        """Delete an object."""
        return Objects(*(np.delete(field, index, axis=0) for field in self))

    def with_copy(self, index: int, canvas_size: tuple[int, int]) -> "Objects":
        """Append a copy of an object, a little to the side that has more room."""
        copied = Objects(*(np.concatenate([field, field[index : index + 1]]) for field in self))
        centre = self.boxes[index, :2] + self.boxes[index, 2:] / 2
        side = np.where(centre < np.asarray(canvas_size[::-1]) / 2, 1, -1)
        return copied.moved(self.number, tuple(COPY_OFFSET * self.boxes[index, 2:] * side), canvas_size)

    def at(self, point: Point) -> int | None:
        """Return the object with the smallest attention window around (x, y) in pixels; None if there is none."""
        corner, size = self.boxes[:, :2], self.boxes[:, 2:]
        hit = np.flatnonzero(((corner <= point) & (point <= corner + size)).all(axis=1)).tolist()
        return min(hit, key=lambda index: self.boxes[index, 2], default=None)

    def corner_at(self, index: int, point: Point, reach: float) -> tuple[int, int] | None:
        """Return which of CORNERS of an object's window is nearest to (x, y); None if none is within `reach` pixels."""
        corners = self.boxes[index, :2] + np.asarray(CORNERS) * self.boxes[index, 2:]
        distances = np.hypot(*(corners - point).T)
        nearest = int(distances.argmin())
        return CORNERS[nearest] if distances[nearest] <= reach else None

    def _placed(self, index: int, box: tuple[float, ...]) -> "Objects":
        boxes = self.boxes.copy()
        boxes[index] = box
        return self._replace(boxes=boxes)._mark(index)

    def _mark(self, index: int) -> "Objects":
        is_changed = self.is_changed.copy()
        is_changed[index] = True
        return self._replace(is_changed=is_changed)
