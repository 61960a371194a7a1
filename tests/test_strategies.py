"""Training by several replicas: real workers over loopback, and several logical CPUs."""

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
from real_runs import SCRIPT, TINY, metrics

import air
from air.errors import UsageError
from air.training import checkpoints, cluster
from air.training.run import resume

PATIENCE = 1200  # seconds, as the machine may be busy
FLAGS = [
    *TINY, "--max-steps", "2", "--decoder-noise", "0.1", "--learning-rate", "linear(3e-4, 1e-4, steps=20)",
    *("--validate-every", "2", "--scalars-every", "2", "--checkpoints-every", "10", "--keep-checkpoints", "1000"),
]  # fmt: skip
CONCRETE = [
    *("--estimator", "concrete", "--max-steps", "1", "--refiner-units", "--xla"),  # a single step compiles faster
    *("--canvas-size", "50", "50"),  # of scenes that are drawn
]
NVIL = ["--estimator", "nvil", "--normalise-signal"]  # which averages over replicas too
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
STEPS = 10  # of the runs that are compared


def flags(data: Path | str, recipe: list[str], iterations: int, run: str) -> list[str]:
    return ["--data", str(data), *FLAGS, *recipe, "--iterations", str(iterations), "--run", run]


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
        self.folder, self.out, self.err = folder / f"{rank}", folder / f"out_{rank}", folder / f"err_{rank}"
        self.folder.mkdir()
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        command = [sys.executable, "-c", SEVERAL_RUNS, json.dumps(commands)]
        with self.out.open("w") as out, self.err.open("w") as err:
            environment = {**ENVIRONMENT, "TF_CONFIG": json.dumps(task)}
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=out, stderr=err)


def wait_for(condition: Callable[[], Any], workers: list[Worker]) -> Any:
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert all(worker.process.poll() is None for worker in workers), [worker.err.read_text() for worker in workers]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


