"""The demo's model: one scene in its thread, and the way there and back."""

import time
from pathlib import Path

import numpy as np

from air.errors import AIRError
from benchmarks.results import Sample

TIMEOUT = 300.0  # seconds
PREPARATION = 3.0  # seconds that the thread takes for what it prepares in the background


def measure(model: str, calls: int) -> Sample:
    """Times calls with one scene each."""
    from air.gui.engine import Engine
    from air.gui.pictures import held_out_scenes

    engine = Engine(Path(model), lambda: None)
    engine.start()
    if not engine.wait_until_settled(TIMEOUT):
        raise AIRError(engine.status.text)
    time.sleep(PREPARATION)
    config = engine.model.config
    scenes = held_out_scenes(Path(model), config.canvas_size, config.max_steps, 0)
    alone, there_and_back = [], []
    for call in range(calls):
        began = time.perf_counter()
        engine.look(call, scenes[call % len(scenes)])
        engine.wait(call, TIMEOUT)
        there_and_back.append(1000 * (time.perf_counter() - began))
        alone.append(engine.take_seen().milliseconds)
    engine.close()
    answer: Sample = {}
    for name, times in (("inference", alone), ("there_and_back", there_and_back)):
        median, p99 = np.percentile(times, [50, 99])
        answer |= {f"{name}/median": (float(median), "ms"), f"{name}/p99": (float(p99), "ms")}
    return answer
