"""Shards: an epoch shows every scene once, in an order of its own; runs resume exactly, and say what they can't read."""

import itertools
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_runs import MODEL, RECIPE, STATISTICS, state

from air.data import multi_mnist, shards
from air.data.multi_mnist import find_shards
from air.data.rules import GeneratorConfig
from air.data.scenes import SceneSet
from air.data.shards import Shards
from air.errors import DataError, UsageError
from air.training import checkpoints, run


def write(folder, sizes, size=(6, 5), counts=True):
    """Write shards of numbered scenes: the number is in the first two pixels."""
    folder.mkdir()
    numbers = iter(range(sum(sizes)))
    for shard, number in enumerate(sizes):
        images = np.zeros((number, *size), np.uint8)
        images[:, 0, 0], images[:, 0, 1] = np.divmod(list(itertools.islice(numbers, number)), 256)
        SceneSet(images, images[:, 0, 1] % 3 if counts else None).save(folder / f"train_{shard}.npz")
    return folder


def numbers_of(batches, steps):
    """The numbers of the scenes of some batches: [steps, size]."""
    images = np.rint(255 * np.stack([images for images, _ in itertools.islice(batches.as_numpy_iterator(), steps)]))
    return (256 * images[:, :, 0, 0] + images[:, :, 0, 1]).astype(int)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=7), st.integers(1, 9), st.integers(0, 30), st.integers(0, 2**31))
