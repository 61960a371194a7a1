"""The digits: MNIST as bundled, from the user's own file, or downloaded by Keras.

digits = mnist.load()                    # data/mnist.npz, checked against its SHA-256
digits = mnist.load("fashion.npz")       # a file with x_train, y_train, x_test, y_test
digits = mnist.load("folder")            # train-images-idx3-ubyte and its three siblings, gzipped or not
"""

import contextlib
import gzip
import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air.errors import DataError
from air.support.arrays import read_arrays
from air.support.files import data_errors, shipped

BUNDLED = shipped("data", "mnist.npz")
SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
MAX_BYTES = 1 << 30  # MNIST has 55 million, the largest split of EMNIST 640 million
_IDX_STEMS = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}


class MNIST(NamedTuple):
    """The digits of the two splits and their labels."""

    train_images: np.ndarray  # [60000, 28, 28] uint8
    train_labels: np.ndarray  # [60000] uint8
    test_images: np.ndarray  # [10000, 28, 28] uint8
    test_labels: np.ndarray  # [10000] uint8


def load(path: str | os.PathLike[str] | None = None) -> MNIST:
    """Load the bundled digits (or let Keras download them if they are missing), or others of 28x28 pixels from `path`.

    Raises:
        DataError: if a file is missing, damaged or of another kind.
    """
    if path is not None:
        path = Path(path)
        return _validated(path, _read_idx(path) if path.is_dir() else read_arrays(path, tuple(SHA256), limit=MAX_BYTES))
    source, arrays = (BUNDLED, read_arrays(BUNDLED, tuple(SHA256), limit=MAX_BYTES)) if BUNDLED.exists() else _download()
    for name, expected in SHA256.items():
        found = hashlib.sha256(np.ascontiguousarray(arrays[name]).data).hexdigest()
        if found != expected:
            raise DataError(f"{source}: {name} has SHA-256 {found}, which must be {expected}; restore the original file")
    return _validated(source, arrays)


def _read_idx(folder: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for name, stem in _IDX_STEMS.items():
        rank = 3 if name.startswith("x") else 1
        path = next(folder.glob(f"{stem}[-.]idx{rank}-ubyte*"), None)
        if path is None:
            raise DataError(f"{folder}: has no {stem}-idx{rank}-ubyte, nor one that ends in .gz")
        arrays[name] = _read_idx_file(path, rank)
    return arrays


def _read_idx_file(path: Path, rank: int) -> np.ndarray:
    """Read an IDX file: 0, 0, type 8 (uint8), the rank, the big-endian shape, the data."""
    with data_errors(path, "damaged"), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read(MAX_BYTES)
        if content[:4] != bytes([0, 0, 8, rank]):
            raise DataError(f"{path}: starts with 0x{content[:4].hex()}; an IDX file of uint8 starts with 0x0000080{rank}")
        shape = np.frombuffer(content, ">u4", rank, offset=4).tolist()
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


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
        extreme = labels.min() if labels.min() < 0 else labels.max()
        if not 0 <= extreme <= 127:
            raise DataError(f"{source}: y_{split} has label {extreme}; labels from 0 to 127 are allowed")
        arrays[f"y_{split}"] = labels.astype(np.uint8)
    return MNIST(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"])
