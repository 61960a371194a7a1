"""The multi-MNIST data set: a folder that is written completely or not at all.

make_dataset("multi_mnist", GeneratorConfig(max_digits=3))
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from air.config import DEFAULT_DATA
from air.data import objects
from air.data.backgrounds import Backgrounds
from air.data.generator import generate
from air.data.rules import GeneratorConfig
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.support import cli, drawing
from air.support.files import replacing_folder

_OWN_FILES = re.compile(r"(train|train_\d+|validation|test|count_\d+)\.npz|preview\.png|config\.json")
_SHARD = re.compile(r"train_(0|[1-9]\d*)\.npz")


def make_dataset(
    output: str | os.PathLike[str],
    config: GeneratorConfig | None = None,
    mnist_path: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    wait: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Generate a data set; the same configuration always gives the same bytes.

    Args:
        output: the folder to write; see docs/data.md for its files.
        config: the rules and sizes.
        mnist_path: see `air.data.mnist.load`.
        overwrite, wait: see `air.support.files.replacing_folder`.
        progress: called with 1 after each scene, `config.total_scenes` times.

    Raises:
        AIRError: as `replacing_folder`, `mnist.load` and `generate` do.
    """
    config = GeneratorConfig() if config is None else config
    config.check_sizes()
    with replacing_folder(output, overwrite, _OWN_FILES, "a data set", wait=wait) as folder:
        digits = objects.load(config, mnist_path)

        def scenes(split: str, count: np.ndarray, *stream: int) -> SceneSet:
            rng, has_segments = np.random.default_rng([config.seed, *stream]), split != "train"
            return generate(config, digits[split], count, rng, progress, has_segments, Backgrounds(config, split))

        counts = _even_counts(config.images_per_count * len(config.counts), config, 0)
        if config.shards == 1:
            train = scenes("train", counts, 1)
            train.save(folder / "train.npz")
        else:
            for shard, part in enumerate(np.array_split(counts, config.shards)):
                train = scenes("train", part, 1, shard)
                train.save(folder / f"train_{shard}.npz")
        scenes("validation", _even_counts(config.validation_size, config, 2), 3).save(folder / "validation.npz")
        scenes("test", _even_counts(config.test_size, config, 4), 5).save(folder / "test.npz")
        for count in range(config.per_count_max_digits + 1 if config.per_count_files else 0):
            if count in config.counts:
                per_count = train.select(train.count == count)
            else:
                per_count = scenes("train", np.full(config.images_per_count, count), 6 + count)
            per_count.save(folder / f"count_{count}.npz")
        draw_preview(train, folder / "preview.png")
        (folder / "config.json").write_text(config.to_json() + "\n", encoding="utf-8")


def find_scenes(data: str | os.PathLike[str], split: str) -> Path:
    """Return the file `split`.npz of a data folder, or its first shard; another file, or a folder of pictures, as it is."""
    data = Path(data)
    if not data.is_dir() or not any(data.glob("*.npz")):
        return data
    shards = find_shards(data) if split == "train" else []
    return shards[0] if shards else data / f"{split}.npz"


def find_shards(data: str | os.PathLike[str]) -> list[Path]:
    """Return train_0.npz, train_1.npz ... of a data folder, none if it has a train.npz; raise DataError if one is missing."""
    data = Path(data)
    if (data / "train.npz").exists():
        return []
    found = {int(match[1]) for path in data.glob("train_*.npz") if (match := _SHARD.fullmatch(path.name))}
    for number in range(len(found)):
        if number not in found:
            raise DataError(f"{data}: has no train_{number}.npz, but {len(found)} files of that kind")
    return [data / f"train_{number}.npz" for number in range(len(found))]


def ensure(
    path: str | os.PathLike[str], canvas_size: tuple[int, int], mnist_path: str | os.PathLike[str] | None = None
) -> None:
    """Make the default data set if it is missing, and show a progress bar; raise DataError if another path is missing."""
    path = Path(path)
    if path.exists():
        return
    if path != DEFAULT_DATA:
        make = "" if path.suffix else f", or make it with: {cli.command('multi_mnist', '--output', path)}"
        raise DataError(f"{path}: no such data; name an existing file or folder{make}")
    config = GeneratorConfig(canvas_size=canvas_size)
    try:
        with tqdm(total=config.total_scenes, desc=f"Making {path}", unit="scene", disable=None) as bar:
            make_dataset(path, config, mnist_path, wait=True, progress=bar.update)
    except UsageError:
        if not path.exists():  # otherwise another process has just made it
            raise


def read(path: str | os.PathLike[str], canvas_size: tuple[int, int], channels: int = 1) -> SceneSet:
    """Load scenes as `SceneSet.load` does; raise DataError if that fails or a model of such a canvas can't see them."""
    scenes = SceneSet.load(path)
    check_shape(path, scenes.images.shape[1:], canvas_size, channels)
    return scenes


def check_shape(path: str | os.PathLike[str], shape: tuple[int, ...], canvas_size: tuple[int, int], channels: int) -> None:
    """Raise DataError if scenes of a shape, [H, W] or [H, W, 3], don't have the size or the channels of a model's canvas."""
    height, width, *colours = shape
    if (height, width) != canvas_size:
        raise DataError(
            f"{path}: scenes of {height}x{width} pixels do not fit the model's canvas_size of "
            f"{canvas_size[0]}x{canvas_size[1]}; train a model for them with --canvas-size {height} {width}"
        )
    if (colours or [1]) != [channels]:
        raise DataError(f"{path}: scenes {'in colour' if colours else 'in grey'} do not fit the model's channels, {channels}")


def _even_counts(size: int, config: GeneratorConfig, stream: int) -> np.ndarray:
    """Return [size] counts in random order, from the minimum to the maximum, all equally frequent."""
    counts = np.array(config.counts)
    return np.random.default_rng([config.seed, stream]).permutation(counts[np.arange(size) % len(counts)])


def draw_preview(scenes: SceneSet, path: Path, columns: int = 10) -> None:
    """Draw the first scenes of each count as one row of a picture, with a frame around each object."""
    height, width = scenes.canvas_size
    zoom = max(150 // max(height, width), 1)
    space, label_width = 8, 96
    counts = np.unique(scenes.count).tolist()
    step_x, step_y = width * zoom + space, height * zoom + space
    picture = Image.new("RGB", (label_width + columns * step_x, space + len(counts) * step_y), drawing.BACKGROUND)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    for row, count in enumerate(counts):
        top = space + row * step_y
        text = f"{count} object{'' if count == 1 else 's'}"
        pen.text((label_width // 2, top + height * zoom // 2), text, "#d7d9e0", font, anchor="mm")
        for column, scene in enumerate(np.flatnonzero(scenes.count == count)[:columns].tolist()):
            tile = drawing.canvas(scenes.images[scene], scenes.boxes[scene, :count], zoom)
            picture.paste(tile, (label_width + column * step_x, top))
    picture.save(path)
