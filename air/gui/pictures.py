"""Pictures for the canvas: files, and random scenes that the model was not trained on."""

import concurrent.futures
import contextlib
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from air.config import AIRConfig
from air.errors import AIRError, DataError, UsageError
from air.support.files import read_json

if TYPE_CHECKING:
    from air.data.rules import GeneratorConfig

MAX_SCENES = 500  # of a data set, kept in memory
NEW_SCENES = 200
MAX_SIDE = 256  # of a picture that has a canvas of its own, in pixels: some seconds, and half a gigabyte in grey
DENSITY = 2  # digits on the canvas of the default scenes, at most


def open_picture(path: str | Path, model: Path, config: AIRConfig, canvas_size: tuple[int, int]) -> np.ndarray:
    """Open a picture file as a scene, [H, W] uint8 or, for a model of coloured scenes, [H, W, 3].

    A model that was trained on patches of pictures gets the whole picture, at the scale at which its patches were cut; another
    model of grey objects on black, its ink on a canvas of the given size, see `air.open_picture`; any other, the picture cut to
    the canvas' shape.

    Raises:
        DataError: if it can't be read, or is too small or too large for a canvas of its own.
    """
    from PIL import Image, ImageOps

    from air.data import photos  # imports SciPy and Pillow, which the window's first frame should not wait for
    from air.data.folders import read_resized, rules_of
    from air.support.pictures import read_pixels, read_size

    rules = rules_of(model)
    if rules is not None and rules.crop and config.takes_any_canvas:
        size = rules.resized(*read_size(path))
        for side, least in zip(size, config.smallest_canvas, strict=True):
            if not least <= side <= MAX_SIDE:
                raise DataError(f"{path}: {rules.describe(*size)} are not allowed; a side must have {least} to {MAX_SIDE}")
        return read_resized(path, rules, config.channels)
    if config.background == "none" and config.channels == 1:
        return np.rint(255 * photos.open_picture(path, canvas_size)).astype(np.uint8)
    picture = Image.fromarray(read_pixels(path, config.channels))
    return np.asarray(ImageOps.fit(picture, canvas_size[::-1], Image.Resampling.BOX))


def data_path(model: Path) -> Path | None:
    """Return the data that a run folder's config.json names; None if it is not there or the model is not a run."""
    try:
        data = Path(read_json(model / "config.json")["data"])
    except (DataError, KeyError, TypeError):
        return None
    return data if data.exists() else None


def held_out_scenes(model: Path, canvas_size: tuple[int, int], max_digits: int, seed: int = 0) -> np.ndarray:
    """Return at most MAX_SCENES scenes that the model was not trained on, [N, H, W] uint8 or in colour, in random order.

    They are test scenes of a run folder's own data, if those have the canvas' size, or drawn by its own rules; otherwise new
    scenes of MNIST's test digits. Where counts are known, every scene has an object. Raises DataError if none fits on the
    canvas.

    Args:
        model: path of the model.
        canvas_size: height and width, in pixels.
        max_digits: in a new scene; of other rules than the default ones, as many more as their scenes have.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    data = data_path(model)
    if data is not None and (data / "test.npz").is_file():
        from air.data.scenes import SceneSet

        scenes = SceneSet.load(data / "test.npz")
        chosen = rng.permutation(np.arange(len(scenes)) if scenes.count is None else np.flatnonzero(scenes.count))
        if scenes.canvas_size == canvas_size and len(chosen):
            return scenes.images[chosen[:MAX_SCENES]]
    rules = _rules(model)
    return _new_scenes(rules, canvas_size, max_digits * rules.max_digits // DENSITY, seed)


def _rules(model: Path) -> "GeneratorConfig":
    """Return the rules by which a run draws its scenes; the default ones if it doesn't."""
    from air.data.rules import GeneratorConfig

    with contextlib.suppress(AIRError, KeyError, TypeError):
        return GeneratorConfig.from_dict(read_json(model / "config.json")["rules"])
    return GeneratorConfig()


def _new_scenes(rules: "GeneratorConfig", canvas_size: tuple[int, int], most: int, seed: int) -> np.ndarray:
    from air.data.stream import SceneStream

    for count in range(most, 0, -1):  # as many as fit
        with contextlib.suppress(UsageError):
            stream = SceneStream(rules.replace(canvas_size=canvas_size, min_digits=1, max_digits=count), seed)
            return stream.batch(0, NEW_SCENES, "test").images
    raise DataError(f"no digit fits on a canvas of {canvas_size[0]}x{canvas_size[1]} pixels")


class RandomScenes:
    """Random `held_out_scenes`, loaded or made in a thread at the first request; `notify` is called when they are ready."""

    def __init__(self, model: Path, config: AIRConfig, canvas_size: tuple[int, int], notify: Callable[[], None]) -> None:
        larger = math.prod(canvas_size) / math.prod(config.canvas_size)
        max_digits = int(min(config.max_steps, DENSITY) * larger)  # as dense on a larger canvas
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
        """Return the requested scene, as `held_out_scenes` does, once; None if not ready. Raises AIRError if there is none."""
        if not self.is_requested or not self._scenes.done():
            return None
        self.is_requested = False
        try:
            scenes = self._scenes.result()
        except (AIRError, OSError) as error:
            self._scenes = None  # the next request tries again
            raise AIRError(f"no test scene: {error}") from None
        return scenes[next(self._places) % len(scenes)]
