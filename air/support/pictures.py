"""Picture files, read with Pillow."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from air.support.files import data_errors


def read_picture(path: str | os.PathLike[str], paper: int | None = None) -> Image.Image:
    """Read a picture file, turn it upright as its EXIF data says, and flatten it onto paper.

    Args:
        path: a file in any format that Pillow decodes by itself.
        paper: grey level in [0, 255] behind transparent pixels; by default white behind dark ink, black behind light ink.

    Returns:
        A picture of mode "L", "RGB", or "F" when the file has more than 8 bits per pixel; "F" keeps the file's own range.

    Raises:
        DataError: if the file is missing, larger than Pillow's limit or not a readable picture.
    """
    Image.init()
    formats = [name for name in Image.OPEN if name not in ("EPS", "WMF")]  # Pillow runs other programs for these two
    with data_errors(Path(path), "not a picture that can be read"), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=formats) as file:
            picture = ImageOps.exif_transpose(file)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if paper is None:
                pixels = np.asarray(picture)
                ink = pixels[pixels[..., 3] > 127, :3]
                paper = 255 if ink.size and ink.mean() < 128 else 0
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, (paper, paper, paper, 255)), picture)
        if picture.mode in ("1", "L"):
            return picture.convert("L")
        return picture.convert("F" if picture.mode.startswith(("I", "F")) else "RGB")
