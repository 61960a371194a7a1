"""An animated GIF of a model's attention to the same few scenes while it trains."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from air.support import drawing
from air.support.files import write_atomically
from air.training.summaries import Periodic

SCENES = 6
FRAMES = 60
MILLISECONDS = 200  # of a frame: five a second
PAUSE = 2000  # milliseconds of the last frame
LARGEST = 3_000_000  # bytes
CAPTION = 22  # pixels


class Animation(Periodic):
    """Collects pictures of attention and reconstruction while training goes on, and writes them as one GIF at its end.

    Frames are dense at first, when most happens, and ever rarer later: their steps grow with the square of their number.

    Args:
        path: of the GIF.
        images: [scenes, height, width] uint8 or float in [0, 1]; the first six are shown.
        iterations: the last training step.
        start: see `Periodic`.
    """

    def __init__(self, path: Path, images: np.ndarray, iterations: int, start: int = 0) -> None:
        super().__init__(start)
        self.path, self.images = Path(path), images[:SCENES]
        self.due = frame_steps(start, iterations)
        self.frames: list[Image.Image] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._take(self.start)

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if self.due and step >= self.due[0]:
            self._take(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        write_gif(self.path, self.frames)

    def _take(self, step: int) -> None:
        self.due = [due for due in self.due if due > step]
        picture = Image.fromarray(drawing.strip(self.images, self.model.infer(self.images), zoom=2))
        frame = Image.new("RGB", (picture.width, picture.height + CAPTION), drawing.BACKGROUND)
        frame.paste(picture, (0, CAPTION))
        ImageDraw.Draw(frame).text((6, 4), f"step {step:,}", (235, 235, 240), ImageFont.load_default(13))
        self.frames.append(frame)


def frame_steps(start: int, iterations: int, frames: int = FRAMES) -> list[int]:
    """The training steps after `start` to picture, ascending; the last one is `iterations`."""
    span = iterations - start
    return sorted({start + max(round(span * (frame / frames) ** 2), 1) for frame in range(1, frames + 1)} if span > 0 else ())


def write_gif(path: Path, frames: list[Image.Image]) -> None:
    """Writes frames of one size as a GIF that repeats; leaves out every second one until the file is under 3 MB."""

    palette = _palette()

    def write(temporary: Path) -> None:
        kept = frames
        while True:
            durations = [MILLISECONDS * len(frames) // len(kept)] * (len(kept) - 1) + [PAUSE]
            coded = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept]
            coded[0].save(temporary, save_all=True, append_images=coded[1:], duration=durations, loop=0, optimize=True)
            if temporary.stat().st_size <= LARGEST or len(kept) < 3:
                return
            kept = kept[::-1][::2][::-1]  # counted from the end, so that the last one stays

    if frames:
        write_atomically(path, write)


def _palette() -> Image.Image:
    """Greys and the colours of the steps: all that is in the frames, and one palette for all, so that nothing flickers."""
    fixed = [drawing.BACKGROUND, *drawing.COLOURS]
    greys = [(grey, grey, grey) for grey in np.linspace(0, 255, 64 - len(fixed)).astype(int).tolist()]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for rgb in (*fixed, *greys) for value in rgb])
    return palette
