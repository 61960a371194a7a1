"""A run that is killed again and again, at any moment, ends like one that never was.

pytest --hypothesis-profile=fuzz tests/fuzz/test_killed_runs.py     # 20 kills
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
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
    """The step of the last checkpoint, -1 if there is none; each that has its name is whole."""
    steps = [-1]
    for step, path in checkpoints.checkpoints(run):
        assert all(np.isfinite(array).all() for array in state(path).values())
        steps.append(step)
    return steps[-1]


def kill(folder: Path, flags: list[str], rng: random.Random) -> str | None:
    """Starts training.py and ends it by a signal sometime; returns which, and when, or None if the run was faster."""
    run = folder / "killed"
    before = newest(run)
    with open(folder / "stderr.txt", "w+") as errors:
        process = subprocess.Popen([sys.executable, SCRIPT, *flags], cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
        began = time.monotonic()
        training = rng.random() < 0.75  # rather than at any time
        if training:
            while process.poll() is None and (not run.exists() or newest(run) == before):
                time.sleep(0.01)
        time.sleep(rng.uniform(0, 2.0))
        number = rng.choice(SIGNALS) if training else signal.SIGKILL  # as Python itself answers Ctrl-C while it starts
        process.send_signal(number)
        status = process.wait(120)
        when = f"{number.name} after {time.monotonic() - began:.1f} s"
        errors.seek(0)
        assert "Traceback" not in errors.read()
    assert newest(run) >= before  # nothing is lost
    if status == 0:
        return None
    finished = newest(run) == STEPS  # when Python ends, Ctrl-C does what it does to any program
    assert status == -number if number == signal.SIGKILL or (finished and status < 0) else status == 130
    return when


def test_a_run_killed_at_random_moments_ends_like_a_whole_one(squares: Path, tmp_path: Path) -> None:
    kills = scaled(1, 20)
    seed = int.from_bytes(os.urandom(4), "little")
    rng, moments = random.Random(seed), []
    flags = ["--data", str(squares), *FLAGS]
    assert train(tmp_path, *flags, "--run", "whole").returncode == 0
    run = tmp_path / "killed"
    while len(moments) < kills:
        again = ["--resume", "killed"] if newest(run) >= 0 else [*flags, "--run", "killed", *(["--overwrite"] * run.exists())]
        moment = kill(tmp_path, again, rng)
        if moment:
            moments.append(f"{moment}, at step {newest(run)}")
        else:
            assert_same(run, tmp_path / "whole")
            run.rename(tmp_path / f"survivor_{len(moments)}")
    print(f"seed {seed}:", *moments, sep="\n")
    last = ["--resume", "killed"] if newest(run) >= 0 else [*flags, "--run", "killed", *(["--overwrite"] * run.exists())]
    done = train(tmp_path, *last)
    assert done.returncode == 0, done.stderr
    assert_same(run, tmp_path / "whole")
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert not [path for path in run.glob("**/.*") if path.name != ".lock"]
