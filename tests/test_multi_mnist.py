"""The data set and the command line that makes it."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from air.data import command as script
from air.data import held_out, mnist, multi_mnist
from air.data.rules import SCENES, GeneratorConfig
from air.data.scenes import SceneSet
from air.errors import DataError
from air.support import cli
from air.support.files import read_json

SIZES = {"images_per_count": 20, "validation_size": 7, "test_size": 9}
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


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder: run(*flags) -> (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["multi_mnist.py", *map(str, flags)])
        monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
        with pytest.raises(SystemExit) as stop:
            cli.run(script.main)
        return (stop.value.code, *capsys.readouterr())

    return run


def names(folder):
    return {path.name for path in Path(folder).iterdir()}


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_data_set(run_script, tmp_path, digits_file):
    done = run_script("multi_mnist.py", *SMALL, "--mnist", digits_file, "--max-digits", 3, "--gap", 1, "--seed", 7)
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

    config = GeneratorConfig.from_dict(read_json(folder / "config.json"))
    assert config == GeneratorConfig(images_per_count=20, validation_size=7, test_size=9, max_digits=3, gap=1, seed=7)
    with Image.open(folder / "preview.png") as preview:
        assert preview.height > 4 * 50
        assert len(preview.getcolors(maxcolors=1 << 20)) > 20


def test_the_same_configuration_gives_the_same_bytes(tmp_path, digits_file):
    for output, seed in (("a", 0), ("b", 0), ("c", 1)):
        multi_mnist.make_dataset(tmp_path / output, GeneratorConfig(**SIZES, seed=seed), digits_file)
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


def test_named_kinds_of_scenes(run, tmp_path, digits_file):
    flags = ("--scenes", "broad", "--mnist", digits_file, "--validation-size", 5, "--test-size", 5)
    status, output, _ = run(*flags, "--images-per-count", 6, "--rotation", -5, 5)
    assert status == 0
    assert output.startswith("multi_mnist: 40 scenes of 0 to 4 digits in ")
    sizes = {"images_per_count": 6, "validation_size": 5, "test_size": 5}
    expected = SCENES["broad"].replace(**sizes, rotation=(-5, 5))
    assert GeneratorConfig.from_dict(read_json(tmp_path / "multi_mnist/config.json")) == expected
    multi_mnist.make_dataset(tmp_path / "again", expected, digits_file)
    assert contents(tmp_path / "again") == contents(tmp_path / "multi_mnist")


def test_overwriting(run, tmp_path, digits_file):
    make = (*SMALL, "--mnist", digits_file, "--output", "set")
    assert run(*make)[0] == 0
    before = contents(tmp_path / "set")

    message = "output: set exists already; choose another --output, or add --overwrite to replace it"
    assert run(*make, "--seed", 1) == (2, "", f"multi_mnist.py: error: {message}\n")
    assert run(*make, "--overwrite", "--max-digits", 9, "--canvas-size", 28, 28)[0] == 2
    assert contents(tmp_path / "set") == before

    assert run(*make, "--seed", 1, "--overwrite")[0] == 0
    assert names(tmp_path / "set") == FILES
    assert contents(tmp_path / "set")["train.npz"] != before["train.npz"]

    (tmp_path / "set" / "thesis.tex").write_text("years of work")
    status, _, error = run(*make, "--overwrite")
    assert status == 2
    assert "thesis.tex" in error
    assert (tmp_path / "set" / "thesis.tex").read_text() == "years of work"
    assert names(tmp_path) == {"set"}


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
        (["--scenes", "narrow"], 2, ["--scenes", "narrow", "broad"]),
        (["--max-digits", "many"], 2, ["--max-digits", "many"]),
        (["--canvas-size", "28", "28", "--max-digits", "6"], 2, ["canvas_size", "(28, 28)", "6 digits"]),
        (["--mnist", "none.npz"], 1, ["none.npz", "no such file"]),
        (["--mnist", "text.txt"], 1, ["text.txt", "neither"]),
        (["--mnist", "."], 1, ["train-images-idx3-ubyte"]),
        (["--background", "text.txt"], 1, ["background", "text.txt"]),
        (["--output", "text.txt"], 2, ["output", "text.txt"]),
        (["--output", "text.txt/set"], 1, ["output", "text.txt/set", "is not a folder"]),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, digits_file, flags, status, words):
    (tmp_path / "text.txt").write_text("just text")
    code, output, error = run("--mnist", digits_file, *SMALL, *flags)
    assert (code, output) == (status, "")
    assert error.startswith("multi_mnist.py: error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert names(tmp_path) == {"text.txt"}


def test_data_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["multi_mnist.py"])
    with pytest.raises(DataError, match=r"nothing\.npz: no such data; name an existing file or folder$"):
        multi_mnist.ensure(str(tmp_path / "nothing.npz"), (50, 50))
    with pytest.raises(DataError, match=r"or make it with: .*multi_mnist\.py --output .*nothing$"):
        multi_mnist.ensure(str(tmp_path / "nothing"), (50, 50))
    multi_mnist.ensure(str(tmp_path), (50, 50))


def test_paths_may_be_text(tmp_path, digits_file):
    multi_mnist.make_dataset(str(tmp_path / "set"), GeneratorConfig(**SIZES), str(digits_file))
    assert multi_mnist.find_scenes(str(tmp_path / "set"), "test") == tmp_path / "set/test.npz"
    assert len(multi_mnist.read(str(tmp_path / "set/test.npz"), (50, 50))) == SIZES["test_size"]
    with pytest.raises(DataError, match="train a model for them with --canvas-size 50 50"):
        multi_mnist.read(str(tmp_path / "set/test.npz"), (20, 20))
    with pytest.raises(DataError, match=r"test\.npz: scenes in grey do not fit the model's channels, 3"):
        multi_mnist.read(str(tmp_path / "set/test.npz"), (50, 50), channels=3)
    assert len(held_out.load(str(tmp_path / "set"), (50, 50), 5, 4, None).reference) == 4


def test_kinds_of_scenes_for_evaluation(digits_file):
    digits = mnist.load(digits_file)
    limited = held_out.generalisation(8, (50, 50), digits, max_steps=3)
    kinds = {kind.name: kind for kind in held_out.generalisation(8, (50, 50), digits, max_steps=3, any_canvas=True)}
    assert {kind.name for kind in limited} ^ set(kinds) == {"three_digits_same_steps", "canvas_28", "canvas_100", "canvas_200"}
    assert [kind.more_steps for kind in limited[:4]] == [1, 0, 2, 3]
    assert not any(kind.more_steps for kind in kinds.values())
    assert not any(name.startswith("drawn") for name in (k.name for k in held_out.generalisation(8, (60, 60), digits, 3)))

    made = {name: kind.make() for name, kind in kinds.items()}
    for name, number in {"three_digits": 3, "four_digits": 4, "five_digits": 5, "drawn_3_digits": 3}.items():
        assert made[name].count.tolist() == [number] * 8
    assert made["canvas_100"].canvas_size == (100, 100)
    assert (made["canvas_28"].count.max(), made["size_200"].count.max(), made["size_60"].count.max()) == (1, 1, 2)
    spread = held_out.generalisation(2000, (50, 50), digits, max_steps=3, any_canvas=True)
    assert np.bincount(next(kind for kind in spread if kind.name == "canvas_200").count).min() >= 4

    def height(name):
        return made[name].boxes[..., 3].max()

    assert height("size_60") < 15 < height("size_80") < 19 < height("size_125") < 30 < height("size_200")
    assert made["faint"].images.max() == 128
    assert made["thin"].images.mean() < made["turned"].images.mean() < made["thick"].images.mean()


def test_drawings_that_come_with_the_project():
    drawings = SceneSet.load(held_out.DRAWINGS)
    assert held_out.DRAWINGS.stat().st_size < 400_000
    assert drawings.canvas_size == held_out.DRAWN_CANVAS
    sets = [1] * len(held_out.DRAWN_HEIGHTS) + list(held_out.DRAWN_COUNTS)
    assert drawings.count.tolist() == np.repeat(sets, held_out.DRAWN_SCENES).tolist()
    kinds = [kind for kind in held_out.generalisation(1000, (50, 50), mnist.load(), 3) if kind.name.startswith("drawn")]
    assert sum(len(kind.make()) for kind in kinds) == len(drawings)
    for expected, kind in zip(held_out.DRAWN_HEIGHTS, kinds, strict=False):
        scenes = kind.make()
        assert kind.name == f"drawn_{expected}"
        assert scenes.boxes[:, 0, 3].mean() == pytest.approx(expected, abs=1.5)
        assert np.bincount(scenes.labels[:, 0]).tolist() == [6] * 10


def test_an_exit_status(run_script):
    done = run_script("multi_mnist.py", "--max-digits", "0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
