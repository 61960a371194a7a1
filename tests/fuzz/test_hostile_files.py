"""No file, however damaged or hostile, does more than be refused in one line: each case is a clean load or an AIRError.

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
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from air.config import AIRConfig, TrainingConfig
from air.data import mnist
from air.data.generator import GeneratorConfig, load_background
from air.data.scenes import SceneSet
from air.evaluation.recognition import Bank
from air.gui.pictures import open_picture
from air.gui.script import read as read_script
from air.model.air_model import AIRModel
from air.training import checkpoints
from air.training.run_folder import MetricsFile, RunFolder

TINY = AIRConfig(
    canvas_size=(6, 6),
    window_size=(4, 4),
    max_steps=1,
    lstm_units=2,
    head_units=(),
    cnn_filters=(),
    cnn_kernels=(),
    cnn_strides=(),
    cnn_pools=(),
    encoder_units=(2,),
    decoder_units=(2,),
    z_what_size=2,
)


def content_of(save, name):
    """The bytes that are written by a function that takes a path."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _scenes():
    counts = np.arange(6) % 3
    present = np.arange(2) < counts[:, None]
    images = np.random.default_rng(0).integers(0, 256, (6, 7, 9), np.uint8)
    boxes = np.where(present[..., None], [[1, 2, 3, 4], [4, 0, 4, 6]], 0)
    segments = (images % 3).clip(0, counts[:, None, None])
    return SceneSet(images, counts, boxes, np.where(present, 7, -1), np.where(present, 59999, -1), segments)


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
BANK = content_of(Bank(np.ones((40, 3), np.float16), np.arange(40, dtype=np.int8) % 10, 5).save, "reference_set.npz")
ROW = {
    "step": 10,
    "seconds": 1.5,
    "compile_seconds": 1.0,
    "scoring_seconds": 0.2,
    "train_loss": 99.0,
    "count_accuracy/all": 0.5,
}
METRICS = ("".join(",".join(map(str, line)) + "\n" for line in (ROW, ROW.values(), ROW.values()))).encode()
CONFIG = {
    "command": "python training.py",
    "model": AIRConfig(temperature="linear(1, 0.5, steps=9)").to_dict(),
    "training": TrainingConfig().to_dict(),
    "data": "multi_mnist",
    "held_out": None,
    "versions": {"python": "3.11"},
}
SCRIPT = b'{"stroke": [[0.1, 0.2], [0.5, 0.5]]}\n{"key": "c"}\n{"pause": 0.5}\n{"frame": "a"}\n{"drop": "x.png"}\n'


@pytest.fixture(scope="module")
def model_file():
    """The bytes of the `.keras` file of a tiny model with its optimiser."""
    keras.utils.set_random_seed(0)
    model = AIRModel(TINY)
    model.compile(jit_compile=False, learning_rate="cosine(1e-3, 1e-4, steps=40)")
    model.optimizer.build(model.trainable_variables)
    return content_of(model.save, "model.keras")


def test_what_is_damaged_here_can_be_loaded(tmp_path, model_file):
    """Otherwise all the damage below would be refused for another reason."""
    for name, content, load in (
        ("scenes.npz", SCENES, SceneSet.load),
        ("images.npy", IMAGES, SceneSet.load),
        ("mnist.npz", MNIST, mnist.load),
        ("reference_set.npz", BANK, Bank.load),
        ("metrics.csv", METRICS, lambda path: MetricsFile(path).rows()),
        ("config.json", json.dumps(CONFIG).encode(), lambda path: RunFolder(path.parent).read()),
        ("script.jsonl", SCRIPT, read_script),
        ("model.keras", model_file, checkpoints.load_file),
    ):
        (tmp_path / name).write_bytes(content)
        assert not isinstance(outcome(load, tmp_path / name), str), name


@cases(25)
@given(content=damaged_zip(SCENES) | damaged(IMAGES))
def test_scenes(tmp_path, content):
    (tmp_path / "scenes.npz").write_bytes(content)
    scenes = outcome(SceneSet.load, tmp_path / "scenes.npz")
    if not isinstance(scenes, str):
        assert scenes.images.dtype == np.uint8
        assert len(scenes)


@cases(15)
@given(data=st.data(), name=st.sampled_from(["images", "counts", "boxes", "labels", "indices", "segments", "version"]))
def test_scenes_of_any_arrays(tmp_path, data, name):
    fields = dict(np.load(io.BytesIO(SCENES)))
    dtype = data.draw(hnp.scalar_dtypes() | st.just(np.dtype(object)))
    near = st.sampled_from([fields[name].shape, (6, 300, 4), (6, 300), (6, 0, 4), (6, 0), (0, 7, 9)])
    shape = data.draw(near | hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
    seed = data.draw(st.integers(0, 2**32 - 1))
    noise = np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize)
    fields[name] = np.full(shape, None) if dtype.hasobject else np.frombuffer(noise, dtype).reshape(shape)
    np.savez(tmp_path / "scenes.npz", **fields)
    outcome(SceneSet.load, tmp_path / "scenes.npz")


