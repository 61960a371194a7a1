"""A run that is killed again and again, at any moment, ends like one that never was.

pytest -m slow --hypothesis-profile=fuzz tests/fuzz/test_killed_runs.py     # 20 kills
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from damage import scaled
from real_runs import SCRIPT, TINY, assert_same, state, train

from air.training import checkpoints

STEPS = 60
FLAGS = [
    *TINY, *("--iterations", str(STEPS), "--learning-rate", "cosine(1e-3, 1e-4)", "--temperature", "linear(1, 0.5, steps=50)"),
    *("--checkpoints-every", "2", "--keep-checkpoints", "3", "--validate-every", "4"),
    *("--scalars-every", "8", "--gradients-every", "12", "--histograms-every", "6", "--images-every", "10"),
]  # fmt: skip
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT]


def newest(run: Path) -> int:
    """Return the step of the last checkpoint, -1 if there is none; all of them are whole."""
    found = checkpoints.checkpoints(run)
    assert all(np.isfinite(array).all() for checkpoint in found for array in state(checkpoint.path).values())
    return found[-1].step if found else -1


def kill(folder: Path, flags: list[str], rng: random.Random) -> None:
    """Start training.py and end it by a signal at some moment, unless it is faster."""
    run = folder / "killed"
    before = newest(run)
    with open(folder / "stderr.txt", "w+") as errors:
        process = subprocess.Popen([sys.executable, SCRIPT, *flags], cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
        training = rng.random() < 0.75  # rather than at any time
        while training and process.poll() is None and (not run.exists() or newest(run) == before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2.0))
        number = rng.choice(SIGNALS) if training else signal.SIGKILL  # as Python itself answers Ctrl-C while it starts
        process.send_signal(number)
        status = process.wait(120)
        errors.seek(0)
        assert "Traceback" not in errors.read()
    assert newest(run) >= before  # nothing is lost
    # When Python ends after the last step, Ctrl-C has its usual effect.
    assert status in ((0, -number) if number == signal.SIGKILL else (0, 130, -number if newest(run) == STEPS else 130))


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_like_a_whole_one(squares: Path, tmp_path: Path) -> None:
    rng, run = random.Random(0), tmp_path / "killed"
    start = ["--data", str(squares), *FLAGS]
    assert train(tmp_path, *start, "--run", "whole").returncode == 0

    def flags() -> list[str]:
        return ["--resume", "killed"] if newest(run) >= 0 else [*start, "--run", "killed", *(["--overwrite"] * run.exists())]

    for _ in range(scaled(2, 20)):
        kill(tmp_path, flags(), rng)
    done = train(tmp_path, *flags())
    assert done.returncode == 0, done.stderr
    assert_same(run, tmp_path / "whole")
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert not [path for path in run.glob("**/.*") if path.name != ".lock"]
