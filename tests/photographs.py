"""Make photo-like pictures of handwritten digits, with the number of digits in each, to try `air.open_picture` on.

    python -m tests.photographs --output photos --each 5    # five pictures of every kind of paper, to look at
    python -m pytest -sm slow tests/test_photos.py          # how many the shipped model counts right, by kind of paper

A page is inked in its own coordinates: digits of `tests.strokes` or MNIST, by one of `PENS`, on one of `PAPERS`. A camera then
turns and tilts it over a table, lights it unevenly, and adds blur, noise and JPEG.
"""

import argparse
import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from air.data import mnist
from tests.strokes import make

PAPERS = ("white", "grey", "yellow", "ruled", "squared", "shaded", "shadowed", "on a table", "board")
PENS = ("pen", "pencil", "marker")  # and chalk, on boards
WIDTHS = {"pen": (0.045, 0.1), "pencil": (0.035, 0.06), "marker": (0.1, 0.18), "chalk": (0.07, 0.13)}  # of a digit's height
INKS = {
    "pen": ((25, 25, 30), (25, 40, 140), (170, 25, 35), (20, 90, 50)),
    "pencil": ((95, 95, 100), (70, 70, 75)),
    "marker": ((20, 20, 25), (30, 60, 170), (190, 30, 40)),
    "chalk": ((235, 235, 228), (240, 225, 150)),
}
COLOURS = {"yellow": (246, 226, 140), "grey": (170, 168, 165), "board": (38, 66, 54)}
LINES = ((150, 185, 225), (190, 190, 195), (165, 205, 170), (215, 170, 175))
SIDES = (220, 1100)  # pixels of the shorter side


@dataclasses.dataclass(frozen=True)
class Photograph:
    pixels: np.ndarray  # [H, W, 3] uint8
    count: int
    paper: str
    pen: str
    quality: int  # of JPEG

    def save(self, path: Path) -> Path:
        Image.fromarray(self.pixels).save(path, quality=self.quality)
        return path


def photograph(paper: str, rng: np.random.Generator, count: int | None = None) -> Photograph:
    """Take a picture of `count` digits, one to four by default, on a kind of paper."""
    pen = "chalk" if paper == "board" else str(rng.choice(PENS))
    count = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1])) if count is None else count
    short = int(np.exp(rng.uniform(*np.log(SIDES))))
    size = np.array([short, round(short * rng.uniform(1.0, 1.5))])[:: rng.choice([-1, 1])]  # (height, width)
    ink = _ink(_place(count, size, pen, rng), size, pen, rng)
    page = _page(paper, size, rng)
    colour = np.array(INKS[pen][rng.integers(len(INKS[pen]))], np.float32)
    picture = page + ink[..., None] * (colour - page)
    picture = _camera(picture, paper, rng)
    picture *= _light(paper, picture.shape[:2], rng)[..., None]
    picture = ndimage.gaussian_filter(picture, (*[rng.uniform(0.3, 0.0016 * short + 0.5)] * 2, 0))
    noise = rng.uniform(0.5, 6) * np.sqrt(0.3 + picture / 255)
    picture += noise * ndimage.gaussian_filter(rng.normal(0, 1, picture.shape), (*[rng.choice([0, 0.5])] * 2, 0))
    return Photograph(picture.clip(0, 255).round().astype(np.uint8), count, paper, pen, int(rng.integers(40, 96)))


