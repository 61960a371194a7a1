"""Pictures to put on the canvas: files of any kind, and random test scenes."""

import functools
import io
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from air.errors import AIRError, DataError
from air.support.files import check_file, picture_formats, read_json, write_atomically

if TYPE_CHECKING:
    import pygame

    from air.data.generator import Digits

MAX_PIXELS = 80_000_000  # of a picture file; a damaged or hostile one may claim any size
MAX_SCENES = 500  # test scenes kept in memory


def open_picture(path: str | Path, canvas_size: tuple[int, int]) -> np.ndarray:
    """Reads a picture file as a scene.

    A picture of the canvas' size is taken as it is. Any other is fitted into the canvas as a whole; dark ink on light paper is
    turned into light on dark, as the model knows it.

    Args:
        path: in any format that Pillow reads.
        canvas_size: height and width, in pixels.

    Returns:
        [canvas_height, canvas_width] uint8.

    Raises:
        DataError: for a file that is missing or not a picture.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a picture file")
    check_file(path)
    try:
        with Image.open(path, formats=picture_formats()) as file:
            if file.width * file.height > MAX_PIXELS:
                raise DataError(f"{path.name}: {file.width}x{file.height} pixels are too many")
            picture = ImageOps.exif_transpose(file)
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, _paper(picture)), picture)
            grey = np.nan_to_num(np.asarray(picture.convert("F" if picture.mode.startswith(("I", "F")) else "L")))
    except DataError:
        raise
    except Exception as error:  # Pillow's readers have a dozen types for damaged files
        reason = "" if type(error).__name__ == "UnidentifiedImageError" else f" ({' '.join(str(error).split())[:100]})"
        raise DataError(f"{path.name}: not a picture that can be read{reason}") from None
    return _fit(_eight_bits(grey), canvas_size)


def save(surface: "pygame.Surface", path: Path) -> None:
    """Writes a .png file, as a whole or not at all; raises OSError if that can't be."""
    import pygame

    encoded = io.BytesIO()
    pygame.image.save(surface, encoded, ".png")
    write_atomically(path, lambda temporary: temporary.write_bytes(encoded.getvalue()))


def _paper(picture: "object") -> tuple[int, int, int, int]:
    """What to put behind a transparent picture: black behind light ink, white behind dark ink."""
    pixels = np.asarray(picture)
    ink = pixels[..., :3][pixels[..., 3] > 127]
    level = 255 if ink.size and ink.mean() < 128 else 0
    return (level, level, level, 255)


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    if grey.dtype == np.uint8:
        return grey
    low, high = float(grey.min()), float(grey.max())
    top = next((most for most in (1.0, 255.0, 65535.0) if low >= 0 and high <= most), None)
    if top is None:  # whatever these units are, their range becomes black to white
        return np.rint(255 * ((grey.astype(np.float64) - low) / max(high - low, 1e-12))).astype(np.uint8)
    return np.rint(255 * grey / top).astype(np.uint8)


def _fit(grey: np.ndarray, canvas_size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if grey.shape == canvas_size:
        return grey.copy()
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > 127:
        grey = 255 - grey
    height, width = canvas_size
    zoom = min(height / grey.shape[0], width / grey.shape[1])
    size = max(1, round(grey.shape[1] * zoom)), max(1, round(grey.shape[0] * zoom))
    resampling = Image.Resampling.BOX if zoom < 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(grey).resize(size, resampling))
    canvas = np.zeros(canvas_size, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def data_folder(model: Path) -> Path | None:
    """The labelled data that a run folder's config.json names, when it is there."""
    try:
        data = Path(read_json(model / "config.json")["data"])
    except (DataError, KeyError, TypeError):
        return None
    return data if data.exists() else None


def held_out_scenes(model: Path, canvas_size: tuple[int, int], most: int, seed: int = 0) -> np.ndarray:
    """Scenes that the model has not been trained on, in random order.

    Args:
        model: a run folder, whose data's test scenes are taken when they are there; otherwise, and for any other path, scenes
            are made of MNIST's test digits.
        canvas_size: height and width that they must have, in pixels.
        most: objects in a scene that is made.
        seed: of their order.

    Returns:
        [N, canvas_height, canvas_width] uint8, at least one object in each where that is known.

    Raises:
        DataError: if no digit fits on the canvas, or there are no digits.
    """
    rng = np.random.default_rng(seed)
    data = data_folder(model)
    if data is not None and (data / "test.npz").is_file():
        from air.data.scenes import SceneSet

        try:
            scenes = SceneSet.load(data / "test.npz")
        except AIRError:
            scenes = None
        if scenes is not None and scenes.canvas_size == canvas_size:
            if scenes.count is not None and scenes.count.any():
                scenes = scenes.select(scenes.count > 0)
            return scenes.images[rng.permutation(len(scenes))]
    return _made_scenes(canvas_size, most, rng)


def _made_scenes(canvas_size: tuple[int, int], most: int, rng: np.random.Generator) -> np.ndarray:
    from air.data.generator import GeneratorConfig, generate

    digits = _test_digits()
    for count in range(min(most, 2), 0, -1):  # 2, as in the default data set, where they fit
        config = GeneratorConfig(canvas_size=canvas_size, max_digits=count)
        try:
            return generate(config, digits, 1 + rng.permutation(64) % count, rng).images
        except AIRError:
            continue
    raise DataError(f"no digit fits on a canvas of {canvas_size[0]}x{canvas_size[1]} pixels")


@functools.cache
def _test_digits() -> "Digits":
    from air.data import mnist
    from air.data.generator import Digits

    source = mnist.load()
    return Digits.from_images(source.test_images, source.test_labels)


class TestScenes:
    """Random test scenes, read or made in a thread when the first one is wanted.

    Args:
        model, canvas_size, most: see `held_out_scenes`.
        notify: called from the thread when scenes have arrived.
    """

    __test__ = False  # for pytest

    def __init__(self, model: Path, canvas_size: tuple[int, int], most: int, notify: Callable[[], None]) -> None:
        self.model, self.canvas_size, self.most, self.notify = model, canvas_size, most, notify
        self._scenes: list[np.ndarray] = []
        self._arrived: queue.SimpleQueue[list[np.ndarray] | AIRError] = queue.SimpleQueue()
        self._wanted, self._seed = False, 0

    @property
    def is_loading(self) -> bool:
        return self._wanted

    def want(self) -> None:
        """Asks for one scene, which `take` then gives."""
        if not self._scenes and not self._wanted:
            threading.Thread(target=self._load, name="test scenes").start()
        self._wanted = True

    def take(self) -> np.ndarray | None:
        """The scene that was asked for, [H, W] uint8, once it is there.

        Raises:
            AIRError: if there are none.
        """
        if not self._arrived.empty():
            arrived = self._arrived.get()
            if isinstance(arrived, AIRError):
                self._wanted = False
                raise arrived
            self._scenes += arrived
        if not self._wanted or not self._scenes:
            return None
        self._wanted = False
        return self._scenes.pop()

    def _load(self) -> None:
        try:
            scenes = held_out_scenes(self.model, self.canvas_size, self.most, self._seed)[:MAX_SCENES]
            self._seed += 1
            self._arrived.put([scene.copy() for scene in scenes])  # copies, as views would keep all of them in memory
        except AIRError as error:
            self._arrived.put(error)
        except Exception as error:  # whatever is wrong with the data, it must not end the demo
            self._arrived.put(AIRError(f"no test scenes: {type(error).__name__}: {error}"))
        self.notify()
