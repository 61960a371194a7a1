"""Real runs of training.py with a tiny model, as a user starts them, and what they leave behind."""

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

from air.training import checkpoints
from air.training.run_folder import RunFolder

SCRIPT = Path(__file__).parent.parent / "training.py"
TINY = [
    *("--canvas-size", "20", "20", "--window-size", "8", "8", "--lstm-units", "16", "--head-units", "8"),
    *("--encoder-units", "16", "--decoder-units", "16", "--z-what-size", "4", "--cnn-filters", "4", "4"),
    *("--batch-size", "8", "--validation-scenes", "16", "--no-xla"),
]
STATISTICS = "vars/sums"  # in a checkpoint
EVERY = ("validate", "scalars", "gradients", "histograms", "images", "checkpoints")


def every(steps: int) -> list[str]:
    return [word for name in EVERY for word in (f"--{name}-every", str(steps))]


def train(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *flags], cwd=folder, capture_output=True, text=True, timeout=240)


def failure(run: subprocess.CompletedProcess[str]) -> str:
    """The one line that a user's mistake ends in."""
    lines = [line for line in run.stderr.splitlines() if "error:" in line]
    assert "Traceback" not in run.stderr
    assert len(lines) == 1
    assert run.stderr.splitlines()[-1] == lines[0]
    return lines[0]


def state(checkpoint: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.keras` file: weights, statistics, those of the optimisers."""
    arrays = {}
    with zipfile.ZipFile(checkpoint) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, node: arrays.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return arrays


def metrics(run: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv without the times, which no two runs share."""
    rows = RunFolder(run).metrics.rows()
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def events(run: Path) -> tuple[list[tuple[str, int, str]], list[np.ndarray]]:
    """What TensorBoard shows, in the order of its files: (folder, step, tag) and value of each."""
    keys, values = [], []
    for path in sorted(run.glob("summary/*/*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = Event.FromString(record)
            for value in event.summary.value:
                keys.append((path.parent.name, event.step, value.tag))
                values.append(tf.make_ndarray(value.tensor))
    return keys, values


def assert_same(run: Path, other: Path) -> None:
    """Two runs have the same weights and optimisers to the last bit, and tell the same of how they came there.

    What they tell, statistics too, is the same but for rounding, as TensorFlow without XLA sums in no fixed order.
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