def _place(count: int, size: np.ndarray, pen: str, rng: np.random.Generator) -> list[tuple[object, np.ndarray, float, float]]:
    """Choose (digit, centre, height, pen's width) for each digit: in a row, or scattered."""
    in_row = rng.random() < 0.7
    while True:
        height = rng.uniform(0.14, {1: 0.62, 2: 0.4, 3: 0.3, 4: 0.24}[count]) * size.min()
        heights = height * rng.uniform(0.88, 1.12, count)
        if in_row:
            x = np.cumsum(heights * rng.uniform(0.95, 1.2, count))
            corner = rng.uniform(0.6 * height, size - 0.6 * height)
            centres = np.stack([corner[0] + 0.08 * height * rng.normal(0, 1, count), x - x[0] + corner[1]], axis=1)
        else:
            centres = rng.uniform(0.6 * height, size - 0.6 * height, (count, 2))
        apart = all(np.abs(a - b).max() > 1.4 * height for a, b in itertools.combinations(centres, 2)) or in_row
        if apart and (centres > 0.55 * height).all() and (centres < size - 0.55 * height).all():
            break
    width = rng.uniform(*WIDTHS[pen]) * height
    return [(rng.integers(10), centre, h, width) for centre, h in zip(centres, heights, strict=True)]


def _ink(placed: list, size: np.ndarray, pen: str, rng: np.random.Generator) -> np.ndarray:
    """Draw digits; return how much each pixel is covered, [H, W] float32 in [0, 1]."""
    fine = 2 if size.max() < 1200 else 1
    picture = Image.new("L", tuple(int(s) * fine for s in size[::-1]))
    pencil = ImageDraw.Draw(picture)
    for digit, (y, x), height, width in placed:
        if rng.random() < 0.35 and pen != "pencil":
            _print_mnist(picture, fine * y, fine * x, fine * height, rng)
            continue
        strokes = make.digit(int(digit), rng, (20.0, 20.0))
        for stroke in strokes:
            points = _resample(stroke * height / 20) + np.array([x, y])
            wide = width * (1 + 0.15 * ndimage.gaussian_filter1d(rng.normal(0, 1, len(points)), 8) * 4)
            for (px, py), w in zip(points * fine, wide * fine, strict=True):
                r = max(w, 1.2) / 2
                pencil.ellipse((px - r, py - r, px + r, py + r), fill=255)
    ink = np.asarray(picture.resize(tuple(map(int, size[::-1])), Image.Resampling.BOX), np.float32) / 255
    if pen in ("pencil", "chalk"):
        grain = ndimage.gaussian_filter(rng.normal(0, 1, ink.shape), max(0.5, placed[0][3] * 0.12))
        ink = ink * (0.85 + (0.3 if pen == "chalk" else 0.2) * grain / grain.std()).clip(0.25, 1)
    return ink * rng.uniform(0.85, 1.0)


def _resample(points: np.ndarray) -> np.ndarray:
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, length[-1], max(int(length[-1]), 2))
    return np.stack([np.interp(at, length, points[:, axis]) for axis in (0, 1)], axis=1)


@functools.cache
def _mnist() -> np.ndarray:
    return mnist.load().test_images


def _print_mnist(picture: Image.Image, y: float, x: float, height: float, rng: np.random.Generator) -> None:
    digits = _mnist()
    digit = digits[rng.integers(len(digits))]
    side = round(height * 28 / 20)
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    sharp = large.point(lambda value: max(0, min(255, (value - 90) * 4)))
    picture.paste(255, (round(x - side / 2), round(y - side / 2)), sharp)


