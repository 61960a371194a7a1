"""TensorBoard summaries of a training run.

Under `summary/train`, means over the training scenes since the last row; `<count>` is the true number of objects, or "all":

    loss/<count>, reconstruction/<count>              negative ELBO and its reconstruction term, nats per scene
    count/<count>, count_accuracy/<count>             sampled number of steps, and how often it is right
    z_pres_<step>/<count>, scale_<step>/<count>       z_pres, and half the window's side in canvas units
    z_pres_kl_<step>/<count> ... z_what_kl_<step>/..  the KL terms of each step, nats
    gradient_norm/before_clipping, after_clipping     global norms
    schedule/learning_rate, z_pres_prior_odds, ...    every scalar that is annealed
    variables/<name>, gradients/<name>                histograms
    attention                                         pictures: input, reconstruction, windows; steps in red, green, blue

Under `summary/validation`, held-out scenes, inferred deterministically: count_accuracy/<count>, reconstruction/<count>.
"""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from air.config import TrainingConfig
from air.support import drawing


class Periodic(keras.callbacks.Callback):
    """Base of callbacks that act at certain training steps.

    Args:
        start: steps that the model was trained before this call of `fit`.
    """

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.start = start

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_step(self.start + batch + 1, logs or {})

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        raise NotImplementedError


class Summaries(Periodic):
    """Writes the training summaries.

    Args:
        folder: where; `train` is added.
        training: how often.
        batch: images [batch, height, width] of which gradients are shown.
        pictured: a few images [scenes, height, width] to picture.
        start: see `Periodic`.
    """

    def __init__(self, folder: Path, training: TrainingConfig, batch: tf.Tensor, pictured: np.ndarray, start: int = 0) -> None:
        super().__init__(start)
        self.training, self.batch, self.pictured = training, batch, pictured
        self.writer = tf.summary.create_file_writer(str(Path(folder) / "train"))
        self.unfinished: list[np.ndarray] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.unfinished = [variable.numpy() for variable in self.model.statistics.variables]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Keras has just set them to zero, but the checkpoint of an interrupted run may lie between two rows.
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
                picture = drawing.strip(self.pictured, self.model.infer(self.pictured))
                tf.summary.image("attention", picture[None])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.writer.close()

    def _gradient_norms(self) -> None:
        means = self.model.statistics.result()
        tf.summary.scalar("gradient_norm/before_clipping", means["gradient_norm"])
        tf.summary.scalar("gradient_norm/after_clipping", means["clipped_gradient_norm"])

    def _scalars(self, step: int) -> None:
        for quantity, means in self.model.statistics.by_count().items():
            if "gradient_norm" not in quantity:
                for count, value in means.items():
                    if not (count == "all" and len(means) == 1 and quantity == "count_accuracy"):  # no labels, no accuracy
                        tf.summary.scalar(f"{quantity}/{count}", value)
        config = self.model.config
        for name in config.scheduled_fields:
            tf.summary.scalar(f"schedule/{name}", getattr(config, name)(step))
        tf.summary.scalar("schedule/learning_rate", self.model.optimizer.learning_rate)
        self.model.statistics.reset_state()

    def _histograms(self) -> None:
        # Not as a `tf.function`: tracing one takes seconds, so early in a run that only these few calls would ever repay.
        *_, gradients = self.model.differentiate(self.batch)
        for variable, gradient in zip(chain(*self.model.learners()), chain(*gradients), strict=True):
            tf.summary.histogram(f"variables/{variable.path}", variable)
            tf.summary.histogram(f"gradients/{variable.path}", gradient)


FRAME = 16  # bytes around every record of an event file: its length and two checksums


def rewind(folder: Path, step: int) -> None:
    """Cuts off the events after a step, which a resumed run writes again, and what a killed one left half-written.

    Links are left alone, as the folder may come from anywhere, and they may lead anywhere.
    """
    for path in folder.glob("*/events.out.tfevents.*"):
        if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            continue
        os.truncate(path, _whole(path))  # first, as TensorFlow believes the length that a record states
        size = 0
        for record in _records(path):
            try:
                if Event.FromString(record).step > step:
                    break
            except DecodeError:
                break
            size += len(record) + FRAME
        if size < path.stat().st_size:
            os.truncate(path, size)


def _whole(path: Path) -> int:
    """The bytes at the beginning of an event file that are records of the length that they state."""
    end, size = 0, path.stat().st_size
    with open(path, "rb") as file:
        while len(head := file.read(8)) == 8 and (after := end + FRAME + int.from_bytes(head, "little")) <= size:
            end = after
            file.seek(end)
    return end


def _records(path: Path) -> Iterator[bytes]:
    """The intact records at the beginning of an event file."""
    records = iter(tf.data.TFRecordDataset(str(path)))
    while True:
        try:
            yield next(records).numpy()
        except (StopIteration, tf.errors.DataLossError):
            return
