"""The multi-MNIST data set: a folder of files, written as a whole or not at all.

    make_dataset("multi_mnist", GeneratorConfig(max_digits=3))

| file | |
|---|---|
| `train.npz` | training scenes of MNIST training digits, numbers of digits shuffled |
| `validation.npz` | validation scenes, of every fifth MNIST test digit (2,000) |
| `test.npz` | test scenes, of all other MNIST test digits (8,000) |
| `count_0.npz`, ... | if asked for: training scenes by count, those of `train.npz` and others of more digits |
| `preview.png` | some training scenes of each number of digits, with their boxes |
| `config.json` | the `GeneratorConfig` that made them |

Every fifth test digit rather than the first 2,000, as the two halves of MNIST's test set differ: they come from other
writers, and the first is known to be easier.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from air.config import DEFAULT_DATA
from air.data import mnist
from air.data.generator import Digits, GeneratorConfig, generate
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.support.files import replacing_folder

_OWN_FILES = re.compile(r"(train|validation|test|count_\d+)\.npz|preview\.png|config\.json")
_COLOURS = ("#ff5a5f", "#4cd97b", "#5aa9ff", "#ffc04d", "#c77dff", "#3fd9d9")


def make_dataset(
    output: str | os.PathLike[str],
    config: GeneratorConfig | None = None,
    mnist_path: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    wait: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Generates the data set of a configuration; the same one always gives the same bytes.

    Args:
        output: the folder to write.
        config: the rules and sizes; None: the default ones.
        mnist_path: see `air.data.mnist.load`.
        overwrite: whether a folder that holds a data set may be replaced.
        wait: for another process that makes it, rather than fail.
        progress: called now and then with the number of scenes composed since, `config.total_scenes` in all.

    Raises:
        UsageError: for an output that exists, and a configuration without room for its digits.
        BusyError: if another process makes it.
        DataError: for digits or a background that can't be read, and a folder that can't be written.
    """
    config = GeneratorConfig() if config is None else config
    with replacing_folder(output, overwrite, _OWN_FILES, "a data set", wait=wait) as folder:
        digits = _split_digits(mnist_path)

        def scenes(split: str, counts: np.ndarray, stream: int) -> SceneSet:
            return generate(config, digits[split], counts, np.random.default_rng([config.seed, stream]), progress)

        train = scenes("train", _even_counts(config.images_per_count * (config.max_digits + 1), config, 0), 1)
        train.save(folder / "train.npz")
        scenes("validation", _even_counts(config.validation_size, config, 2), 3).save(folder / "validation.npz")
        scenes("test", _even_counts(config.test_size, config, 4), 5).save(folder / "test.npz")
        for count in range(config.per_count_max_digits + 1 if config.per_count_files else 0):
            if count <= config.max_digits:
                per_count = train.select(train.count == count)
            else:
                per_count = scenes("train", np.full(config.images_per_count, count), 6 + count)
            per_count.save(folder / f"count_{count}.npz")
        draw_preview(train, folder / "preview.png")
        (folder / "config.json").write_text(config.to_json() + "\n", encoding="utf-8")


def ensure(path: Path, canvas_size: tuple[int, int], mnist_path: str | os.PathLike[str] | None = None) -> None:
    """Makes the default data set, with a progress bar, where it is missing.

    Args:
        path: where the data should be.
        canvas_size: of the scenes to make.
        mnist_path: see `air.data.mnist.load`.

    Raises:
        DataError: if another path than the default one is missing, or the data can't be made.
    """
    if path.exists():
        return
    if path != DEFAULT_DATA:
        raise DataError(f"{path}: no such data; make it with: python multi_mnist.py --output {path}")
    config = GeneratorConfig(canvas_size=canvas_size)
    try:
        with tqdm(total=config.total_scenes, desc=f"Making {path}", unit="scene", disable=None) as bar:
            make_dataset(path, config, mnist_path, wait=True, progress=bar.update)
    except UsageError:
        if not path.exists():  # otherwise another process has just made it
            raise


def read(path: Path, canvas_size: tuple[int, int]) -> SceneSet:
    """Reads a file of scenes for a model; raises DataError also if their size is not that of the model's canvas."""
    scenes = SceneSet.load(path)
    height, width = scenes.canvas_size
    if scenes.canvas_size != canvas_size:
        raise DataError(
            f"{path}: scenes of {height}x{width} pixels do not fit the model's canvas_size of "
            f"{canvas_size[0]}x{canvas_size[1]}; a model for them is trained with --canvas-size {height} {width}"
        )
    return scenes


def _even_counts(size: int, config: GeneratorConfig, stream: int) -> np.ndarray:
    """[size] numbers of digits from 0 to the most, each as often as the others, shuffled."""
    rng = np.random.default_rng([config.seed, stream])
    return rng.permutation(np.arange(size) % (config.max_digits + 1))


def held_out_indices(digits: mnist.MNIST) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the MNIST test digits of which validation scenes are made, and of those for test scenes."""
    indices = np.arange(len(digits.test_images))
    return indices[indices % 5 == 0], indices[indices % 5 != 0]


def _split_digits(path: str | os.PathLike[str] | None) -> dict[str, Digits]:
    source = mnist.load(path)
    validation, test = held_out_indices(source)
    try:
        digits = {"train": Digits.from_images(source.train_images, source.train_labels)}
        for split, which in (("validation", validation), ("test", test)):
            digits[split] = Digits.from_images(source.test_images[which], source.test_labels[which], which)
    except DataError as error:
        raise DataError(f"{path or mnist.BUNDLED}: {error}") from None
    return digits


def draw_preview(scenes: SceneSet, path: str | os.PathLike[str], columns: int = 10) -> None:
    """Draws the first scenes of each count in a row of their own, with a frame around each object.

    Args:
        scenes: a set with counts and boxes.
        path: the picture to write, in a format by its ending.
        columns: most scenes of each count.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = scenes.canvas_size
    zoom = max(150 // max(height, width), 1)
    space, label_width = 8, 96
    counts = np.unique(scenes.count).tolist()
    step_x, step_y = width * zoom + space, height * zoom + space
    picture = Image.new("RGB", (label_width + columns * step_x, space + len(counts) * step_y), "#17181c")
    pen = ImageDraw.Draw(picture)
    for row, count in enumerate(counts):
        top = space + row * step_y
        text = f"{count} digit{'' if count == 1 else 's'}"
        pen.text((label_width // 2, top + height * zoom // 2), text, "#d7d9e0", ImageFont.load_default(18), anchor="mm")
        for column, scene in enumerate(np.flatnonzero(scenes.count == count)[:columns].tolist()):
            left = label_width + column * step_x
            tile = Image.fromarray(scenes.images[scene]).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
            picture.paste(tile, (left, top))
            for slot in range(count):
                x, y, w, h = (scenes.boxes[scene, slot] * zoom).round().astype(int).tolist()
                pen.rectangle((left + x, top + y, left + x + w - 1, top + y + h - 1), outline=_COLOURS[slot % len(_COLOURS)])
    picture.save(path)
