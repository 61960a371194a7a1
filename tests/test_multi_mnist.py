"""The generator's command line, run as users run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from air.data import mnist, multi_mnist
from air.data.generator import GeneratorConfig
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("--images-per-count", "20", "--validation-size", "7", "--test-size", "9")
FILES = {"train.npz", "validation.npz", "test.npz", "preview.png", "config.json"}


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory):
    """A few digits of MNIST, which load faster than all."""
    digits = mnist.load()
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(
        path, x_train=digits.train_images[:200], y_train=digits.train_labels[:200],
        x_test=digits.test_images[:50], y_test=digits.test_labels[:50],
    )  # fmt: skip
    return path


def run(folder, *flags):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "multi_mnist.py"), *map(str, flags)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def names(folder):
    return {path.name for path in Path(folder).iterdir()}


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_data_set(tmp_path, digits_file):
    done = run(tmp_path, *SMALL, "--mnist", digits_file, "--max-digits", 3, "--gap", 1, "--seed", 7)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"multi_mnist: 96 scenes of 0 to 3 digits in \d+\.\d s\n", done.stdout)
    assert names(tmp_path) == {"multi_mnist"}
    folder = tmp_path / "multi_mnist"
    assert names(folder) == FILES

    train, validation, test = (SceneSet.load(folder / f"{split}.npz") for split in ("train", "validation", "test"))
    assert np.bincount(train.count).tolist() == [20, 20, 20, 20]
    assert train.count[:20].tolist() != [0] * 20
    assert np.bincount(validation.count).tolist() == [2, 2, 2, 1]
    assert np.bincount(test.count).tolist() == [3, 2, 2, 2]
    digits = mnist.load(digits_file)
    for scenes, labels in ((train, digits.train_labels), (validation, digits.test_labels), (test, digits.test_labels)):
        present = scenes.indices >= 0
        assert (scenes.labels[present] == labels[scenes.indices[present]]).all()
    # Validation and test scenes share no digit.
    assert (validation.indices[validation.indices >= 0] % 5 == 0).all()
    assert (test.indices[test.indices >= 0] % 5 != 0).all()

    config = GeneratorConfig.from_json((folder / "config.json").read_text())
    assert config == GeneratorConfig(
        images_per_count=20, validation_size=7, test_size=9, max_digits=3, gap=1, seed=7
    )  # fmt: skip
    with Image.open(folder / "preview.png") as preview:
        assert preview.height > 4 * 50
        assert len(preview.getcolors(maxcolors=1 << 20)) > 20


def test_the_same_flags_give_the_same_bytes(tmp_path, digits_file):
    for output, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run(tmp_path, *SMALL, "--mnist", digits_file, "--output", output, "--seed", seed).returncode == 0
    first, second, third = (contents(tmp_path / output) for output in "abc")
    assert first == second
    assert first["train.npz"] != third["train.npz"]
    assert first["test.npz"] != third["test.npz"]


def test_sizes_do_not_change_the_other_files(tmp_path, digits_file):
    for output, size in (("a", 5), ("b", 6)):
        config = GeneratorConfig(images_per_count=size, validation_size=4, test_size=4)
        multi_mnist.make_dataset(tmp_path / output, config, digits_file)
    assert contents(tmp_path / "a")["test.npz"] == contents(tmp_path / "b")["test.npz"]
    assert contents(tmp_path / "a")["train.npz"] != contents(tmp_path / "b")["train.npz"]


def test_files_by_count(tmp_path, digits_file):
    config = GeneratorConfig(images_per_count=8, validation_size=3, test_size=3, per_count_files=True, per_count_max_digits=4)
    steps = []
    multi_mnist.make_dataset(tmp_path / "set", config, digits_file, progress=steps.append)
    assert sum(steps) == config.total_scenes == 8 * 5 + 6
    assert names(tmp_path / "set") == FILES | {f"count_{count}.npz" for count in range(5)}
    for count in range(5):
        assert SceneSet.load(tmp_path / "set" / f"count_{count}.npz").count.tolist() == [count] * 8
    train = SceneSet.load(tmp_path / "set" / "train.npz")
    twos = SceneSet.load(tmp_path / "set" / "count_2.npz")
    np.testing.assert_array_equal(twos.images, train.images[train.count == 2])


def test_overwriting(tmp_path, digits_file):
    make = (*SMALL, "--mnist", digits_file, "--output", "set")
    assert run(tmp_path, *make).returncode == 0
    before = contents(tmp_path / "set")

    refused = run(tmp_path, *make, "--seed", 1)
    assert refused.returncode == 2
    assert refused.stderr == (
        "multi_mnist.py: error: output: set exists already; name another folder, or add --overwrite\n"
    )  # fmt: skip
    failed = run(tmp_path, *make, "--overwrite", "--max-digits", 9, "--canvas-size", 28, 28)
    assert failed.returncode == 2
    assert contents(tmp_path / "set") == before

    assert run(tmp_path, *make, "--seed", 1, "--overwrite").returncode == 0
    assert names(tmp_path / "set") == FILES
    assert contents(tmp_path / "set")["train.npz"] != before["train.npz"]

    (tmp_path / "set" / "thesis.tex").write_text("years of work")
    refused = run(tmp_path, *make, "--overwrite")
    assert refused.returncode == 2
    assert "thesis.tex" in refused.stderr
    assert (tmp_path / "set" / "thesis.tex").read_text() == "years of work"
    assert names(tmp_path) == {"set"}


def test_only_folders_are_overwritten(tmp_path, digits_file):
    (tmp_path / "file").write_text("text")
    with pytest.raises(UsageError, match="file is not a folder"):
        multi_mnist.make_dataset(tmp_path / "file", GeneratorConfig(), digits_file, overwrite=True)
    assert (tmp_path / "file").read_text() == "text"


def test_an_interrupted_run_leaves_nothing(tmp_path, digits_file):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        multi_mnist.make_dataset(tmp_path / "set", GeneratorConfig(images_per_count=300), digits_file, progress=interrupt)
    assert names(tmp_path) == set()


def test_too_few_digits(tmp_path):
    images, labels = np.ones((4, 28, 28), np.uint8), np.zeros(4, np.uint8)
    np.savez(tmp_path / "few.npz", x_train=images, y_train=labels, x_test=images[:1], y_test=labels[:1])
    with pytest.raises(DataError, match=r"few\.npz: there are no digits"):
        multi_mnist.make_dataset(tmp_path / "set", GeneratorConfig(), tmp_path / "few.npz")
    assert names(tmp_path) == {"few.npz"}


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--max-digits", "many"], 2, ["--max-digits", "many"]),
        (["--max-digits", "0"], 2, ["max_digits", "0"]),
        (["--canvas-size", "50"], 2, ["--canvas-size"]),
        (["--width-scale", "2", "1"], 2, ["width_scale", "(2.0, 1.0)"]),
        (["--frobnicate"], 2, ["--frobnicate"]),
        (["--canvas-size", "28", "28", "--max-digits", "6"], 2, ["canvas_size", "(28, 28)", "6 digits"]),
        (["--mnist", "none.npz"], 1, ["none.npz", "no such file"]),
        (["--mnist", "text.txt"], 1, ["text.txt", "neither"]),
        (["--mnist", "."], 1, ["train-images-idx3-ubyte"]),
        (["--background", "text.txt"], 1, ["background", "text.txt"]),
        (["--background", "none.png"], 1, ["background", "none.png"]),
        (["--output", "text.txt"], 2, ["output", "text.txt"]),
        (["--output", "text.txt/set"], 1, ["output", "text.txt/set", "is not a folder"]),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, digits_file, flags, status, words):
    (tmp_path / "text.txt").write_text("just text")
    done = run(tmp_path, "--mnist", digits_file, *SMALL, *flags)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("multi_mnist.py: error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert names(tmp_path) == {"text.txt"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path, digits_file):
    (tmp_path / "locked").mkdir(mode=0o500)
    done = run(tmp_path, "--mnist", digits_file, "--output", "locked/set")
    assert done.returncode == 1
    assert done.stderr == "multi_mnist.py: error: output: locked/set can't be written (Permission denied)\n"


def test_help_answers_before_anything_slow_is_imported(tmp_path):
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "--per-count-max-digits" in done.stdout
    assert "Counter-clockwise".lower() in done.stdout
    code = "import sys, multi_mnist; print({'tensorflow', 'keras', 'scipy', 'PIL', 'matplotlib'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "set()\n"
