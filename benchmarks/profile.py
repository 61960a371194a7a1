"""Show what a training step's time goes to, by the kind of XLA's operations.

    taskset -c 0 python -m benchmarks.profile
    taskset -c 0 python -m benchmarks.profile --preset original

Times are those of the thread on which an operation begins. What other threads take of it isn't seen, so profile on one core.
"""

import re
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from air import presets
from air.config import Config, Count
from air.presets import PresetName
from air.support import cli
from air.support.console import table
from benchmarks.speed import Training

KINDS = {
    "matrix products": r"MatMul|dot|einsum|ynn_fusion",
    "convolutions": r"convolution",
    "sums over neighbours": r".*reduce-window",
}
OTHERS = "elementwise operations, sums, copies"


class Settings(Config):
    """Choose what to profile."""

    preset: PresetName = "default"
    """Preset whose training step is profiled."""
    batch_size: Count = 64
    """Scenes in a training batch."""
    steps: Count = 50
    """Training steps to profile."""


class Operation(NamedTuple):
    """Hold how often one of XLA's operations ran, and for how long."""

    name: str
    number: int
    seconds: float  # in all


def profile(training: Training, steps: int) -> tuple[float, list[Operation]]:
    """Return the seconds that a number of training steps takes, and all operations, the longest first."""
    from tensorflow.profiler.experimental import Profile

    with tempfile.TemporaryDirectory() as folder:
        with Profile(folder):
            seconds = training.fit(steps)
        return seconds, read(next(Path(folder).rglob("*.xplane.pb")).read_bytes())


def read(trace: bytes) -> list[Operation]:
    """Read the operations of XLA's programs from the profiler's file."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    found: dict[str, list[float]] = defaultdict(list)
    for plane in XSpace.FromString(trace).planes:
        for line in plane.lines:
            for event in line.events:
                if any(plane.stat_metadata[stat.metadata_id].name == "hlo_op" for stat in event.stats):
                    found[plane.event_metadata[event.metadata_id].name].append(1e-12 * event.duration_ps)
    operations = [Operation(name, len(times), sum(times)) for name, times in found.items()]
    return sorted(operations, key=lambda operation: -operation.seconds)


def kind_of(operation: Operation) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.match(pattern, operation.name)), OTHERS)


def main() -> None:
    settings = cli.parse(Settings, __doc__)
    training = Training(presets.recipe(settings.preset), settings.batch_size, 3000)
    training.fit(settings.steps)
    seconds, operations = profile(training, settings.steps)
    busy = sum(operation.seconds for operation in operations)
    rows = []
    for kind in (*KINDS, OTHERS):
        times = [operation.seconds for operation in operations if kind_of(operation) == kind]
        rows.append([kind, f"{1000 * sum(times) / settings.steps:.1f}", str(len(times)), f"{100 * sum(times) / busy:.0f} %"])
    print(table(["", "ms in a step", "operations", "of the time"], rows))
    longest = operations[0]
    print(f"\nA step takes {1000 * seconds / settings.steps:.1f} ms while it is profiled.")
    print(f"The longest operation is {longest.name}, {100 * longest.seconds / busy:.1f} % of the time.")


if __name__ == "__main__":
    cli.run(main)
