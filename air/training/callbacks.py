"""Keras callbacks that guard, store and show a training run, and the signals that end it."""

import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from air.config import TrainingConfig
from air.errors import AIRError
from air.model.air_model import AIRModel
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
        if step % self.training.checkpoints_every == 0:
            self._save(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.step != self.saved:
            self._save(self.step)

    def _save(self, step: int) -> None:
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise TrainingError(f"the weights are no longer finite at step {step}; the previous checkpoints are kept")
        checkpoints.save_checkpoint(self.run, self.model, self.training.keep_checkpoints)
        self.saved = step


class Progress(StepCallback):
    """A live line on standard error: step, loss, count accuracy where that is known, steps per second and time left.

    Close its `bar` in the end, also after an error, which is then printed on a line of its own.
    """

    def __init__(self, step: int, iterations: int, *, labelled: bool, hidden: bool = False) -> None:
        super().__init__()
        self.labelled = labelled
        if not hidden:
            print("Compiling the training step ...", file=sys.stderr, flush=True)
        self.bar = tqdm(
            total=iterations,
            initial=step,
            unit="step",
            mininterval=0.2 if sys.stderr.isatty() else 10.0,
            smoothing=0.05,
            dynamic_ncols=True,
            disable=hidden,
            bar_format="{n}/{total} {bar:20} {postfix} {rate_fmt} {remaining} left",
        )

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        accuracy = f" count {logs['count_accuracy']:.1%}" if self.labelled else ""
        self.bar.set_postfix_str(f"loss {logs['loss']:.1f}{accuracy}", refresh=False)
        self.bar.update(step - self.bar.n)


class Interruption:
    """While in its context, the first signal to end lets the current steps finish, so that a checkpoint can be saved.

    The signals are SIGINT, SIGTERM and, unless nohup ignores it, SIGHUP. A second one has its usual effect.
    """

    def __init__(self, model: AIRModel) -> None:
        self.model, self.happened = model, False
        self.previous: dict[int, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> "Interruption":
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
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
