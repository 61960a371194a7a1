"""Pictures of digits as scenes: what is left of the paper, of the lines and of the digits' size."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import air
from air.data import photos
from air.errors import DataError
from tests.photographs import PAPERS, photograph, photographs
from tests.strokes import make

ROOT = Path(__file__).resolve().parent.parent
CANVAS = (50, 50)


def drawing(digits=(2, 8), seed=0):
    """A scene [50, 50] uint8 as the window's pen draws it."""
    strokes = make.place(digits, np.random.default_rng(seed))
    return make.draw([stroke for digit in strokes for stroke in digit], 2.4)


def large(scene, side=400):
    return np.asarray(Image.fromarray(scene).resize((side, side), Image.Resampling.BICUBIC))


def opened(path, pixels, canvas_size=CANVAS, **options):
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return air.open_picture(path, canvas_size)


def similarity(a, b):
    """The correlation of two scenes, the ink of each moved to the top left corner."""
    ink = [scene[np.ix_(scene.max(axis=1) > 0.3, scene.max(axis=0) > 0.3)] for scene in (a, b)]
    shape = np.min([scene.shape for scene in ink], axis=0)
    return np.corrcoef(*(scene[: shape[0], : shape[1]].ravel() for scene in ink))[0, 1]


def test_a_scene_is_not_changed_and_its_negative_is_inverted(tmp_path):
    scene = drawing()
    for pixels in (scene, np.zeros_like(scene)):
        np.testing.assert_array_equal(opened(tmp_path / "a.png", pixels), pixels / np.float32(255))
    np.testing.assert_allclose(opened(tmp_path / "a.png", 255 - scene), scene / 255, atol=1e-6)


@pytest.mark.parametrize("paper", [200, 120])
def test_a_picture_of_the_canvas_size_stays_in_place(tmp_path, paper):
    scene = drawing()
    result = opened(tmp_path / "a.png", np.uint8(paper - 0.7 * paper * (scene / 255)))
    assert np.corrcoef(result.ravel(), scene.ravel())[0, 1] > 0.97
    assert result[scene == 0].mean() < 0.03


