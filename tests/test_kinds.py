"""Scenes over backgrounds, in colour, and of other objects than digits."""

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from air.data import objects
from air.data.backgrounds import Backgrounds
from air.data.generator import generate
from air.data.rules import SCENES, GeneratorConfig
from air.errors import DataError, UsageError


@functools.cache
def digits_of(kind):
    return objects.load(GeneratorConfig(objects=kind))


def scenes_of(config, count, seed=0, name="train"):
    return generate(
        config,
        digits_of(config.objects)[name],
        count,
        np.random.default_rng(seed),
        segments=True,
        backgrounds=Backgrounds(config, name),
    )


@pytest.mark.parametrize("kind", [kind for kind in SCENES if SCENES[kind].rules == "own"])
def test_named_kinds(kind):
    config = SCENES[kind]
    count = np.tile(config.counts, 10)
    scenes, again = scenes_of(config, count), scenes_of(config, count)
    assert scenes.checksum() == again.checksum() != scenes_of(config, count, seed=1).checksum()
    assert (scenes.canvas_size, scenes.channels) == (config.canvas_size, config.channels)
    np.testing.assert_array_equal(scenes.segments, again.segments)
    for scene, number in enumerate(count):
        assert (np.unique(scenes.segments[scene]) == np.arange(number + 1)).all()  # every object is seen
        for slot in range(number):
            y, x = (scenes.segments[scene] == slot + 1).nonzero()
            left, top, width, height = scenes.boxes[scene, slot]
            assert left <= x.min() <= x.max() < left + width
            assert top <= y.min() <= y.max() < top + height
            assert scenes.labels[scene, slot] >= 0


@pytest.mark.parametrize("channels", [1, 3])
def test_backgrounds(channels):
    def draw(kind, seed=0, **fields):
        config = GeneratorConfig(channels=channels, background=(kind,), background_intensity=(0.4, 0.4), **fields)
        return Backgrounds(config).draw(np.random.default_rng(seed))

    for kind in ("plain", "noise", "grid", "gradient", "photos"):
        canvas = draw(kind)
        assert canvas.shape == (50, 50, channels)
        assert 0 <= canvas.min() < canvas.max() + (kind == "plain") <= 0.4 + 1e-6 + (kind == "plain")
        assert (canvas != draw(kind, seed=1)).any() or (kind, channels) == ("plain", 1)
    assert (draw("plain") == draw("plain")[0, 0]).all()
    noise = draw("noise")
    assert noise.mean(axis=(0, 1)) == pytest.approx(noise.max(axis=(0, 1)) / 2, rel=0.05)
    lines = draw("grid").any(axis=2)
    rows, columns = (np.diff(np.flatnonzero(lines.all(axis=axis))) for axis in (1, 0))
    assert set(rows) == set(columns)
    assert 5 <= rows[0] <= 10
    second = np.diff(draw("gradient").astype(float), 2, axis=0)
    assert np.abs(second).max() < 1e-6
    assert draw("paper").std(axis=(0, 1)).max() < 0.05
    sharp, blurred = (np.abs(np.diff(draw("photos", background_blur=(blur, blur)), axis=0)).max() for blur in (0, 3))
    assert blurred < sharp / 2


def test_dark_scenes_are_the_inverse():
    config = SCENES["paper"].replace(dark_fraction=0)
    light, dark = (scenes_of(config.replace(dark_fraction=fraction), [1, 2]) for fraction in (0, 1))
    for scene in range(2):
        ink = light.segments[scene] > 0
        assert light.images[scene][ink].mean() > light.images[scene][~ink].max()
        assert dark.images[scene][dark.segments[scene] > 0].mean() < dark.images[scene][dark.segments[scene] == 0].min()


def test_later_objects_cover_earlier_ones():
    """Each keeps the fraction of its pixels that is asked for, and a colour of its own."""
    config = SCENES["shapes"].replace(canvas_size=(40, 40), min_visible=0.6, contrast=0.3)
    scenes = scenes_of(config, [4] * 30)
    hidden = []
    for image, segments, boxes in zip(scenes.images, scenes.segments, scenes.boxes, strict=True):
        colours = [np.median(image[segments == slot], axis=0) / 255 for slot in range(5)]
        for first in range(5):
            for second in range(first):
                assert np.abs(colours[first] - colours[second]).max() > 0.3 - 0.01
        for slot in range(1, 4):
            x, y, width, height = boxes[slot].astype(int)
            front = segments[y : y + height, x : x + width] > slot + 1
            hidden.append(front.mean())
    assert max(hidden) > 0.1
    assert scenes_of(config.replace(min_visible=1), [2] * 20).count.tolist() == [2] * 20
    with pytest.raises(UsageError, match="overlap any"):
        scenes_of(config.replace(canvas_size=(20, 20), min_visible=1, scale=(0.6, 0.6)), [4])


