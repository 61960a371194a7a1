"""Trains at extreme settings, and says whether everything stayed finite.

    python -m benchmarks.soak                              # 20,000 steps each
    python -m benchmarks.soak --settings white --steps 500

Each run is one of training.py, in a folder of its own. It may end well, with finite losses and weights all along; or stop with
the report of a loss or of weights that are no numbers, and finite checkpoints. Anything else is a failure, and exit status 1.
"""

import dataclasses
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro

from air.data.scenes import SceneSet
from air.errors import AIRError, UsageError
from air.support import cli
from air.training import checkpoints
from air.training.run_folder import RunFolder
from benchmarks import generation
from benchmarks.process import ROOT

SCENES = 3000
REPORTS = ("the loss became", "the weights are no longer finite")


class Setting(NamedTuple):
    data: Callable[[], SceneSet]
    flags: tuple[str, ...] = ()


def _digits(size: int = SCENES) -> SceneSet:
    return generation.make(size, generation.training_digits())


def _uniform(value: int) -> SceneSet:
    return SceneSet(np.full((SCENES, 50, 50), value, np.uint8), np.zeros(SCENES, np.uint8))


def _one_scene() -> SceneSet:
    two = _digits(3).select([2])
    return SceneSet(np.repeat(two.images, SCENES, axis=0), np.repeat(two.count, SCENES))


SETTINGS: dict[str, Setting] = {
    "temperature": Setting(_digits, ("--temperature", "0.1")),
    "learning_rate": Setting(_digits, ("--learning-rate", "cosine(3e-2, 5e-4)")),
    "batch": Setting(_digits, ("--batch-size", "1")),
    "black": Setting(lambda: _uniform(0)),
    "white": Setting(lambda: _uniform(255)),
    "one_scene": Setting(_one_scene),
}
Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    settings: tuple[Literal[tuple(SETTINGS)], ...] = tuple(SETTINGS)
    """Temperature 0.1, ten times the learning rate, batches of one scene, black, white and equal scenes."""
    steps: int = 20000
    """Training steps of each."""
    flags: str = "--batch-size 2"
    """More flags of training.py, as in --flags="--estimator nvil"; those of a setting win."""
    out: Path_ | None = None
    """Folder for the runs, which must not exist; a temporary one when not given."""


class Outcome(NamedTuple):
    ended: str
    steps: int
    loss: float | None  # nats per scene, at the last scoring, if there was one
    seconds: float


def soak(setting: str, arguments: Arguments, folder: Path) -> Outcome:
    """Runs one setting.

    Raises:
        AIRError: if it ends otherwise than it may.
    """
    data, flags = SETTINGS[setting]
    scenes, run = folder / f"{setting}.npz", folder / setting
    data().save(scenes)
    where = ("--data", str(scenes), "--held-out", str(scenes), "--run", str(run))
    command = [sys.executable, str(ROOT / "training.py"), *where]
    command += ["--iterations", str(arguments.steps), "--keep-checkpoints", "1000", *shlex.split(arguments.flags), *flags]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    last = (done.stderr.splitlines() or [""])[-1]
    reported = any(report in last for report in REPORTS)
    if "Traceback" in done.stderr or done.returncode not in (0, 1) or (done.returncode == 1 and not reported):
        raise AIRError(f"{setting}: exit status {done.returncode} ({last})")
    kept = checkpoints.checkpoints(run)
    for _, path in kept:
        checkpoints.load_file(path)  # which refuses weights that are not finite
    rows = RunFolder(run).metrics.rows("train_loss")  # likewise
    steps = kept[-1][0] if kept else 0
    if not done.returncode and steps != arguments.steps:
        raise AIRError(f"{setting}: ended at step {steps} without a report")
    ended = f"stopped: {last.split('error: ')[-1]}" if done.returncode else "finite"
    return Outcome(ended, steps, rows[-1]["train_loss"] if rows else None, seconds)


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    if not 1 <= arguments.steps <= 10**8:
        raise UsageError(f"steps: {arguments.steps} is not allowed; it must be from 1 to {10**8}")
    if arguments.out is not None and arguments.out.exists():
        raise UsageError(f"out: {arguments.out} exists already; choose another folder")
    with cli.quiet_import():
        import air.model.air_model  # noqa: F401
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for setting in arguments.settings:
            ended, steps, loss, seconds = soak(setting, arguments, folder)
            known = "not scored" if loss is None else f"train loss {loss:.1f}"
            print(f"{setting:13} {steps:>7,} steps in {seconds:5.0f} s, {known}: {ended}", flush=True)


if __name__ == "__main__":
    sys.argv[0] = "benchmarks.soak"
    cli.run(main)