GREY = large(drawing((3,)))
PICTURES = {
    "grey": Image.fromarray(255 - GREY),
    "light on dark": Image.fromarray(GREY),
    "RGB": Image.fromarray(255 - GREY).convert("RGB"),
    "palette": Image.fromarray(255 - GREY).convert("P"),
    "black and white": Image.fromarray(255 - GREY).convert("1"),
    "dark ink, transparent paper": Image.fromarray(np.dstack([*[np.zeros_like(GREY)] * 3, GREY])),
    "light ink, transparent paper": Image.fromarray(np.dstack([*[np.full_like(GREY, 255)] * 3, GREY])),
    "16 bits": Image.fromarray(np.uint16(257) * (255 - GREY)),
    "unknown units": Image.fromarray(np.float32(1e6) - 3000 * GREY.astype(np.float32)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_kinds_of_pictures(tmp_path, kind):
    result = opened(tmp_path / "a.tiff", PICTURES[kind])
    assert (result.shape, result.dtype) == (CANVAS, np.float32)
    assert (result.min(), result.max()) == (0, 1)
    assert similarity(result, opened(tmp_path / "b.png", PICTURES["grey"])) > 0.9
    rows = np.flatnonzero(result.max(axis=1) > 0.5)
    assert 20 <= np.ptp(rows) + 1 <= 24


def test_a_photo_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    upright = opened(tmp_path / "a.png", 255 - GREY)
    turned = opened(tmp_path / "b.jpg", Image.fromarray(np.rot90(255 - GREY)), exif=exif, quality=95)
    assert similarity(upright, turned) > 0.95


def test_size_and_paper_of_a_photo_do_not_matter(tmp_path):
    expected = opened(tmp_path / "a.png", 255 - GREY)
    for side in (200, 1000, 3000):
        y, x = np.mgrid[:side, :side] / side
        light = (0.4 + 0.5 * x) * np.where(y > 0.5 + 0.3 * x, 0.6, 1)  # shaded, and a shadow across
        paper = np.where((np.arange(side) % (side // 15) < side / 300)[:, None], 0.75, 1)  # ruled
        pixels = np.uint8(255 * light * paper * (1 - 0.8 * large(drawing((3,)), side) / 255))
        assert similarity(opened(tmp_path / "b.png", pixels), expected) > 0.9


def test_a_canvas_that_fits(tmp_path):
    page = np.full((400, 1600), 230, np.uint8)
    for left, seed in ((0, 0), (1200, 1)):
        page[:, left : left + 400] -= large(drawing((3,), seed)) // 2
    scene = opened(tmp_path / "a.png", page, None)
    assert scene.shape[0] == 50
    assert scene.shape[1] > 120
    assert opened(tmp_path / "a.png", page).shape == CANVAS  # without the empty columns between them


def refused():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    lines = np.where((y % 20 < 2) | (x % 20 < 2), 170, 240)
    face = 120 + 60 * np.sin(x / 40) * np.cos(y / 31) + 40 * np.sin((x + y) / 9) * (x > 150) + rng.normal(0, 4, x.shape)
    return {
        "white": np.full((300, 400), 255),
        "grey, with noise": 170 + rng.normal(0, 5, x.shape),
        "shaded": 100 + x / 4 + y / 6,
        "squared": lines,
        "a shadow": np.where(x > 200, 120, 240) + rng.normal(0, 4, x.shape),
        "noise": rng.uniform(0, 255, x.shape),
        "noise of the canvas' size": rng.uniform(0, 255, CANVAS),
        "texture": face,
        "squares": 255 * np.kron(rng.integers(0, 2, (15, 20)), np.ones((20, 20))),
        "a pixel": np.full((1, 1), 255),
        "a line": np.full((1, 300), 255),
    }


@pytest.mark.parametrize("kind", refused())
def test_where_no_ink_can_be_told_it_says_so(tmp_path, kind):
    with pytest.raises(DataError, match=r"a\.png: (no ink can be told|the ink can't be told|\d+ marks are too many)"):
        opened(tmp_path / "a.png", np.uint8(refused()[kind].clip(0, 255)))


def test_digits_that_would_be_too_small_are_refused(tmp_path):
    row = np.concatenate([large(drawing((digit,), digit), 300) for digit in (2, 3, 5, 6, 8, 9, 2, 3)], axis=1)
    with pytest.raises(DataError, match="pixels high on a canvas of 50x50"):
        opened(tmp_path / "a.png", 255 - row)
    assert opened(tmp_path / "a.png", 255 - row, (50, 200)).shape == (50, 200)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_photo_of_each_paper_has_as_many_marks_as_digits(tmp_path, paper):
    from scipy import ndimage

    digits = photograph(paper, np.random.default_rng(3), count=2)
    scene = air.open_picture(digits.save(tmp_path / "a.jpg"), CANVAS)
    assert 2 <= ndimage.label(scene > 0.3, np.ones((3, 3)))[1] <= 4  # some digits have two parts
    assert np.ptp(np.flatnonzero(scene.max(axis=1) > 0.5)) + 1 > photos.DIGIT / 2


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "model" / "air.keras").is_file(), reason="there are no weights in model/")
def test_digits_in_photos_are_counted(tmp_path):
    taken = photographs(8, seed=0)
    scenes, refused = [], Counter()
    for i, photo in enumerate(taken):
        try:
            scenes.append(air.open_picture(photo.save(tmp_path / f"{i}.jpg"), CANVAS))
        except DataError:
            refused[photo.paper] += 1
            scenes.append(np.zeros(CANVAS, np.float32))
    count = air.load(ROOT / "model").infer(np.stack(scenes), max_steps=12, any_size=True).count
    right = np.array([photo.count for photo in taken]) == count
    for paper in PAPERS:
        print(f"{paper:12} {right[[photo.paper == paper for photo in taken]].mean():.1%}, {refused[paper]} refused")
    assert right.mean() >= 0.95