def test_shapes():
    crops = objects.shapes().crops[:3]
    square, ellipse, heart = ((crop > 127).sum() / crop.size for crop in crops)
    assert (square, ellipse) == (1, pytest.approx(np.pi / 4, abs=0.05))
    assert ellipse > heart > 0.6
    assert [max(crop.shape) for crop in crops] == pytest.approx([21, 28, 27], abs=1)
    whole = crops[2][:, : crops[2].shape[1] // 2 * 2].astype(int)
    assert np.abs(whole - whole[:, ::-1]).mean() < 20  # symmetrical, up to a part of a pixel
    assert (crops[2][0] > 0).sum() > (crops[2][-1] > 0).sum()  # the tip is below


def test_fonts_are_held_out(tmp_path):
    fonts = objects.split(objects.find_fonts())
    assert len(fonts["train"]) == 20
    names = [{path.name for path in paths} for paths in fonts.values()]
    assert all(names)
    assert len(set.union(*names)) == sum(map(len, names))
    letters = objects.letters(fonts["validation"])
    assert letters.labels[:26].tolist() == list(range(26))
    assert abs(letters.crops[7].shape[0] - objects.LETTER_HEIGHT) <= 1  # H
    for path in (*fonts["train"][:3], fonts["train"][0].with_name("STIXSizOneSymReg.ttf")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.ttf").write_text("text")
    assert [path.name for path in objects.find_fonts(tmp_path)] == [path.name for path in fonts["train"][:3]]
    with pytest.raises(DataError, match=r"fonts: .*none has no"):
        objects.find_fonts(tmp_path / "none")


def test_pictures_of_a_folder_as_objects(tmp_path):
    pixels = np.zeros((9, 12, 4), np.uint8)
    pixels[2:5, 1:9] = (200, 100, 0, 255)
    pixels[4, 8, 3] = 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.new("RGB", (5, 4), (0, 0, 250)).save(tmp_path / "b.webp", lossless=True)
    config = GeneratorConfig(
        objects=tmp_path, channels=3, background=("plain",), background_intensity=(0.4, 0.4), overlap="any"
    )
    scenes = scenes_of(config, [1] * 8 + [3] * 4)
    assert set(scenes.labels.ravel()) == {-1, 0, 1}
    for image, segments, label, (x, y, width, height) in zip(
        scenes.images[:8], scenes.segments[:8], scenes.labels[:8, 0], scenes.boxes[:8, 0].astype(int), strict=True
    ):
        assert (width, height) == [(8, 3), (5, 4)][label]
        assert (image[segments == 1] == [(200, 100, 0), (0, 0, 250)][label]).all()
        if label == 0:
            behind = image[segments == 0][0]
            mixed = 0.2 * np.array([200, 100, 0]) + 0.8 * behind
            np.testing.assert_allclose(image[y + 2, x + 7], mixed, atol=1.5)
    grey = scenes_of(config.replace(channels=1), [1] * 4)
    assert set(grey.images[grey.segments == 1]) == {round(0.299 * 200 + 0.587 * 100), round(0.114 * 250)}
    turned = scenes_of(config.replace(rotation=(90, 90)), [1] * 4)
    assert {tuple(box[2:]) for box in turned.boxes[:, 0]} <= {(3 + i, 8 + j) for i in range(3) for j in range(3)} | {
        (4 + i, 5 + j) for i in range(3) for j in range(3)
    }
    for folder, words in ((tmp_path / "a.png", "must be digits, shapes, letters or a folder"), (tmp_path / "no", "no is not")):
        with pytest.raises(DataError, match=words):
            objects.load(config.replace(objects=folder))
    Image.new("RGBA", (3, 3)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png is transparent everywhere"):
        objects.load(config)


def test_turned_pictures_stay_within_the_range_of_bytes(tmp_path):
    y, x = np.mgrid[:24, :24] - 11.5
    coin = np.full((24, 24, 4), 255, np.uint8)
    coin[..., 3] = np.rint(255 * np.clip(10 - np.hypot(x, y), 0, 1))
    coin[np.hypot(x, y) > 7, :3] = 128
    Image.fromarray(coin).save(tmp_path / "coin.png")
    config = GeneratorConfig(
        objects=tmp_path, background=("plain",), background_intensity=(1, 1), contrast=0, rotation=(0, 360)
    )
    painted = scenes_of(config, [1] * 20).images
    assert painted.min() > 60
    assert painted.max() == 255
    np.testing.assert_array_equal(scenes_of(config.replace(dark_fraction=1), [1] * 20).images.max(), 255 - painted.min())


def test_photos_are_held_out(tmp_path):
    for number in range(11):
        Image.new("L", (8, 8), 20 * number + 20).save(tmp_path / f"{number:02}.png")
    shown = {}
    for name in objects.SPLITS:
        backgrounds = Backgrounds(GeneratorConfig(background=(tmp_path,), background_intensity=(1, 1)), name)
        shown[name] = {picture.getpixel((0, 0)) for picture in backgrounds._pictures[str(tmp_path)]}
    assert {name: len(values) for name, values in shown.items()} == {"train": 9, "validation": 1, "test": 1}
    assert len(set.union(*shown.values())) == 11
    with pytest.raises(DataError, match="gird is not allowed; it must be plain, noise"):
        Backgrounds(GeneratorConfig(background=(Path("gird"),)))
