"""Training scenes that are too many for memory: a folder with train_0.npz, train_1.npz ..., of which a few are read at a time.

shards = Shards("large", seed=0)
batches = shards.batches(64, start_step=1000)           # a tf.data.Dataset that begins with the 1,001st batch
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from air.data.multi_mnist import find_shards
from air.data.scenes import SceneSet, read_shape
from air.errors import AIRError, DataError

if TYPE_CHECKING:
    import tensorflow as tf

MIXED = 2  # shards whose scenes are shuffled together; as many more are read meanwhile
PREFETCHED = 8  # batches


class _Scenes(NamedTuple):
    images: np.ndarray  # [N, H, W] or [N, H, W, 3] uint8
    count: np.ndarray  # type: ignore[assignment]  # [N] int32, -1 where unknown

    def part(self, which: slice | np.ndarray) -> "_Scenes":
        return _Scenes(self.images[which], self.count[which])


class Shards:
    """Reads the shards of a folder in batches; every epoch has an order of its own, which the seed and its number fix.

    An epoch shuffles the shards, and then the scenes of each few of them. Scenes that fill no batch at its end are left out.

    Args:
        folder: with train_0.npz, train_1.npz ..., see `SceneSet`.
        seed: of the order.

    Raises:
        DataError: if there are none, if one is not a file of scenes, or if their canvases differ.
    """

    def __init__(self, folder: str | os.PathLike[str], seed: int = 0) -> None:
        self.files, self.seed = find_shards(folder), seed
        if not self.files:
            raise DataError(f"{folder}: has no train_0.npz")
        shapes = [read_shape(file) for file in self.files]
        self.sizes, self.shape = [shape[0] for shape in shapes], shapes[0][1:]
        for file, shape in zip(self.files, shapes, strict=True):
            if shape[1:] != self.shape:
                raise DataError(f"{file}: scenes of shape {shape[1:]}, but {self.files[0].name} has {self.shape}")
        self.error: AIRError | None = None  # of a shard that could not be read, which TensorFlow would report as its own

    def __len__(self) -> int:
        return sum(self.sizes)

    def first(self, size: int) -> SceneSet:
        """Return the scenes of the first batch."""
        images, count = next(self._batches(size, 0))
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
        options = tf.data.Options()
        options.autotune.enabled = False  # see `pipeline`
        batches = batches.map(lambda images, count: (tf.cast(images, tf.float32) / 255.0, count))
        return batches.prefetch(PREFETCHED).with_options(options)

    def _batches(self, size: int, step: int) -> Iterator[_Scenes]:
        epoch, skipped = divmod(step, len(self) // size)
        for number in itertools.count(epoch):
            yield from itertools.islice(self._epoch(number, size, skipped), len(self) // size - skipped)
            skipped = 0

    def _epoch(self, epoch: int, size: int, skipped: int) -> Iterator[_Scenes]:
        """Yield the batches of an epoch without the first ones, whose shards are not read."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.files))
        groups = [order[i : i + MIXED].tolist() for i in range(0, len(order), MIXED)]
        ends = np.cumsum([sum(self.sizes[i] for i in group) for group in groups])
        begin = int(np.searchsorted(ends, skipped * size, side="right"))
        left, passed = None, skipped * size - (ends[begin - 1] if begin else 0)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self._read, epoch, groups[begin])
            for following in [*groups[begin + 1 :], None]:
                scenes = reading.result().part(slice(passed, None))
                if following is not None:
                    reading = pool.submit(self._read, epoch, following)
                if left is not None:
                    scenes = _Scenes(*(np.concatenate(field) for field in zip(left, scenes, strict=True)))
                full = len(scenes.count) // size * size
                for start in range(0, full, size):
                    yield scenes.part(slice(start, start + size))
                left, passed = scenes.part(slice(full, None)), 0

    def _read(self, epoch: int, group: Sequence[int]) -> _Scenes:
        """Read a few shards and shuffle their scenes."""
        parts = []
        for i in group:
            scenes = SceneSet.load(self.files[i])
            if scenes.images.shape != (self.sizes[i], *self.shape):
                raise DataError(f"{self.files[i]}: has changed since the training began")
            unknown = np.full(len(scenes), -1, np.int32)
            parts.append(_Scenes(scenes.images, unknown if scenes.count is None else scenes.count.astype(np.int32)))
        joined = _Scenes(*(np.concatenate(field) for field in zip(*parts, strict=True)))
        return joined.part(np.random.default_rng([self.seed, epoch, *group]).permutation(len(joined.count)))
