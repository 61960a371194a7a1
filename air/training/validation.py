"""Scores of held-out scenes while a model trains."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from air.config import TrainingConfig
from air.data.scenes import SceneSet
from air.model.air_model import AIRModel
from air.model.generative import cross_entropy
from air.model.images import as_float
from air.support.arrays import in_batches
from air.training.run_folder import MetricsFile
from air.training.summaries import PictureCallback, scalar


class _Scored(NamedTuple):
    count: np.ndarray  # type: ignore[assignment]  # [scenes]
    cross_entropy: np.ndarray  # [scenes], nats


def count_scores(model: AIRModel, scenes: SceneSet, batch_size: int = 250) -> dict[str, float]:
    """Score the counts and reconstructions that a model infers deterministically and quickly.

    Returns:
        Means over all scenes and by true count: "count_accuracy/all", "count_accuracy/0" ..., left out where the counts are
        unknown; and "reconstruction/all", cross-entropy in nats per scene.
    """

    def score(part: slice) -> _Scored:
        inferred = model.infer(scenes.images[part], quick=True)
        images = as_float(scenes.images[part], scenes.canvas_size)
        in_line = model.composition.in_line
        return _Scored(inferred.count, cross_entropy(in_line(images), in_line(inferred.reconstruction)).numpy())

    scored = in_batches(score, len(scenes), batch_size)
    scores = {"reconstruction/all": float(scored.cross_entropy.mean())}
    if scenes.count is not None:
        right = scored.count == scenes.count
        scores["count_accuracy/all"] = float(right.mean())
        for count in np.unique(scenes.count):
            scores[f"count_accuracy/{count}"] = float(right[scenes.count == count].mean())
    return scores


class Validation(PictureCallback):
    """Scores and pictures held-out scenes: rows in metrics.csv, and summaries for TensorBoard.

    The last step has both, whatever the intervals. Later callbacks find the scores of a step in their `logs`:
    "val_reconstruction" and, if there are true counts, "val_count_accuracy".
    """

    def __init__(
        self, metrics: MetricsFile, summary: str | Path, training: TrainingConfig, scenes: SceneSet, pictured: np.ndarray
    ) -> None:
        super().__init__(Path(summary) / "validation", training, pictured)
        self.metrics, self.scenes = metrics, scenes.select(slice(training.validation_scenes))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        before = self.metrics.rewind(self.step, self.training.validate_every)
        self.resumed = time.perf_counter()
        self.began = self.resumed - before.get("seconds", 0.0)
        self.compiling = before.get("compile_seconds", 0.0)
        self.scoring = before.get("scoring_seconds", 0.0)
        self.compiled = False
        self.scored = self.step

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if not self.compiled:
            self.compiling += time.perf_counter() - self.resumed
            self.compiled = True
        self.loss = float(logs["loss"])
        if step == self.training.iterations or step % self.training.validate_every == 0:
            scores = self._score(step)
            logs.update({f"val_{name.removesuffix('/all')}": value for name, value in scores.items() if name.endswith("/all")})
        self.draw_if_due(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.step != self.scored:
            self._score(self.step)
        super().on_train_end(logs)

    def _score(self, step: int) -> dict[str, float]:
        now = time.perf_counter()
        scores = count_scores(self.model, self.scenes)
        self.scoring += time.perf_counter() - now
        with self.writer.as_default(step=step):
            for name, value in scores.items():
                quantity, group = name.split("/")
                scalar(quantity, group, value)
        self.metrics.append(
            {
                "step": step,
                "seconds": time.perf_counter() - self.began,
                "compile_seconds": self.compiling,
                "scoring_seconds": self.scoring,
                "train_loss": self.loss,
                **scores,
            }
        )
        self.scored = step
        return scores
