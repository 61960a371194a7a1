"""Pictures for the canvas: files, and random scenes that the model was not trained on."""

import concurrent.futures
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from air.errors import AIRError, DataError
from air.support.files import read_json

MAX_SCENES = 500  # of a data set, kept in memory
NEW_SCENES = 200


def open_picture(path: str | Path, canvas_size: tuple[int, int]) -> np.ndarray:
    """Read a picture file as a scene, [H, W] uint8, of a canvas size (height, width); raise DataError if it can't be read.

    A picture of the canvas' size is returned unchanged. Any other is scaled to fit on the canvas; dark ink on light paper
    is inverted, as the model knows light ink only.
    """
    from air.support.pictures import read_picture  # imports Pillow, which the window's first frame should not wait for

    picture = read_picture(path)
    grey = np.nan_to_num(np.asarray(picture if picture.mode == "F" else picture.convert("L")))
    return _fit(_eight_bits(grey), canvas_size)


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    if grey.dtype == np.uint8:
        return grey
    low, high = float(grey.min()), float(grey.max())
    # In unknown units, the picture's own range becomes black to white.
    low, high = next(((0.0, top) for top in (1.0, 255.0, 65535.0) if low >= 0 and high <= top), (low, high))
    return np.rint(255 * ((grey.astype(np.float64) - low) / max(high - low, 1e-12))).astype(np.uint8)


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
    canvas = np.zeros(canvas_size, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = np.asarray(Image.fromarray(grey).resize(size, resampling))
    return canvas


def data_path(model: Path) -> Path | None:
    """Return the data that a run folder's config.json names; None if it is not there or the model is not a run."""
    try:
        data = Path(read_json(model / "config.json")["data"])
    except (DataError, KeyError, TypeError):
        return None
    return data if data.exists() else None


def held_out_scenes(model: Path, canvas_size: tuple[int, int], max_digits: int, seed: int = 0) -> np.ndarray:
    """Return at most MAX_SCENES scenes that the model was not trained on, [N, H, W] uint8, in random order.

    They are test scenes of a run folder's own data, if those have the canvas' size; otherwise new scenes of MNIST's test
    digits. Where counts are known, every scene has an object. Raises DataError if no digit fits on the canvas.
    """
    rng = np.random.default_rng(seed)
    data = data_path(model)
    if data is not None and (data / "test.npz").is_file():
        from air.data.scenes import SceneSet

        scenes = SceneSet.load(data / "test.npz")
        chosen = rng.permutation(np.arange(len(scenes)) if scenes.count is None else np.flatnonzero(scenes.count))
        if scenes.canvas_size == canvas_size and len(chosen):
            images = scenes.images[chosen[:MAX_SCENES]]
            return images if images.ndim == 3 else np.rint(images.mean(axis=-1)).astype(np.uint8)  # the canvas is grey
    return _new_scenes(canvas_size, max_digits, rng)


def _new_scenes(canvas_size: tuple[int, int], max_digits: int, rng: np.random.Generator) -> np.ndarray:
    from air.data import mnist
    from air.data.generator import Digits, GeneratorConfig, generate

    source = mnist.load()
    digits = Digits.from_images(source.test_images, source.test_labels)
    for count in range(min(max_digits, 2), 0, -1):  # 2 as in the default data set, where they fit
        config = GeneratorConfig(canvas_size=canvas_size, max_digits=count)
        with contextlib.suppress(AIRError):
            return generate(config, digits, 1 + rng.permutation(NEW_SCENES) % count, rng).images
    raise DataError(f"no digit fits on a canvas of {canvas_size[0]}x{canvas_size[1]} pixels")


class RandomScenes:
    """Random `held_out_scenes`, loaded or made in a thread at the first request; `notify` is called when they are ready."""

    def __init__(self, model: Path, canvas_size: tuple[int, int], max_digits: int, notify: Callable[[], None]) -> None:
        self._source, self._notify = (model, canvas_size, max_digits), notify
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "scenes")
        self._scenes: concurrent.futures.Future[np.ndarray] | None = None
        self._places = itertools.count()
        self.is_requested = False

    def request(self) -> None:
        """Ask for one scene, which `take` returns when it is ready."""
        self.is_requested = True
        if self._scenes is None:
            self._scenes = self._executor.submit(held_out_scenes, *self._source)
            self._scenes.add_done_callback(lambda _: self._notify())

    def take(self) -> np.ndarray | None:
        """Return the requested scene, [H, W] uint8, once; None if it is not ready yet. Raises AIRError if there is none."""
        if not self.is_requested or not self._scenes.done():
            return None
        self.is_requested = False
        try:
            scenes = self._scenes.result()
        except (AIRError, OSError) as error:
            self._scenes = None  # the next request tries again
            raise AIRError(f"no test scene: {error}") from None
        return scenes[next(self._places) % len(scenes)]
