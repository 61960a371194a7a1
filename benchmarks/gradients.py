"""Measure how noisy and how biased the gradient of each estimator of z_pres is.

    python -m benchmarks.gradients --steps 300 --draws 500

A short run with NVIL gives typical weights and a typical baseline. With these fixed, every draw compares an estimator's
gradient of the mean loss, with respect to the head that predicts z_pres, with the exact one of `enumerated`, for the same
scenes, z_where and z_what. The variance of the difference is the noise that the estimator adds; its mean is the bias, beside
which stands the value to expect from noise alone, as a mean of finitely many draws is never exact.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from air import presets
from air.config import AIRConfig, Config, Count, TrainingConfig
from air.data.scenes import SceneSet
from air.support import cli
from air.support.console import stage, table
from benchmarks.speed import training_scenes

if TYPE_CHECKING:
    from air.model import AIRModel

BATCH = 64
FOLLOWED = 100  # batches, after which the running average of the learning signal has forgotten its start


class Settings(Config):
    """Choose how long to train and how much to measure."""

    steps: Count = 300
    """Training steps before the measurement."""
    draws: Count = 500
    """Gradients to draw from each estimator."""


class Errors(NamedTuple):
    """Hold how far an estimator's gradient is from the exact one."""

    variance: float  # summed over all weights
    bias: float  # relative to the length of the exact gradient
    spurious_bias: float  # to expect from noise alone


def measure(settings: Settings, config: AIRConfig) -> dict[str, Errors]:
    """Train a model of this configuration, and measure the estimators, each under its name."""
    scenes = training_scenes(3000)
    images = scenes.images[:BATCH] / np.float32(255)
    trained = train(config.replace(estimator="nvil"), settings.steps, scenes)
    exact = gradients(with_estimator(trained, "enumerated"), images, settings.draws)
    length = np.linalg.norm(exact.mean(axis=0))
    models = {
        "nvil": without_baseline(with_estimator(trained, "nvil", centre_signal=False), images),
        "nvil, centred": without_baseline(with_estimator(trained, "nvil"), images),
        "nvil, centred, baseline": with_estimator(trained, "nvil"),
        "concrete": with_estimator(trained, "concrete"),
    }
    errors = {}
    for name, model in models.items():
        with stage(f"Gradients of {name}"):
            difference = gradients(model, images, settings.draws) - exact
        variance = difference.var(axis=0, ddof=1).sum()
        bias = np.linalg.norm(difference.mean(axis=0)) / length
        errors[name] = Errors(variance, bias, math.sqrt(variance / settings.draws) / length)
    return errors


def train(config: AIRConfig, steps: int, scenes: SceneSet) -> "AIRModel":
    """Train a new model, and return a copy whose annealed settings stay at their present values."""
    with cli.quiet_import():
        from air.data.pipeline import pipeline
        from air.model import AIRModel
        from air.training.run import compile_model

    model = AIRModel(config)
    compile_model(model, TrainingConfig(iterations=steps))
    with stage(f"Training {steps} steps"):
        model.fit(pipeline(scenes, BATCH), steps_per_epoch=steps, verbose=0, shuffle=False)
    frozen = AIRModel(config.replace(**{name: float(getattr(config, name)(steps)) for name in config.scheduled_fields}))
    frozen.set_weights(model.get_weights())
    return frozen


def with_estimator(trained: "AIRModel", estimator: str, **changes: Any) -> "AIRModel":
    """Copy a model with another estimator; one of the same kind keeps its state."""
    model = type(trained)(trained.config.replace(estimator=estimator, **changes))
    for copy, part in zip(model.parts, trained.parts, strict=True):
        copy.set_weights(part.get_weights())
    if estimator == trained.config.estimator:
        model.estimator.set_weights(trained.estimator.get_weights())
    return model


def without_baseline(model: "AIRModel", images: np.ndarray) -> "AIRModel":
    """Set the baseline to 0, and let the running average follow the learning signal without it."""
    import tensorflow as tf

    for variable in model.estimator.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    moments = tf.function(lambda images: model.differentiate(images).estimate.moments)
    for draw in range(FOLLOWED):
        model.step.assign(draw)
        model.estimator.follow(moments(images))
    return model


def gradients(model: "AIRModel", images: np.ndarray, draws: int) -> np.ndarray:
    """Draw gradients of the mean loss with respect to the weights of the presence head: [draws, weights] float64.

    The n-th draws of all models have the same z_where and z_what: these follow from the step, on which nothing else depends.
    """
    import tensorflow as tf

    controller = model.controller
    head = controller.presence if model.config.controller == "convolutional" else controller.heads["presence"]
    weights = [variable.value for variable in head.trainable_variables]

    @tf.function
    def gradient(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.loss_of(images)
        return tf.concat([tf.reshape(part, [-1]) for part in tape.gradient(loss, weights)], axis=0)

    drawn = []
    for draw in range(draws):
        model.step.assign(draw)
        drawn.append(gradient(images).numpy())
    return np.array(drawn, np.float64)


def main() -> None:
    errors = measure(cli.parse(Settings, __doc__), presets.default("nvil").model)
    rows = [[name, *(f"{value:.3g}" for value in found)] for name, found in errors.items()]
    print(table(["estimator", "variance", "relative bias", "from noise alone"], rows))


if __name__ == "__main__":
    cli.run(main)
