"""Pictures and scenes of one's own: what is seen of them, the options that follow, and the data sets made of pictures."""

import sys

import numpy as np
import pytest
from PIL import Image

from air import presets
from air.config import AIRConfig
from air.data.folders import Fitting
from air.data.look import Look
from air.data.rules import SCENES, PictureConfig
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.support.files import read_json
from air.training import command, own_data


def ramp(height, width, start=0):
    """A grey picture whose pixels are all different, so that the place of a patch shows."""
    return (start + np.arange(height * width).reshape(height, width) % 251).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def prepare(folder, output, canvas_size=(6, 8), channels=1, **fields):
    Fitting(PictureConfig(**fields), canvas_size, channels).prepare(Look.at(folder, channels), output)
    return {name: SceneSet.load(output / f"{name}.npz").images for name in ("train", "validation", "test")}


def lies_in(patch, picture):
    windows = np.lib.stride_tricks.sliding_window_view(picture, patch.shape)
    return bool((windows == patch).all(axis=(-1, -2)).any())


def test_patches_of_one_picture(tmp_path):
    """The last fifth of the longer side is held out, and no patch reaches across."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 60), np.uint8)
    save(tmp_path / "in/a.png", picture)
    sets = prepare(tmp_path / "in", tmp_path / "out", crop=True)
    assert sets["train"].shape == (15 * 41, 6, 8)  # every place once
    assert len(np.unique(sets["train"], axis=0)) == len(sets["train"])
    assert all(lies_in(patch, picture[:, :48]) for patch in sets["train"][:40])
    assert sets["test"].shape == (15 * 5, 6, 8)
    assert all(lies_in(patch, picture[:, 48:]) for patch in sets["test"])
    assert (tmp_path / "out/preview.png").exists()
    tall = prepare(tmp_path / "in", tmp_path / "tall", canvas_size=(6, 25), crop=True)  # a fifth is less than a patch
    assert all(lies_in(patch, picture[:, 35:]) for patch in tall["test"])


def test_pictures_are_held_out_whole(tmp_path):
    pictures = [ramp(10 + number, 12, start=20 * number) for number in range(5)]
    for number, pixels in enumerate(pictures):
        save(tmp_path / f"in/{number}.png", pixels)
    sets = prepare(tmp_path / "in", tmp_path / "out", crop=True)
    assert len(sets["train"]) == sum(5 * (5 + number) for number in range(4))
    assert all(lies_in(patch, pictures[4]) for patch in sets["test"])
    (tmp_path / "in/4.png").unlink()
    few = prepare(tmp_path / "in", tmp_path / "few", crop=True)
    assert all(lies_in(patch, pictures[3]) for patch in few["test"])


def test_a_data_set_is_made_once(tmp_path):
    save(tmp_path / "in/a.png", ramp(30, 30))
    first = prepare(tmp_path / "in", tmp_path / "out", crop=True)
    time = (tmp_path / "out/train.npz").stat().st_mtime_ns
    again = prepare(tmp_path / "in", tmp_path / "out", crop=True)
    other = prepare(tmp_path / "in", tmp_path / "other", crop=True)
    assert (tmp_path / "out/train.npz").stat().st_mtime_ns == time
    for name, images in first.items():
        np.testing.assert_array_equal(images, again[name])
        np.testing.assert_array_equal(images, other[name])
    save(tmp_path / "in/a.png", ramp(30, 31))
    with pytest.raises(UsageError, match="exists already, but not with these scenes"):
        prepare(tmp_path / "in", tmp_path / "out", crop=True)
    with pytest.raises(UsageError, match="exists already"):
        prepare(tmp_path / "in", tmp_path / "in", crop=True)


def test_resized_pictures(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = (200, 100, 50)
    save(tmp_path / "in/a.png", pixels)
    sets = prepare(tmp_path / "in", tmp_path / "out", canvas_size=(10, 20), channels=3, resize=0.5)
    assert sets["train"].shape == (1, 10, 20, 3)
    assert sets["train"][0, 5, [2, -3]].tolist() == [[0, 0, 0], [200, 100, 50]]
    bordered = prepare(tmp_path / "in", tmp_path / "bordered", canvas_size=(20, 20))["train"][0]
    assert bordered[10, [2, -3]].tolist() == [0, round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]
    assert (bordered[:5] == bordered[0, 0]).all()  # the border


@pytest.mark.parametrize(
    ("canvas_size", "fields", "words"),
    [
        ((31, 10), {}, ["a.png: 30x40 pixels are less than the canvas of 31x10", "--canvas-size", "--resize"]),
        ((16, 16), {"resize": 0.5}, ["15x20 pixels after --resize 0.5", "16x16"]),
        ((10, 21), {}, ["30x40 pixels are too few for a second patch of 10x21"]),
    ],
)
def test_pictures_that_are_too_small(tmp_path, canvas_size, fields, words):
    save(tmp_path / "in/a.png", ramp(30, 40))
    with pytest.raises(UsageError) as caught:
        prepare(tmp_path / "in", tmp_path / "out", canvas_size, crop=True, **fields)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_is_seen(tmp_path):
    digits = np.zeros((30, 20, 24), np.uint8)
    digits[:, 5:12, 5:12] = 220
    seen = {}
    for name, images in {"black": digits, "dark": 255 - digits, "noisy": digits // 2 + ramp(20, 24) // 4}.items():
        np.save(tmp_path / f"{name}.npy", images)
        seen[name] = Look.at(tmp_path / f"{name}.npy")
        assert (seen[name].sizes, seen[name].channels, seen[name].files) == ([(20, 24)], 1, [])
    assert [look.has_background for look in seen.values()] == [False, True, True]
    words = [look.describe().split("probably ")[1] for look in seen.values()]
    assert words == ["black", "plain (1.00 ± 0.00)", words[2]]
    assert words[2].startswith("textured (0.1")
    coloured = np.asfortranarray(np.stack([digits, 0 * digits, digits], axis=-1) / 255)
    np.save(tmp_path / "coloured.npy", coloured)
    look = Look.at(tmp_path / "coloured.npy")
    assert (look.channels, look.has_background, look.sizes) == (3, False, [(20, 24)])
    SceneSet(digits).save(tmp_path / "train.npz")
    save(tmp_path / "preview.png", ramp(100, 100))  # as a data set has
    assert Look.at(tmp_path).sizes == [(20, 24)]
    assert Look.at(tmp_path).path == tmp_path


def test_pictures_in_grey_and_in_colour(tmp_path):
    grey = np.repeat(ramp(9, 9)[..., None], 3, axis=2)
    save(tmp_path / "in/a.png", grey)
    assert Look.at(tmp_path / "in").channels == 1  # though the file has three
    save(tmp_path / "in/b.png", grey * np.uint8([1, 0, 0]))
    with pytest.raises(DataError, match=r"a\.png is grey, but b\.png is in colour; choose --channels 1 or 3"):
        Look.at(tmp_path / "in")
    assert [Look.at(tmp_path / "in", channels).channels for channels in (1, 3)] == [1, 3]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Let training.py choose its options and prepare its data; return its configuration, data and output."""
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["training.py", *flags])
        arguments = command.read_arguments()
        data = command._prepare_data(arguments)
        return arguments, data, capsys.readouterr().out

    return run


def test_options_follow_from_pictures(tmp_path, run):
    pixels = np.full((40, 50, 3), (250, 240, 180), np.uint8)
    for number in range(6):
        save(tmp_path / f"mine/{number}.jpg", pixels)
    arguments, data, out = run("--data", "mine")
    assert (arguments.model.canvas_size, arguments.model.channels) == ((40, 50), 3)
    assert str(data) == "mine_40x50"
    assert "mine: 6 pictures of 40x50 pixels (height x width), in colour" in out
    assert f"--preset {arguments.preset} --channels 3 --canvas-size 40 50" in out
    if own_data.FOR_BACKGROUNDS in presets.PRESETS:
        assert arguments.preset == own_data.FOR_BACKGROUNDS
        assert arguments.training == presets.recipe(own_data.FOR_BACKGROUNDS, channels=3).training
    assert SceneSet.load(data / "train.npz").images.shape == (5, 40, 50, 3)
    assert read_json(data / "config.json")["crop"] is False
    arguments, data, _ = run("--data", "mine", "--crop", "--resize", "2", "--channels", "1", "--preset", "default")
    assert (arguments.model.canvas_size, arguments.model.channels, arguments.preset) == (AIRConfig().canvas_size, 1, "default")


def test_one_line_for_pictures_without_a_rule(tmp_path, run):
    (tmp_path / "empty").mkdir()
    for name, size in (("a", (20, 30)), ("b", (20, 31)), ("c", (20, 30))):
        save(tmp_path / f"mixed/{name}.png", ramp(*size))
    save(tmp_path / "large/a.png", np.zeros((8, 1025), np.uint8))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_text("text")
    np.save(tmp_path / "colour.npy", np.zeros((4, 50, 50, 3), np.uint8))
    for flags, words in {
        "--data empty": ["empty: has no pictures (PNG, JPEG, WebP), and no train.npz"],
        "--data mixed": ["a.png has 20x30", "b.png 20x31", "--crop", "--canvas-size"],
        "--data large": ["8x1025", "4 to 1024"],
        "--data broken": ["a.png: not a picture"],
        "--data colour.npy --channels 1": ["colour.npy: its scenes are in colour", "channels: 1 is not allowed"],
        "--data colour.npy --crop": ["colour.npy: holds no pictures", "--crop"],
        "--data mixed --crop --canvas-size 28 28": ["a.png: 20x30 pixels are less than the canvas of 28x28"],
    }.items():
        with pytest.raises(AIRError) as caught:
            run(*flags.split())
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value), (flags, str(caught.value))
    assert run("--data", "mixed", "--canvas-size", "28", "28")[1].name == "mixed_28x28"
    assert run("--data", "missing")[1].name == "missing"


def test_plain_files_are_taken_as_they_are(tmp_path, run):
    np.save(tmp_path / "black.npy", np.zeros((4, 20, 24), np.uint8))
    arguments, data, out = run("--data", "black.npy")
    assert (arguments.model.canvas_size, arguments.preset, str(data), out) == ((20, 24), "default", "black.npy", "")
    np.save(tmp_path / "colour.npy", np.full((4, 20, 24, 3), 0.5))
    arguments, _, out = run("--data", "colour.npy")
    assert arguments.model.channels == 3
    assert "colour.npy: scenes of 20x24 pixels (height x width), in colour" in out
    assert out.count("\n") == 2


def test_options_follow_from_the_scenes_to_draw(run):
    arguments, rules, out = run("--scenes", "shapes")
    assert (arguments.preset, arguments.model.canvas_size, arguments.model.channels) == ("backgrounds", (64, 64), 3)
    assert rules == SCENES["shapes"]
    assert out == "Training with --preset backgrounds --channels 3 --canvas-size 64 64\n"
    model, training = presets.recipe("backgrounds", channels=3)
    assert (arguments.model, arguments.training) == (model.replace(canvas_size=(64, 64)), training)
    model, training = presets.recipe("backgrounds")
    assert run("--scenes", "noise")[0].training == training
    assert run("--scenes", "shapes", "--learning-rate", "2e-3")[0].training == training.replace(learning_rate=2e-3)
    arguments, rules, out = run("--canvas-size", "60", "70")
    assert (arguments.preset, rules, out) == ("default", SCENES["default"].replace(canvas_size=(60, 70)), "")
    assert run("--data", "stream")[1] == SCENES["default"]
    assert run("--preset", "pyro")[1] == SCENES["pyro"]
    assert run("--preset", "pyro", "--scenes", "noise")[1] == SCENES["noise"]
    with pytest.raises(UsageError, match=r"scenes: noise is not allowed with --data multi_mnist; scenes of a kind are drawn"):
        run("--data", "multi_mnist", "--scenes", "noise")
    with pytest.raises(UsageError, match="--crop and --resize are not allowed"):
        run("--crop")
