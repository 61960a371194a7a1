"""Training by several replicas: real workers over loopback, and several logical CPUs."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import air
from air.data.scenes import SceneSet
from air.errors import UsageError
from air.training import checkpoints, cluster

SCRIPT = Path(__file__).parent.parent / "training.py"
PATIENCE = 1200  # seconds, as the machine may be busy
TINY = [
    *("--canvas-size", "20", "20", "--window-size", "8", "8", "--max-steps", "2", "--lstm-units", "16", "--head-units", "8"),
    *("--encoder-units", "16", "--decoder-units", "16", "--z-what-size", "4", "--decoder-noise", "0.1"),
    *("--cnn-filters", "4", "--cnn-kernels", "4", "--cnn-strides", "4", "--cnn-pools", "1"),
    *("--batch-size", "8", "--validation-scenes", "16", "--learning-rate", "linear(3e-4, 1e-4, steps=20)"),
    *("--validate-every", "2", "--scalars-every", "2", "--checkpoints-every", "10", "--keep-checkpoints", "1000"),
]
CONCRETE = ["--estimator", "concrete", "--max-steps", "1", "--refiner-units"]  # no refiner and a single step compile faster
NVIL = [
    "--estimator",
    "nvil",
    "--normalise-signal",
    "--no-xla",
]  # whose averages are over replicas, too; uncompiled, to be quick
STEPS = 10  # of the runs that are compared


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of smooth scenes."""
    folder = tmp_path_factory.mktemp("blobs")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:20, :20]
    for name, size in (("train", 40), ("validation", 16)):
        images, counts = np.zeros((size, 20, 20)), np.arange(size) % 3
        for image, count in zip(images, counts, strict=True):
            for _ in range(count):
                centre_y, centre_x = rng.uniform(4, 16, 2)
                image += np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / 8)
        SceneSet(images.clip(0, 1), counts.astype(np.uint8)).save(folder / f"{name}.npz")
    return folder


def flags(data: Path, recipe: list[str], iterations: int, run: str) -> list[str]:
    return ["--data", str(data), *TINY, *recipe, "--iterations", str(iterations), "--run", run]


SEVERAL_RUNS = f"""
import functools, json, runpy, sys
from air.training import strategies
strategies.create = functools.cache(strategies.create)  # a process can use no second one
for arguments in json.loads(sys.argv[1]):
    sys.argv = [{str(SCRIPT)!r}, *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print("status", end.code, flush=True)
"""
TWO_DEVICES = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


class Worker:
    """A process of a cluster, in an empty folder of its own, that runs training.py several times."""

    def __init__(self, folder: Path, rank: int, addresses: list[str], commands: list[list[str]]) -> None:
        self.folder, self.files = folder / f"worker_{rank}", [folder / f"{name}_{rank}.txt" for name in ("out", "err")]
        self.folder.mkdir()
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        variables = {**os.environ, "PYTHONPATH": str(SCRIPT.parent), "TF_CONFIG": json.dumps(task)}
        command = [sys.executable, "-c", SEVERAL_RUNS, json.dumps(commands)]
        with self.files[0].open("w") as out, self.files[1].open("w") as err:
            self.process = subprocess.Popen(command, cwd=self.folder, env=variables, stdout=out, stderr=err)

    @property
    def texts(self) -> tuple[str, str]:
        """What it wrote to standard output and standard error so far."""
        return tuple(file.read_text() for file in self.files)


