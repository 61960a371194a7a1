"""Measure how the time of a training step and of inference grows with what is asked, and write docs/growth.png.

    python -m benchmarks.growth
    python -m benchmarks.growth --repeats 5 --output growth.png

Training is that of the default recipe; workers are processes on this machine with a core each. Inference is `model.infer` with
the model in model/, in batches of 32 scenes by default.
An exponent is the slope of a straight line through the logarithms of the times: 0 if nothing grows, 1 if time is proportional.
Inference should grow with the objects that are there, not with the steps that it may take.
"""

import contextlib
import functools
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from air import presets
from air.config import DEFAULT_MODEL, Config, Count, find_model
from air.errors import AIRError
from air.evaluation.curves import STYLE
from air.support import cli
from air.support.console import table
from air.training.run_folder import RunFolder
from benchmarks.speed import ROOT, Training, in_fresh_process, seconds, training_scenes

BATCH = 32  # scenes, in inference
STEPS = 20  # training steps that are timed together
PATIENCE = 600.0  # seconds for all workers to end
MANY = 12  # steps that inference may take unless stated otherwise


class Settings(Config):
    """Choose what to measure."""

    repeats: Count = 5
    """Times that each point is measured; the median counts."""
    output: Path = Path("docs/growth.png")
    """Figure to write."""


class Curve(NamedTuple):
    """The time over one quantity."""

    title: str
    quantity: str
    values: tuple[int, ...]
    measure: Callable[[int, int], float]  # of a value and the number of repeats: milliseconds


def train(repeats: int, batch_size: int = 64, side: int = 50, max_steps: int = 3) -> float:
    """Time a training step on square canvases, in milliseconds."""
    recipe = presets.default()
    config = recipe.model.replace(canvas_size=(side, side), max_steps=max_steps)
    training = Training(recipe._replace(model=config), batch_size, 5 * batch_size)
    training.fit(STEPS)
    return 1000 / STEPS * statistics.median(training.fit(STEPS) for _ in range(repeats))


def train_in_workers(number: int, repeats: int) -> float:
    """Time a training step of 64 scenes that workers share, each with a core of this machine (Linux), in milliseconds."""
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as ports:
        listeners = [ports.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        cluster = {"worker": [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "training.py"), "--strategy", "multiworker", "--run", f"{folder}/run"]
        command += ["--iterations", str((repeats + 1) * STEPS), "--validate-every", str(STEPS), "--validation-scenes", "1"]
        workers = []
        for rank in range(number):
            place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
            pin = functools.partial(os.sched_setaffinity, 0, {cores[rank]})
            options = {"env": {**os.environ, "TF_CONFIG": place}, "preexec_fn": pin, "stdout": subprocess.DEVNULL}
            workers.append(subprocess.Popen(command, **options))
        try:
            if any([worker.wait(PATIENCE) for worker in workers]):  # noqa: C419, as all must end
                raise AIRError("a worker failed, see above")
        finally:
            for worker in workers:
                worker.kill()
        rows = RunFolder(f"{folder}/run").metrics.rows()
    return 1000 / STEPS * statistics.median(np.diff([row["seconds"] - row["scoring_seconds"] for row in rows]))


def infer(repeats: int, batch_size: int = BATCH, side: int = 50, objects: int = 2, max_steps: int = MANY) -> float:
    """Time inference of a batch of scenes that have the same number of objects, in milliseconds."""
    with cli.quiet_import():
        import air
    model = air.load(find_model(DEFAULT_MODEL))
    images = training_scenes(batch_size, counts=(objects,), side=side).images
    times = [seconds(lambda: model.infer(images, max_steps=max_steps, batch_size=batch_size)) for _ in range(repeats + 3)]
    return 1000 * statistics.median(times[3:])


def _over(function: Callable[..., float], name: str, **fixed: int) -> Callable[[int, int], float]:
    """Measure a function in a new process for each value of one of its arguments."""
    return lambda value, repeats: in_fresh_process(functools.partial(function, repeats, **fixed, **{name: value}))


CURVES = (
    Curve("training step", "scenes in a batch", (16, 32, 64, 128, 256), _over(train, "batch_size")),
    Curve("training step, 32 scenes", "side of the canvas", (50, 75, 100, 150), _over(train, "side", batch_size=32)),
    Curve("training step", "steps", (1, 2, 3, 4, 6), _over(train, "max_steps")),
    Curve("training step, 64 scenes", "workers of one core", (1, 2), train_in_workers),
    Curve("inference", "scenes in a batch", (1, 4, 16, 64, 256, 1024), _over(infer, "batch_size")),
    Curve("inference", "side of the canvas", (50, 75, 100, 200, 400), _over(infer, "side")),
    Curve("inference, 200x200", "objects", (1, 2, 4, 8, 16, 32), _over(infer, "objects", side=200, max_steps=64)),
    Curve("inference, 2 objects", "steps it may take", (3, 6, 12, 24, 48, 96), _over(infer, "max_steps")),
)


def exponent(values: tuple[int, ...], times: list[float]) -> float:
    """Return the slope of the logarithm of times over that of values."""
    return float(np.polyfit(np.log(values), np.log(times), 1)[0])


def figure(measured: list[list[float]]) -> Figure:
    """Draw every curve on logarithmic axes."""
    columns = math.ceil(len(CURVES) / 2)
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(2.6 * columns, 5))
        axes = drawing.subplots(2, columns).ravel()
        for ax in axes[len(CURVES) :]:
            ax.remove()
        for ax, curve, times in zip(axes, CURVES, measured, strict=False):
            ax.loglog(curve.values, times, "o-", color="#007aff")
            ax.set(title=f"{curve.title}\nexponent {exponent(curve.values, times):.2f}", xlabel=curve.quantity, ylabel="ms")
            ax.set_ylim(min(times) / 1.5, max(1.5 * max(times), 15 * min(times)))  # a decade at least, so that flat looks flat
            ax.set_xticks(curve.values, map(str, curve.values))
            ax.minorticks_off()
        return drawing


def main() -> None:
    settings = cli.parse(Settings, __doc__)
    measured = []
    for curve in CURVES:
        measured.append([curve.measure(value, settings.repeats) for value in curve.values])
        heads = [f"{curve.title}: {curve.quantity}", *map(str, curve.values), "exponent"]
        times = [f"{time:.1f}" for time in measured[-1]]
        print(table(heads, [["ms", *times, f"{exponent(curve.values, measured[-1]):.2f}"]]), end="\n\n", flush=True)
    figure(measured).savefig(settings.output)


if __name__ == "__main__":
    cli.run(main)
