"""Make docs/demo.gif and docs/demo.png without a display.

    python -m docs.make_demo

The shipped model watches two recorded digits being drawn; then its attention is played step by step, and z_what of the first
digit is changed with the arrow keys.
"""

import json
import os
from pathlib import Path

import pygame
from PIL import Image

from air.gui.app import App
from air.gui.engine import config_of
from air.gui.layout import DESIGN_SIZE
from air.gui.playback import STEP_SECONDS

STROKES, MODEL = Path("tests/strokes/digits_2_7.jsonl"), Path("model")
RATE, EVERY = 60, 6  # frames, and points of a stroke, per second; frames between two pictures of the GIF
READY = 300.0  # seconds for the model to load and to answer


def main() -> None:
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    times, pictures = [0.0], []
    app = App(MODEL, config_of(MODEL), size=(960, 608), clock=lambda: times[-1], patience=READY)
    app.session.end_attract()
    app.session.engine.start()
    app.session.engine.wait_until_settled(READY)

    def screenshot() -> Image.Image:
        return Image.frombytes("RGB", app.surface.get_size(), pygame.image.tobytes(app.surface, "RGB"))

    def show(frames: int = 1) -> None:
        for _ in range(frames):
            times.append(len(times) / RATE)
            app.pump()
            app.frame()
            if len(times) % EVERY == 0:
                pictures.append(screenshot())

    show(RATE // 2)
    height, width = app.session.config.canvas_size
    for line in STROKES.read_text().splitlines():
        first, *others = [(x * width, y * height) for x, y in json.loads(line)["stroke"]]
        app.session.pen_down(first)
        for point in others:
            show()
            app.session.drawing.extend(point)
        app.session.drawing.end()
    show(RATE * 3 // 2)
    app.perform("play")
    show(round(RATE * (2 * STEP_SECONDS + 1)))
    app.perform("close")
    for action in ["next object", *["forward"] * 10, *["back"] * 20, *["forward"] * 10]:
        app.perform(action)
        show(EVERY)
    palette = pictures[-15].quantize(96)  # one for all pictures, so that unchanged pixels take no space
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    first.save("docs/demo.gif", save_all=True, append_images=others, duration=1000 * EVERY // RATE, loop=0)
    app.perform("reset")
    app.perform("close")
    app.window.size = DESIGN_SIZE
    show(RATE)
    screenshot().quantize(256, dither=Image.Dither.NONE).save("docs/demo.png", optimize=True)
    app.close(READY)


if __name__ == "__main__":
    main()
