"""TensorBoard summaries of a training run.

Under `summary/train`, means over the training scenes since the last row; `<count>` is the true number of objects, or "all":

    loss/<count>, reconstruction/<count>              negative ELBO and its reconstruction term, nats per scene
    count/<count>, count_accuracy/<count>             number of steps with z_pres rounded, and how often it is right
    z_pres_<step>/<count>, scale_<step>/<count>       z_pres, and the window's size: its longer side over the canvas'
    z_pres_kl_<step>/<count> ... z_what_kl_<step>/..  the KL terms of each step, nats
    gradient_norm/before_clipping, after_clipping     global norms
    schedule/learning_rate, z_pres_prior_odds, ...    every scalar that is annealed, without the constant ones
    variables/<name>, gradients/<name>                histograms
    attention                                         input, reconstruction and windows; steps in red, green, blue

Under `summary/validation`, held-out scenes, inferred deterministically: count_accuracy/<count>, reconstruction/all, attention.
Of both, Overview/loss and Overview/count_accuracy repeat those of all scenes, as TensorBoard sorts capitals before the rest.

In `summary` itself, both configurations: as hyperparameters, and as a table called `configuration`.
"""

import contextlib
import os
import re
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api as hparams

from air.config import AIRConfig, TrainingConfig
from air.model.air_model import AIRModel
from air.support.console import table
from air.training.callbacks import StepCallback, draw_attention

FRAME = 16  # bytes around every record of an event file: its length and two checksums
OVERVIEW = ("loss", "count_accuracy")
DESCRIPTIONS = {
    "loss": "Negative ELBO, nats per scene.",
    "reconstruction": "Reconstruction term of the loss, nats per scene.",
    "count": "Number of steps that attend to an object, z_pres rounded.",
    "count_accuracy": "Fraction of scenes whose count is right: sampled in training, inferred deterministically in validation.",
    "z_pres": "Whether this step attends to an object: relaxed, sampled or, if enumerated, its probability.",
    "scale": "Longer side of the window of this step, as a fraction of the canvas' longer side.",
    "z_pres_kl": "KL divergence of z_pres at this step, nats.",
    "scale_kl": "KL divergence of the scale at this step, nats.",
    "shift_kl": "KL divergence of the shift at this step, nats.",
    "z_what_kl": "KL divergence of z_what at this step, nats.",
    "gradient_norm": "Global norm of the gradients.",
    "schedule": "Value at this training step.",
}


def scalar(quantity: str, group: str, value: Any) -> None:
    """Write the scalar `<quantity>/<group>`, with a description, and again in the overview if it belongs there."""
    description = DESCRIPTIONS[re.sub(r"_\d+$", "", quantity)]
    tf.summary.scalar(f"{quantity}/{group}", value, description=description)
    if quantity in OVERVIEW and group == "all":
        tf.summary.scalar(f"Overview/{quantity}", value, description=description)


def histogram(tag: str, values: Any) -> None:
    """Write a histogram of a variable or a tensor; by NumPy, as `tf.summary.histogram` takes far longer eagerly."""
    tf.summary.experimental.write_raw_pb(histogram_pb(tag, np.asarray(values)).SerializeToString())


def picture(model: AIRModel, images: np.ndarray) -> None:
    """Write a picture of the attention to images [batch, height, width]."""
    description = "Input, reconstruction and windows; the steps in red, green, blue."
    tf.summary.image("attention", draw_attention(model, images)[None], description=description)


def write_configuration(folder: str | Path, model: AIRConfig, training: TrainingConfig) -> None:
    """Write both configurations for TensorBoard, in place of those that this run had before."""
    for earlier in Path(folder).glob("events.out.tfevents.*"):
        earlier.unlink()
    fields = {**model.to_dict(), **training.to_dict()}
    values = {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in fields.items()}
    metrics = [hparams.Metric("count_accuracy/all", "validation"), hparams.Metric("loss/all", "train")]
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=0):
        hparams.hparams_config([hparams.HParam(name) for name in values], metrics)
        hparams.hparams(values)
        rows = [(f"`{name}`", str(value)) for name, value in values.items()]
        tf.summary.text("configuration", table(("field", "value"), rows))
    writer.close()


class PictureCallback(StepCallback):
    """Base of callbacks that write summaries, among them pictures of a few scenes; the last step always has one."""

    def __init__(self, folder: str | Path, training: TrainingConfig, pictured: np.ndarray) -> None:
        super().__init__()
        self.training, self.pictured = training, pictured
        self.writer = tf.summary.create_file_writer(str(folder))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.drawn = self.step

    def draw_if_due(self, step: int) -> None:
        if step % self.training.images_every == 0 or step == self.training.iterations:
            self._draw(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.step != self.drawn:
            self._draw(self.step)
        self.writer.close()

    def _draw(self, step: int) -> None:
        with self.writer.as_default(step=step):
            picture(self.model, self.pictured)
        self.drawn = step


class Summaries(PictureCallback):
    """Writes the training summaries: gradients of one batch [batch, height, width], and pictures of a few scenes."""

    def __init__(self, folder: str | Path, training: TrainingConfig, batch: tf.Tensor, pictured: np.ndarray) -> None:
        super().__init__(Path(folder) / "train", training, pictured)
        self.batch = batch
        self.unfinished: list[np.ndarray] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
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
        self.draw_if_due(step)

    def _gradient_norms(self) -> None:
        means = self.model.statistics.result()
        scalar("gradient_norm", "before_clipping", means["gradient_norm"])
        scalar("gradient_norm", "after_clipping", means["clipped_gradient_norm"])

    def _scalars(self, step: int) -> None:
        for quantity, means in self.model.statistics.by_count().items():
            unlabelled = list(means) == ["all"]
            if "gradient_norm" in quantity or (unlabelled and quantity == "count_accuracy"):
                continue
            for count, value in means.items():
                scalar(quantity, count, value)
        config = self.model.config
        for name in config.scheduled_fields:
            if getattr(config, name).kind != "constant":
                scalar("schedule", name, getattr(config, name)(step))
        if self.training.learning_rate.kind != "constant":
            scalar("schedule", "learning_rate", self.model.optimizer.learning_rate)
        self.model.statistics.reset_state()

    def _histograms(self) -> None:
        # Eagerly: tracing a `tf.function` takes seconds, more than these few calls would ever repay.
        step = self.model.differentiate(self.batch)
        gradients = chain(step.gradients, step.baseline_gradients)
        for variable, gradient in zip(chain(*self.model.learners()), gradients, strict=True):
            histogram(f"variables/{variable.path}", variable)
            histogram(f"gradients/{variable.path}", gradient)


def rewind(folder: str | Path, step: int, training: TrainingConfig) -> None:
    """Cut off the events that a run resumed at a step will write again, and what a killed run left half-written.

    Those are the events after the step, and what is written only when a run ends early.
    """
    for path in Path(folder).glob("*/events.out.tfevents.*"):
        size = 0
        with contextlib.suppress(tf.errors.DataLossError):  # raised by a record that is not whole
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = Event.FromString(record)
                is_picture = [value.tag for value in event.summary.value] == ["attention"]
                if is_picture:
                    every = training.images_every
                else:
                    every = training.validate_every if path.parent.name == "validation" else 1
                if event.step > step or event.step % every:
                    break
                size += len(record) + FRAME
        os.truncate(path, size)