def test_every_epoch_shows_all_scenes_and_can_begin_anywhere(tmp_path_factory, sizes, size, start, seed):
    size = min(size, sum(sizes))
    data = Shards(write(tmp_path_factory.mktemp("shards") / "data", sizes), seed)
    per_epoch = sum(sizes) // size
    shown = numbers_of(data.batches(size), start + 3 * per_epoch)
    for epoch in range(len(shown) // per_epoch):
        scenes = shown[epoch * per_epoch : (epoch + 1) * per_epoch].ravel()
        assert len(set(scenes.tolist())) == per_epoch * size  # none twice, so that fewer than a batch are left out
    np.testing.assert_array_equal(numbers_of(data.batches(size, start), 3), shown[start : start + 3])
    np.testing.assert_array_equal(data.first(size).images[:, 0, 1], shown[0] % 256)


def test_orders_differ_and_mix_neighbouring_shards(tmp_path):
    data = Shards(write(tmp_path / "data", [50] * 4), seed=1)
    shown = numbers_of(data.batches(20), 20).reshape(2, 200)
    assert (shown[0] != shown[1]).mean() > 0.9
    assert (numbers_of(Shards(tmp_path / "data", seed=2).batches(20), 10).ravel() != shown[0]).mean() > 0.9
    first = shown[0, : 50 * shards.MIXED] // 50  # the shard of each scene of the first group
    assert len(set(first.tolist())) == shards.MIXED
    assert np.count_nonzero(np.diff(first)) > 20


def test_only_a_few_shards_are_in_memory(tmp_path):
    size, number = (64, 64), 200
    data = Shards(write(tmp_path / "data", [number] * 12, size))
    tracemalloc.start()
    for _ in itertools.islice(data._batches(7, 0), 2 * 12 * number // 7 - 1):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (2 * shards.MIXED + 2.5) * number * size[0] * size[1]  # two groups, and what reading one takes


def test_counts_may_be_unknown(tmp_path):
    data = Shards(write(tmp_path / "data", [4, 4], counts=False))
    assert data.first(3).count is None
    _, count = next(data.batches(3).as_numpy_iterator())
    assert count.tolist() == [-1, -1, -1]


def test_a_train_set_of_one_file_goes_before(tmp_path):
    folder = write(tmp_path / "data", [2] * 11)
    assert [path.name for path in find_shards(folder)] == [f"train_{i}.npz" for i in range(11)]  # not by name: 10 after 9
    assert multi_mnist.find_scenes(folder, "train") == folder / "train_0.npz"
    (folder / "train_1.npz").rename(folder / "train.npz")
    assert find_shards(folder) == []
    with pytest.raises(DataError, match=r"has no train_0\.npz"):
        Shards(folder)


def test_shards_that_do_not_fit(tmp_path):
    folder = write(tmp_path / "data", [3, 3])
    SceneSet(np.zeros((2, 7, 5), np.uint8)).save(folder / "train_2.npz")
    with pytest.raises(DataError, match=r"train_2\.npz: scenes of shape \(7, 5\), but train_0\.npz has \(6, 5\)"):
        Shards(folder)
    (folder / "train_2.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"train_2\.npz: "):
        Shards(folder)
    SceneSet(np.zeros((2, 6, 5), np.uint8)).save(folder / "train_2.npz")
    with pytest.raises(DataError, match=r"train_2\.npz: has no counts, unlike train_0\.npz"):
        Shards(folder)
    (folder / "train_1.npz").unlink()
    with pytest.raises(DataError, match=r"has no train_1\.npz, but 2 files of that kind"):
        Shards(folder)


def test_any_change_changes_the_checksum(tmp_path):
    folder = write(tmp_path / "data", [4] * 9)
    before = Shards(folder).checksum()
    assert Shards(folder, seed=1).checksum() == before
    for shard in range(9):
        scenes = SceneSet.load(folder / f"train_{shard}.npz")
        SceneSet(scenes.images, scenes.count + 1).save(folder / f"train_{shard}.npz")
        assert Shards(folder).checksum() != before
        scenes.save(folder / f"train_{shard}.npz")
    assert Shards(folder).checksum() == before


def test_a_shard_that_breaks_meanwhile(tmp_path):
    data = Shards(write(tmp_path / "data", [4, 4]))
    SceneSet(np.zeros((5, 6, 5), np.uint8)).save(tmp_path / "data" / "train_1.npz")
    with pytest.raises(Exception, match="train_1"):
        next(data.batches(2).as_numpy_iterator())
    assert str(data.error).endswith("train_1.npz: has changed since the training began")


def test_a_data_set_is_divided(tmp_path):
    config = GeneratorConfig(images_per_count=7, validation_size=1, test_size=1, shards=4)
    multi_mnist.make_dataset(tmp_path / "data", config)
    parts = [SceneSet.load(path) for path in find_shards(tmp_path / "data")]
    assert [len(part) for part in parts] == [6, 5, 5, 5]
    assert np.bincount(np.concatenate([part.count for part in parts])).tolist() == [7, 7, 7]
    shown = np.concatenate([part.images for part in parts])[np.concatenate([part.count for part in parts]) > 0]
    assert len(np.unique(shown, axis=0)) == 14
    multi_mnist.make_dataset(tmp_path / "data", config.replace(shards=1), overwrite=True)
    assert not list((tmp_path / "data").glob("train_*.npz"))


@pytest.mark.parametrize(("changes", "message"), [
    ({"shards": 10, "images_per_count": 2}, "shards: 10 is not allowed; there must be a scene for each"),
    ({"shards": 2, "per_count_files": True}, "per_count_files is not allowed with shards"),
    ({"images_per_count": 3_000_000}, "images_per_count: 3000000 .* take more than 8 GiB; divide them with --shards"),
    ({"test_size": 2_000_000}, "test_size: 2000000 .* take more than 8 GiB$"),  # with their segments
    ({"test_size": 10**8}, "test_size: 100000000 .* take more than 8 GiB$"),
])  # fmt: skip
def test_impossible_shards(changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        multi_mnist.make_dataset(tmp_path / "data", GeneratorConfig(**changes))
    assert not (tmp_path / "data").exists()
    GeneratorConfig(images_per_count=3_000_000, shards=10).check_sizes()


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_to_the_last_bit(tmp_path):
    data = write(tmp_path / "data", [30, 40, 50], (20, 20))
    assert run.start(MODEL, RECIPE.replace(iterations=20), data=data, run=tmp_path / "whole")
    assert run.start(MODEL, RECIPE.replace(iterations=10), data=data, run=tmp_path / "halves")
    assert run.resume(tmp_path / "halves", 20)
    ours, theirs = (state(checkpoints.checkpoints(tmp_path / name)[-1].path) for name in ("whole", "halves"))
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, rtol=1e-5 if name == STATISTICS else 0, err_msg=name)


@pytest.mark.slow
def test_a_shard_that_breaks_ends_a_run_with_one_line(tmp_path):
    data = write(tmp_path / "data", [30] * 6, (20, 20))
    for shard in np.random.default_rng([RECIPE.seed, 0]).permutation(6)[shards.MIXED :]:  # not those of the first steps
        path = data / f"train_{shard}.npz"
        crc = zipfile.ZipFile(path).getinfo("images.npy").CRC.to_bytes(4, "little")
        path.write_bytes(path.read_bytes().replace(crc, b"else"))
    with pytest.raises(DataError, match=r"train_\d\.npz: .*; there is no checkpoint yet$"):
        run.start(MODEL, RECIPE.replace(iterations=100), data=data, run=tmp_path / "run")
