"""Scores of held-out scenes while a model trains."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from air.config import TrainingConfig
from air.data.scenes import SceneSet
from air.model.air_model import AIRModel
from air.model.generative import cross_entropy
from air.training.run_folder import MetricsFile
from air.training.summaries import Periodic

RECONSTRUCTED = 1000  # scenes are enough for a mean reconstruction; inferring a count alone is many times cheaper


def count_scores(model: AIRModel, scenes: SceneSet, batch_size: int = 250) -> dict[str, float]:
    """What a training run wants to know of held-out scenes, inferred deterministically.

    Args:
        model: of the scenes' canvas size.
        scenes: at least one.
        batch_size: scenes at a time.

    Returns:
        Means over all scenes and by true count: "count_accuracy/all", "count_accuracy/0" ..., left out where the counts are
        unknown; and "reconstruction/all", cross-entropy in nats per scene, over the first thousand scenes.
    """
    counts, nats = [], []
    for start in range(0, len(scenes), batch_size):
        images = scenes.images[start : start + batch_size].astype(np.float32) / 255.0
        if start < RECONSTRUCTED:
            inferred = model(images)
            counts.append(inferred.count.numpy())
            nats.append(cross_entropy(images, inferred.reconstruction).numpy())
        else:
            counts.append(model.count(images).numpy())
    scores = {"reconstruction/all": float(np.concatenate(nats).mean())}
    if scenes.count is not None:
        right = np.concatenate(counts) == scenes.count
        scores["count_accuracy/all"] = float(right.mean())
        for count in np.unique(scenes.count):
            scores[f"count_accuracy/{count}"] = float(right[scenes.count == count].mean())
    return scores


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
        scores = count_scores(self.model, self.held_out)
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
