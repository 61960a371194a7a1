"""An animated GIF of a model's attention to the same few scenes while it trains."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from air.support import drawing
from air.support.files import write_atomically
from air.training.callbacks import StepCallback, draw_attention

SCENES = 6
FRAMES = 60
MILLISECONDS, PAUSE = 200, 2000  # of each frame, and of the last one
MAX_BYTES = 3_000_000
CAPTION = 22  # pixels


class Animation(StepCallback):
    """Collects pictures of attention to the first few scenes during training, and writes them as one GIF at its end."""

    def __init__(self, path: str | Path, images: np.ndarray, iterations: int) -> None:
        super().__init__()
        self.path, self.images, self.iterations = Path(path), images[:SCENES], iterations
        self.frames: list[Image.Image] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.due = frame_steps(self.step, self.iterations)
        self._take(self.step)

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if self.due and step >= self.due[0]:
            self._take(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        write_gif(self.path, self.frames)

    def _take(self, step: int) -> None:
        self.due = [due for due in self.due if due > step]
        picture = Image.fromarray(draw_attention(self.model, self.images, zoom=2))
        frame = Image.new("RGB", (picture.width, picture.height + CAPTION), drawing.BACKGROUND)
        frame.paste(picture, (0, CAPTION))
        ImageDraw.Draw(frame).text((6, 4), f"step {step:,}", (235, 235, 240), ImageFont.load_default(13))
        self.frames.append(frame)


def frame_steps(start: int, iterations: int, frames: int = FRAMES) -> list[int]:
    """Choose the training steps after `start` to picture: dense at first, when most happens, up to `iterations`."""
    span = iterations - start
    return sorted({start + max(round(span * (frame / frames) ** 2), 1) for frame in range(1, frames + 1)} if span > 0 else ())


def write_gif(path: str | Path, frames: list[Image.Image]) -> None:
    """Write frames of one size as a GIF that repeats, leaving out every second one until the file is under 3 MB."""

    def write(temporary: Path) -> None:
        kept = drawing.in_palette(frames, drawing.COLOURS, 63 - len(drawing.COLOURS))
        while True:
            durations = [MILLISECONDS * len(frames) // len(kept)] * (len(kept) - 1) + [PAUSE]
            kept[0].save(temporary, save_all=True, append_images=kept[1:], duration=durations, loop=0, optimize=True)
            if temporary.stat().st_size <= MAX_BYTES or len(kept) < 3:
                return
            kept = kept[::-1][::2][::-1]  # counted from the end, so that the last one stays

    if frames:
        write_atomically(path, write)
