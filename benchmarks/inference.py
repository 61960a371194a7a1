"""`model.infer`: how long one scene takes, and how many scenes a second it does at once."""

import time

import numpy as np

from benchmarks.results import Sample

WARM_UP = 20  # calls that don't count


def measure(model: str, calls: int, scenes: int) -> Sample:
    """Times calls with one scene each, then one with many."""
    import air
    from benchmarks import generation

    loaded = air.load(model)
    images = generation.make(scenes, generation.training_digits()).images
    times = []
    for call in range(WARM_UP + calls):
        one = images[[call % scenes]]
        began = time.perf_counter()
        loaded.infer(one)
        times.append(time.perf_counter() - began)
    median, p99 = 1000 * np.percentile(times[WARM_UP:], [50, 99])
    loaded.infer(images)  # traces the graph for these batches
    began = time.perf_counter()
    loaded.infer(images)
    throughput = scenes / (time.perf_counter() - began)
    return {
        "one_scene/median": (float(median), "ms"),
        "one_scene/p99": (float(p99), "ms"),
        f"{scenes}_scenes/throughput": (throughput, "scenes/s"),
    }
