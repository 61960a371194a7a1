"""Short runs of a tiny model: in this process, or as a user starts training.py; and what they leave behind."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from air.config import AIRConfig, TrainingConfig
from air.training import checkpoints
from air.training.run_folder import RunFolder

SCRIPT = Path(__file__).parent.parent / "training.py"
TINY = [
    *("--canvas-size", "20", "20", "--window-size", "8", "8", "--lstm-units", "16", "--head-units", "8"),
    *("--encoder-units", "16", "--decoder-units", "16", "--z-what-size", "4", "--cnn-filters", "4", "4"),
    *("--batch-size", "8", "--validation-scenes", "16", "--no-xla"),
]
MODEL = AIRConfig(
    canvas_size=(20, 20), window_size=(8, 8), max_steps=2, lstm_units=16, head_units=(8,), encoder_units=(16,),
    decoder_units=(16,), z_what_size=4, cnn_filters=(4,), cnn_kernels=(4,), cnn_strides=(4,), cnn_pools=(1,),
)  # fmt: skip
EVERY = ("validate", "scalars", "gradients", "histograms", "images", "checkpoints")
RECIPE = TrainingConfig(
    iterations=40, batch_size=8, learning_rate=1e-3, validation_scenes=16, xla=False, keep_checkpoints=2,
    **{f"{name}_every": 10 for name in EVERY},
)  # fmt: skip
STATISTICS = "vars/sums"  # in a checkpoint


def train(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *flags], cwd=folder, capture_output=True, text=True, timeout=1200)


def state(checkpoint: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a `.keras` file: weights, statistics, those of the optimisers."""
    arrays = {}
    with zipfile.ZipFile(checkpoint) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, node: arrays.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return arrays


def metrics(run: Path) -> list[dict[str, float]]:
    """Read the rows of metrics.csv without the times, which differ between runs."""
    rows = RunFolder(run).metrics.rows()
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def events(run: Path) -> tuple[list[tuple[str, int, str]], list[np.ndarray]]:
    """Read what TensorBoard shows, in the order of its files: (folder, step, tag) and value of each."""
    keys, values = [], []
    for path in sorted(run.glob("summary/*/*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = Event.FromString(record)
            for value in event.summary.value:
                keys.append((path.parent.name, event.step, value.tag))
                values.append(tf.make_ndarray(value.tensor))
    return keys, values


def assert_same(run: Path, other: Path) -> None:
    """Two runs have the same weights and optimisers to the last bit, and the same metrics and summaries.

    Statistics are the same up to rounding, as TensorFlow without XLA sums in no fixed order.
    """
    (step, last), (other_step, other_last) = (checkpoints.checkpoints(path)[-1] for path in (run, other))
    assert step == other_step
    ours, theirs = state(last), state(other_last)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-5 if name == STATISTICS else 0, err_msg=name)
    assert metrics(run) == [pytest.approx(row, rel=1e-5) for row in metrics(other)]
    (keys, values), (other_keys, other_values) = events(run), events(other)
    assert keys == other_keys
    for key, value, other_value in zip(keys, values, other_values, strict=True):
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, other_value, rtol=1e-5, err_msg=str(key))
        else:
            assert (value == other_value).all(), key