@cases(10)
@given(content=damaged_zip(MNIST))
def test_mnist(tmp_path, content):
    (tmp_path / "mnist.npz").write_bytes(content)
    outcome(mnist.load, tmp_path / "mnist.npz")


@cases(15)
@given(data=st.data(), which=st.sampled_from(sorted(IDX)), split=st.sampled_from(["train", "t10k"]), packed=st.booleans())
def test_mnist_of_idx_files(tmp_path, data, which, split, packed):
    folder = tmp_path / "idx"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in IDX.items():
        for part in ("train", "t10k"):
            is_bad, ending = (name, part) == (which, split), ".gz" if packed else ""
            if is_bad and not packed:
                content = data.draw(damaged(content))
            elif packed:
                content = gzip.compress(data.draw(damaged(content)) if is_bad and data.draw(st.booleans()) else content)
                content = data.draw(damaged(content)) if is_bad else content
            (folder / f"{part}-{name}{ending}").write_bytes(content)
    outcome(mnist.load, folder)


@cases(12)
@given(content=damaged_zip(BANK))
def test_banks(tmp_path, content):
    (tmp_path / "reference_set.npz").write_bytes(content)
    bank = outcome(Bank.load, tmp_path / "reference_set.npz")
    if not isinstance(bank, str):
        _, confidences = bank.predict(np.zeros((2, bank.z_what.shape[1])))
        assert np.isfinite(confidences).all()


@cases(15)
@given(content=damaged(METRICS))
def test_metrics(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    metrics = MetricsFile(tmp_path / "metrics.csv")
    rows = outcome(metrics.rows)
    if not isinstance(rows, str):
        assert all(np.isfinite(list(row.values())).all() for row in rows)
        outcome(metrics.rewind, 10)
        metrics.append(ROW)
        assert metrics.rows()[-1]["step"] == 10


@cases(15)
@given(content=damaged(json.dumps(CONFIG).encode()) | changed_json(CONFIG).map(lambda tree: json.dumps(tree).encode()))
def test_configurations_of_runs(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    outcome(RunFolder(tmp_path).read)


@cases(12)
@given(content=damaged(SCRIPT))
def test_scripts(tmp_path, content):
    (tmp_path / "script.jsonl").write_bytes(content)
    outcome(read_script, tmp_path / "script.jsonl")


def picture(kind, mode):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 4), np.uint8)
    image = Image.fromarray(pixels).convert("RGB" if mode == "F" else mode)
    file = io.BytesIO()
    (Image.fromarray(pixels[..., 0].astype(np.float32)) if mode == "F" else image).save(file, kind)
    return file.getvalue()


PICTURES = [
    picture(kind, mode)
    for kind, modes in {"PNG": "RGBA L 1", "JPEG": "RGB", "GIF": "P", "BMP": "RGB", "TIFF": "F RGBA", "WEBP": "RGBA"}.items()
    for mode in modes.split()
] + [picture("PPM", "RGB"), picture("TGA", "RGBA"), picture("ICO", "RGBA")]


@cases(25)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, about what it overlooks
@given(content=st.sampled_from(PICTURES).flatmap(damaged), as_background=st.booleans())
def test_pictures(tmp_path, content, as_background):
    path = tmp_path / "picture"
    path.write_bytes(content)
    if as_background:
        pixels = outcome(load_background, GeneratorConfig(background=path))
    else:
        pixels = outcome(open_picture, path, (50, 50))
    if not isinstance(pixels, str):
        assert (pixels.shape, pixels.dtype) == ((50, 50), np.uint8)


@cases(12)
@given(data=st.data())
def test_models(tmp_path, model_file, data):
    path = tmp_path / "model.keras"
    path.write_bytes(data.draw(damaged_zip(model_file)))
    model = outcome(checkpoints.load_file, path)
    if not isinstance(model, str):
        assert all(np.isfinite(weight).all() for weight in model.get_weights())


@cases(12)
@given(data=st.data())
def test_damage_never_changes_a_model(tmp_path, model_file, data):
    """As checksums cover all weights: what can be loaded all the same is as it was."""
    path = tmp_path / "model.keras"
    path.write_bytes(data.draw(damaged(model_file)))
    model = outcome(checkpoints.load_file, path)
    if not isinstance(model, str):
        path.write_bytes(model_file)
        for left, right in zip(model.get_weights(), checkpoints.load_file(path).get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)


@cases(12)
@given(data=st.data())
def test_configurations_of_models(tmp_path, model_file, data):
    with zipfile.ZipFile(io.BytesIO(model_file)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    tree = json.loads(members["config.json"])
    changed = data.draw(changed_json(tree))
    assume(json.dumps(changed) != json.dumps(tree))
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(changed) if name == "config.json" else content)
    outcome(checkpoints.load_file, tmp_path / "model.keras")
