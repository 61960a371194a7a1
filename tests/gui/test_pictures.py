"""Pictures for the canvas: files of any kind, and held-out scenes."""

import json
import threading

import numpy as np
import pytest
from PIL import Image

from air.config import AIRConfig
from air.data import mnist
from air.data.scenes import SceneSet
from air.errors import DataError
from air.gui import pictures
from air.gui.pictures import RandomScenes, held_out_scenes, open_picture

CANVAS = (20, 24)


def ink(shape, dtype=np.uint8, light=255):
    """A light rectangle in the middle of dark paper."""
    pixels = np.zeros(shape, dtype)
    pixels[shape[0] // 3 : -shape[0] // 3, shape[1] // 3 : -shape[1] // 3] = light
    return pixels


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_of_the_canvas_size_is_not_changed(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, CANVAS, np.uint8)
    assert (open_picture(saved(tmp_path / "a.png", pixels), CANVAS) == pixels).all()


@pytest.mark.parametrize("shape", [(200, 240), (77, 31), (1, 300), (300, 1), (1, 1), (7, 9), (2000, 3000)])
@pytest.mark.parametrize("dark_on_light", [False, True])
def test_other_sizes_are_fitted_light_on_dark(tmp_path, shape, dark_on_light):
    pixels = ink(shape)
    canvas = open_picture(saved(tmp_path / "a.png", 255 - pixels if dark_on_light else pixels), CANVAS)
    assert (canvas.shape, canvas.dtype) == (CANVAS, np.uint8)
    assert canvas[0, 0] == 0
    if min(shape) > 20:
        assert canvas[10, 12] == 255


INK = ink((60, 72))
PICTURES = [
    *(("a.png", Image.fromarray(INK).convert(mode)) for mode in ("RGB", "1", "P")),
    *((name, Image.fromarray(INK)) for name in ("a.jpg", "a.gif")),
    *(("a.png", Image.fromarray(np.dstack([*[np.full_like(INK, grey)] * 3, INK]))) for grey in (0, 255)),  # transparent paper
    ("a.png", Image.fromarray(ink((60, 72), np.uint16, 65535))),
    *(("a.tiff", Image.fromarray(ink((60, 72), np.float32, light))) for light in (1.0, 255.0, 1e6)),
]


@pytest.mark.parametrize(("name", "picture"), PICTURES)
def test_kinds_of_pictures(tmp_path, name, picture):
    picture.save(tmp_path / name)
    canvas = open_picture(tmp_path / name, CANVAS)
    assert canvas[10, 12] > 245
    assert canvas[0].max() < 10


def test_a_file_that_is_not_a_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello")
    for name in ("a.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            open_picture(tmp_path / name, CANVAS)


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
