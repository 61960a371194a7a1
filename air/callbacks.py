"""What watches, stores and stops a training run, as Keras callbacks."""

import csv
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
from air.scenes import SceneSet
from air.summaries import Periodic, Summaries


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
    """Scores held-out scenes: a row in metrics.csv, and summaries."""

    def __init__(
        self,
        path: Path,
        summary: Path,
        training: TrainingConfig,
        held_out: SceneSet,
        summaries: Summaries,
        start: int,
    ) -> None:
        super().__init__(start)
        self.path, self.training, self.held_out, self.summaries = path, training, held_out, summaries
        self.writer = tf.summary.create_file_writer(str(summary / "validation"))
        self.latest: dict[str, float] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.began = time.perf_counter() - _last_seconds(self.path, self.start)

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if step % self.training.validate_every:
            return
        scores = evaluation.count_scores(self.model, self.held_out)
        self.latest = scores
        with self.writer.as_default(step=step):
            for name, value in scores.items():
                tf.summary.scalar(name, value)
        row = {
            "step": step,
            "seconds": round(time.perf_counter() - self.began, 2),
            "train_loss": self.summaries.latest.get("loss", {}).get("all", float(logs["loss"])),
            **scores,
        }
        is_new = not self.path.exists()
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.writer.close()


def _last_seconds(path: Path, step: int) -> float:
    """The seconds that a resumed run had taken; rows after its checkpoint, which will be written again, are dropped."""
    if not path.exists():
        return 0.0
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["step"]) <= step]

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, reader.fieldnames or [])
            writer.writeheader()
            writer.writerows(rows)

    checkpoints.write_atomically(path, write)
    return float(rows[-1]["seconds"]) if rows else 0.0


class Progress(Periodic):
    """A live line: step, loss, count accuracy, steps per second and time left."""

    def __init__(self, iterations: int, labelled: bool, start: int) -> None:
        super().__init__(start)
        self.iterations, self.labelled = iterations, labelled

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
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

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        accuracy = f" count {logs['count_accuracy']:.1%}" if self.labelled else ""
        self.bar.set_postfix_str(f"loss {logs['loss']:.1f}{accuracy}", refresh=False)
        self.bar.update(step - self.bar.n)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.bar.close()
