"""Scenes of one's own pictures: patches cut out of them, or each picture scaled to a canvas.

fitting = Fitting(PictureConfig(crop=True, resize=0.5), canvas_size=(64, 64), channels=1)
fitting.prepare(Look.at("coins"), "coins_64x64")  # train.npz, validation.npz, test.npz
"""

import contextlib
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from air.data.look import Look
from air.data.objects import HELD_OUT, hold_out
from air.data.rules import PictureConfig
from air.data.scenes import SceneSet
from air.errors import AIRError, UsageError
from air.support import drawing, files, pictures

MAX_PATCHES = {"train": 10000, "validation": 500, "test": 500}
_OWN_FILES = re.compile(r"(train|validation|test)\.npz|preview\.png|config\.json")


class _Part(NamedTuple):
    """A rectangle of a picture."""

    file: Path
    y: int  # of its upper row, in pixels of the resized picture
    x: int
    height: int
    width: int


def read_resized(file: str | os.PathLike[str], rules: PictureConfig, channels: int) -> np.ndarray:
    """Read a picture and resize it: uint8 [H, W], or [H, W, 3] for three channels; raise DataError if that fails."""
    pixels = pictures.read_pixels(file, channels)
    height, width = rules.resized(*pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def rules_of(folder: str | os.PathLike[str]) -> PictureConfig | None:
    """Return the rules by which the scenes of a data set, or of a run, were made of pictures; None if they weren't."""
    with contextlib.suppress(AIRError, KeyError, TypeError):
        record = files.read_json(Path(folder) / "config.json")
        if "command" in record:  # a run; those of older versions only say where their data are
            record = record.get("fitting") or files.read_json(Path(record["data"]) / "config.json")
        return PictureConfig.from_dict({name: record[name] for name in PictureConfig.model_fields})
    return None


class Fitting(NamedTuple):
    """Rules for pictures, and the scenes to make of them."""

    config: PictureConfig
    canvas_size: tuple[int, int]  # height and width of a scene, in pixels
    channels: int  # 1 for grey, 3 for colour

    def prepare(self, look: Look, output: str | os.PathLike[str]) -> str:
        """Write a data set of a folder's pictures, or keep one that was made of the same pictures in the same way.

        Every fifth picture is held out, or of a single one, if patches are cut, the last fifth of its longer side. Patches lie
        at random places; every possible place is as likely.

        Returns:
            A line for the user.

        Raises:
            UsageError: if the output holds something else, or a picture is smaller than a patch.
            DataError: if a picture can't be read.
        """
        output = Path(output)
        recipe = {**self.config.to_dict(), "canvas_size": list(self.canvas_size), "channels": self.channels}
        recipe["pictures"] = {file.name: zlib.crc32(file.read_bytes()) for file in look.files}
        if not output.exists():
            try:
                return self._write(output, recipe, look)
            except UsageError:
                if not output.exists():  # otherwise another worker has just made it
                    raise
        if not (output / "config.json").exists() or files.read_json(output / "config.json") != recipe:
            raise UsageError(f"{output}: exists already, but not with these scenes; move or delete it")
        return f"{output}: kept from before"

    def _write(self, output: Path, recipe: dict[str, Any], look: Look) -> str:
        """Write the data set, and return a line for the user."""
        training, held_out = self._divided(look)
        numbers = {}
        with files.replacing_folder(output, False, _OWN_FILES, "a data set", wait=True) as folder:
            for stream, (name, most) in enumerate(MAX_PATCHES.items()):
                parts, rng = training if name == "train" else held_out, np.random.default_rng(stream)
                images = self._patches(parts, most, rng) if self.config.crop else self._wholes(parts)
                SceneSet(images).save(folder / f"{name}.npz")
                numbers[name] = len(images)
                if name == "train":
                    _draw_preview(images, folder / "preview.png")
            files.write_json(folder / "config.json", recipe)
        what = f"made of {'patches of ' if self.config.crop else ''}{look.path}"
        return f"{output}: {what}; scenes to train on: {numbers['train']:,}, held out: {numbers['test']:,}"

    def _divided(self, look: Look) -> tuple[list[_Part], Sequence[_Part]]:
        """Divide the pictures, or a single one, into parts to train on and parts to hold out."""
        parts = [_Part(file, 0, 0, *self.config.resized(*size)) for file, size in zip(look.files, look.sizes, strict=True)]
        for part in parts if self.config.crop else ():
            if part.height < self.canvas_size[0] or part.width < self.canvas_size[1]:
                raise UsageError(
                    f"{part.file}: {self._sizes(part)} are less than the canvas of {_x(self.canvas_size)}; choose a smaller "
                    "--canvas-size, or a larger --resize"
                )
        if len(parts) == 1:
            return self._halves(parts[0]) if self.config.crop else (parts, parts)
        if len(parts) < HELD_OUT:
            return parts[:-1], parts[-1:]
        return hold_out(parts)

    def _halves(self, part: _Part) -> tuple[list[_Part], list[_Part]]:
        """Divide a picture across its longer side, into four fifths and one, or so that a patch fits into each."""
        is_wide = part.width >= part.height
        side, patch = (part.width, self.canvas_size[1]) if is_wide else (part.height, self.canvas_size[0])
        first = side - max(side // HELD_OUT, patch)
        if first < patch:
            raise UsageError(
                f"{part.file}: {self._sizes(part)} are too few for a second patch of {_x(self.canvas_size)} to hold out; "
                "choose a smaller --canvas-size, or add a picture"
            )
        if is_wide:
            return [part._replace(width=first)], [part._replace(x=first, width=side - first)]
        return [part._replace(height=first)], [part._replace(y=first, height=side - first)]

    def _patches(self, parts: Sequence[_Part], most: int, rng: np.random.Generator) -> np.ndarray:
        """Cut at most so many different patches, in random order: uint8 [N, H, W] or [N, H, W, 3]."""
        height, width = self.canvas_size
        places = np.array([(part.height - height + 1) * (part.width - width + 1) for part in parts])
        shares = np.ceil(places * min(most / places.sum(), 1)).astype(int)
        patches = []
        for part, number, share in zip(parts, places, shares, strict=True):
            pixels = read_resized(part.file, self.config, self.channels)
            for place in rng.choice(number, share, replace=False).tolist():
                row, column = divmod(place, part.width - width + 1)
                patches.append(pixels[part.y + row :, part.x + column :][:height, :width])
        return np.stack(patches)[rng.permutation(len(patches))[:most]]

    def _wholes(self, parts: Sequence[_Part]) -> np.ndarray:
        """Scale whole pictures: uint8 [N, H, W] or [N, H, W, 3]."""
        return np.stack([self._scaled(part.file) for part in parts])

    def _scaled(self, file: Path) -> np.ndarray:
        """Scale a picture to the canvas; a border in the median colour of its own fills what its shape leaves empty."""
        pixels = read_resized(file, self.config, self.channels)
        if pixels.shape[:2] == self.canvas_size:
            return pixels
        zoom = min(side / own for side, own in zip(self.canvas_size, pixels.shape, strict=False))
        size = [max(round(side * zoom), 1) for side in pixels.shape[:2]]
        small = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
        edges = np.concatenate([small[[0, -1]].reshape(-1, self.channels), small[:, [0, -1]].reshape(-1, self.channels)])
        canvas = np.empty((*self.canvas_size, *pixels.shape[2:]), np.uint8)
        canvas[:] = np.median(edges, axis=0).astype(np.uint8)
        top, left = ((whole - side) // 2 for whole, side in zip(self.canvas_size, size, strict=True))
        canvas[top : top + size[0], left : left + size[1]] = small
        return canvas

    def _sizes(self, part: _Part) -> str:
        return self.config.describe(part.height, part.width)


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _draw_preview(images: np.ndarray, path: Path, columns: int = 10, rows: int = 6) -> None:
    """Draw the first scenes side by side."""
    zoom = max(100 // max(images.shape[1:3]), 1)
    tiles = [drawing.canvas(image, zoom=zoom) for image in images[: rows * columns]]
    drawing.sheet(tiles, columns, gap=4).save(path)
