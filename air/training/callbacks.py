"""Keras callbacks that guard and store a training run, and the signals that end it."""

import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np

from air.config import TrainingConfig
from air.errors import AIRError
from air.model.air_model import AIRModel
from air.support import drawing
from air.training import checkpoints


class TrainingError(AIRError):
    """The loss or the weights are no longer finite."""


class StepCallback(keras.callbacks.Callback):
    """Base of callbacks that follow the training step of the model, which a resumed run continues to count."""

    @property
    def step(self) -> int:
        return int(self.model.step.numpy())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_step(self.step, logs or {})

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        raise NotImplementedError


def draw_attention(model: AIRModel, images: np.ndarray, zoom: int = 4) -> np.ndarray:
    """Draw images [batch, height, width], perhaps in colour, their reconstructions, windows and, if any, backgrounds.

    See `drawing.strip`: RGB uint8.
    """
    found = model.infer(images, quick=True)
    backgrounds = None if model.config.background == "none" else found.background
    boxes, windows = found.attention_boxes, found.pictured_windows
    return drawing.strip(images, found.reconstruction, found.count, boxes, windows, zoom, backgrounds)


class FiniteLoss(StepCallback):
    """Aborts a run whose loss is NaN or infinite, before any later callback writes a file."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if not math.isfinite(logs["loss"]):
            kept = checkpoints.checkpoints(self.run)
            last = f"the last good checkpoint is {kept[-1].path}" if kept else "there is no checkpoint yet"
            advice = f"try a lower --learning-rate than {float(self.model.optimizer.learning_rate):g}"
            raise TrainingError(f"the loss became {logs['loss']} by step {step}; {last}; {advice}")


class Checkpoints(StepCallback):
    """Saves a checkpoint at regular intervals, and one when training ends or is interrupted."""

    def __init__(self, run: Path, training: TrainingConfig) -> None:
        super().__init__()
        self.run, self.training = run, training

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.saved = self.step

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        # When a signal stops the run, it is saved before its end is scored, as a second signal may follow.
        if step % self.training.checkpoints_every == 0 or self.model.stop_training:
            self._save(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.step != self.saved:
            self._save(self.step)

    def _save(self, step: int) -> None:
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise TrainingError(f"the weights are no longer finite at step {step}; the previous checkpoints are kept")
        checkpoints.save_checkpoint(self.run, self.model, self.training.keep_checkpoints)
        self.saved = step


class Interruption:
    """While in its context, the first termination signal lets the current steps finish, so that a checkpoint can be saved.

    The signals are SIGINT, SIGTERM and, unless nohup ignores it, SIGHUP. A second one has its usual effect. Python takes
    signals in the main thread only, so in another one nothing changes.
    """

    def __init__(self, model: AIRModel) -> None:
        self.model, self.happened = model, False
        self.previous: dict[int, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> "Interruption":
        is_main = threading.current_thread() is threading.main_thread()
        for name in ("SIGINT", "SIGTERM", "SIGHUP") if is_main else ():
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number and (name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN):
                self.previous[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        self.model.request_stop()
        signal.signal(number, self.previous[number])

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
