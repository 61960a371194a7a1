"""The state of a training run on standard error while it trains."""

import sys
import time
from typing import Any

from tqdm import tqdm

from air.training.callbacks import StepCallback

SECONDS = 10.0  # between two lines in a log


class Progress(StepCallback):
    """Shows step, loss, count accuracies where they are known, steps per second and time left.

    A terminal has one live line, anything else a line every ten seconds. The times leave out compiling, up to the first step.
    Close it at the end, even after an error, which is then printed on a line of its own.

    Args:
        step: the step at which the run begins.
        iterations: the last step.
        labelled: whether the training scenes have true counts.
        hidden: show nothing.
    """

    def __init__(self, step: int, iterations: int, *, labelled: bool, hidden: bool = False) -> None:
        super().__init__()
        self.labelled, self.hidden, self.iterations = labelled, hidden, iterations
        self.first, self.began, self.printed = step, 0.0, 0.0
        self.held_out: float | None = None
        self.bar: tqdm | None = None
        if not hidden:
            print("Compiling the training step ...", file=sys.stderr, flush=True)

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        self.held_out = logs.get("val_count_accuracy", self.held_out)
        now = time.perf_counter()
        if self.hidden or not self.began:
            self.first, self.began = step, now
            return
        text = self.describe(step, logs, (step - self.first) / (now - self.began))
        if not sys.stderr.isatty():
            if now - self.printed >= SECONDS or step == self.iterations:
                print(f"step {step}/{self.iterations}, {text}", file=sys.stderr, flush=True)
                self.printed = now
            return
        if self.bar is None:
            form = "{n}/{total} {bar:20} {desc}"
            self.bar = tqdm(total=self.iterations, bar_format=form, mininterval=0.2, dynamic_ncols=True)
        self.bar.set_description_str(text, refresh=False)
        self.bar.update(step - self.bar.n)

    def describe(self, step: int, logs: dict[str, Any], speed: float) -> str:
        """Describe a step of a run of this speed, in steps per second."""
        parts = [f"loss {logs['loss']:.1f}"]
        if self.labelled:
            parts.append(f"count {logs['count_accuracy']:.1%}")
        if self.held_out is not None:
            parts.append(f"held-out {self.held_out:.1%}")
        left = tqdm.format_interval((self.iterations - step) / speed)
        return ", ".join([*parts, f"{speed:.3g} steps/s", f"{left} left"])

    def close(self) -> None:
        """End the live line."""
        if self.bar is not None:
            self.bar.close()
