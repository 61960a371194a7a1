"""Times training, inference, generation, start-up and the demo, beside what this machine can do.

    python -m benchmarks                                  # everything, in five rounds
    python -m benchmarks --quick --only steps inference
    python -m benchmarks --output before.json             # then change the code, and
    python -m benchmarks --compare before.json

Every measurement is taken in a process of its own. A round takes each of them once, so that a machine that is slower for a
while is so for all of them; the figures are the median, the least and the greatest of the rounds.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from air.errors import DataError, UsageError
from air.presets import PRESETS
from air.support import cli, files
from benchmarks import machine, results, steps
from benchmarks.process import alone

SECTIONS = ("machine", "steps", "inference", "generation", "startup", "demo")
Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    only: tuple[Literal[SECTIONS], ...] = SECTIONS
    """What to measure; steps measure the machine too."""
    presets: tuple[Literal[tuple(PRESETS)], ...] = tuple(PRESETS)
    """Configurations whose training steps are timed."""
    estimators: tuple[Literal[steps.ESTIMATORS], ...] = steps.ESTIMATORS
    """Estimators of z_pres whose training steps are timed, with each preset."""
    batch_sizes: tuple[int, ...] = (64,)
    """Scenes in a training batch, with each preset and estimator."""
    repeats: int | None = None
    """Rounds; 5, or 1 with --quick, when not given."""
    quick: bool = False
    """Few steps, calls and scenes: to see that all works, or a large change."""
    model: Path_ = Path("model")
    """The model of inference, start-up and the demo; see `air.load`."""
    output: Path_ | None = None
    """JSON file to write."""
    compare: Path_ | None = None
    """JSON file of an earlier run, to print what has changed since."""


class Job(NamedTuple):
    name: str  # before the names of its figures
    module: str  # of this package
    arguments: dict[str, Any]  # of its `measure`


def jobs(arguments: Arguments) -> list[Job]:
    """What a round consists of."""
    quick, only = arguments.quick, set(arguments.only)
    if "steps" in only:
        only.add("machine")
    model = {"model": str(arguments.model.resolve())}
    seconds = {"drawing": 1.0, "idle": 1.0} if quick else {"drawing": 4.0, "idle": 6.0}
    found = {
        "machine": [Job("machine", "machine", {})],
        "steps": [
            Job(
                f"steps/{preset}/{estimator}/{batch_size}",
                "steps",
                {"preset": preset, "estimator": estimator, "batch_size": batch_size, "steps": 20 if quick else 300},
            )
            for preset in arguments.presets
            for estimator in arguments.estimators
            for batch_size in arguments.batch_sizes
        ],
        "inference": [
            Job("inference", "inference", {**model, "calls": 100 if quick else 2000, "scenes": 1000 if quick else 10000})
        ],
        "generation": [Job("generation", "generation", {"scenes": 3000 if quick else 60000})],
        "startup": [Job("startup", "startup", model)],
        "demo": [
            Job("demo/window", "window", {**model, **seconds}),
            Job("demo/engine", "engine", {**model, "calls": 100 if quick else 2000}),
        ],
    }
    return [job for section in SECTIONS if section in only for job in found[section]]


def check(arguments: Arguments) -> None:
    """Raises AIRError for what would otherwise fail only after minutes."""
    for name in ("only", "presets", "estimators", "batch_sizes"):
        if not getattr(arguments, name):
            raise UsageError(f"{name}: at least one is needed")
    for batch_size in arguments.batch_sizes:
        if not 1 <= batch_size <= steps.SCENES:
            raise UsageError(f"batch_sizes: {batch_size} is not allowed; each must be from 1 to {steps.SCENES}")
    if arguments.repeats is not None and arguments.repeats < 1:
        raise UsageError(f"repeats: {arguments.repeats} is not allowed; it must be at least 1")
    for preset in arguments.presets:
        for estimator in arguments.estimators:
            steps.configuration(preset, estimator)
    if not arguments.model.exists() and {"inference", "startup", "demo"} & set(arguments.only):
        raise DataError(f"{arguments.model}: no such file or folder")
    if arguments.output and (arguments.output.is_dir() or not arguments.output.absolute().parent.is_dir()):
        raise UsageError(f"output: {arguments.output} is not allowed; it must be a file in a folder that exists")


def measure(todo: list[Job], rounds: int) -> dict[str, results.Figure]:
    """Takes all measurements, and tells on standard error which one is going on."""
    samples: list[results.Sample] = []
    total = rounds * len(todo)
    for done in range(0, total, len(todo)):
        sample: results.Sample = {}
        for number, job in enumerate(todo, done + 1):
            print(f"[{number:{len(str(total))}}/{total}] {job.name} ...", end="", file=sys.stderr, flush=True)
            began = time.perf_counter()
            try:
                answer = alone(job.module, **job.arguments)
            except BaseException:
                print(file=sys.stderr)
                raise
            print(f" {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
            sample |= {f"{job.name}/{name}": value for name, value in answer.items()}
            sample |= steps.against_peak(sample)
        samples.append(sample)
    return results.summarise(samples)


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    check(arguments)
    earlier = results.read(arguments.compare) if arguments.compare else None
    todo = jobs(arguments)
    rounds = arguments.repeats or (1 if arguments.quick else 5)
    figures = measure(todo, rounds)
    now = results.Results(machine={**machine.description(), "quick": arguments.quick}, figures=figures)
    print(results.report(now))
    if earlier:
        print("\n" + results.comparison(now, earlier))
    if arguments.output:
        files.write_json(arguments.output, now.model_dump())


if __name__ == "__main__":
    sys.argv[0] = "benchmarks"  # as which messages know it, rather than as __main__.py
    cli.run(main)
