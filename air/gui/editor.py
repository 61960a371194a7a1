"""The selected object, and the user's changes to the objects of a scene."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from air.config import AIRConfig
from air.gui.engine import Engine, Seen
from air.gui.objects import Objects
from air.gui.pen import Point

if TYPE_CHECKING:  # the window opens before TensorFlow is loaded
    from air.model import Scenes

Z_RANGE = 3.0  # standard deviations of the prior that sliders reach to either side of its mean
Z_STEP = 0.25  # of an arrow key
DIMENSIONS = 8  # that have a slider


class Editor:
    """The selected object, and the objects as inferred and as changed by the user."""

    def __init__(self, config: AIRConfig) -> None:
        mean, reach = config.z_what_prior_mean.end, Z_RANGE * config.z_what_prior_variance.end**0.5
        self.limits = mean - reach, mean + reach  # lowest and highest value of a slider
        self.inferred: Seen | None = None  # the newest answer without changes
        self.selected: int | None = None  # index of an object
        self.dimensions = list(range(min(DIMENSIONS, config.z_what_size)))  # in the order of their sliders
        self.dimension = 0  # changed by the arrow keys
        self.ends: np.ndarray | None = (
            None  # [dimensions, 2, h, w] what the selected object looks like at the ends of each slider
        )
        self._varied: np.ndarray | None = None  # z_what that the ends belong to
        self._changed: Objects | None = None
        self._history: list[Objects] = []  # before each change, the newest last
        self._is_held, self._is_new = False, True  # whether the mouse button is down, and whether the next change is a new one
        self._grip: _Grip | None = None

    @property
    def is_edited(self) -> bool:
        return self._changed is not None

    @property
    def objects(self) -> Objects | None:
        """The objects on show; None before the first answer."""
        if self._changed is not None or self.inferred is None:
            return self._changed
        return Objects.of(self.inferred.scene)

    @property
    def scene(self) -> "Scenes":
        """The scene to render for the changed objects."""
        return self._changed.as_scene(self.inferred.scene, self._canvas_size)

    @property
    def z_what(self) -> np.ndarray | None:
        """[Z] of the selected object on show; None if none is selected."""
        return None if self.selected is None else self.objects.z_what[self.selected]

    @property
    def inferred_z_what(self) -> np.ndarray | None:
        """[Z] of the selected object as inferred; None for a copy, or after an object was deleted."""
        count = int(self.inferred.scene.count)
        is_same = self.selected is not None and self.selected < count == self.objects.number
        return self.inferred.scene.z_what[self.selected] if is_same else None

    def choose_dimensions(self, effects: np.ndarray) -> None:
        """Give sliders to the dimensions with the greatest effects, [Z]."""
        self.dimensions = np.argsort(-effects, kind="stable")[:DIMENSIONS].tolist()
        self.dimension = self.dimensions[0]
        self.ends = self._varied = None

    def accept(self, seen: Seen) -> bool:
        """Take in an answer of the engine; return False if it is out of date."""
        if seen.edited:
            return self.is_edited
        if self.is_edited and seen.version == self.inferred.version:
            return False  # a sample that was requested before the change
        self.inferred = seen
        self.reset()
        return True

    def vary(self, engine: Engine) -> None:
        """Keep the pictures at the ends of the sliders up to date."""
        ends, z_what = engine.take_varied(), self.z_what
        if z_what is None:
            self.ends = self._varied = None
            return
        if ends is not None:
            self.ends = ends
        if not np.array_equal(z_what, self._varied):
            self._varied = z_what
            engine.vary(z_what, self.dimensions, self.limits)

    def kept(self, seen: Seen | None, shape: tuple[int, ...]) -> np.ndarray:
        """Return what the changed objects added to the canvas when they were seen last, of the shape of a picture."""
        if seen is None or self._changed is None:
            return np.zeros(shape, np.float32)
        is_changed = self._changed.is_changed
        return seen.objects[: len(is_changed)][is_changed].sum(axis=0).clip(-1, 1)

    def forget(self) -> None:
        """Forget the picture and its objects."""
        self.inferred = None
        self.reset()

    # Selection

    def select(self, index: int | None) -> None:
        """Select an object; selecting it again deselects it."""
        number = 0 if self.objects is None else self.objects.number
        self._grip = None
        self.selected = index if index is not None and index < number and index != self.selected else None

    def cycle_object(self, by: int) -> None:
        choices = [None, *range(0 if self.objects is None else self.objects.number)]
        self._grip = None
        self.selected = choices[(choices.index(self.selected) + by) % len(choices)]

    def cycle_dimension(self, by: int) -> None:
        self.dimension = self.dimensions[(self.dimensions.index(self.dimension) + by) % len(self.dimensions)]

    # Changes

    def perform(self, name: str) -> None:
        """Perform an action on the selected object, if there is one."""
        index, objects = self.selected, self.objects
        if index is None:
            return
        self._grip = None  # which has the objects from before
        if name == "copy object":
            self.change(objects.with_copy(index, self._canvas_size))
            self.selected = objects.number
        elif name == "delete object":
            self.change(objects.without(index))
            self.selected = None
        elif name in ("increase", "decrease"):
            step = Z_STEP if name == "increase" else -Z_STEP
            self.set_z_what(self.dimension, float(objects.z_what[index, self.dimension]) + step)

    def set_z_what(self, dimension: int, value: float) -> None:
        """Change one dimension of the selected object's z_what."""
        self.dimension = dimension
        self.change(self.objects.reshaped(self.selected, dimension, float(np.clip(value, *self.limits))))

    def grab(self, point: Point, reach: float) -> None:
        """Select the object at (x, y) in canvas pixels, to move it or, if a corner is within `reach`, to resize it."""
        objects, corner = self.objects, None
        if objects is None:
            return
        if self.selected is not None:
            corner = objects.corner_at(self.selected, point, reach)
        if corner is None:
            self.selected = objects.at(point)
        if self.selected is not None:
            self._grip = _Grip(objects, corner, point)

    def drag(self, point: Point) -> None:
        """Move what was grabbed to (x, y)."""
        if self._grip is not None and self.selected is not None:
            objects, corner, start = self._grip
            if corner is None:
                by = point[0] - start[0], point[1] - start[1]
                self.change(objects.moved(self.selected, by, self._canvas_size))
            else:
                self.change(objects.resized(self.selected, corner, point, self._canvas_size))

    def hold(self, is_held: bool) -> None:
        """Begin or end a drag with the mouse; all of it is one change, which is undone at once."""
        self._is_held, self._is_new = is_held, True
        self._grip = None

    def change(self, objects: Objects) -> None:
        """Show other objects."""
        if self._is_new:
            self._history.append(self.objects)
        self._is_new = not self._is_held
        self._show(objects)

    def undo(self) -> bool:
        """Undo the last change; return False if there is none."""
        if not self._history:
            return False
        objects = self._history.pop()
        self._show(objects if self._history else None)
        return True

    def reset(self) -> None:
        """Undo all changes."""
        self._history.clear()
        self._show(None)

    @property
    def _canvas_size(self) -> tuple[int, int]:
        height, width = self.inferred.image.shape[:2]
        return height, width

    def _show(self, objects: Objects | None) -> None:
        self._changed = objects
        if self.selected is not None and (self.objects is None or self.selected >= self.objects.number):
            self.selected = None


class _Grip(NamedTuple):
    """The objects when the mouse button was pressed, the corner that was grabbed or None, and the point."""

    objects: Objects
    corner: tuple[int, int] | None
    point: Point
