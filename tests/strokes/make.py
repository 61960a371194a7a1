"""Write the drawings in this folder: digits as drawn by hand with a mouse.

    python -m tests.strokes.make                                # the twenty drawings
    python -m tests.strokes.make --seed 7 --output elsewhere    # others in the same handwriting
    python -m tests.strokes.make --scenes data/drawings.npz     # scenes for the evaluation, drawn with the window's pens

Each line of a file is one stroke, {"stroke": [[x, y], ...]}, with (x, y) from (0, 0), the top left of the canvas, to (1, 1).

Each digit is a few strokes through points placed by eye, drawn as smooth curves at a hand's uneven speed; slanted, stretched
and moved at random, with a slow wobble and a tremor; and sampled in whole screen pixels as often as a mouse reports.

Scenes come in sets, as `air.data.held_out` numbers them; in each, every digit and each of PENS is equally frequent.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from air.data.generator import bounding_box
from air.data.held_out import DRAWN_COUNTS, DRAWN_HEIGHTS, DRAWN_SCENES
from air.data.scenes import SceneSet
from air.gui.pen import LINE_WIDTHS, Drawing

# Points "x,y" of the strokes of each digit, in hundredths of a box, from its top left corner.
DIGITS = {
    0: ["58,2 25,10 4,42 10,80 42,99 80,84 96,46 82,12 50,3"],
    1: ["62,0 55,32 48,68 42,100"],
    2: [
        "6,24 26,4 62,2 84,22 72,50 40,76 6,97",
        "6,97 50,95 98,98",
    ],
    3: [
        "8,10 42,0 80,12 74,36 36,48",
        "36,48 82,58 90,82 50,100 6,90",
    ],
    4: [
        "18,2 8,30 6,54 40,57 86,50",
        "80,6 76,40 72,72 68,100",
    ],
    5: [
        "26,4 20,24 15,44 50,40 84,58 80,86 44,100 6,88",
        "26,4 60,5 92,2",
    ],
    6: ["74,0 40,18 14,50 10,80 38,99 74,90 82,66 56,54 22,68 12,80"],
    7: [
        "6,10 45,7 90,4",
        "90,4 72,34 54,66 40,100",
    ],
    8: ["78,14 46,1 18,18 34,42 70,60 80,84 46,100 14,84 30,60 64,40 80,16"],
    9: [
        "80,22 50,3 16,18 20,44 52,50 78,28",
        "80,14 76,50 66,80 58,100",
    ],
}
ASPECT = {0: 0.78, 1: 0.45, 2: 0.80, 3: 0.72, 4: 0.80, 5: 0.78, 6: 0.66, 7: 0.78, 8: 0.66, 9: 0.66}
PAIRS = ((1, 4), (2, 7), (3, 0), (5, 8), (6, 1), (7, 9), (8, 3), (9, 2), (0, 5), (4, 6))
CANVAS, SCREEN = 50, 450  # side of the canvas in its own pixels and in those of the screen
HEIGHTS = (17.0, 21.5)  # of a digit without the pen's width, canvas pixels; the longer side of MNIST's is 20
RATE = 60  # samples per second
MANY_HEIGHTS = (12.0, 24.0)  # of one of several digits with the pen's width, canvas pixels
PENS = LINE_WIDTHS[1:4]  # canvas pixels; the default one and its neighbours
SPACE = 2.0  # minimum width of the gap between two digits, canvas pixels


def curve(knots: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample a smooth curve [n, 2] through knots [k, 2], more densely at its ends, where a hand slows down."""
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, 24, endpoint=False)[:, None]
    pieces = [_catmull_rom(*padded[i : i + 4], t) for i in range(len(knots) - 1)]
    fine = np.concatenate([*pieces, knots[-1:]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    seconds = length[-1] / rng.uniform(1.8, 3.2) + 0.08
    time = np.linspace(0, 1, max(int(RATE * seconds), 4))
    at = (0.35 * time + 0.65 * time**2 * (3 - 2 * time)) * length[-1]
    return np.stack([np.interp(at, length, fine[:, axis]) for axis in (0, 1)], axis=1)


def _catmull_rom(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, t: np.ndarray) -> np.ndarray:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3)


def digit(which: int, rng: np.random.Generator, heights: tuple[float, float] = HEIGHTS) -> list[np.ndarray]:
    """Make the strokes [n, 2] of one digit, in canvas pixels around (0, 0)."""
    height = rng.uniform(*heights)
    size = height * np.array([ASPECT[which] * rng.uniform(0.85, 1.15), 1.0])
    slant, angle = rng.normal(0.08, 0.10), rng.normal(0, 0.05)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    strokes = []
    for points in DIGITS[which]:
        knots = np.array([point.split(",") for point in points.split()], float) / 100
        stroke = (curve(knots + rng.normal(0, 0.022, knots.shape), rng) - 0.5) * size
        stroke[:, 0] -= slant * stroke[:, 1]
        wobble = sum(
            rng.normal(0, 0.22, 2) * np.sin(k * np.linspace(0, np.pi, len(stroke))[:, None] + rng.uniform(0, 6.3, 2))
            for k in (1, 2, 3)
        )
        strokes.append(stroke @ turn.T + wobble + rng.normal(0, 0.05, stroke.shape))
    return strokes


def place(
    digits: Sequence[int],
    rng: np.random.Generator,
    heights: tuple[float, float] = HEIGHTS,
    gap: float = 6.0,
    border: float = 3.0,
) -> list[list[np.ndarray]]:
    """Make the strokes [n, 2] of each digit, in canvas pixels, with some distance between their points."""
    while True:
        placed: list[list[np.ndarray]] = []
        for which in digits:
            strokes = digit(which, rng, heights)
            points = np.concatenate(strokes)
            low, high = border - points.min(0), CANVAS - border - points.max(0)
            if (low > high).any():
                break
            corner = rng.uniform(low, high)
            placed.append([stroke + corner for stroke in strokes])
        clouds = [np.concatenate(strokes) for strokes in placed]
        if len(placed) == len(digits) and all(_gap(a, b) > gap for a, b in itertools.combinations(clouds, 2)):
            return placed


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the smallest distance between the points of two digits."""
    return float(np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)).min())


def draw(strokes: list[np.ndarray], pen_width: float) -> np.ndarray:
    """Draw strokes as the window does; return [H, W] uint8."""
    drawing = Drawing((CANVAS, CANVAS))
    for stroke in strokes:
        first, *others = map(tuple, _on_screen(stroke) * CANVAS)
        drawing.begin(first, pen_width)
        for point in others:
            drawing.extend(point)
    return drawing.image


def draw_set(count: int, heights: tuple[float, float], rng: np.random.Generator) -> SceneSet:
    """Draw DRAWN_SCENES scenes of `count` digits."""
    classes = rng.permuted(np.tile(np.arange(DRAWN_SCENES) % 10, (count, 1)), axis=1).T
    layers = np.zeros((DRAWN_SCENES, count, CANVAS, CANVAS), np.uint8)
    boxes = np.zeros((DRAWN_SCENES, max(DRAWN_COUNTS), 4))
    labels = np.full((DRAWN_SCENES, max(DRAWN_COUNTS)), -1)
    for scene, digits in enumerate(classes.tolist()):
        pen_width = PENS[scene % len(PENS)]
        line_heights = heights[0] - pen_width, heights[1] - pen_width
        placed = place(digits, rng, line_heights, gap=pen_width + SPACE, border=pen_width / 2 + 0.5)
        for slot, strokes in enumerate(placed):
            layers[scene, slot] = draw(strokes, pen_width)
            boxes[scene, slot] = bounding_box(layers[scene, slot])
    labels[:, :count] = classes
    return SceneSet(layers.max(axis=1), np.full(DRAWN_SCENES, count), boxes, labels)


def draw_sets(rng: np.random.Generator) -> SceneSet:
    """Draw all sets of scenes, one after the other."""
    sets = [draw_set(1, (height, height), rng) for height in DRAWN_HEIGHTS]
    sets += [draw_set(count, MANY_HEIGHTS, rng) for count in DRAWN_COUNTS]
    fields = ("images", "count", "boxes", "labels")
    return SceneSet(*(np.concatenate([getattr(scenes, field) for scenes in sets]) for field in fields))


def _on_screen(stroke: np.ndarray) -> np.ndarray:
    """Round a stroke in canvas pixels to whole pixels of the screen, as a mouse does; return it from 0 to 1."""
    return np.rint(stroke * SCREEN / CANVAS) / SCREEN


def line(stroke: np.ndarray) -> str:
    """Format a stroke in canvas pixels as a line of a file."""
    return json.dumps({"stroke": _on_screen(stroke).round(4).tolist()}) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--scenes", type=Path, help="write scenes into this .npz file instead of the drawings")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    if arguments.scenes:
        draw_sets(rng).save(arguments.scenes)
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    for digits in (*((which,) for which in DIGITS), *PAIRS):
        name = "digits_" + "_".join(map(str, digits))
        (arguments.output / f"{name}.jsonl").write_text("".join(map(line, itertools.chain(*place(digits, rng)))))


if __name__ == "__main__":
    main()
