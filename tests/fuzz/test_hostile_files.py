"""Damaged files are loaded or refused in one line.

pytest --hypothesis-profile=fuzz tests/fuzz     # thousands of cases
"""

import gzip
import io
import json
import struct
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from damage import cases, changed_json, damaged, damaged_zip, outcome
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from air.config import AIRConfig, TrainingConfig
from air.data import mnist
from air.data.backgrounds import Backgrounds
from air.data.rules import GeneratorConfig
from air.data.scenes import SceneSet
from air.evaluation.recognition import ReferenceSet
from air.model.air_model import AIRModel
from air.training import checkpoints
from air.training.run_folder import MetricsFile, RunFolder

NO_CNN = {"cnn_filters": (), "cnn_kernels": (), "cnn_strides": (), "cnn_pools": ()}
TINY = AIRConfig(
    **NO_CNN, canvas_size=(6, 6), window_size=(4, 4), max_steps=1, lstm_units=2, head_units=(), encoder_units=(2,),
    decoder_units=(2,), z_what_size=2,
)  # fmt: skip


def content_of(save, name):
    """Return the bytes that a function writes to the path it is given."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _scenes():
    count = np.arange(6) % 3
    present = np.arange(2) < count[:, None]
    images = np.random.default_rng(0).integers(0, 256, (6, 7, 9), np.uint8)
    boxes = np.where(present[..., None], [[1, 2, 3, 4], [4, 0, 4, 6]], 0)
    segments = (images % 3).clip(0, count[:, None, None])
    return SceneSet(images, count, boxes, np.where(present, 7, -1), np.where(present, 59999, -1), segments)


SCENES = content_of(_scenes().save, "scenes.npz")
IMAGES = content_of(lambda path: np.save(path, _scenes().images), "images.npy")
DIGITS = {"x": np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8), "y": np.arange(3, dtype=np.uint8)}
MNIST = content_of(
    lambda path: np.savez_compressed(path, **{f"{name}_{split}": DIGITS[name] for name in "xy" for split in ("train", "test")}),
    "mnist.npz",
)
IDX = {
    "images-idx3-ubyte": struct.pack(">4I", 2051, 3, 28, 28) + DIGITS["x"].tobytes(),
    "labels-idx1-ubyte": struct.pack(">2I", 2049, 3) + DIGITS["y"].tobytes(),
}
OBJECTS = ReferenceSet(np.ones((40, 3), np.float16), np.arange(40, dtype=np.int8) % 10, 5)
REFERENCE_SET = content_of(OBJECTS.save, "reference_set.npz")
ROW = {"step": 10, "seconds": 1.5, "train_loss": 99.0, "count_accuracy/all": 0.5}
METRICS = ("".join(",".join(map(str, line)) + "\n" for line in (ROW, ROW.values(), ROW.values()))).encode()
CONFIG = {
    "command": "python training.py",
    "model": AIRConfig(temperature="linear(1, 0.5, steps=9)").to_dict(),
    "training": TrainingConfig().to_dict(),
    "data": "multi_mnist",
    "held_out": None,
    "versions": {"python": "3.11"},
}


def _picture(kind, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 4), np.uint8)
    image = Image.fromarray(pixels[..., 0].astype(np.float32)) if mode == "F" else Image.fromarray(pixels).convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


PICTURES = [_picture(*kind.split()) for kind in ("PNG RGBA", "JPEG RGB", "GIF P", "BMP RGB", "TIFF F", "WEBP RGBA", "ICO RGBA")]


@pytest.fixture(scope="module")
def model_file():
    """Return the bytes of the `.keras` file of a tiny model with its optimiser."""
    keras.utils.set_random_seed(0)
    model = AIRModel(TINY)
    model.compile(jit_compile=False, learning_rate="cosine(1e-3, 1e-4, steps=40)")
    model.optimizer.build(model.trainable_variables)
    return content_of(model.save, "model.keras")


def test_the_intact_files_can_be_loaded(tmp_path, model_file):
    for name, content, load in (
        ("scenes.npz", SCENES, SceneSet.load),
        ("images.npy", IMAGES, SceneSet.load),
        ("mnist.npz", MNIST, mnist.load),
        ("reference_set.npz", REFERENCE_SET, ReferenceSet.load),
        ("metrics.csv", METRICS, lambda path: MetricsFile(path).rows()),
        ("config.json", json.dumps(CONFIG).encode(), lambda path: RunFolder(path.parent).read()),
        ("model.keras", model_file, checkpoints.load_file),
    ):
        (tmp_path / name).write_bytes(content)
        assert not isinstance(outcome(load, tmp_path / name), str), name


@cases(20)
@given(content=damaged_zip(SCENES) | damaged(IMAGES))
def test_scenes(tmp_path, content):
    (tmp_path / "scenes.npz").write_bytes(content)
    scenes = outcome(SceneSet.load, tmp_path / "scenes.npz")
    if not isinstance(scenes, str):
        assert scenes.images.dtype == np.uint8
        assert len(scenes)


@cases(10)
@given(data=st.data(), which=st.sampled_from(sorted(IDX)), compress=st.booleans())
def test_digits(tmp_path, data, which, compress):
    (tmp_path / "mnist.npz").write_bytes(data.draw(damaged_zip(MNIST)))
    outcome(mnist.load, tmp_path / "mnist.npz")
    for name, content in IDX.items():
        for split in ("train", "t10k"):
            packed = gzip.compress(content) if compress else content
            path = tmp_path / f"{split}-{name}{'.gz' if compress else ''}"
            path.write_bytes(data.draw(damaged(packed)) if (name, split) == (which, "train") else packed)
    outcome(mnist.load, tmp_path)


@cases(10)
@given(content=damaged_zip(REFERENCE_SET))
def test_reference_sets(tmp_path, content):
    (tmp_path / "reference_set.npz").write_bytes(content)
    loaded = outcome(ReferenceSet.load, tmp_path / "reference_set.npz")
    if not isinstance(loaded, str):
        _, confidences = loaded.predict(np.zeros((2, loaded.z_what.shape[1])))
        assert np.isfinite(confidences).all()


@cases(15)
@given(content=damaged(METRICS))
def test_metrics(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    rows = outcome(MetricsFile(tmp_path / "metrics.csv").rows)
    if not isinstance(rows, str):
        assert all(np.isfinite(list(row.values())).all() for row in rows)


@cases(15)
@given(content=damaged(json.dumps(CONFIG).encode()) | changed_json(CONFIG).map(lambda tree: json.dumps(tree).encode()))
def test_configurations_of_runs(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    outcome(RunFolder(tmp_path).read)


@cases(20)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own
@given(content=st.sampled_from(PICTURES).flatmap(damaged))
def test_pictures(tmp_path, content):
    (tmp_path / "picture").write_bytes(content)
    backgrounds = outcome(Backgrounds, GeneratorConfig(background=(tmp_path / "picture",)))
    if not isinstance(backgrounds, str):
        canvas = backgrounds.draw(np.random.default_rng(0))
        assert canvas.shape == (50, 50, 1)
        assert 0 <= canvas.min() <= canvas.max() <= 1


@cases(10)
@given(data=st.data())
def test_damage_never_changes_a_model(tmp_path, model_file, data):
    """Find the original weights in what loads in spite of the damage, as the archive's checksums cover them."""
    path = tmp_path / "model.keras"
    path.write_bytes(data.draw(damaged(model_file)))
    model = outcome(checkpoints.load_file, path)
    if not isinstance(model, str):
        path.write_bytes(model_file)
        for left, right in zip(model.get_weights(), checkpoints.load_file(path).get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)


@cases(10)
@given(data=st.data())
def test_configurations_of_models(tmp_path, model_file, data):
    with zipfile.ZipFile(io.BytesIO(model_file)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    changed = data.draw(changed_json(json.loads(members["config.json"])))
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(changed) if name == "config.json" else content)
    outcome(checkpoints.load_file, tmp_path / "model.keras")
