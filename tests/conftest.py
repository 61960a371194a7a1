"""Fixtures shared by several test files: a model small enough to train in a test, images for it, and scripts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from air.config import AIRConfig
from air.data import mnist
from air.data.generator import GeneratorConfig
from air.data.multi_mnist import make_dataset
from air.data.scenes import SceneSet

settings.register_profile("fuzz", max_examples=5000)  # see tests/fuzz
ROOT = Path(__file__).resolve().parent.parent


def pytest_configure():
    """Handle SIGINT even if a shell has started the tests in the background, where it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def xla_cache(tmp_path_factory):
    """Let all scripts, and all workers of pytest, share a cache of their own, not the user's."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    os.environ["AIR_XLA_CACHE"] = str(folder / "xla")


@pytest.fixture(scope="session")
def tiny_config():
    """The configuration of a fast model with an LSTM; nothing in it is square, so that swapped axes show."""
    return AIRConfig(
        canvas_size=(20, 24),
        window_size=(8, 6),
        max_steps=3,
        controller="canvas",
        cell_size=3,
        cell_filters=(4, 6),
        cell_units=8,
        lstm_units=16,
        head_units=(8,),
        **{f"cnn_{name}": () for name in ("filters", "kernels", "strides", "pools")},
        refiner_units=(10,),
        encoder_units=(16,),
        decoder_units=(12,),
        z_what_size=4,
    )


@pytest.fixture(scope="session")
def tiny_images(tiny_config):
    """Eight smooth images of 0 to 3 blobs: float32 [8, 20, 24] in [0, 1]."""
    rng = np.random.default_rng(0)
    height, width = tiny_config.canvas_size
    y, x = np.mgrid[:height, :width]
    images = np.zeros((8, height, width), np.float32)
    for i, image in enumerate(images):
        for _ in range(i % 4):
            centre_y, centre_x = rng.uniform(4, height - 4), rng.uniform(4, width - 4)
            image += np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / 8)
    return images.clip(0, 1)


@pytest.fixture(scope="session")
def make_model(tiny_config):
    """Build a new model, always the same for the same arguments: make_model(seed=0, **changed_fields)."""
    import keras

    from air.model.air_model import AIRModel

    def make(seed=0, **changes):
        keras.utils.set_random_seed(seed)
        return AIRModel(tiny_config.replace(**changes), seed=seed)

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model):
    """An untrained model that finds a different number of objects in different pictures; tests must not change it."""
    model = make_model()
    output = model.controller.heads["presence"].layers[-1]
    for layer in (model.controller.input_gates, output):
        layer.kernel.assign(8 * layer.kernel)
    output.bias.assign([0.5])
    return model


@pytest.fixture(scope="session")
def tiny_cells(make_model):
    """The same with a convolutional controller, which counts blobs on any canvas."""
    from fitting import teach_to_count

    return teach_to_count(make_model(controller="convolutional", z_pres_prior_odds=0.1))


@pytest.fixture(scope="session", params=["tiny_model", "tiny_cells"])
def either_model(request):
    """The tiny model with an LSTM, then the one with a convolutional controller; tests must not change them."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def uncompiled():
    """Run eagerly: compiling takes longer than small batches do."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def batches(tiny_images):
    """Two batches of four of the tiny images and their counts, repeated forever."""
    import tensorflow as tf

    counts = np.arange(8, dtype=np.int32) % 4
    return tf.data.Dataset.from_tensor_slices((tiny_images, counts)).batch(4, drop_remainder=True).repeat()


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """A data folder of 20x20 scenes with 0 to 2 bright squares."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name, size in (("train", 96), ("validation", 16)):
        images, counts = np.zeros((size, 20, 20), np.uint8), np.arange(size) % 3
        for image, count in zip(images, counts, strict=True):
            for x in rng.permutation([2, 12])[:count]:
                y = rng.integers(0, 14)
                image[y : y + 6, x : x + 6] = 200
        SceneSet(images, counts.astype(np.uint8)).save(folder / f"{name}.npz")
    return folder


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """A folder with a few of MNIST's digits, digits.npz, and a small data set made of them, data/."""
    folder = tmp_path_factory.mktemp("few_digits")
    digits = mnist.load()
    np.savez(
        folder / "digits.npz", x_train=digits.train_images[:300], y_train=digits.train_labels[:300],
        x_test=digits.test_images[:100], y_test=digits.test_labels[:100],
    )  # fmt: skip
    sizes = GeneratorConfig(images_per_count=30, validation_size=6, test_size=45)
    make_dataset(folder / "data", sizes, folder / "digits.npz")
    return folder


@pytest.fixture
def run_script(tmp_path):
    """Run a top-level script in an empty folder: run_script("training.py", "--help") -> CompletedProcess."""

    def run(script, *flags, timeout=120):
        command = [sys.executable, str(ROOT / script), *map(str, flags)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout)

    return run
