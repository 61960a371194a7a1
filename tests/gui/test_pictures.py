"""Pictures for the canvas: files of any kind, and test scenes."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from air.data import mnist
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError
from air.gui import pictures
from air.gui.pictures import TestScenes, held_out_scenes, open_picture

CANVAS = (20, 24)


def saved(path, array, mode=None):
    Image.fromarray(array, mode).save(path) if mode else Image.fromarray(array).save(path)
    return path


def ink(shape=CANVAS, dtype=np.uint8, light=255):
    """Light ink on dark paper, brightest at the middle."""
    picture = np.zeros(shape, dtype)
    picture[shape[0] // 3 : -shape[0] // 3, shape[1] // 3 : -shape[1] // 3] = light
    return picture


def test_a_picture_of_the_canvas_size_is_taken_as_it_is(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, CANVAS, np.uint8)
    assert (open_picture(saved(tmp_path / "a.png", picture), CANVAS) == picture).all()


@pytest.mark.parametrize("shape", [(200, 240), (77, 31), (1, 300), (300, 1), (1, 1), (7, 9), (2000, 3000)])
@pytest.mark.parametrize("dark_on_light", [False, True])
def test_other_sizes_are_fitted_light_on_dark(tmp_path, shape, dark_on_light):
    picture = ink(shape)
    canvas = open_picture(saved(tmp_path / "a.png", 255 - picture if dark_on_light else picture), CANVAS)
    assert canvas.shape == CANVAS
    assert canvas.dtype == np.uint8
    assert canvas[0, 0] == 0
    if min(shape) > 20:
        assert canvas[10, 12] == 255


@pytest.mark.parametrize("kind", ["RGB", "RGBA on white", "RGBA", "I;16", "F", "1", "P", "jpg", "gif"])
def test_kinds_of_pictures(tmp_path, kind):
    picture = Image.fromarray(ink((60, 72)))
    path = tmp_path / "picture.png"
    if kind.startswith("RGBA"):
        light = 0 if kind.endswith("white") else 255
        pixels = np.zeros((60, 72, 4), np.uint8)
        pixels[..., :3], pixels[..., 3] = light, ink((60, 72))
        picture = Image.fromarray(pixels)
    elif kind == "I;16":
        picture = Image.fromarray(ink((60, 72), np.uint16, 65535))
    elif kind == "F":
        path, picture = path.with_suffix(".tiff"), Image.fromarray(ink((60, 72), np.float32, 1.0))
    elif kind in ("jpg", "gif"):
        path = path.with_suffix("." + kind)
    else:
        picture = picture.convert(kind)
    picture.save(path)
    canvas = open_picture(path, CANVAS)
    assert canvas[10, 12] > 245
    assert canvas[0].max() < 10


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(50), b"GIF89a", b"BM" + bytes(100)])
def test_what_is_no_picture_is_said(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png"):
        open_picture(path, CANVAS)


def test_truncated_missing_and_folders(tmp_path):
    path = saved(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8))
    path.write_bytes(path.read_bytes()[:20000])
    for bad in (path, tmp_path / "missing.png", tmp_path):
        with pytest.raises(DataError):
            open_picture(bad, CANVAS)


def test_huge_pictures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match="20x20 pixels are too many"):
        open_picture(saved(tmp_path / "a.png", ink((20, 20))), CANVAS)


@pytest.fixture
def few_digits(monkeypatch):
    digits = mnist.MNIST(*(np.load(mnist.BUNDLED)[f"{kind}_{split}"][:60] for split in ("train", "test") for kind in "xy"))
    monkeypatch.setattr(mnist, "load", lambda path=None: digits)


def test_scenes_are_made_where_there_are_none(tmp_path, few_digits):
    scenes = held_out_scenes(tmp_path, (50, 60), 3, seed=0)
    assert scenes.shape[1:] == (50, 60)
    assert scenes.any(axis=(1, 2)).all()
    assert (held_out_scenes(tmp_path, (50, 60), 3, seed=1) != scenes).any()


def test_no_digit_fits(tmp_path, few_digits):
    with pytest.raises(DataError, match="no digit fits"):
        held_out_scenes(tmp_path, (4, 4), 3, seed=0)


def test_the_scenes_of_a_run_are_those_of_its_data(tmp_path):
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
    scenes = TestScenes(tmp_path, CANVAS, 3, lambda: None)
    assert scenes.take() is None
    got = []
    while len(got) < 4:
        scenes.want()
        scene = scenes.take()
        if scene is not None:
            got.append(int(scene[0, 0]))
            assert scenes.take() is None
    assert sorted(got[:3]) == [0, 1, 2]


def test_why_there_are_no_scenes_is_said(monkeypatch, tmp_path):
    def fail(*arguments):
        raise OSError("disk on fire")

    monkeypatch.setattr(pictures, "held_out_scenes", fail)
    scenes = TestScenes(tmp_path, CANVAS, 3, lambda: None)
    scenes.want()
    while scenes._arrived is None:
        time.sleep(0.001)
    with pytest.raises(AIRError, match="disk on fire"):
        scenes.take()
    assert not scenes.is_loading


def test_icons_are_refused(tmp_path):
    """They may hold a picture of another size than they claim."""
    Image.new("L", (64, 64), 200).save(tmp_path / "a.ico")
    with pytest.raises(DataError, match=r"a\.ico: not a picture that can be read"):
        pictures.open_picture(tmp_path / "a.ico", (50, 50))
