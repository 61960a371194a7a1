"""Training by several replicas: real workers over loopback, and several logical CPUs."""

import csv
import functools
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

import numpy as np
import pytest

import air
from air import cluster
from air.errors import UsageError
from air.scenes import SceneSet

SCRIPT = Path(__file__).parent.parent / "training.py"
TINY = [
    *("--canvas-size", "20", "20", "--window-size", "8", "8", "--max-steps", "2", "--lstm-units", "16", "--head-units", "8"),
    *("--encoder-units", "16", "--decoder-units", "16", "--z-what-size", "4", "--decoder-noise", "0.1"),
    *("--cnn-filters", "4", "--cnn-kernels", "4", "--cnn-strides", "4", "--cnn-pools", "1"),
    *("--batch-size", "8", "--validation-scenes", "16", "--learning-rate", "linear(3e-4, 1e-4, steps=20)"),
    *(word for name in ("validate", "scalars", "checkpoints") for word in (f"--{name}-every", "5")),
]


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


class Workers:
    """A cluster of two workers on this machine, each in a folder of its own: `chief/` and `other/`."""

    def __init__(self, folder: Path, *flags: str, other_flags: tuple[str, ...] = ()) -> None:
        with socket.socket() as first, socket.socket() as second:
            for listener in (first, second):
                listener.bind(("127.0.0.1", 0))
            addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in (first, second)]
        self.folders = [folder / "chief", folder / "other"]
        self.processes = []
        for index, cwd in enumerate(self.folders):
            cwd.mkdir(exist_ok=True)
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            command = [sys.executable, SCRIPT, "--strategy", "multiworker", *flags, *(other_flags if index else ())]
            environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            self.processes.append(subprocess.Popen(command, cwd=cwd, env=environment, **pipes))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def end(self, timeout: float = 500) -> list[tuple[int, str, str]]:
        """Status, standard output and standard error of both."""
        texts = [process.communicate(timeout=timeout) for process in self.processes]
        return [(process.returncode, *text) for process, text in zip(self.processes, texts, strict=True)]

    def wait_for_checkpoint(self, after: int = 0) -> int:
        """The step of the chief's newest checkpoint, once it is later than another."""
        deadline = time.monotonic() + 500
        while time.monotonic() < deadline:
            names = self.folders[0].glob("air_results/models/step_*.keras")
            newest = max((int(path.stem.removeprefix("step_")) for path in names), default=0)
            if newest > after:
                return newest
            assert all(process.poll() is None for process in self.processes), self.end()
            time.sleep(0.1)
        raise AssertionError("no checkpoint")


