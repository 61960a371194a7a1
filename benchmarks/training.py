"""Times training steps through Keras' `fit`, as training.py runs them.

    python benchmarks/training.py                       # both presets at batch size 64
    python benchmarks/training.py --presets default --batch-sizes 64 128 --out steps.json

Prints the median and the spread of the time of one step over several repeats, the seconds of compilation, and the
process' peak memory; every configuration runs in a process of its own.
"""

import dataclasses
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from air import cli
from air.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class Arguments:
    presets: tuple[str, ...] = ("original", "default")
    """Configurations to time."""
    batch_sizes: tuple[int, ...] = (64,)
    """Scenes in a batch."""
    steps: int = 500
    """Training steps in a repeat."""
    repeats: int = 5
    """Timed repeats, after one that is not counted."""
    out: Path | None = None
    """JSON file for the figures."""


def measure(preset: str, batch_size: int, steps: int, repeats: int) -> dict[str, float]:
    """Times one configuration in this process."""
    with cli.quiet_import():
        from air.model import AIRModel
        from air.scenes import SceneSet, pipeline
        from air.training import compile_model

    config, training = PRESETS[preset]()
    images = np.random.default_rng(0).integers(0, 256, (60000, *config.canvas_size), np.uint8)
    batches = pipeline(SceneSet(images), batch_size, seed=0)
    model = AIRModel(config)
    compile_model(model, training.replace(batch_size=batch_size))
    began = time.perf_counter()
    model.fit(batches, steps_per_epoch=model.steps_per_execution, verbose=0, shuffle=False)
    compiling = time.perf_counter() - began
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
        seconds.append((time.perf_counter() - began) / steps)
    milliseconds = 1000 * np.array(seconds[1:])
    return {
        "preset": preset,
        "batch_size": batch_size,
        "step_ms_median": float(np.median(milliseconds)),
        "step_ms_least": float(milliseconds.min()),
        "step_ms_greatest": float(milliseconds.max()),
        "compile_s": compiling,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    arguments = cli.parse(Arguments, __doc__.split("\n")[0])
    context = multiprocessing.get_context("spawn")
    results = []
    print("preset      batch   ms a step: median (least to greatest)   compile s   peak GiB")
    for preset in arguments.presets:
        for batch_size in arguments.batch_sizes:
            with context.Pool(1) as pool:
                result = pool.apply(measure, (preset, batch_size, arguments.steps, arguments.repeats))
            results.append(result)
            spread = f"({result['step_ms_least']:.2f} to {result['step_ms_greatest']:.2f})"
            print(
                f"{preset:10} {batch_size:6}   {result['step_ms_median']:.2f} {spread:32}"
                f"{result['compile_s']:9.1f} {result['peak_memory_gib']:10.2f}",
                flush=True,
            )
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
