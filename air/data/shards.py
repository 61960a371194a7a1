"""Training scenes that are too many for memory: a folder with train_0.npz, train_1.npz ..., of which a few are read at a time.

shards = Shards("large", seed=0)
batches = shards.batches(64, start_step=1000)           # a tf.data.Dataset that begins with the 1,001st batch
"""

import contextlib
import itertools
import os
import zipfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from air.data.multi_mnist import find_shards
from air.data.pipeline import prefetch
from air.data.scenes import SceneSet, read_shape
from air.errors import AIRError, DataError
from air.support import arrays
from air.support.files import data_errors

if TYPE_CHECKING:
    import tensorflow as tf

MIXED = 2  # shards whose scenes are shuffled together; as many more are read meanwhile
PREFETCHED = 8  # batches


class _Scenes(NamedTuple):
    images: np.ndarray  # [N, H, W] or [N, H, W, 3] uint8
    count: np.ndarray  # type: ignore[assignment]  # [N] int32, -1 where unknown

    def part(self, which: slice) -> "_Scenes":
        return _Scenes(self.images[which], self.count[which])

    def copy(self) -> "_Scenes":
        return _Scenes(self.images.copy(), self.count.copy())

    def join(self, other: "_Scenes") -> "_Scenes":
        return _Scenes(*(np.concatenate(fields) for fields in zip(self, other, strict=True)))


class _Group(NamedTuple):
    epoch: int
    shards: list[int]
    begin: int  # its first scenes, which were shown before
    ends_epoch: bool


class Shards:
    """Read the shards of a folder in batches.

    The order of an epoch depends on the seed and the number of the epoch alone: it shuffles the shards, and then the scenes of
    each few of them. Scenes that don't fill the last batch of an epoch are left out.

    Args:
        folder: with train_0.npz, train_1.npz ..., see `SceneSet`.
        seed: of the order.

    Raises:
        DataError: if there are none or one is missing, if one is not a file of scenes, or if they don't agree.
    """

    def __init__(self, folder: str | os.PathLike[str], seed: int = 0) -> None:
        self.files, self.seed = find_shards(folder), seed
        if not self.files:
            raise DataError(f"{folder}: has no train_0.npz")
        shapes, self._contents = [read_shape(file) for file in self.files], [_contents(file) for file in self.files]
        self.sizes, self.shape = [shape[0] for shape in shapes], shapes[0][1:]
        first, has_counts = self.files[0].name, "counts.npy" in self._contents[0]
        for file, shape, contents in zip(self.files, shapes, self._contents, strict=True):
            if shape[1:] != self.shape:
                raise DataError(f"{file}: scenes of shape {shape[1:]}, but {first} has {self.shape}")
            if ("counts.npy" in contents) != has_counts:
                raise DataError(f"{file}: has {'no ' if has_counts else ''}counts, unlike {first}; all must have them, or none")
        self.error: AIRError | None = None  # of a shard that could not be read, which TensorFlow would report as its own

    def __len__(self) -> int:
        return sum(self.sizes)

    def checksum(self) -> int:
        """Compute a checksum of all scenes from those in the files, without reading them."""
        return arrays.checksum(str(self.shape), str(self.sizes), str([sorted(contents.items()) for contents in self._contents]))

    def first(self, size: int) -> SceneSet:
        """Return the scenes of the first batch."""
        with contextlib.closing(self._batches(size, 0)) as batches:
            images, count = next(batches)
        return SceneSet(images, None if (count < 0).any() else count)

    def batches(self, size: int, start_step: int = 0) -> "tf.data.Dataset":
        """Return an endless data set of (images float32 [size, H, W] in [0, 1], perhaps in colour, count int32 [size])."""
        import tensorflow as tf

        def read() -> Iterator[_Scenes]:
            try:
                yield from self._batches(size, start_step)
            except AIRError as error:
                self.error = error
                raise

        signature = tf.TensorSpec([size, *self.shape], tf.uint8), tf.TensorSpec([size], tf.int32)
        batches = tf.data.Dataset.from_generator(read, output_signature=signature)
        return prefetch(batches.map(lambda images, count: (tf.cast(images, tf.float32) / 255.0, count)), PREFETCHED)

    def _batches(self, size: int, step: int) -> Generator[_Scenes, None, None]:
        left = None
        for scenes, ends_epoch in self._read_ahead(*divmod(step, len(self) // size), size):
            begin = 0
            if left is not None:
                begin = size - len(left.count)
                left = left.join(scenes.part(slice(begin)))
                if len(left.count) == size:
                    yield left
            full = begin + max(len(scenes.count) - begin, 0) // size * size
            for start in range(begin, full, size):
                yield scenes.part(slice(start, start + size)).copy()  # or its holder keeps the whole group
            if ends_epoch:
                left = None
            elif begin <= len(scenes.count):
                left = scenes.part(slice(full, None)).copy()
            del scenes  # before the next one is read

    def _read_ahead(self, epoch: int, skipped: int, size: int) -> Iterator[tuple[_Scenes, bool]]:
        """Yield the scenes of one group after another, and whether an epoch ends with them; meanwhile read the next."""
        groups = self._groups(epoch, skipped * size)
        with ThreadPoolExecutor(1) as pool:
            group = next(groups)
            reading = pool.submit(self._read, group)
            for following in groups:
                scenes = reading.result().part(slice(group.begin, None))
                reading = pool.submit(self._read, following)
                yield scenes, group.ends_epoch
                group = following
                del scenes

    def _groups(self, epoch: int, position: int) -> Iterator[_Group]:
        """Yield the groups of shards from a scene of an epoch on."""
        for number in itertools.count(epoch):
            order = np.random.default_rng([self.seed, number]).permutation(len(self.files)).tolist()
            for start in range(0, len(order), MIXED):
                shards = order[start : start + MIXED]
                size = sum(self.sizes[shard] for shard in shards)
                if position < size:
                    yield _Group(number, shards, position, start + MIXED >= len(order))
                position = max(position - size, 0)

    def _read(self, group: _Group) -> _Scenes:
        """Read a group, and shuffle its scenes."""
        size = sum(self.sizes[shard] for shard in group.shards)
        scenes = _Scenes(np.empty((size, *self.shape), np.uint8), np.full(size, -1, np.int32))
        places = iter(np.random.default_rng([self.seed, group.epoch, *group.shards]).permutation(size))
        for shard in group.shards:
            loaded = SceneSet.load(self.files[shard], ["count"])
            if loaded.images.shape != (self.sizes[shard], *self.shape):
                raise DataError(f"{self.files[shard]}: has changed since the training began")
            at = np.fromiter(places, np.int64, self.sizes[shard])
            scenes.images[at] = loaded.images
            if loaded.count is not None:
                scenes.count[at] = loaded.count
            del loaded
        return scenes


def _contents(path: Path) -> dict[str, int]:
    """Return the checksums of the images and counts in a file, by the names of the members."""
    with data_errors(path, "not an .npz file"), zipfile.ZipFile(path) as archive:
        return {info.filename: info.CRC for info in archive.infolist() if info.filename in ("images.npy", "counts.npy")}