def wait_for(condition: Callable[[], Any], workers: list[Worker]) -> Any:
    """What a condition becomes, once it is no longer false."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert all(worker.process.poll() is None for worker in workers), [worker.texts for worker in workers]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


def run_python(folder: Path, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(SCRIPT.parent), **environment}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def runs(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `concrete_one` and `nvil_one` of one device, and `concrete_two` of two."""
    folder = tmp_path_factory.mktemp("runs")
    commands = [
        flags(blobs, CONCRETE, STEPS, "concrete_one"),
        [*flags(blobs, CONCRETE, STEPS, "concrete_two"), "--strategy", "mirrored"],
        flags(blobs, NVIL, STEPS, "nvil_one"),
        [*flags(blobs, NVIL, STEPS, "uneven"), "--strategy", "mirrored", "--batch-size", "7"],
    ]
    done = run_python(folder, TWO_DEVICES + SEVERAL_RUNS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert statuses(done.stdout) == [0, 0, 0, 2], done
    assert "batch_size: 7 is not allowed; it must be a multiple of 2" in done.stderr
    assert not (folder / "uneven").exists()
    return folder


def statuses(out: str) -> list[int]:
    return [int(status) for status in re.findall(r"^status (\d+)$", out, re.MULTILINE)]


def losses(run: Path) -> list[tuple[int, float]]:
    """Steps and losses of what a run has of the first steps."""
    with open(run / "metrics.csv") as file:
        rows = [(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(file)]
    return [row for row in rows if row[0] <= STEPS]


def assert_same(run: Path, expected: Path) -> None:
    """The same losses and weights after the first steps, but for rounding."""
    steps, values = zip(*losses(run), strict=True)
    assert steps == (2, 4, 6, 8, 10)
    np.testing.assert_allclose(values, [loss for _, loss in losses(expected)], rtol=1e-5)
    left, right = (air.load(folder / f"models/step_{STEPS:08d}.keras") for folder in (run, expected))
    assert int(left.step.numpy()) == int(left.optimizer.iterations.numpy()) == STEPS
    for variable, a, b in zip(left.weights, left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=variable.path)


def test_two_devices_are_one(runs: Path) -> None:
    assert_same(runs / "concrete_two", runs / "concrete_one")


def test_two_workers_are_one_and_survive_a_loss(blobs: Path, runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in (first, second)]
    workers = []
    for rank in range(2):
        endless = [*flags(blobs, NVIL, 1_000_000, str(run)), "--strategy", "multiworker"]
        commands = [[*endless, "--seed", str(rank)], endless, ["--resume", str(run), "--strategy", "multiworker"]]
        workers.append(Worker(tmp_path, rank, addresses, commands))
    chief, other = workers
    try:
        wait_for(lambda: checkpoints.checkpoints(run), workers)
        other.process.send_signal(signal.SIGINT)
        step = int(wait_for(lambda: re.search(r"Stopped at step (\d+)", chief.texts[0]), workers)[1])
        wait_for(lambda: checkpoints.checkpoints(run)[-1][0] > step, workers)
        other.process.kill()
        assert chief.process.wait(PATIENCE) == 0, chief.texts
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()

    for worker in workers:
        assert list(worker.folder.iterdir()) == []
        assert "Traceback" not in worker.texts[1]
        assert "training.py: error: worker 1 has other flags than the chief, worker 0; all need the same\n" in worker.texts[1]
        assert f"Stopped at step {step} " in worker.texts[0]
    assert statuses(other.texts[0]) == [1, 130]
    assert statuses(chief.texts[0]) == [1, 130, 1]
    assert_same(run, runs / "nvil_one")
    message = chief.texts[1].splitlines()[-1]
    assert re.match(rf"training\.py: error: a worker of the cluster ended or can't be reached .*--resume {run}$", message)
    last = int(re.search(r"the last checkpoint is \S+/step_(\d+)\.keras", message)[1])
    assert last == checkpoints.checkpoints(run)[-1][0] > step
    assert run.resume(run, last + 2)  # by one device
    assert int(air.load(run).step.numpy()) == last + 2


WORKERS = {"worker": ["a:1", "b:2"]}
FIRST = {"type": "worker", "index": 0}
MISTAKES = [
    ("", "not set"),
    ("  ", "not set"),
    ("{", "not valid JSON"),
    ("[]", "cluster is missing"),
    ('{"cluster": {"worker": ["a:1"]}}', "task is missing"),
    (json.dumps({"cluster": {}, "task": FIRST}), "cluster: []"),
    (json.dumps({"cluster": {**WORKERS, "ps": ["c:3"]}, "task": FIRST}), "ps"),
    (json.dumps({"cluster": {"worker": []}, "task": FIRST}), "cluster.worker: []"),
    (json.dumps({"cluster": {"worker": "a:1"}, "task": FIRST}), 'cluster.worker: "a:1"'),
    (json.dumps({"cluster": {"worker": ["a"]}, "task": FIRST}), 'cluster.worker: "a"'),
    (json.dumps({"cluster": {"worker": ["a:0"]}, "task": FIRST}), 'cluster.worker: "a:0"'),
    (json.dumps({"cluster": {"worker": ["a:70000"]}, "task": FIRST}), 'cluster.worker: "a:70000"'),
    (json.dumps({"cluster": {"worker": [7]}, "task": FIRST}), "cluster.worker: 7"),
    (json.dumps({"cluster": {"worker": ["a:1", "a:1"]}, "task": FIRST}), "address of its own"),
    (json.dumps({"cluster": {**WORKERS, "chief": ["c:3", "d:4"]}, "task": FIRST}), "only one"),
    (json.dumps({"cluster": WORKERS, "task": {"type": "chief", "index": 0}}), 'task.type: "chief"'),
    (
        json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}),
        "task.index: 2 is not allowed; it must be from 0 to 1",
    ),
    (json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": "0"}}), 'task.index: "0"'),
    (json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": True}}), "task.index: true"),
    (json.dumps({"cluster": WORKERS, "task": {"type": ["worker"], "index": 0}}), "task.type"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_a_wrong_cluster_is_named(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        cluster.read({"TF_CONFIG": text})
    message = str(caught.value)
    assert message.startswith("TF_CONFIG: ")
    assert words in message
    assert "\n" not in message
    assert cluster.EXAMPLE in message


def test_clusters() -> None:
    def read(jobs: dict[str, list[str]], job: str, index: int) -> tuple[tuple[str, ...], int]:
        return cluster.read({"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})})

    assert read({"worker": ["a:1", "b:2"]}, "worker", 1) == (("a:1", "b:2"), 1)
    assert read({"worker": ["a:1", "[::1]:2"], "chief": ["c:3"]}, "worker", 1) == (("c:3", "a:1", "[::1]:2"), 2)
    assert read({"worker": ["a:1"], "chief": ["c:3"]}, "chief", 0) == (("c:3", "a:1"), 0)
    assert cluster.read({"TF_CONFIG": cluster.EXAMPLE}).rank == 0


NO_TENSORFLOW = f"""
import runpy, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # their import would fail
sys.argv[0] = {str(SCRIPT)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("config", "words"),
    [("", ["TF_CONFIG: not set", cluster.EXAMPLE]), (cluster.EXAMPLE, ["batch_size: 7", "multiple of 2"])],
    ids=["no cluster", "uneven batch"],
)
def test_mistakes_come_before_tensorflow(config: str, words: list[str], tmp_path: Path) -> None:
    done = run_python(tmp_path, NO_TENSORFLOW, "--strategy", "multiworker", "--batch-size", "7", TF_CONFIG=config)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []
