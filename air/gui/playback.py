"""Attend, infer, repeat, one step after another.

Each step has four phases: the attention window flies to its place; the glimpse in it becomes z_what; the decoded object is
painted; and what it explains is taken from the picture. A last step, without phases, finds nothing more.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from air.gui.engine import Seen
from air.gui.residual import residual

PHASES = {"attend": 0.55, "infer": 0.4, "paint": 0.3, "repeat": 0.35}  # seconds
STEP_SECONDS = sum(PHASES.values())
STARTS = dict(zip(PHASES, np.cumsum([0.0, *PHASES.values()][:-1]) / STEP_SECONDS, strict=True))  # as fractions of a step


class View(NamedTuple):
    """Hold what the two canvases show."""

    picture: np.ndarray  # [H, W] uint8 or float in [0, 1]
    reconstruction: np.ndarray | None  # [H, W] float in [0, 1]; None if there is none yet
    boxes: tuple[tuple[float, ...], ...] = ()  # (x, y, width, height) of the attention window of each step, pixels
    is_edited: bool = False  # whether the windows are those of the reconstruction only

    def same_as(self, other: "View") -> bool:
        """Return whether both show the very same arrays and the same windows."""
        return self.picture is other.picture and self.reconstruction is other.reconstruction and self[2:] == other[2:]


class Playback:
    """The steps of one answer of the model, played from `now`, in seconds of any clock.

    `position` is in steps: 1.5 is the middle of the second one.
    """

    def __init__(self, seen: Seen, looks: int, now: float) -> None:
        self.seen, self.position, self.is_playing = seen, 0.0, True
        self.count = int(seen.scene.count)
        self.steps = self.count + (self.count < len(seen.scene.presence))  # with the one that finds nothing
        self._looks, self._now = looks, now
        self._drawn: tuple[float, View] | None = None  # the last view, and its position

    @property
    def is_at_end(self) -> bool:
        return self.position >= self.steps

    @property
    def step(self) -> int:
        """The current step, counted from 0; `count` while nothing more is found."""
        return min(int(self.position), self.steps - 1)

    @property
    def last_painted(self) -> int:
        """The last step whose object is painted; -1 if none is."""
        return self.step - (self.step == self.count or self.progress("paint") < 1)

    @property
    def phase(self) -> str:
        """The current phase, one of PHASES."""
        return next(name for name in reversed(PHASES) if self.position - self.step >= STARTS[name] - 1e-9)

    def tick(self, now: float) -> None:
        """Play on until `now`; stop at the end."""
        if self.is_playing:
            self.position = min(self.position + (now - self._now) / STEP_SECONDS, self.steps)
            self.is_playing = not self.is_at_end
        self._now = now

    def toggle(self) -> None:
        """Pause, or play on; from the end, play again."""
        self.position = 0.0 if self.is_at_end else self.position
        self.is_playing = not self.is_playing

    def seek(self, position: float) -> None:
        """Pause at a position, in steps."""
        self.position, self.is_playing = float(np.clip(position, 0, self.steps)), False

    def skip(self, by: int) -> None:
        """Pause at the start of the next phase (by = 1) or the one before (by = -1)."""
        stops = np.array([*(step + start for step in range(self.count) for start in STARTS.values()), self.count, self.steps])
        further = stops[stops > self.position + 1e-6] if by > 0 else stops[stops < self.position - 1e-6][::-1]
        if len(further):
            self.seek(further[0])

    def progress(self, phase: str) -> float:
        """Return how much of a phase of the current step has passed, from 0 to 1."""
        return float(np.clip((self.position - self.step - STARTS[phase]) * STEP_SECONDS / PHASES[phase], 0, 1))

    @property
    def view(self) -> View:
        """The picture without what is explained already, the reconstruction so far, and the windows up to the current one."""
        if self._drawn is None or self._drawn[0] != self.position:
            self._drawn = self.position, self._draw()
        return self._drawn[1]

    def _draw(self) -> View:
        image, objects, scene, step = self.seen.image, self.seen.objects, self.seen.scene, self.step
        before, boxes = objects[:step].sum(axis=0), tuple(map(tuple, scene.attention_boxes[:step].tolist()))
        if step == self.count:
            return View(residual(image, before), np.clip(scene.background + before, 0, 1), boxes)
        left, right = (before + self.progress(phase) * objects[step] for phase in ("repeat", "paint"))
        height, width = image.shape[:2]
        start, end, flown = boxes[-1] if boxes else (0, 0, width, height), scene.attention_boxes[step], self.progress("attend")
        box = start + (end - start) * flown**2 * (3 - 2 * flown)
        return View(residual(image, left), np.clip(scene.background + right, 0, 1), (*boxes, tuple(box.tolist())))

    @property
    def glimpse(self) -> np.ndarray:
        """Crop what the encoder reads at the current step, in [0, 1]; without the other objects if the model looks twice."""
        scene, others = self.seen.scene, self.seen.objects[: self.count].sum(axis=0) - self.seen.objects[self.step]
        canvas = residual(self.seen.image, others if self._looks == 2 else np.zeros_like(others))
        x, y, width, height = scene.attention_boxes[self.step].tolist()
        rows, columns = scene.decoded_windows.shape[1:3]
        transform = (width / columns, 0, x, 0, height / rows, y)
        layers = (Image.fromarray(np.ascontiguousarray(layer)) for layer in np.moveaxis(np.atleast_3d(canvas), 2, 0))
        how = (columns, rows), Image.Transform.AFFINE, transform, Image.Resampling.BILINEAR
        cropped = np.dstack([np.asarray(layer.transform(*how)) for layer in layers])
        return cropped if canvas.ndim == 3 else cropped[..., 0]

    @property
    def caption(self) -> str:
        """One sentence about the current step."""
        step, scene, labels = self.step, self.seen.scene, self.seen.labels
        if step == self.count:
            found = f"{self.count} object{'s' * (self.count != 1)}"
            return f"Another object? {scene.presence[step]:.1%}: stop, with {found}"
        if self.phase == "attend":
            return f"Attend: an object is here, {scene.presence[step]:.1%}"
        if self.phase == "infer":
            return f"Infer: the glimpse becomes {scene.z_what.shape[-1]} numbers, z_what"
        if self.phase == "paint":
            return "Paint: the decoder draws them" + (f", a {labels[step]}" if labels and labels[step] is not None else "")
        return "Repeat: with what is left of the picture"
