"""Scenes survive their file, no damaged file is taken for one, and the pipeline's batches can be resumed exactly."""

import dataclasses
import errno
import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air.data import scenes as scenes_module
from air.data.pipeline import pipeline
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError


def make_scenes(size=7):
    """Scenes whose first pixel is their position in the set."""
    images = np.zeros((size, 6, 8), np.uint8)
    images[:, 0, 0] = np.arange(size)
    counts = np.arange(size) % 3
    present = np.arange(2) < counts[:, None]
    boxes = np.where(present[..., None], [[1, 2, 3, 4], [4, 0, 4, 6]], 0)
    return SceneSet(images, counts, boxes, np.where(present, 7, -1), np.where(present, 59999, -1))


def numbered(size):
    return SceneSet(np.arange(size, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8), np.arange(size) % 256)


def fields_of(scenes):
    """The fields that a set has."""
    fields = {field.name: getattr(scenes, field.name) for field in dataclasses.fields(scenes)}
    return {name: array for name, array in fields.items() if array is not None}


def assert_same(left, right):
    left, right = fields_of(left), fields_of(right)
    assert list(left) == list(right)
    for name, array in left.items():
        assert array.dtype == right[name].dtype, name
        np.testing.assert_array_equal(array, right[name])


def assert_refused(path, *words):
    with pytest.raises(DataError) as caught:
        SceneSet.load(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def test_round_trip(tmp_path):
    scenes = make_scenes()
    scenes.save(tmp_path / "scenes.npz")
    loaded = SceneSet.load(tmp_path / "scenes.npz")
    assert_same(loaded, scenes)
    assert {name: array.dtype.name for name, array in fields_of(loaded).items()} == {
        "images": "uint8", "counts": "uint8", "boxes": "float32", "labels": "int8", "indices": "int32"
    }  # fmt: skip
    assert loaded.canvas_size == (6, 8)
    assert len(loaded) == 7


def test_round_trip_of_segments(tmp_path):
    scenes = make_scenes()
    scenes = dataclasses.replace(scenes, segments=np.minimum(scenes.images, scenes.count[:, None, None]))
    scenes.save(tmp_path / "scenes.npz")
    assert_same(SceneSet.load(tmp_path / "scenes.npz"), scenes)
    assert_same(scenes.select([2, 4]), SceneSet.load(tmp_path / "scenes.npz").select([2, 4]))


def test_segments_must_fit():
    scenes = make_scenes()
    with pytest.raises(DataError, match=r"segments: shape \(7, 6, 7\) is not allowed; it must be that of images \(7, 6, 8\)"):
        dataclasses.replace(scenes, segments=np.zeros((7, 6, 7), np.uint8))
    with pytest.raises(DataError, match="segments: scene 1 has object 2, but its count is 1"):
        dataclasses.replace(scenes, segments=np.full((7, 6, 8), 2, np.uint8) * (np.arange(7) > 0)[:, None, None])
    with pytest.raises(DataError, match="segments"):
        dataclasses.replace(scenes, segments=np.zeros((7, 6, 8)))


def test_round_trip_of_images_alone(tmp_path):
    scenes = SceneSet(make_scenes().images)
    scenes.save(tmp_path / "scenes.npz")
    assert_same(SceneSet.load(tmp_path / "scenes.npz"), scenes)


def test_the_file_is_plain_numpy_and_always_the_same(tmp_path):
    make_scenes().save(tmp_path / "a.npz")
    make_scenes().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file) == {"version", "images", "counts", "boxes", "labels", "indices"}
        assert file["version"] == 1
        np.testing.assert_array_equal(file["images"], make_scenes().images)


def test_plain_files_of_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    np.savez(tmp_path / "plain.npz", images=images, note=np.array(["unrelated"]))
    np.save(tmp_path / "plain.npy", images)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(images))
    np.save(tmp_path / "float.npy", images / 255)
    for name in ("plain.npz", "plain.npy", "fortran.npy", "float.npy"):
        assert_same(SceneSet.load(tmp_path / name), SceneSet(images))


def test_float_images_are_rounded():
    assert SceneSet(np.array([[[0.0, 0.5, 0.999, 1.0]]])).images.tolist() == [[[0, 128, 255, 255]]]


def test_select():
    scenes = make_scenes()
    ones = scenes.select(scenes.count == 1)
    assert ones.images[:, 0, 0].tolist() == [1, 4]
    assert ones.count.tolist() == [1, 1]
    assert ones.boxes[0].tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    assert scenes.select(slice(2)).labels.tolist() == [[-1, -1], [7, -1]]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("images", np.zeros((7, 6, 8, 1), np.uint8), ["(7, 6, 8, 1)"]),
        ("images", np.zeros((0, 6, 8), np.uint8), ["(0, 6, 8)"]),
        ("images", np.zeros((7, 6, 8), np.int64), ["int64"]),
        ("images", np.full((7, 6, 8), 1.5), ["1.5", "[0, 1]"]),
        ("images", np.full((7, 6, 8), -0.5), ["-0.5"]),
        ("images", np.full((7, 6, 8), np.nan), ["nan"]),
        ("counts", np.zeros(6, int), ["(6,)", "[7]"]),
        ("counts", np.zeros(7), ["float64", "integers"]),
        ("counts", np.full(7, -1), ["-1", "[0, 255]"]),
        ("counts", np.full(7, 300), ["300"]),
        ("counts", np.full(7, 3), ["3", "boxes has room for 2"]),
        ("counts", np.full(7, 2), ["boxes", "scene 0 has 0 objects", "count is 2"]),
        ("boxes", np.zeros((7, 2, 3)), ["(7, 2, 3)", "[7, M, 4]"]),
        ("boxes", np.full((7, 2, 4), np.nan), ["nan"]),
        ("boxes", np.full((7, 2, 4), np.inf), ["inf"]),
        ("boxes", np.full((7, 2, 4), -1.0), ["-1.0"]),
        ("boxes", np.zeros((7, 3, 4)), ["boxes for 3, labels for 2"]),
        ("labels", np.full((7, 2), 128), ["128", "[-1, 127]"]),
        ("labels", np.full((7, 2), 3), ["scene 0 has 2 objects"]),
        ("indices", np.full((7, 2), -2), ["-2"]),
        ("indices", np.full((7, 2), 2**31), ["2147483648"]),
        ("version", np.array(2), ["2", "version 1"]),
        ("version", np.array([1, 1]), ["version"]),
        ("counts", np.array(["x"] * 7), ["numbers"]),
        ("boxes", np.full((7, 2, 4), None), ["object"]),
    ],
)
def test_impossible_fields(tmp_path, name, value, words):
    np.savez(tmp_path / "bad.npz", **{**fields_of(make_scenes()), "version": np.array(1), name: value})
    assert_refused(tmp_path / "bad.npz", name, *words)


def test_boxes_stay_on_the_canvas(tmp_path):
    boxes = make_scenes().boxes.copy()
    boxes[1, 0] = 6, 2, 3, 4
    np.savez(tmp_path / "bad.npz", images=make_scenes().images, boxes=boxes)
    assert_refused(tmp_path / "bad.npz", "boxes", "(6.0, 2.0, 3.0, 4.0) of scene 1", "8x6")
    boxes[1, 0] = 5, 2, 3, 4
    assert SceneSet(make_scenes().images, boxes=boxes).boxes[1, 0].tolist() == [5, 2, 3, 4]


def test_foreign_files(tmp_path):
    (tmp_path / "text.npz").write_text("text")
    assert_refused(tmp_path / "text.npz", "neither")
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3))
    assert_refused(tmp_path / "mnist.npz", "'images'", "x_train")
    np.save(tmp_path / "objects.npy", np.full(3, None), allow_pickle=True)
    assert_refused(tmp_path / "objects.npy", "object")
    assert_refused(tmp_path / "none.npz", "no such file")
    assert_refused(tmp_path, "directory")


def test_a_header_that_claims_a_million_million_scenes(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 50, 50)})
    (tmp_path / "huge.npy").write_bytes(header.getvalue())
    assert_refused(tmp_path / "huge.npy", "images", "1099511627776")
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    assert_refused(tmp_path / "huge.npz", "images", "1099511627776")


def test_the_limit_holds_for_all_fields_together(tmp_path, monkeypatch):
    make_scenes().save(tmp_path / "scenes.npz")
    size = sum(array.nbytes for array in fields_of(make_scenes()).values()) + 8
    monkeypatch.setattr(scenes_module, "LIMIT", size)
    SceneSet.load(tmp_path / "scenes.npz")
    monkeypatch.setattr(scenes_module, "LIMIT", size - 1)
    assert_refused(tmp_path / "scenes.npz", "allowed")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_files(tmp_path, data):
    make_scenes().save(tmp_path / "scenes.npz")
    content = (tmp_path / "scenes.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert_refused(tmp_path / "damaged.npz")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch, failure):
    make_scenes().save(tmp_path / "scenes.npz")
    before = (tmp_path / "scenes.npz").read_bytes()
    write, calls = np.lib.format.write_array, []

    def fail_at_the_third(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise failure
        write(*args, **options)

    monkeypatch.setattr(np.lib.format, "write_array", fail_at_the_third)
    with pytest.raises((DataError, KeyboardInterrupt)) as caught:
        numbered(5).save(tmp_path / "scenes.npz")
    if isinstance(failure, OSError):
        assert str(caught.value) == f"{tmp_path / 'scenes.npz'}: can't be written (No space left on device)"
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.npz"]
    assert (tmp_path / "scenes.npz").read_bytes() == before


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "scenes.npz", tmp_path / "file" / "scenes.npz", tmp_path):
        with pytest.raises(DataError, match="can't be written"):
            make_scenes().save(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def batches_of(dataset, most=1000):
    """The batches' scenes, by the number that `numbered` wrote into each image."""
    return [np.rint(images.numpy()[:, 0, 0] * 255).astype(int).tolist() for images, _ in dataset.take(most)]


def test_batches():
    scenes = SceneSet(np.array([[[0, 51]], [[102, 255]], [[1, 2]]], np.uint8), [2, 0, 1])
    (images, counts), (rest, _) = pipeline(scenes, 2, shuffle=False, epochs=1, drop_remainder=False)
    assert images.dtype == "float32"
    assert counts.dtype == "int32"
    np.testing.assert_allclose(images, [[[0, 0.2]], [[0.4, 1]]], rtol=1e-6)
    assert counts.numpy().tolist() == [2, 0]
    assert rest.shape == (1, 1, 2)


def test_shapes_are_static_where_xla_needs_them():
    images, counts = pipeline(numbered(10), 4).element_spec
    assert (images.shape, counts.shape) == ((4, 2, 2), (4,))
    images, _ = pipeline(numbered(10), 4, drop_remainder=False).element_spec
    assert images.shape.as_list() == [None, 2, 2]


def test_unknown_counts_are_negative():
    _, counts = next(iter(pipeline(SceneSet(numbered(4).images), 4)))
    assert counts.numpy().tolist() == [-1] * 4


def test_images_and_counts_stay_together():
    for images, counts in pipeline(numbered(50), 16, seed=3).take(5):
        np.testing.assert_array_equal(np.rint(images[:, 0, 0] * 255), counts)


def test_each_epoch_has_every_scene_once_in_an_order_of_its_own():
    epochs = np.reshape(batches_of(pipeline(numbered(12), 4, seed=5), 9), (3, 12)).tolist()
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_scenes_that_fill_no_batch_differ_between_epochs():
    batches = batches_of(pipeline(numbered(10), 4), 40)
    assert all(len(set(batches[i] + batches[i + 1])) == 8 for i in range(0, 40, 2))
    assert set().union(*batches) == set(range(10))


def test_the_seed_decides_the_order():
    orders = [batches_of(pipeline(numbered(40), 20, seed=seed), 2) for seed in (0, 0, 1, 2**31 - 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3]


def test_the_next_epoch_is_not_the_next_seeds_first():
    assert batches_of(pipeline(numbered(40), 40, seed=0), 2)[1] != batches_of(pipeline(numbered(40), 40, seed=1), 1)[0]


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(1, 23), batch_size=st.integers(1, 9), start=st.integers(0, 40), seed=st.integers(0, 2**31 - 1),
    drop_remainder=st.booleans(), shuffle=st.booleans(),
)  # fmt: skip
def test_a_resumed_run_sees_the_same_batches(size, batch_size, start, seed, drop_remainder, shuffle):
    batch_size = min(batch_size, size)
    options = {"seed": seed, "drop_remainder": drop_remainder, "shuffle": shuffle}
    whole = batches_of(pipeline(numbered(size), batch_size, **options), start + 15)
    rest = batches_of(pipeline(numbered(size), batch_size, **options, start_step=start), 15)
    assert len(rest) == 15
    assert rest == whole[start:]


@pytest.mark.parametrize(("drop_remainder", "start_step", "steps"), [(True, 0, 6), (False, 0, 9), (True, 5, 1), (False, 20, 0)])
def test_finite_epochs(drop_remainder, start_step, steps):
    dataset = pipeline(numbered(10), 4, epochs=3, drop_remainder=drop_remainder, start_step=start_step)
    assert dataset.cardinality() == steps
    assert len(batches_of(dataset)) == steps


@pytest.mark.parametrize(("batch_size", "start_step", "word"), [(0, 0, "0"), (11, 0, "11"), (4, -1, "start_step: -1")])
def test_impossible_pipelines(batch_size, start_step, word):
    with pytest.raises(UsageError, match=word):
        pipeline(numbered(10), batch_size, start_step=start_step)
