"""How fast the demo is: inference of one scene, start-up, frames while a person draws, and load while nobody does.

    python benchmarks/inference.py --model model --out inference.json

Without a display, SDL's dummy driver takes its place. CPU is in percent of one core.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CALLS = 2000
DRAWING, IDLE = 4.0, 6.0  # seconds
TIMEOUT = 300.0


def latency(model: Path) -> dict[str, float]:
    """Milliseconds of a single scene: the model alone, and the way through the engine's thread and back."""
    import numpy as np

    from air.gui.engine import Engine
    from air.gui.pictures import held_out_scenes

    engine = Engine(model, lambda: None)
    engine.start()
    if not engine.wait_until_settled(TIMEOUT):
        sys.exit(engine.status.text)
    time.sleep(3.0)  # what is prepared in the background
    config = engine.model.config
    scenes = held_out_scenes(model, config.canvas_size, config.max_steps, 0)
    alone, there_and_back = [], []
    for call in range(CALLS):
        start = time.perf_counter()
        engine.look(call, scenes[call % len(scenes)])
        engine.wait(call, TIMEOUT)
        there_and_back.append(1000 * (time.perf_counter() - start))
        alone.append(engine.take_seen().milliseconds)
    engine.close()
    answer = {}
    for name, times in (("inference", alone), ("there_and_back", there_and_back)):
        median, p99 = np.percentile(times, [50, 99])
        answer |= {f"{name}_median_ms": float(median), f"{name}_p99_ms": float(p99)}
    return answer


def demo(model: Path) -> dict[str, float]:
    """Runs the demo in a process of its own, see `_watch`."""
    command = [sys.executable, __file__, "--model", str(model), "--started"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    if not environment.get("DISPLAY") and not environment.get("WAYLAND_DISPLAY") and sys.platform == "linux":
        environment["SDL_VIDEODRIVER"] = "dummy"
    done = subprocess.run([*command, repr(time.time())], env=environment, stdout=subprocess.PIPE, timeout=TIMEOUT, check=True)
    return json.loads(done.stdout)


def _watch(model: Path, started: float) -> None:
    """Runs demo.py in this process, draws in its window, lets it alone, prints what was measured, and closes it."""
    sys.argv = ["demo.py", "--model", str(model)]
    sys.path.insert(0, str(ROOT))
    import numpy as np
    import pygame

    import air.gui.app
    import demo

    times: dict[str, float] = {}
    frames: list[float] = []

    class Watched(air.gui.app.App):
        def frame(self) -> None:
            super().frame()
            now = time.time()
            frames.append(now)
            times.setdefault("window_s", now - started)
            if self.session.engine.is_ready and "ready_s" not in times:
                times["ready_s"] = now - started
                threading.Thread(target=person, args=(self,), daemon=True).start()

    def person(app: Watched) -> None:
        time.sleep(3.0)
        rect = app.layout.drawn
        start = time.time()
        pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=rect.center))
        while (t := time.time() - start) < DRAWING:
            position = (rect.centerx + 90 * np.cos(5 * t) + 40 * np.cos(t), rect.centery + 120 * np.sin(5 * t))
            pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=position, rel=(0, 0), buttons=(1, 0, 0)))
            time.sleep(1 / 125)
        pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONUP, button=1, pos=rect.center))
        drawn = np.array([frame for frame in frames if start + 0.5 < frame < start + DRAWING])
        times["drawing_fps"] = len(drawn) / (DRAWING - 0.5)
        times["frame_p99_ms"] = float(1000 * np.percentile(np.diff(drawn), 99))
        loading = np.diff([frame - started for frame in frames if frame - started < times["ready_s"]])
        times["loading_longest_pause_s"] = float(loading.max())
        time.sleep(2.0)
        processor = time.process_time()
        time.sleep(IDLE)
        times["idle_cpu_percent"] = 100 * (time.process_time() - processor) / IDLE
        print(json.dumps(times), flush=True)  # now, as the demo ends the process
        pygame.event.post(pygame.event.Event(pygame.QUIT))

    air.gui.app.App = Watched
    demo.main()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("model"))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.started:
        _watch(arguments.model, arguments.started)
    answer = {**demo(arguments.model), **latency(arguments.model)}
    for name, value in answer.items():
        print(f"{name:26} {value:8.2f}")
    if arguments.out:
        arguments.out.write_text(json.dumps({name: round(value, 3) for name, value in answer.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
