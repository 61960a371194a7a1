"""What watches, stores and stops a training run, as Keras callbacks."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from air.config import TrainingConfig
from air.errors import AIRError
from air.training import checkpoints
from air.training.summaries import Periodic


class TrainingError(AIRError):
    """Training can't go on."""


class FiniteLoss(Periodic):
    """Stops a run whose loss is no longer a finite number, before anything of it is saved."""

    def __init__(self, run: Path, start: int) -> None:
        super().__init__(start)
        self.run = run

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if math.isfinite(logs["loss"]):
            return
        kept = checkpoints.checkpoints(self.run)
        last = f"the last good checkpoint is {kept[-1][1]}" if kept else "there is no checkpoint yet"
        raise TrainingError(
            f"the loss became {logs['loss']} by step {step}; {last}; try a lower --learning-rate than "
            f"{float(self.model.optimizer.learning_rate):g}"
        )


class Checkpoints(Periodic):
    """Saves periodic checkpoints, and one at the end of training whenever that is."""

    def __init__(self, run: Path, training: TrainingConfig, start: int) -> None:
        super().__init__(start)
        self.run, self.training, self.saved = run, training, start

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if step % self.training.checkpoints_every == 0:
            self._save(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if int(self.model.step.numpy()) != self.saved:
            self._save(int(self.model.step.numpy()))

    def _save(self, step: int) -> None:
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise TrainingError(f"the weights are no longer finite at step {step}; the checkpoints before it are kept")
        checkpoints.save_checkpoint(self.run, self.model, self.training.keep_checkpoints)
        self.saved = step


class Progress(Periodic):
    """A live line while in its context: step, loss, count accuracy, steps per second and time left."""

    def __init__(self, iterations: int, labelled: bool, start: int) -> None:
        super().__init__(start)
        self.iterations, self.labelled = iterations, labelled

    def __enter__(self) -> "Progress":
        interval = 0.2 if sys.stderr.isatty() else 10.0
        print("Compiling the training step ...", file=sys.stderr, flush=True)
        self.bar = tqdm(
            total=self.iterations,
            initial=self.start,
            unit="step",
            mininterval=interval,
            smoothing=0.05,
            dynamic_ncols=True,
            bar_format="{n}/{total} {bar:20} {postfix} {rate_fmt} {remaining} left",
        )
        return self

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        accuracy = f" count {logs['count_accuracy']:.1%}" if self.labelled else ""
        self.bar.set_postfix_str(f"loss {logs['loss']:.1f}{accuracy}", refresh=False)
        self.bar.update(step - self.bar.n)

    def __exit__(self, *error: object) -> None:
        self.bar.close()
