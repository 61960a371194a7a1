"""Changing z_what of an object by hand."""

import math

import numpy as np

from air.config import AIRConfig
from air.evaluation.recognition import Bank
from air.gui.engine import Seen

Z_RANGE = 3.0
"""Sliders go from -3 to 3 standard deviations of the prior around its mean."""


class Editor:
    """Which object is selected, and its z_what."""

    def __init__(self, config: AIRConfig) -> None:
        self.config = config
        self.inferred: Seen | None = None  # the newest answer without changes by hand
        self.selected: int | None = None  # step
        self.dimensions = np.arange(config.z_what_size)  # those that say most first
        self.dimension = 0  # the one that keys change
        self._edited: np.ndarray | None = None  # [T, Z]

    @property
    def is_edited(self) -> bool:
        return self._edited is not None

    @property
    def limits(self) -> tuple[float, float]:
        settled = self.config.at(math.inf)
        mean, deviation = float(settled.z_what_prior_mean), float(settled.z_what_prior_variance) ** 0.5
        return mean - Z_RANGE * deviation, mean + Z_RANGE * deviation

    @property
    def z_what(self) -> np.ndarray | None:
        """[Z] of the selected object as it is shown; None without one."""
        if self.selected is None:
            return None
        return (self.inferred.scene.z_what if self._edited is None else self._edited)[self.selected]

    @property
    def inferred_z_what(self) -> np.ndarray | None:
        """[Z] of the selected object as it was inferred; None without one."""
        return None if self.selected is None else self.inferred.scene.z_what[self.selected]

    def order(self, bank: Bank | None) -> None:
        """Sorts the dimensions by how much the objects of a bank differ in them; the prior's rest does nothing."""
        if bank is not None:
            self.dimensions = np.argsort(-bank.z_what.astype(np.float32).std(axis=0), kind="stable")
            self.dimension = int(self.dimensions[0])

    def accepts(self, seen: Seen) -> bool:
        """Takes an answer of the engine; False for one that is out of date."""
        if seen.edited:
            return self.is_edited
        if self.is_edited and seen.version == self.inferred.version:
            return False  # a sample that was on its way when the change was made
        self.inferred, self._edited = seen, None
        if self.selected is not None and self.selected >= seen.scene.count:
            self.selected = None
        return True

    def forget(self) -> None:
        """Takes back all changes."""
        self._edited = None

    def select(self, step: int | None) -> None:
        """Selects an object; selected again, it is let go."""
        count = 0 if self.inferred is None else int(self.inferred.scene.count)
        self.selected = step if step is not None and step < count and step != self.selected else None

    def step_object(self, by: int) -> None:
        count = 0 if self.inferred is None else int(self.inferred.scene.count)
        places = [None, *range(count)]
        self.selected = places[(places.index(self.selected) + by) % len(places)]

    def step_dimension(self, by: int) -> None:
        order = self.dimensions.tolist()
        self.dimension = order[(order.index(self.dimension) + by) % len(order)]

    def change(self, dimension: int, value: float) -> np.ndarray:
        """Sets one dimension of the selected object; returns all z_what, [T, Z]."""
        edited = self.inferred.scene.z_what.copy() if self._edited is None else self._edited.copy()
        edited[self.selected, dimension] = np.clip(value, *self.limits)
        self._edited, self.dimension = edited, dimension
        return edited
