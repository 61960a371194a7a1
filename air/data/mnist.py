"""The digits: MNIST as bundled, from the user's own file, or from Keras' download.

digits = mnist.load()                    # data/mnist.npz, checked against its SHA-256
digits = mnist.load("fashion.npz")       # a file with x_train, y_train, x_test, y_test
digits = mnist.load("folder")            # train-images-idx3-ubyte and its three siblings, gzipped or not
"""

import contextlib
import gzip
import hashlib
import math
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air.errors import DataError
from air.support.arrays import data_errors, read_arrays

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "mnist.npz"
SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
_IDX_NAMES = {
    "x_train": ("train-images", "idx3-ubyte"),
    "y_train": ("train-labels", "idx1-ubyte"),
    "x_test": ("t10k-images", "idx3-ubyte"),
    "y_test": ("t10k-labels", "idx1-ubyte"),
}
_LIMIT = 1 << 30  # bytes; MNIST has 55 million, EMNIST's largest split 640 million


class MNIST(NamedTuple):
    """The digits of the two splits and what they are."""

    train_images: np.ndarray  # [60000, 28, 28] uint8
    train_labels: np.ndarray  # [60000] uint8
    test_images: np.ndarray  # [10000, 28, 28] uint8
    test_labels: np.ndarray  # [10000] uint8


def load(path: str | os.PathLike[str] | None = None) -> MNIST:
    """Reads the digits.

    Args:
        path: an .npz file with the array names of Keras' file, or a folder with the four IDX files; it may hold other
            images of 28x28 pixels, such as Fashion-MNIST, and any number of them. None reads the bundled file or, where
            that is missing, lets Keras download it.

    Raises:
        DataError: for a file that is missing, damaged or something else; the message names it and what was expected.
    """
    if path is not None:
        path = Path(path)
        return _validated(path, _read_idx_folder(path) if path.is_dir() else read_arrays(path, tuple(SHA256), limit=_LIMIT))
    source, arrays = (BUNDLED, read_arrays(BUNDLED, tuple(SHA256), limit=_LIMIT)) if BUNDLED.exists() else _download()
    for name, expected in SHA256.items():
        found = hashlib.sha256(np.ascontiguousarray(arrays[name])).hexdigest()
        if found != expected:
            raise DataError(f"{source}: {name} has SHA-256 {found}, which must be {expected}; restore the original file")
    return _validated(source, arrays)


def _read_idx_folder(folder: Path) -> dict[str, np.ndarray]:
    return {name: _read_idx(_find_idx(folder, *parts)) for name, parts in _IDX_NAMES.items()}


def _find_idx(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{separator}{kind}{ending}" for separator in "-." for ending in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: has no {names[0]}, nor {', '.join(names[1:])}")


def _read_idx(path: Path) -> np.ndarray:
    opener = gzip.open if path.suffix == ".gz" else open
    with data_errors(path, "damaged"), opener(path, "rb") as file:
        magic = file.read(4)
        rank = 3 if "idx3" in path.name else 1
        if magic != bytes([0, 0, 8, rank]):
            raise DataError(
                f"{path}: starts with 0x{magic.hex()}; an IDX file of {rank} dimensions starts with 0x0000080{rank}"
            )
        header = file.read(4 * rank)
        if len(header) < 4 * rank:
            raise DataError(f"{path}: ends in its header")
        shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
        if math.prod(shape) > _LIMIT:
            raise DataError(f"{path}: claims shape {shape}; {_LIMIT} bytes are allowed")
        data = file.read(math.prod(shape))
        if len(data) < math.prod(shape) or file.read(1):
            raise DataError(f"{path}: claims shape {shape}, but has {'less' if len(data) < math.prod(shape) else 'more'} data")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _download() -> tuple[str, dict[str, np.ndarray]]:
    hint = f"restore {BUNDLED} or name an .npz file or a folder of IDX files with --mnist"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras draws its progress bar on standard output
            from keras.datasets import mnist

            (x_train, y_train), (x_test, y_test) = mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when it is offline
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"MNIST is not bundled here and can't be downloaded ({reason}); {hint}") from None
    return "Keras' mnist.npz", {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _validated(source: object, arrays: dict[str, np.ndarray]) -> MNIST:
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or not len(images):
            raise DataError(f"{source}: x_{split} is {images.dtype} of shape {images.shape}; it must be uint8 of [N, 28, 28]")
        if labels.dtype.kind not in "ui" or labels.shape != images.shape[:1]:
            raise DataError(
                f"{source}: y_{split} is {labels.dtype} of shape {labels.shape}; it must be integers of [{len(images)}]"
            )
        for extreme in (labels.min(), labels.max()):
            if not 0 <= extreme <= 127:
                raise DataError(f"{source}: y_{split} has label {extreme}; labels from 0 to 127 are allowed")
        arrays[f"y_{split}"] = labels.astype(np.uint8)
    return MNIST(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"])
