"""Data of one's own: the options that follow from how they look, and the data sets that are made of pictures."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from air.config import AIRConfig
from air.data.rules import SCENES, GeneratorConfig, PictureConfig, SceneName
from air.errors import AIRError, DataError, UsageError

if TYPE_CHECKING:
    from air.data.look import Look

FOR_BACKGROUNDS = "backgrounds"  # the preset for objects that are not on black
STREAM = "stream"  # in place of the path of data: scenes that are drawn while a model trains


def scenes_of(preset: object) -> SceneName:
    """Return the kind of scenes on which a preset trains unless others are asked for."""
    return preset if preset in SCENES else "default"  # type: ignore[return-value]


def look(data: object, scenes: object = None, channels: object = None) -> "Look | GeneratorConfig | None":
    """Look at data; of a stream, return the rules.

    Return None if there are none, or if they can't be read, which `check` or loading them reports later.
    """
    with contextlib.suppress(AIRError):
        if str(data) == STREAM:
            return SCENES.get(str(scenes))
        from air.data.look import Look  # imports NumPy and Pillow, half of the time that --help takes

        return Look.at(data, {"1": 1, "3": 3}.get(str(channels))) if isinstance(data, str | os.PathLike) else None
    return None


def preset(seen: "Look | GeneratorConfig | None") -> str | None:
    """Return the preset for the data; None for that of objects on black."""
    is_painted = seen.is_painted if isinstance(seen, GeneratorConfig) else seen is not None and seen.has_background
    return FOR_BACKGROUNDS if is_painted else None


def fit(model: AIRConfig, seen: "Look | GeneratorConfig | None", config: PictureConfig) -> AIRConfig:
    """Return a model's configuration with the channels and the canvas of the data, if there is a model for them."""
    if seen is None:
        return model
    if isinstance(seen, GeneratorConfig):
        return model.replace(channels=seen.channels, canvas_size=seen.canvas_size)
    model = model.replace(channels=seen.channels)
    with contextlib.suppress(AIRError):
        if len(set(seen.sizes)) == 1 and not config.crop:
            model = model.replace(canvas_size=config.resized(*seen.sizes[0]) if seen.files else seen.sizes[0])
    return model


def check(seen: "Look", model: AIRConfig, config: PictureConfig, has_canvas: bool) -> None:
    """Raise AIRError unless scenes of the model's canvas and channels can be made of the data.

    Args:
        seen: the data.
        model, config: the configurations.
        has_canvas: whether the canvas size is the user's own, to which whole pictures are then scaled.
    """
    if not seen.files:
        if config != PictureConfig():
            raise UsageError(f"{seen.path}: holds no pictures, so that --crop and --resize are not allowed")
        if seen.channels != model.channels:
            has = "in colour" if seen.channels == 3 else "grey"
            raise DataError(f"{seen.path}: its scenes are {has}, so that channels: {model.channels} is not allowed")
        return
    if config.crop or has_canvas:
        return
    advice = "cut patches with --crop, or scale them with --canvas-size HEIGHT WIDTH"
    (height, width), *others = (config.resized(*size) for size in seen.sizes)
    for other, other_size in zip(seen.files[1:], others, strict=True):
        if other_size != (height, width):
            found = f"{height}x{width} pixels (height x width), but {other.name} {other_size[0]}x{other_size[1]}"
            raise DataError(f"{seen.path}: {seen.files[0].name} has {found}; {advice}")
    if (height, width) != model.canvas_size:
        raise DataError(f"{seen.path}: a canvas of {height}x{width} pixels is not allowed, from 4 to 1024 a side are; {advice}")


def prepare(seen: "Look", model: AIRConfig, config: PictureConfig) -> Path:
    """Make a data set of a folder of pictures, in the working folder, and return its path; that of other data as it is."""
    if not seen.files:
        return seen.path
    from air.data.folders import Fitting

    size = "x".join(map(str, model.canvas_size)) + ("" if config.resize == 1 else f"_{config.resize:g}")
    output = Path(f"{seen.path.resolve().stem}_{size}")
    print(Fitting(config, model.canvas_size, model.channels).prepare(seen, output), flush=True)
    return output
