"""Show recorded scenes until someone draws: one after another, each object appearing after the last."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from air.errors import DataError
from air.evaluation import attract
from air.evaluation.attract import RecordedScene
from air.gui.engine import Seen

STEP = 0.8  # seconds until the next object appears
REST = 2.4  # seconds that a whole scene stays


class ShownScene(NamedTuple):
    """The first objects of a recorded scene, with those fields of `Scenes` that the window draws."""

    count: int  # type: ignore[assignment]
    presence: np.ndarray
    attention_boxes: np.ndarray
    decoded_windows: np.ndarray
    reconstruction: np.ndarray


class Attract:
    """A loop of recorded scenes, begun at the first `tick`."""

    def __init__(self, scenes: list[RecordedScene]) -> None:
        self._scenes, self._index, self._shown = scenes, 0, -1
        self._since: float | None = None  # when the current scene began
        self._seen: Seen | None = None

    @classmethod
    def beside(cls, model: Path) -> "Attract | None":
        """Load the recording beside a model; None if it has none that can be read."""
        try:
            return cls(attract.load((model if model.is_dir() else model.parent) / attract.ATTRACT))
        except DataError:
            return None

    def tick(self, now: float) -> Seen:
        """Return what is shown at `now`, in seconds of any clock, as an answer about the first, empty drawing."""
        self._since = now if self._since is None else self._since
        if now - self._since >= STEP * self._scene.count + REST:
            self._index, self._since, self._shown = (self._index + 1) % len(self._scenes), now, -1
        shown = min(int((now - self._since) / STEP), self._scene.count)
        if shown != self._shown:
            self._shown, self._seen = shown, self._show(shown)
        return self._seen

    def due(self) -> float:
        """Return the time of the next change."""
        is_whole = self._shown == self._scene.count
        return self._since + (STEP * self._shown + REST if is_whole else STEP * (self._shown + 1))

    @property
    def _scene(self) -> RecordedScene:
        return self._scenes[self._index]

    def _show(self, count: int) -> Seen:
        objects = self._scene.objects.copy()
        objects[count:] = 0
        scene = self._scene._replace(objects=objects)
        steps = len(scene.presence) if count == scene.count else count  # the step that finds nothing comes last
        shown = ShownScene(count, scene.presence[:steps], scene.attention_boxes, scene.decoded_windows, scene.reconstruction)
        named = scene.labels[:count], scene.confidences[:count]
        return Seen(0, scene.image, cast(Any, shown), objects, 0.0, 0.0, *named, np.zeros(scene.image.shape, np.float32))
