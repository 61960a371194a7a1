"""The digits come out right from every source, and no damaged file does worse than an error of one line."""

import gzip
import io
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air.data import mnist
from air.errors import DataError
from air.support.arrays import read_arrays

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


def npy(array_bytes=b"", *, shape=(12, 28, 28), descr="|u1"):
    """A hand-made .npy file whose header may lie."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + array_bytes


def test_the_bundled_file_is_mnist():
    digits = mnist.load()
    assert digits.train_images.shape == (60000, 28, 28)
    assert digits.test_images.shape == (10000, 28, 28)
    # Published class frequencies of the training split, and the first digits of both splits.
    assert np.bincount(digits.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_loading_the_bundled_file_needs_no_tensorflow():
    code = "import sys; from air import mnist; mnist.load(); print({'tensorflow', 'keras'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_a_changed_bundled_file_is_refused(monkeypatch, digits_file):
    monkeypatch.setattr(mnist, "BUNDLED", digits_file)
    assert_refused(None, str(digits_file), "x_train", "SHA-256", mnist.SHA256["x_train"])


def test_a_file_of_the_users_own(digits_file, arrays):
    assert_same(mnist.load(digits_file), arrays)
    assert_same(mnist.load(str(digits_file)), arrays)


@pytest.mark.parametrize("separator", "-.")
@pytest.mark.parametrize("compress", [False, True])
def test_idx_files(tmp_path, arrays, separator, compress):
    write_idx(tmp_path, arrays, separator, compress)
    assert_same(mnist.load(tmp_path), arrays)


def test_labels_of_any_integer_type(tmp_path, arrays):
    np.savez(tmp_path / "wide.npz", **{**arrays, "y_train": arrays["y_train"].astype(np.int64)})
    assert_same(mnist.load(tmp_path / "wide.npz"), arrays)


def fake_keras(monkeypatch, tmp_path, load_data):
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


def test_a_download_of_something_else_is_refused(monkeypatch, tmp_path, arrays):
    pairs = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    fake_keras(monkeypatch, tmp_path, lambda: pairs)
    assert_refused(None, "SHA-256")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x_train", np.zeros((12, 32, 32), np.uint8), ["(12, 32, 32)", "[N, 28, 28]"]),
        ("x_train", np.zeros((12, 28, 28), np.float32), ["float32", "uint8"]),
        ("x_test", np.zeros((0, 28, 28), np.uint8), ["(0, 28, 28)"]),
        ("x_test", np.uint8(3), ["()"]),
        ("y_train", np.zeros(11, np.uint8), ["(11,)", "[12]"]),
        ("y_train", np.zeros(12), ["float64", "integers"]),
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
    assert_refused(tmp_path, str(tmp_path), "t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte.gz")


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04garbage", b"just some text\n", b"\x93NUMPY", b"\0" * 100])
def test_foreign_files(tmp_path, content):
    (tmp_path / "foreign.npz").write_bytes(content)
    assert_refused(tmp_path / "foreign.npz", "foreign.npz")


class Bomb:
    """Unpickling this creates a file."""

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
    assert_refused(tmp_path / "pickled.npz", "y_train", "object")
    assert_refused(tmp_path / "raw.npz", "raw.npz")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (npy(shape=(2**40, 28, 28)), ["1099511627776", "allowed"]),
        (npy(shape=(2**62, 2**62)), ["allowed"]),
        (npy(shape=(-1, 28, 28)), ["-1"]),
        (npy(b"\0" * 10), ["(12, 28, 28)", "10 bytes"]),
        (npy(b"\0" * (12 * 28 * 28 + 1)), ["9409 bytes"]),
        (b"\x93NUMPY\x09\x00" + b"\0" * 100, ["version (9, 0)"]),
        (b"\x93NUMPY\x01\x00\xff\xff{", ["not a readable NumPy file"]),
        (b"\x93NUMPY\x01\x00\x05\x00__im(", ["not a readable NumPy file"]),
    ],
)
def test_headers_that_lie(tmp_path, arrays, member, words):
    path = tmp_path / "lying.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if name != "x_train"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", member)
    assert_refused(path, "lying.npz", *words)


def test_a_zip_directory_that_lies(tmp_path):
    path = tmp_path / "lying.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in mnist.SHA256:
            archive.writestr(f"{name}.npy", npy(shape=(2**20, 28, 28)))
            archive.getinfo(f"{name}.npy").file_size = 128 + 2**20 * 28 * 28
    assert_refused(path, "claims", "can't hold")


def test_a_compression_that_numpy_never_uses(tmp_path, arrays):
    path = tmp_path / "bz2.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy(array.tobytes(), shape=array.shape))
    assert_refused(path, "compression 12")


HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (12, 28, 28), }"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(HEADER)), st.integers(0, len(HEADER)), st.text("(){}[]'\",:#09-_a \n\0", max_size=4))
def test_damaged_headers(tmp_path, start, end, garbage):
    header = (HEADER[:start] + garbage + HEADER[max(start, end) :]).encode()
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\1" * 9408)
    try:
        images = read_arrays(tmp_path / "damaged.npy", ["images"], limit=1 << 20)["images"]
    except DataError as error:
        message = str(error)
        assert "damaged.npy" in message
        assert "\n" not in message
    else:
        assert images.nbytes == 9408


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        (lambda data: data[:-1], "less data"),
        (lambda data: data + b"\0", "more data"),
        (lambda data: b"\0\0\x0d\x03" + data[4:], "0x00000d03"),
        (lambda data: data[:9], "header"),
        (lambda data: b"", "starts with"),
        (lambda data: data[:4] + b"\xff" * 12, "claims shape (4294967295, 4294967295, 4294967295)"),
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
