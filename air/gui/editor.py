"""The selected object and the user's changes to its z_what."""

import numpy as np

from air.config import AIRConfig
from air.evaluation.recognition import ReferenceSet
from air.gui.engine import Seen

Z_RANGE = 3.0  # standard deviations of the prior that sliders reach to either side of its mean


class Editor:
    """The selected object, and its z_what as inferred and as changed by the user."""

    def __init__(self, config: AIRConfig) -> None:
        mean, reach = config.z_what_prior_mean.end, Z_RANGE * config.z_what_prior_variance.end**0.5
        self.limits = mean - reach, mean + reach  # lowest and highest value of a slider
        self.inferred: Seen | None = None  # the newest answer without changes
        self.selected: int | None = None  # step
        self.dimensions = np.arange(config.z_what_size)  # in the order of their sliders
        self.dimension = 0  # changed by the arrow keys
        self._edited: np.ndarray | None = None  # [T, Z]

    @property
    def is_edited(self) -> bool:
        return self._edited is not None

    @property
    def z_what(self) -> np.ndarray | None:
        """[Z] of the selected object on show; None if none is selected."""
        if self.selected is None:
            return None
        return (self.inferred.scene.z_what if self._edited is None else self._edited)[self.selected]

    @property
    def _count(self) -> int:
        return 0 if self.inferred is None else int(self.inferred.scene.count)

    def sort_dimensions(self, reference_set: ReferenceSet) -> None:
        """Put the dimensions first in which the objects of a reference set differ most; unused ones come last."""
        self.dimensions = np.argsort(-reference_set.z_what.astype(np.float32).std(axis=0), kind="stable")
        self.dimension = int(self.dimensions[0])

    def accept(self, seen: Seen) -> bool:
        """Take in an answer of the engine; return False if it is out of date."""
        if seen.edited:
            return self.is_edited
        if self.is_edited and seen.version == self.inferred.version:
            return False  # a sample that was requested before the change
        self.inferred, self._edited = seen, None
        if self.selected is not None and self.selected >= self._count:
            self.selected = None
        return True

    def reset(self) -> None:
        """Undo all changes."""
        self._edited = None

    def select(self, step: int | None) -> None:
        """Select an object; selecting it again deselects it."""
        self.selected = step if step is not None and step < self._count and step != self.selected else None

    def cycle_object(self, by: int) -> None:
        choices = [None, *range(self._count)]
        self.selected = choices[(choices.index(self.selected) + by) % len(choices)]

    def cycle_dimension(self, by: int) -> None:
        order = self.dimensions.tolist()
        self.dimension = order[(order.index(self.dimension) + by) % len(order)]

    def change(self, dimension: int, value: float) -> np.ndarray:
        """Set one dimension of the selected object; return the z_what of all steps, [T, Z]."""
        edited = self.inferred.scene.z_what.copy() if self._edited is None else self._edited.copy()
        edited[self.selected, dimension] = np.clip(value, *self.limits)
        self._edited, self.dimension = edited, dimension
        return edited
