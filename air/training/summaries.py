"""TensorBoard summaries of a training run.

Under `summary/train`, means over the training scenes since the last row; `<count>` is the true number of objects, or "all":

    loss/<count>, reconstruction/<count>              negative ELBO and its reconstruction term, nats per scene
    count/<count>, count_accuracy/<count>             sampled number of steps, and how often it is right
    z_pres_<step>/<count>, scale_<step>/<count>       z_pres, and half the window's side in canvas units
    z_pres_kl_<step>/<count> ... z_what_kl_<step>/..  the KL terms of each step, nats
    gradient_norm/before_clipping, after_clipping     global norms
    schedule/learning_rate, z_pres_prior_odds, ...    every scalar that is annealed
    variables/<name>, gradients/<name>                histograms
    attention                                         input, reconstruction and windows; steps in red, green, blue

Under `summary/validation`, held-out scenes, inferred deterministically: count_accuracy/<count>, reconstruction/<count>.
"""

import contextlib
import os
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from air.config import TrainingConfig
from air.support import drawing
from air.training.callbacks import StepCallback

FRAME = 16  # bytes around every record of an event file: its length and two checksums


class Summaries(StepCallback):
    """Writes the training summaries: gradients of one batch [batch, height, width], and pictures of a few scenes."""

    def __init__(self, folder: Path, training: TrainingConfig, batch: tf.Tensor, pictured: np.ndarray) -> None:
        super().__init__()
        self.training, self.batch, self.pictured = training, batch, pictured
        self.writer = tf.summary.create_file_writer(str(folder / "train"))
        self.unfinished: list[np.ndarray] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.unfinished = [variable.numpy() for variable in self.model.statistics.variables]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Keras has just reset them, but the checkpoint of an interrupted run may lie between two rows.
        for variable, value in zip(self.model.statistics.variables, self.unfinished, strict=True):
            variable.assign(value)

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        training = self.training
        with self.writer.as_default(step=step):
            if step % training.gradients_every == 0:
                self._gradient_norms()
            if step % training.scalars_every == 0:
                self._scalars(step)
            if step % training.histograms_every == 0:
                self._histograms()
            if step % training.images_every == 0:
                found = self.model.infer(self.pictured)
                arrays = found.reconstruction, found.count, found.attention_boxes, found.decoded_windows
                picture = drawing.strip(self.pictured, *arrays)
                tf.summary.image("attention", picture[None])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.writer.close()

    def _gradient_norms(self) -> None:
        means = self.model.statistics.result()
        tf.summary.scalar("gradient_norm/before_clipping", means["gradient_norm"])
        tf.summary.scalar("gradient_norm/after_clipping", means["clipped_gradient_norm"])

    def _scalars(self, step: int) -> None:
        for quantity, means in self.model.statistics.by_count().items():
            unlabelled = list(means) == ["all"]
            if "gradient_norm" in quantity or (unlabelled and quantity == "count_accuracy"):
                continue
            for count, value in means.items():
                tf.summary.scalar(f"{quantity}/{count}", value)
        config = self.model.config
        for name in config.scheduled_fields:
            tf.summary.scalar(f"schedule/{name}", getattr(config, name)(step))
        tf.summary.scalar("schedule/learning_rate", self.model.optimizer.learning_rate)
        self.model.statistics.reset_state()

    def _histograms(self) -> None:
        # Eagerly: tracing a `tf.function` takes seconds, more than these few calls would ever repay.
        step = self.model.differentiate(self.batch)
        gradients = chain(step.gradients, step.baseline_gradients)
        for variable, gradient in zip(chain(*self.model.learners()), gradients, strict=True):
            tf.summary.histogram(f"variables/{variable.path}", variable)
            tf.summary.histogram(f"gradients/{variable.path}", gradient)


def rewind(folder: Path, step: int) -> None:
    """Cut off the events after a step, which a resumed run writes again, and what a killed run left half-written."""
    for path in folder.glob("*/events.out.tfevents.*"):
        size = 0
        with contextlib.suppress(tf.errors.DataLossError):  # raised by a record that is not whole
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                if Event.FromString(record).step > step:
                    break
                size += len(record) + FRAME
        os.truncate(path, size)