def _page(paper: str, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make an empty page [H, W, 3], 0 to 255."""
    base = np.array(COLOURS.get(paper, (247, 246, 242)), np.float32) * rng.uniform(0.9, 1.02)
    fibre = ndimage.gaussian_filter(rng.normal(0, 1, size), max(1.0, size.min() / 300))
    cloud = ndimage.zoom(rng.normal(0, 1, (6, 6)), (size[0] / 6, size[1] / 6), order=1)[: size[0], : size[1]]
    cloud = np.pad(cloud, [(0, s - c) for s, c in zip(size, cloud.shape, strict=True)], mode="edge")
    amount = (0.006, 0.05) if paper == "board" else (0.006, 0.008)
    page = base * (1 + amount[0] * fibre / fibre.std() + amount[1] * cloud)[..., None]
    if paper in ("ruled", "squared"):
        step = size.min() * rng.uniform(0.045, 0.12)
        thick = max(step * rng.uniform(0.03, 0.07), 0.8)
        colour = np.array(LINES[rng.integers(len(LINES))], np.float32) - rng.uniform(0, 50)
        distance = [np.abs((np.arange(s) + rng.uniform(0, step)) % step - step / 2) for s in size]
        lines = (thick / 2 + 0.5 - distance[0][:, None]).clip(0, 1) + np.zeros(size)
        if paper == "squared":
            lines = np.maximum(lines, (thick / 2 + 0.5 - distance[1]).clip(0, 1))
        page += lines[..., None] * (colour - page)
        if paper == "ruled" and rng.random() < 0.4:
            margin = (thick / 2 + 0.7 - np.abs(np.arange(size[1]) - size[1] * rng.uniform(0.05, 0.15))).clip(0, 1)
            page += margin[None, :, None] * (np.array((225, 110, 120), np.float32) - page)
    return page


def _camera(picture: np.ndarray, paper: str, rng: np.random.Generator) -> np.ndarray:
    """Turn and tilt a page; around it lies a table, which is only seen in pictures of that kind."""
    height, width = picture.shape[:2]
    angle, tilt = np.radians(rng.normal(0, 2.5)), rng.normal(0, 0.04, 2)
    zoom = rng.uniform(0.72, 0.9) if paper == "on a table" else 1.0
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u, v = (x - width / 2) / width / zoom, (y - height / 2) / height / zoom
    depth = 1 + tilt[0] * u + tilt[1] * v
    u, v = u / depth * width, v / depth * height
    u, v = np.cos(angle) * u - np.sin(angle) * v + width / 2, np.sin(angle) * u + np.cos(angle) * v + height / 2
    if paper == "on a table":
        outside = (u < 0) | (v < 0) | (u > width - 1) | (v > height - 1)
        table = np.array([(70, 48, 34), (120, 88, 60), (45, 45, 50), (150, 120, 90)][rng.integers(4)], np.float32)
        grain = ndimage.gaussian_filter(rng.normal(0, 1, (height, width)), (1, width / 30))
        table = table * (1 + 0.06 * grain / grain.std())[..., None]
    mode = "reflect" if paper in ("ruled", "squared") else "nearest"
    turned = np.stack([ndimage.map_coordinates(picture[..., c], (v, u), order=1, mode=mode) for c in range(3)], axis=-1)
    return np.where(outside[..., None], table, turned) if paper == "on a table" else turned


def _light(paper: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Light a picture: a gradient, darker corners, the shadow of something with a straight edge."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y / height - 0.5, x / width - 0.5
    way, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.75) if paper == "shaded" else rng.uniform(0, 0.2)
    light = 1 - strength * (0.5 + np.cos(way) * x + np.sin(way) * y).clip(0, 1)
    light *= 1 - rng.uniform(0, 0.4 if paper == "shaded" else 0.15) * (x**2 + y**2)
    if paper == "shadowed":
        way, edge = rng.uniform(0, 2 * np.pi), 10 ** rng.uniform(-2.3, -1.1)
        side = (np.cos(way) * x + np.sin(way) * y - rng.uniform(-0.25, 0.25)) / edge
        light *= 1 - rng.uniform(0.25, 0.6) * (0.5 + side).clip(0, 1)
    return light * rng.uniform(0.75, 1.0)


def photographs(each: int, seed: int) -> list[Photograph]:
    """Take `each` pictures of every kind of paper."""
    rng = np.random.default_rng(seed)
    return [photograph(paper, rng) for paper in PAPERS for _ in range(each)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("photos"))
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    for i, photo in enumerate(photographs(arguments.each, arguments.seed)):
        photo.save(arguments.output / f"{i:03}_{photo.paper.replace(' ', '_')}_{photo.pen}_{photo.count}.jpg")


if __name__ == "__main__":
    main()
