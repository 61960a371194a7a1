"""Pictures for the canvas: files, and random scenes that the model was not trained on."""

import concurrent.futures
import contextlib
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from air.config import AIRConfig
from air.errors import AIRError, DataError
from air.support.files import read_json

MAX_SCENES = 500  # of a data set, kept in memory
NEW_SCENES = 200


def open_picture(path: str | Path, canvas_size: tuple[int, int]) -> np.ndarray:
    """Open a picture file as a scene [H, W] uint8 of a canvas size, see `air.open_picture`."""
    from air.data import photos  # imports SciPy and Pillow, which the window's first frame should not wait for

    return np.rint(255 * photos.open_picture(path, canvas_size)).astype(np.uint8)


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
    for count in range(max_digits, 0, -1):  # as many as fit
        config = GeneratorConfig(canvas_size=canvas_size, max_digits=count)
        with contextlib.suppress(AIRError):
            return generate(config, digits, 1 + rng.permutation(NEW_SCENES) % count, rng).images
    raise DataError(f"no digit fits on a canvas of {canvas_size[0]}x{canvas_size[1]} pixels")


class RandomScenes:
    """Random `held_out_scenes`, loaded or made in a thread at the first request; `notify` is called when they are ready."""

    def __init__(self, model: Path, config: AIRConfig, canvas_size: tuple[int, int], notify: Callable[[], None]) -> None:
        larger = math.prod(canvas_size) / math.prod(config.canvas_size)
        max_digits = int(min(config.max_steps, 2) * larger)  # 2 as in the default data set, and as dense on a larger canvas
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
