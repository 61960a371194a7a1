"""Training steps inside Keras' `fit`, as training.py runs them, and what they would take at the machine's peak."""

import time
import typing

from air.config import AIRConfig, EstimatorName, TrainingConfig
from air.presets import PRESETS
from benchmarks import process
from benchmarks.results import Sample

ESTIMATORS: tuple[str, ...] = typing.get_args(EstimatorName)
ADAM_BYTES = 28  # a float32 weight, its gradient and both moments are read; the weight and the moments are written
SCENES = 60000  # more than any cache holds


def configuration(preset: str, estimator: str) -> tuple[AIRConfig, TrainingConfig]:
    """A preset with another estimator; raises ConfigError where the two don't go together."""
    model, training = PRESETS[preset]()
    return model.replace(estimator=estimator), training


def measure(preset: str, estimator: str, batch_size: int, steps: int) -> Sample:
    """Times one configuration; a third as many steps before do not count."""
    import numpy as np
    import tensorflow as tf

    from air.data.pipeline import pipeline
    from air.data.scenes import SceneSet
    from air.model.air_model import AIRModel
    from air.training.run import compile_model
    from benchmarks import flops, generation

    config, training = configuration(preset, estimator)
    config = config.replace(refinement=float(config.refinement(training.iterations)))  # at work, as for most of a run
    images = np.resize(generation.make(3000, generation.training_digits()).images, (SCENES, *config.canvas_size))
    batches = pipeline(SceneSet(images), batch_size, seed=0)
    model = AIRModel(config)
    compile_model(model, training.replace(batch_size=batch_size))

    def fit(steps: int) -> float:
        began = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
        return time.perf_counter() - began

    compilation = fit(model.steps_per_execution)
    fit(max(steps // 3, 1))
    seconds = fit(steps) / steps
    memory = process.peak_memory()  # before the count, which takes some
    batch = (tf.TensorSpec([batch_size, *config.canvas_size]), tf.TensorSpec([batch_size], tf.int32))
    products = flops.count(tf.function(model.train_step).get_concrete_function(batch))
    weights = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    return {
        "step": (1000 * seconds, "ms"),
        "compilation": (compilation, "s"),
        "peak_memory": memory,
        "matrix_products": (products / 1e9, "GFLOP"),
        "adam": (ADAM_BYTES * weights / 1e9, "GB"),
    }


def against_peak(sample: Sample) -> Sample:
    """What the steps of a round would take at the machine's peak in the same round, and the share of it that they use."""
    answer: Sample = {}
    for name, (milliseconds, _) in sample.items():
        if name.startswith("steps/") and name.endswith("/step"):
            prefix = name.removesuffix("step")
            products = 1000 * sample[f"{prefix}matrix_products"][0] / sample["machine/matrix_products"][0]
            adam = 1000 * sample[f"{prefix}adam"][0] / sample["machine/memory_bandwidth"][0]
            answer |= {
                f"{prefix}products_at_peak": (products, "ms"),
                f"{prefix}adam_at_bandwidth": (adam, "ms"),
                f"{prefix}step_at_peak": (products + adam, "ms"),
                f"{prefix}share_of_peak": (100 * products / milliseconds, "%"),
            }
    return answer
