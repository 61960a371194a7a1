"""Scenes of MNIST digits: generated, written to a file and read again."""

import tempfile
import time
from pathlib import Path

import numpy as np

from air.data import mnist
from air.data.generator import Digits, GeneratorConfig, generate
from air.data.scenes import SceneSet
from benchmarks.results import Sample


def training_digits() -> Digits:
    source = mnist.load()
    return Digits.from_images(source.train_images, source.train_labels)


def make(size: int, digits: Digits) -> SceneSet:
    """Scenes of 0, 1 and 2 digits in equal parts."""
    return generate(GeneratorConfig(), digits, np.arange(size) % 3, np.random.default_rng(0))


def measure(scenes: int) -> Sample:
    """Times each of the three."""
    digits = training_digits()
    times = [time.perf_counter()]
    made = make(scenes, digits)
    times.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenes.npz"
        made.save(file)
        times.append(time.perf_counter())
        SceneSet.load(file)
        times.append(time.perf_counter())
    names = ("generated", "written", "read")
    return {f"{scenes}_scenes/{name}": (float(seconds), "s") for name, seconds in zip(names, np.diff(times), strict=True)}