def train(folder: Path, *flags: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A single process of training.py, after some Python code."""
    program = f"import runpy, sys\nsys.argv[0] = {str(SCRIPT)!r}\n{code}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", program, *flags]
    variables = {**os.environ, "PYTHONPATH": str(SCRIPT.parent), **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=500)


RECIPES = {
    "concrete": ("--iterations", "5"),
    "nvil": ("--iterations", "5", "--no-xla", "--normalise-signal", "--controller-input", "residual"),
    "enumerated": ("--iterations", "10", "--no-xla", "--controller-input", "latents"),
}
TWO_DEVICES = """if True:
    import tensorflow as tf
    from air import errors, strategies
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    try:
        strategies.create("mirrored", batch_size=7)
    except errors.UsageError as error:
        print(error)
    flags = sys.argv[1:]
    sys.argv[1:] = [*flags, "--run", "one"]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert end.code == 0
    sys.argv[1:] = [*flags, "--run", "two", "--strategy", "mirrored"]
    """


@pytest.fixture(scope="module")
def runs(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a folder with two runs by a recipe: `one`, of one device, and `two`, of two."""

    @functools.cache
    def make(presence: str) -> Path:
        folder = tmp_path_factory.mktemp(presence)
        flags = ["--data", str(blobs), *TINY, "--presence", presence, *RECIPES[presence]]
        done = train(folder, *flags, code=TWO_DEVICES)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("batch_size: 7 is not allowed; it must be a multiple of 2")
        return folder

    return make


def losses(run: Path) -> dict[int, float]:
    with open(run / "metrics.csv") as file:
        return {int(row["step"]): float(row["train_loss"]) for row in csv.DictReader(file)}


def assert_same_run(run: Path, expected: Path) -> None:
    assert losses(run) == pytest.approx(losses(expected), rel=1e-4)
    left, right = air.load(run), air.load(expected)
    assert int(left.step.numpy()) == int(left.optimizer.iterations.numpy()) == int(right.step.numpy())
    for variable, a, b in zip(left.weights, left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=variable.path)


@pytest.mark.parametrize("presence", RECIPES)
def test_two_devices_are_one(presence: str, runs: Callable[[str], Path]) -> None:
    assert_same_run(runs(presence) / "two", runs(presence) / "one")


def test_two_workers_are_one_and_one_goes_on_for_them(blobs: Path, runs: Callable[[str], Path], tmp_path: Path) -> None:
    flags = ["--data", str(blobs), *TINY, "--presence", "enumerated", *RECIPES["enumerated"], "--iterations", "5"]
    with Workers(tmp_path, *flags) as workers:
        ends = workers.end()
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert list((tmp_path / "other").iterdir()) == []
    run = tmp_path / "chief/air_results"
    resumed = train(run.parent, "--resume", "air_results", "--iterations", "10")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(run, runs("enumerated") / "one")


def only_error(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line.lower()]
    assert "Traceback" not in text
    assert lines == text.splitlines()[-1:], text
    return lines[0]


def test_a_killed_worker_ends_the_other_and_both_can_go_on(blobs: Path, tmp_path: Path) -> None:
    endless = ["--data", str(blobs), *TINY, "--no-xla", "--iterations", "1000000"]
    with Workers(tmp_path, *endless) as workers:
        workers.wait_for_checkpoint()
        workers.processes[1].kill()
        (status, _, err), _ = workers.end()
    assert status == 1
    last = re.search(r"the last checkpoint is air_results/models/step_(\d+)\.keras", only_error(err))
    assert last, err
    assert re.search("a worker of the cluster ended or can't be reached .*--resume air_results$", only_error(err))
    assert int(air.load(tmp_path / "chief/air_results").step.numpy()) == int(last[1])
    (tmp_path / "other/air_results").symlink_to(tmp_path / "chief/air_results")
    with Workers(tmp_path, "--resume", "air_results") as workers:
        workers.wait_for_checkpoint(after=int(last[1]))
        workers.processes[1].send_signal(signal.SIGINT)
        ends = workers.end()
    assert [status for status, _, _ in ends] == [130, 130], ends
    steps = {int(re.search(r"Stopped at step (\d+)", out)[1]) for _, out, _ in ends}
    assert steps == {int(air.load(tmp_path / "chief/air_results").step.numpy())}


def test_workers_must_agree(blobs: Path, tmp_path: Path) -> None:
    with Workers(tmp_path, "--data", str(blobs), *TINY, other_flags=("--seed", "1")) as workers:
        ends = workers.end()
    for status, out, err in ends:
        assert status == 1
        assert out == ""
        assert "worker 1 has not the flags of the chief" in only_error(err)
    assert [path for folder in workers.folders for path in folder.iterdir()] == []


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


@pytest.mark.parametrize(
    ("config", "words"),
    [("", ["TF_CONFIG: not set", cluster.EXAMPLE]), (cluster.EXAMPLE, ["batch_size: 7", "multiple of 2"])],
    ids=["no cluster", "uneven batch"],
)
def test_mistakes_come_before_tensorflow(config: str, words: list[str], tmp_path: Path) -> None:
    flags = ["--strategy", "multiworker", "--batch-size", "7"]
    no_tensorflow = "sys.modules['tensorflow'] = sys.modules['keras'] = None"  # their import would fail
    done = train(tmp_path, *flags, code=no_tensorflow, TF_CONFIG=config)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []
