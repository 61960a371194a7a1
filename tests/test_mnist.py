"""Every source gives the right digits, and every damaged file an error of one line."""

import gzip
import pickle
import sys
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air.data import mnist
from air.errors import DataError

IDX_STEMS = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (12, 28, 28), dtype=np.uint8),
        "y_train": np.arange(12, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (5, 28, 28), dtype=np.uint8),
        "y_test": np.arange(5, dtype=np.uint8),
    }


@pytest.fixture
def digits_file(tmp_path, arrays):
    np.savez_compressed(tmp_path / "digits.npz", **arrays)
    return tmp_path / "digits.npz"


def write_idx(folder, arrays, separator="-", compress=False):
    for name, array in arrays.items():
        kind = f"idx{array.ndim}-ubyte"
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        data = header + array.tobytes()
        path = folder / f"{IDX_STEMS[name]}{separator}{kind}{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(data) if compress else data)


def assert_same(loaded, arrays):
    for field, name in zip(loaded, arrays, strict=True):
        np.testing.assert_array_equal(field, arrays[name])
        assert field.dtype == np.uint8


def assert_refused(path, *words):
    with pytest.raises(DataError) as caught:
        mnist.load(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_the_bundled_file_is_mnist():
    digits = mnist.load()
    assert digits.train_images.shape == (60000, 28, 28)
    assert digits.test_images.shape == (10000, 28, 28)
    # published class frequencies of the training split, and the first digits of both splits
    assert np.bincount(digits.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_a_changed_bundled_file_is_refused(monkeypatch, digits_file):
    monkeypatch.setattr(mnist, "BUNDLED", digits_file)
    assert_refused(None, str(digits_file), "x_train", "SHA-256", mnist.SHA256["x_train"])


def test_a_file_of_the_users_own(digits_file, arrays):
    assert_same(mnist.load(digits_file), arrays)
    np.savez(digits_file, **{**arrays, "y_train": arrays["y_train"].astype(np.int64)})
    assert_same(mnist.load(str(digits_file)), arrays)


@pytest.mark.parametrize("separator", "-.")
@pytest.mark.parametrize("compress", [False, True])
def test_idx_files(tmp_path, arrays, separator, compress):
    write_idx(tmp_path, arrays, separator, compress)
    assert_same(mnist.load(tmp_path), arrays)


def fake_keras(monkeypatch, tmp_path, load_data):
    """Replace Keras' download, and hide the bundled file."""
    monkeypatch.setattr(mnist, "BUNDLED", tmp_path / "none.npz")
    module = types.ModuleType("keras.datasets")
    module.mnist = types.SimpleNamespace(load_data=load_data)
    monkeypatch.setitem(sys.modules, "keras", types.ModuleType("keras"))
    monkeypatch.setitem(sys.modules, "keras.datasets", module)


def test_without_the_bundled_file_keras_downloads(monkeypatch, tmp_path):
    original = mnist.load()
    pairs = (original.train_images, original.train_labels), (original.test_images, original.test_labels)
    fake_keras(monkeypatch, tmp_path, lambda: pairs)
    assert all(a is b or np.array_equal(a, b) for a, b in zip(mnist.load(), original, strict=True))


def test_offline_the_error_says_what_to_do(monkeypatch, tmp_path):
    def offline():
        raise Exception("URL fetch failure on https://example.org:\n name resolution")

    fake_keras(monkeypatch, tmp_path, offline)
    assert_refused(None, "can't be downloaded", "URL fetch failure", "--mnist", "none.npz")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x_train", np.zeros((12, 32, 32), np.uint8), ["(12, 32, 32)", "[N, 28, 28]"]),
        ("x_train", np.zeros((12, 28, 28), np.float32), ["float32", "uint8"]),
        ("x_test", np.zeros((0, 28, 28), np.uint8), ["(0, 28, 28)"]),
        ("y_train", np.zeros(11, np.uint8), ["(11,)", "[12]"]),
        ("y_train", np.full(12, 200), ["200", "0 to 127"]),
        ("y_test", np.full(5, -1), ["-1", "0 to 127"]),
        ("y_test", np.array(["a"] * 5), ["numbers"]),
    ],
)
def test_arrays_of_another_kind(tmp_path, arrays, name, value, words):
    np.savez(tmp_path / "other.npz", **{**arrays, name: value})
    assert_refused(tmp_path / "other.npz", "other.npz", name, *words)


def test_a_missing_array(tmp_path, arrays):
    del arrays["y_test"]
    np.savez(tmp_path / "other.npz", **arrays)
    assert_refused(tmp_path / "other.npz", "'y_test'", "x_train, y_train, x_test")


def test_missing_file_and_missing_idx_file(tmp_path, arrays):
    assert_refused(tmp_path / "none.npz", "none.npz", "no such file")
    write_idx(tmp_path, arrays)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert_refused(tmp_path, str(tmp_path), "t10k-labels-idx1-ubyte", ".gz")


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04garbage", b"just some text\n", b"\x93NUMPY", b"\0" * 100])
def test_foreign_files(tmp_path, content):
    (tmp_path / "foreign.npz").write_bytes(content)
    assert_refused(tmp_path / "foreign.npz", "foreign.npz")


class Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickled_arrays_are_never_unpickled(tmp_path, arrays):
    mark = tmp_path / "unpickled"
    bomb = np.empty(12, object)
    bomb[0] = Bomb(str(mark))
    np.savez(tmp_path / "pickled.npz", **{**arrays, "y_train": bomb})
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Bomb(str(mark))))
    assert_refused(tmp_path / "pickled.npz", "pickled.npz", "Object arrays")
    assert_refused(tmp_path / "raw.npz", "raw.npz")
    assert not mark.exists()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_and_flipped_files(tmp_path, digits_file, arrays, data):
    content = digits_file.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(content[:position])
    assert_refused(damaged, "damaged.npz")
    flipped = content[:position] + bytes([content[position] ^ data.draw(st.integers(1, 255))]) + content[position + 1 :]
    damaged.write_bytes(flipped)
    try:
        loaded = mnist.load(damaged)  # some bytes of a zip file mean nothing, such as its dates
    except DataError as error:
        message = str(error)
        assert "damaged.npz" in message
        assert "\n" not in message
    else:
        assert_same(loaded, arrays)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: data[:-1], "array of size 9407"),
        (lambda data: data + b"\0", "array of size 9409"),
        (lambda data: b"\0\0\x0d\x03" + data[4:], "0x00000d03"),
        (lambda data: data[:9], "buffer is smaller"),
        (lambda data: b"", "starts with"),
        (lambda data: data[:4] + b"\xff" * 12, "into shape (4294967295,4294967295,4294967295)"),
    ],
)
def test_damaged_idx_files(tmp_path, arrays, compress, change, word):
    write_idx(tmp_path, arrays, compress=compress)
    path = next(tmp_path.glob("train-images*"))
    data = path.read_bytes()
    path.write_bytes(gzip.compress(change(gzip.decompress(data))) if compress else change(data))
    assert_refused(tmp_path, path.name, word)


@pytest.mark.parametrize("change", [lambda data: data[:-9], lambda data: b"text" + data, lambda data: data[:40] + data[60:]])
def test_damaged_gzip(tmp_path, arrays, change):
    write_idx(tmp_path, arrays, compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    assert_refused(tmp_path, path.name)