def run_python(folder: Path, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env={**ENVIRONMENT, **environment}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def runs(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `concrete_one` and `nvil_one` of one device, and `concrete_two` of two."""
    folder = tmp_path_factory.mktemp("runs")
    commands = [
        flags("stream", CONCRETE, STEPS, "concrete_one"),
        [*flags("stream", CONCRETE, STEPS, "concrete_two"), "--strategy", "mirrored"],
        flags(squares, NVIL, STEPS, "nvil_one"),
        [*flags(squares, NVIL, STEPS, "uneven"), "--strategy", "mirrored", "--batch-size", "7"],
    ]
    done = run_python(folder, TWO_DEVICES + SEVERAL_RUNS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert statuses(done.stdout) == [0, 0, 0, 2], done
    assert "batch_size: 7 is not allowed; it must be a multiple of 2" in done.stderr
    assert not (folder / "uneven").exists()
    return folder


def statuses(out: str) -> list[int]:
    return [int(status) for status in re.findall(r"^status (\d+)$", out, re.MULTILINE)]


def assert_same(run: Path, expected: Path) -> None:
    """The same losses and weights after the first steps, up to rounding."""
    (steps, losses), (_, others) = (
        zip(*((row["step"], row["train_loss"]) for row in metrics(folder) if row["step"] <= STEPS), strict=True)
        for folder in (run, expected)
    )
    assert steps == (2, 4, 6, 8, 10)
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    left, right = (air.load(folder / f"models/step_{STEPS:08d}.keras") for folder in (run, expected))
    assert int(left.step.numpy()) == int(left.optimizer.iterations.numpy()) == STEPS
    for variable, a, b in zip(left.weights, left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=variable.path)


@pytest.mark.slow
def test_two_devices_are_one(runs: Path) -> None:
    assert_same(runs / "concrete_two", runs / "concrete_one")


@pytest.mark.slow
def test_two_workers_are_one_and_survive_a_loss(squares: Path, runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in (first, second)]
    workers = []
    for rank in range(2):
        endless = [*flags(squares, NVIL, 1_000_000, str(run)), "--strategy", "multiworker"]
        commands = [[*endless, "--seed", str(rank)], endless, ["--resume", str(run), "--strategy", "multiworker"]]
        workers.append(Worker(tmp_path, rank, addresses, commands))
    chief, other = workers
    try:
        wait_for(lambda: checkpoints.checkpoints(run), workers)
        other.process.send_signal(signal.SIGINT)
        step = int(wait_for(lambda: re.search(r"Stopped at step (\d+)", chief.out.read_text()), workers)[1])
        wait_for(lambda: checkpoints.checkpoints(run)[-1].step > step, workers)
        other.process.kill()
        assert chief.process.wait(PATIENCE) == 0
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()

    for worker, ends in zip(workers, ([1, 130, 1], [1, 130]), strict=True):
        out, err = worker.out.read_text(), worker.err.read_text()
        assert list(worker.folder.iterdir()) == []
        assert "Traceback" not in err
        assert "training.py: error: worker 1 has different flags from the chief, worker 0; all workers need the same\n" in err
        assert f"Stopped at step {step} " in out
        assert statuses(out) == ends
    assert_same(run, runs / "nvil_one")
    message = chief.err.read_text().splitlines()[-1]
    assert re.match(rf"training\.py: error: a worker of the cluster ended or can't be reached .*--resume {run}$", message)
    last = int(re.search(r"the last checkpoint is \S+/step_(\d+)\.keras", message)[1])
    assert last == checkpoints.checkpoints(run)[-1].step > step
    assert resume(run, last + 2)  # by one device
    assert int(air.load(run).step.numpy()) == last + 2


@pytest.mark.parametrize(
    ("jobs", "task", "words"),
    [
        ({}, {"type": "worker", "index": 0}, "TF_CONFIG.cluster.worker"),
        ({"worker": ["a:1"], "ps": ["c:3"]}, {"type": "worker", "index": 0}, "TF_CONFIG.cluster.ps"),
        ({"worker": ["a:1", "b"]}, {"type": "worker", "index": 0}, 'TF_CONFIG.cluster.worker.1: "b"'),
        ({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}, "address of its own"),
        ({"worker": ["a:1"], "chief": ["c:3", "d:4"]}, {"type": "worker", "index": 0}, "TF_CONFIG.cluster.chief"),
        ({"worker": ["a:1"]}, {"type": "worker", "index": 1}, "has no worker 1"),
        ({"worker": ["a:1"]}, {"type": "ps", "index": 0}, 'TF_CONFIG.task.type: "ps"'),
    ],
)
def test_a_wrong_cluster_is_named(jobs: dict, task: dict, words: str) -> None:
    with pytest.raises(UsageError, match="TF_CONFIG") as caught:
        cluster.read({"TF_CONFIG": json.dumps({"cluster": jobs, "task": task})})
    assert words in str(caught.value)
    assert cluster.EXAMPLE in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("", "not set"), ("{", "Invalid JSON"), ("{}", "TF_CONFIG.cluster")])
def test_no_cluster(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cluster.read({"TF_CONFIG": text})


def test_clusters() -> None:
    def read(jobs: dict[str, list[str]], job: str, index: int) -> tuple[list[str], int]:
        found = cluster.read({"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})})
        return found.workers, found.rank

    assert read({"worker": ["a:1", "b:2"]}, "worker", 1) == (["a:1", "b:2"], 1)
    assert read({"worker": ["a:1", "[::1]:2"], "chief": ["c:3"]}, "worker", 1) == (["c:3", "a:1", "[::1]:2"], 2)
    assert read({"worker": ["a:1"], "chief": ["c:3"]}, "chief", 0) == (["c:3", "a:1"], 0)
    assert cluster.read({"TF_CONFIG": cluster.EXAMPLE}).rank == 0


def test_mistakes_come_before_tensorflow(tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # their import would fail
sys.argv[0] = {str(SCRIPT)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = run_python(tmp_path, code, "--strategy", "multiworker", "--batch-size", "7", TF_CONFIG=cluster.EXAMPLE)
    assert done.returncode == 2
    assert re.fullmatch(r"training\.py: error: batch_size: 7 is not allowed; it must be a multiple of 2.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []
