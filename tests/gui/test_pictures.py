"""Pictures for the canvas: files of any kind, and held-out scenes."""

import json
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from air.config import AIRConfig
from air.data import mnist
from air.data.rules import SCENES, PictureConfig
from air.data.scenes import SceneSet
from air.errors import DataError
from air.gui import command, pictures
from air.gui.pictures import RandomScenes, held_out_scenes, open_picture

CANVAS = (20, 24)


def test_a_picture_file_becomes_a_scene(tmp_path):
    pixels = np.zeros(CANVAS, np.uint8)
    pixels[5:15, 8:10] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png", tmp_path, AIRConfig(), CANVAS), pixels)


def test_a_file_that_is_not_a_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello")
    for name in ("a.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            open_picture(tmp_path / name, tmp_path, AIRConfig(), CANVAS)


@pytest.fixture(params=["present", "former"])
def run_on_patches(tmp_path, request):
    """A run on patches of pictures of half their size; those of former versions only say where their data are."""
    rules = PictureConfig(crop=True, resize=0.5).to_dict()
    run = {"command": "training.py", "data": str(tmp_path / "data")}
    contents = (
        {"run": run | {"fitting": rules}} if request.param == "present" else {"run": run, "data": rules | {"channels": 3}}
    )
    for folder, content in contents.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(content))
    return tmp_path / "run"


def test_a_picture_is_as_large_as_those_that_patches_were_cut_from(run_on_patches, tmp_path):
    config = AIRConfig(channels=3, canvas_size=CANVAS, window_size=(8, 6), controller="convolutional", background="learned")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 35, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = open_picture(tmp_path / "a.png", run_on_patches, config, CANVAS)
    assert found.shape == (30, 35, 3)
    np.testing.assert_allclose(found[5:-5, 5:-5].mean((0, 1)), pixels[10:-10, 10:-10].mean((0, 1)), atol=2)
    assert open_picture(tmp_path / "a.png", tmp_path, config, CANVAS).shape == (*CANVAS, 3)  # of no run
    plain = config.replace(channels=1, background="none")
    assert open_picture(tmp_path / "a.png", run_on_patches, plain, CANVAS).shape == (30, 35)
    for name, size, least in (("narrow", (10, 60), 6), ("low", (60, 14), 8), ("wide", (1030, 60), 6)):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        found = f"{size[1] // 2}x{size[0] // 2} pixels after --resize 0.5"
        message = rf"{name}\.png: {found} are not allowed; a side must have {least} to 256"
        with pytest.raises(DataError, match=message):
            open_picture(tmp_path / f"{name}.png", run_on_patches, config, CANVAS)


@pytest.mark.parametrize("flags", [[], ["--headless"]])
def test_an_unreadable_picture_is_an_error_of_the_command(folder, tmp_path, monkeypatch, flags):
    (tmp_path / "a.png").write_bytes(b"hello")
    monkeypatch.setattr(sys, "argv", ["demo.py", str(tmp_path / "a.png"), "--model", str(folder), *flags])
    with pytest.raises(DataError, match=r"a\.png: not a picture that can be read"):
        command.main()


@pytest.fixture
def few_digits(monkeypatch):
    digits = mnist.MNIST(*(np.load(mnist.BUNDLED)[f"{kind}_{split}"][:60] for split in ("train", "test") for kind in "xy"))
    monkeypatch.setattr(mnist, "load", lambda path=None: digits)


@pytest.mark.parametrize("canvas_size", [(50, 60), (30, 30)])
def test_scenes_are_made_for_a_model_without_data(tmp_path, few_digits, canvas_size):
    scenes = held_out_scenes(tmp_path, canvas_size, 3, seed=0)
    assert scenes.shape[1:] == canvas_size
    assert scenes.any(axis=(1, 2)).all()
    assert (held_out_scenes(tmp_path, canvas_size, 3, seed=1) != scenes).any()


def test_no_digit_fits(tmp_path, few_digits):
    with pytest.raises(DataError, match="no digit fits"):
        held_out_scenes(tmp_path, (4, 4), 3, seed=0)


def test_the_scenes_of_a_run_come_from_its_data(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    images = np.arange(5, dtype=np.uint8)[:, None, None] + np.zeros((5, *CANVAS), np.uint8)
    SceneSet(images, count=np.array([0, 1, 2, 1, 0], np.uint8)).save(data / "test.npz")
    (tmp_path / "config.json").write_text(json.dumps({"data": str(data)}))
    scenes = held_out_scenes(tmp_path, CANVAS, 3, seed=0)
    assert sorted(scenes[:, 0, 0].tolist()) == [1, 2, 3]


@pytest.mark.parametrize(("canvas_size", "max_digits"), [((64, 64), 2), ((96, 96), 4)])
def test_a_run_that_draws_its_scenes_draws_others(tmp_path, canvas_size, max_digits):
    (tmp_path / "config.json").write_text(json.dumps({"data": "stream", "rules": SCENES["shapes"].to_dict()}))
    scenes = held_out_scenes(tmp_path, canvas_size, max_digits, seed=0)
    assert scenes.shape[1:] == (*canvas_size, 3)
    assert scenes.std(axis=(1, 2)).max(axis=1).min() > 1  # no scene is empty


def test_scenes_come_one_by_one(monkeypatch, tmp_path):
    images = np.arange(3, dtype=np.uint8)[:, None, None] + np.zeros((3, *CANVAS), np.uint8)
    monkeypatch.setattr(pictures, "held_out_scenes", lambda *arguments: images)
    news = threading.Event()
    scenes = RandomScenes(tmp_path, AIRConfig(canvas_size=CANVAS, max_steps=3), CANVAS, news.set)
    assert scenes.take() is None
    seen = []
    for _ in range(3):
        scenes.request()
        assert news.wait(60)
        seen.append(int(scenes.take()[0, 0]))
        assert scenes.take() is None
    assert sorted(seen) == [0, 1, 2]
