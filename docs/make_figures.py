"""Draw docs/how_it_works.png: one scene on its way through the model.

python multi_mnist.py
python -m docs.make_figures
"""

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import air
from air.model import transformer
from air.support import drawing

SCENE = 81  # of multi_mnist/test.npz: a 7 and an 8
WIDTH, HEIGHT = 900, 350  # pixels at which GitHub shows it; the file has twice as many
SMALL, LARGE = 86, 122  # sides of the pictures
ROWS, MIDDLE = (42, 184), 156  # top of each step's pictures, and the centre between them
SCENE_X, GLIMPSE_X, CODE_X, WINDOW_X, OBJECT_X, RESULT_X = 16, 240, 390, 500, 648, 766
TEXT, FAINT, FRAME = "#ececf1", "#a5a5b0", "#55555f"
BACKGROUND, *COLOURS = ("#" + bytes(rgb).hex() for rgb in (drawing.BACKGROUND, *drawing.COLOURS))


def picture(axes: Axes, title: str, image: np.ndarray, x: float, y: float, height: float, frame: str = FRAME, **style) -> None:
    width = height * image.shape[1] / image.shape[0]
    style = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest", **style}
    axes.imshow(image, extent=(x, x + width, y + height, y), **style)
    axes.add_patch(Rectangle((x, y), width, height, fill=False, color=frame, linewidth=1.5))
    if y != ROWS[1]:
        axes.text(x + width / 2, y - 11, title, size=9, color=TEXT, ha="center")


def draw(model: air.AIRModel, image: np.ndarray) -> Figure:
    """Draw the steps of a scene, [height, width] in [0, 1], with two objects."""
    figure = Figure((WIDTH / 100, HEIGHT / 100), dpi=200, facecolor=BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1))
    scenes = model.infer(image[None])
    z_where = np.concatenate([scenes.scale[..., None], scenes.shift], axis=-1)
    glimpses = transformer.crop(tf.constant(image[None]), z_where, model.config.window_size).numpy()[0]
    picture(axes, "scene", image, SCENE_X, MIDDLE - LARGE / 2, LARGE)
    picture(axes, "reconstruction", scenes.reconstruction[0], RESULT_X, MIDDLE - LARGE / 2, LARGE)
    for step, top in enumerate(ROWS):
        x, y, width, height = scenes.attention_boxes[0, step] * LARGE / len(image)
        corner = (SCENE_X + x, MIDDLE - LARGE / 2 + y)
        axes.add_patch(Rectangle(corner, width, height, fill=False, color=COLOURS[step], linewidth=2))
        z_what = scenes.z_what[0, step].reshape(10, 5)
        picture(axes, "glimpse", glimpses[step], GLIMPSE_X, top, SMALL, COLOURS[step])
        picture(axes, "z_what", z_what, CODE_X, top, SMALL, cmap="RdBu_r", vmin=-2.5, vmax=2.5)
        picture(axes, "decoded window", scenes.decoded_windows[0, step], WINDOW_X, top, SMALL, COLOURS[step])
        picture(axes, "object", scenes.objects[0, step], OBJECT_X, top, SMALL, COLOURS[step])
        row, beside = top + SMALL / 2, MIDDLE + (top + SMALL / 2 - MIDDLE) / 3
        for start, end in (
            ((SCENE_X + LARGE, beside), (GLIMPSE_X, row)),
            ((GLIMPSE_X + SMALL, row), (CODE_X, row)),
            ((CODE_X + SMALL / 2, row), (WINDOW_X, row)),
            ((WINDOW_X + SMALL, row), (OBJECT_X, row)),
            ((OBJECT_X + SMALL, row), (RESULT_X, beside)),
            ((GLIMPSE_X + SMALL / 2, top + SMALL), (GLIMPSE_X + SMALL / 2, top + SMALL + (56, 40)[step])),
        ):
            axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": TEXT, "shrinkA": 3, "shrinkB": 3})
        axes.text(
            GLIMPSE_X - 8, row + (-12, 28)[step], f"presence {scenes.presence[0, step]:.2f}", size=9, color=FAINT, ha="right"
        )
        axes.text(GLIMPSE_X + 54, top + SMALL + 28, "repeat", size=14, color=TEXT, weight="bold")
    for word, x, y in (("attend", GLIMPSE_X - 80, 50), ("infer", CODE_X - 59, 72)):
        axes.text(x, y, word, size=14, color=TEXT, weight="bold")
    for word, x in (("decode", WINDOW_X - 54), ("render", OBJECT_X - 50), ("add", RESULT_X - 24)):
        axes.text(x, 76, word, size=9, color=FAINT)
    axes.text(GLIMPSE_X, HEIGHT - 24, f"presence {scenes.presence[0, 2]:.2f}: nothing is left, so stop", size=9, color=FAINT)
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="auto")
    axes.axis("off")
    return figure


if __name__ == "__main__":
    chosen = np.load("multi_mnist/test.npz")["images"][SCENE].astype(np.float32) / 255
    draw(air.load("model"), chosen).savefig("docs/how_it_works.png")
