"""What watches, stores and stops a training run, as Keras callbacks."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from air import checkpoints, evaluation
from air.config import TrainingConfig
from air.errors import AIRError
from air.runs import MetricsFile
from air.scenes import SceneSet
from air.summaries import Periodic


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


class Validation(Periodic):
    """Scores held-out scenes: a row in metrics.csv, and summaries.

    Args:
        metrics: the file of rows; see `MetricsFile` for its columns.
        summary: folder for TensorBoard; `validation` is added.
        training: how often.
        held_out: the scenes to score.
        start: see `Periodic`.
    """

    def __init__(
        self, metrics: MetricsFile, summary: Path, training: TrainingConfig, held_out: SceneSet, start: int = 0
    ) -> None:
        super().__init__(start)
        self.metrics, self.training, self.held_out = metrics, training, held_out
        self.writer = tf.summary.create_file_writer(str(summary / "validation"))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        before = self.metrics.rewind(self.start)
        self.resumed = time.perf_counter()
        self.began = self.resumed - before.get("seconds", 0.0)
        self.compiling = before.get("compile_seconds", 0.0)
        self.scoring = before.get("scoring_seconds", 0.0)
        self.compiled = False

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        now = time.perf_counter()
        if not self.compiled:
            self.compiling += now - self.resumed
            self.compiled = True
        if step % self.training.validate_every:
            return
        scores = evaluation.count_scores(self.model, self.held_out)
        self.scoring += time.perf_counter() - now
        with self.writer.as_default(step=step):
            for name, value in scores.items():
                tf.summary.scalar(name, value)
        self.metrics.append(
            {
                "step": step,
                "seconds": time.perf_counter() - self.began,
                "compile_seconds": self.compiling,
                "scoring_seconds": self.scoring,
                "train_loss": float(logs["loss"]),
                **scores,
            }
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.writer.close()


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
