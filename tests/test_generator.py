"""Generated scenes follow their rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from air.data import mnist
from air.data.backgrounds import Backgrounds
from air.data.generator import generate
from air.data.objects import Digits
from air.data.placement import Footprint, place
from air.data.rules import SCENES, GeneratorConfig
from air.errors import ConfigError, DataError, UsageError
from air.support.pictures import read_picture

DEFAULT_CHECKSUM = 101089140  # of scenes by the default rules, whose data sets must keep their bytes


def blobs(count, size=9, seed=0):
    """Make digits of random pixels, each of up to `size` pixels a side."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    for image in images:
        height, width = rng.integers(1, size + 1, 2)
        patch = rng.integers(1, 256, (height, width)) * (rng.random((height, width)) < 0.5)
        patch[rng.integers(height), rng.integers(width)] = 255
        top, left = rng.integers(0, 28 - size, 2)
        image[top : top + height, left : left + width] = patch
    return Digits.from_images(images, rng.integers(0, 10, count))


def solid(height, width, value=200):
    return Digits.from_images(np.full((1, height, width), value, np.uint8), np.array([4]))


def backdrop(path, intensity=0.5, size=(50, 50)):
    """Draw the background of scenes over a picture, [H, W] in [0, 1]."""
    config = GeneratorConfig(canvas_size=size, background=(path,), background_intensity=(intensity, intensity))
    return Backgrounds(config).draw(np.random.default_rng(0))[..., 0]


def single(digits, **fields):
    """Return the image and the box of a scene of one digit."""
    scenes = generate(GeneratorConfig(**fields), digits, [1], np.random.default_rng(0))
    return scenes.images[0], scenes.boxes[0, 0].astype(int).tolist()


def masks_of(scenes, digits, scene):
    """Return where each digit of an untransformed scene must be, [count, H, W] uint8."""
    count = scenes.count[scene]
    masks = np.zeros((count, *scenes.canvas_size), np.uint8)
    for slot in range(count):
        x, y, width, height = scenes.boxes[scene, slot].astype(int)
        masks[slot, y : y + height, x : x + width] = digits.crops[scenes.indices[scene, slot]]
    return masks


def test_digits_are_cropped_to_their_pixels():
    image = np.zeros((28, 28), np.uint8)
    image[5, 7], image[11, 9] = 1, 255
    digits = Digits.from_images(image[None], np.array([3]), np.array([42]))
    assert digits.crops[0].shape == (7, 3)
    assert digits.crops[0][0, 0] == 1
    assert digits.crops[0][6, 2] == 255
    assert (len(digits), digits.labels[0], digits.indices[0]) == (1, 3, 42)


def test_empty_digits_are_refused():
    images = np.ones((3, 28, 28), np.uint8)
    images[1] = 0
    with pytest.raises(DataError, match="digit 8 has no pixel"):
        Digits.from_images(images, np.zeros(3), np.array([7, 8, 9]))
    with pytest.raises(DataError, match="no digits"):
        Digits.from_images(images[:0], np.zeros(0))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(28, 60), st.integers(28, 60), st.integers(0, 5), st.integers(0, 4), st.sampled_from(["pixel", "box"]),
    st.integers(0, 2**31 - 1),
)  # fmt: skip
def test_scenes_keep_the_rules(height, width, margin, gap, overlap, seed):
    digits = blobs(40, seed=seed)
    config = GeneratorConfig(canvas_size=(height, width), margin=margin, gap=gap, overlap=overlap, max_digits=3)
    counts = [0, 1, 2, 3, 3, 2]
    scenes = generate(config, digits, counts, np.random.default_rng(seed))
    assert scenes.count.tolist() == counts
    assert scenes.canvas_size == (height, width)
    for scene, count in enumerate(counts):
        masks = masks_of(scenes, digits, scene)
        np.testing.assert_array_equal(scenes.images[scene], masks.sum(axis=0) if count else 0)
        assert scenes.labels[scene, :count].tolist() == digits.labels[scenes.indices[scene, :count]].tolist()
        for slot in range(count):
            x, y, w, h = scenes.boxes[scene, slot].astype(int).tolist()
            rows, columns = np.nonzero(masks[slot])
            assert [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1] == [x, y, w, h]
            assert min(x, y, width - x - w, height - y - h) >= margin
            taken = masks[slot] > 0
            if overlap == "box":
                taken[y : y + h, x : x + w] = True
            grown = ndimage.maximum_filter(taken, size=2 * gap + 1)
            for other in range(count):
                if other != slot and overlap == "pixel":
                    assert not (grown & (masks[other] > 0)).any()
                elif other != slot:
                    ox, oy, ow, oh = scenes.boxes[scene, other].astype(int).tolist()
                    assert not grown[oy : oy + oh, ox : ox + ow].any()


def test_segments_tell_digits_apart():
    digits = blobs(40)
    for fields in ({}, {"rotation": (-40, 40), "width_scale": (0.8, 1.5)}):
        config = GeneratorConfig(max_digits=3, **fields)
        scenes = generate(config, digits, [0, 1, 3, 2], np.random.default_rng(0), segments=True)
        np.testing.assert_array_equal(scenes.segments > 0, scenes.images > 0)
        for scene, count in enumerate(scenes.count):
            for slot in range(count):
                rows, columns = np.nonzero(scenes.segments[scene] == slot + 1)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert box == scenes.boxes[scene, slot].tolist()
        if not fields:
            masks = masks_of(scenes, digits, 2)
            for slot in range(3):
                np.testing.assert_array_equal(scenes.segments[2] == slot + 1, masks[slot] > 0)
        assert generate(config, digits, [1], np.random.default_rng(0)).segments is None


def test_pixels_may_interlock_where_boxes_may_not():
    corner = np.ones((8, 8), np.uint8)
    corner[1:, 1:] = 0  # an L, into which another of its kind fits
    digits = Digits.from_images(corner[None], np.zeros(1, int))

    def boxes_meet(overlap):
        config = GeneratorConfig(canvas_size=(12, 20), overlap=overlap)
        boxes = generate(config, digits, [2] * 100, np.random.default_rng(0)).boxes
        return (np.abs(boxes[:, 0, :2] - boxes[:, 1, :2]) < 8).all(axis=1).any()

    assert boxes_meet("pixel")
    assert not boxes_meet("box")


def test_a_space_that_fits_exactly_is_filled():
    scenes = generate(GeneratorConfig(canvas_size=(10, 23), gap=3), solid(10, 10), [2], np.random.default_rng(1))
    assert sorted(scenes.boxes[0].astype(int).tolist()) == [[0, 0, 10, 10], [13, 0, 10, 10]]


def test_positions_are_uniform():
    scenes = generate(GeneratorConfig(canvas_size=(7, 6)), solid(5, 5), [1] * 3000, np.random.default_rng(0))
    corners, frequencies = np.unique(scenes.boxes[:, 0, :2], axis=0, return_counts=True)
    assert corners.tolist() == [[x, y] for x in range(2) for y in range(3)]
    assert (np.abs(frequencies - 500) < 5 * np.sqrt(500)).all()


def test_placement_takes_the_first_free_position():
    mask = np.ones((2, 2), bool)
    footprints = [Footprint.of(mask, stride=6 + 2, gap=1)] * 2
    draws = iter([0.0, 0.0, 0.0, 0.0, 0.45, 0.0, 0.65, 0.0])  # x = 0; then 0 and 2, which are too close, and 3
    assert place(footprints, (2, 6), 1, draws.__next__) == [(0, 0), (3, 0)]


@pytest.mark.parametrize("count", [1, 7, 30])
def test_each_digit_is_used_once_before_any_is_used_again(count):
    scenes = generate(GeneratorConfig(), blobs(count, size=4), [1, 0, 2] * 20, np.random.default_rng(0))
    used = scenes.indices[scenes.indices >= 0]
    assert len(used) == 60
    for start in range(0, len(used), count):
        turn = used[start : start + count]
        assert len(set(turn.tolist())) == len(turn)


def test_room_for_the_most_digits_even_where_no_scene_has_them():
    assert generate(GeneratorConfig(max_digits=4), blobs(5), [1], np.random.default_rng(0)).labels.shape == (1, 4)
    assert generate(GeneratorConfig(max_digits=1), blobs(5), [3], np.random.default_rng(0)).boxes.shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("digits", "fields", "count", "words"),
    [
        (solid(20, 20), {"canvas_size": (28, 28)}, 6, ["overlap pixel"]),
        (solid(20, 20), {"canvas_size": (16, 16)}, 1, ["larger canvas"]),
        (solid(10, 10), {"canvas_size": (20, 20), "gap": 11}, 2, ["gap 11"]),
        (solid(10, 10), {"canvas_size": (20, 20), "margin": 6}, 1, ["margin 6"]),
        (solid(10, 10), {"canvas_size": (20, 20), "width_scale": (3, 3)}, 1, ["width_scale (3.0, 3.0)"]),
    ],
)
def test_impossible_scenes_end_in_an_error(digits, fields, count, words):
    with pytest.raises(UsageError) as caught:
        generate(GeneratorConfig(**fields), digits, [count], np.random.default_rng(0))
    message = str(caught.value)
    assert f"canvas_size: {fields['canvas_size']} has no room for {count} digits" in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_digits_that_fit_nowhere_together_are_put_aside():
    images = np.zeros((4, 12, 12), np.uint8)
    images[:2, :12, :12] = 1  # two of these never fit on 16x16, one and a small one do
    images[2:, :2, :2] = 1
    digits = Digits.from_images(images, np.arange(4))
    scenes = generate(GeneratorConfig(canvas_size=(16, 16)), digits, [2] * 50, np.random.default_rng(0))
    assert (scenes.boxes[..., 2].min(axis=1) == 2).all()


def test_scaling():
    image, box = single(solid(10, 10), width_scale=(2, 2), height_scale=(0.5, 0.5))
    assert abs(box[2] - 20) <= 2
    assert abs(box[3] - 5) <= 2
    # Light is conserved: the area is the same, and shrinking averages rather than skips.
    assert int(image.sum()) == pytest.approx(200 * 100, rel=0.02)


def test_shrinking_does_not_alias():
    stripes = np.zeros((1, 24, 24), np.uint8)
    stripes[:, ::2] = 200
    image, (x, y, width, height) = single(Digits.from_images(stripes, np.zeros(1, int)), height_scale=(0.25, 0.25))
    inside = image[y + 2 : y + height - 2, x + 2 : x + width - 2]
    assert inside.size
    assert (abs(inside.astype(int) - 100) <= 12).all()


def test_rotation_is_counter_clockwise():
    bar = np.zeros((1, 14, 14), np.uint8)
    bar[0, :, 6:8] = 100
    bar[0, 0, 6:8] = 250  # the upper end is bright
    image, (_, _, width, height) = single(Digits.from_images(bar, np.zeros(1, int)), rotation=(90, 90))
    assert abs(width - 14) <= 1
    assert abs(height - 2) <= 1
    columns = image.max(axis=0)[image.any(axis=0)]
    assert columns[:2].max() > columns[-2:].max() + 50  # and is now at the left


def test_the_default_scenes_never_change():
    scenes = generate(GeneratorConfig(max_digits=3), blobs(50), np.arange(200) % 4, np.random.default_rng(0))
    assert scenes.checksum() == DEFAULT_CHECKSUM


def test_one_factor_for_width_and_height():
    scenes = generate(GeneratorConfig(scale=(0.5, 2)), solid(16, 8), [1] * 400, np.random.default_rng(0))
    sizes = scenes.boxes[:, 0, 2:]
    assert np.abs(sizes[:, 1] - 2 * sizes[:, 0]).max() <= 4
    assert np.mean(sizes[:, 1] < 17) == pytest.approx(0.5, abs=0.1)  # as many are shrunk as are enlarged
    assert sizes[:, 1].min() < 11
    assert sizes[:, 1].max() > 30


def test_brightness():
    assert single(solid(5, 5, value=200), brightness=(0.5, 0.5))[0].max() == 100
    assert single(solid(5, 5, value=200), brightness=(2, 2))[0].max() == 255


def test_thickness():
    for change, side in ((1, 7), (-1, 5)):
        _, (_, _, width, height) = single(solid(6, 6), thickening=(change, change))
        assert (width, height) == (side, side)


def test_pens():
    sizes = {}
    for fraction in (0, 1):
        _, (_, _, *sizes[fraction]) = single(solid(20, 3), scale=(2, 2), pen_fraction=fraction, pen_width=(2, 2))
    assert sizes[0] == pytest.approx([6, 40], abs=2)
    assert sizes[1] == pytest.approx([3, 36], abs=2)  # lines end a little earlier


def test_plain_scenes():
    config = GeneratorConfig(width_scale=(2, 2), plain_fraction=0.25)
    scenes = generate(config, solid(8, 8), [2] * 400, np.random.default_rng(0))
    is_plain = scenes.boxes[..., 2] == 8
    assert (is_plain[:, 0] == is_plain[:, 1]).all()
    assert is_plain.mean() == pytest.approx(0.25, abs=0.08)


def test_broad_scenes():
    digits = Digits.from_images(mnist.load().test_images[:300], np.arange(300) % 10)
    config, count = SCENES["broad"], np.arange(300) % 5
    scenes = generate(config, digits, count, np.random.default_rng(0), segments=True)
    again = generate(config, digits, count, np.random.default_rng(0))
    np.testing.assert_array_equal(scenes.images, again.images)
    assert scenes.count.tolist() == count.tolist()
    np.testing.assert_array_equal(scenes.segments > 0, scenes.images > 0)
    heights = scenes.boxes[..., 3][scenes.labels >= 0]
    assert np.percentile(heights, 5) < 16
    assert np.percentile(heights, 95) > 30
    brightest = [scenes.images[scenes.segments == slot].max() for slot in range(1, 5)]
    assert brightest == [255] * 4
    for scene in range(300):
        for slot in range(count[scene]):
            pixels = scenes.segments[scene] == slot + 1
            y, x = pixels.nonzero()
            box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert box == scenes.boxes[scene, slot].tolist()  # so that no other digit covers any of its pixels
            assert scenes.images[scene][pixels].max() > 40
    with pytest.raises(UsageError, match="scale"):
        generate(config.replace(scale=(3, 4), canvas_size=(20, 20), plain_fraction=0), digits, [2], np.random.default_rng(0))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16", "CMYK", "F"])
def test_background(tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1)).astype(np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(ramp).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    path = tmp_path / ("ramp.tif" if mode in ("CMYK", "F") else "ramp.png")
    picture.save(path)
    canvas = backdrop(path, 0.4, (32, 48))
    assert canvas.shape == (32, 48)
    assert canvas.max() == pytest.approx(0.4)
    if mode != "1":  # which is dithered
        assert (np.abs(canvas.mean(axis=0) - np.linspace(0, 0.4, 48)) < 0.016).all()


def test_digits_cover_the_background(tmp_path):
    Image.new("L", (5, 5), 80).save(tmp_path / "grey.png")
    digits = Digits.from_images(np.array([[[250, 30]]], np.uint8), np.zeros(1, int))
    image, (x, y, _, _) = single(digits, background=(tmp_path / "grey.png",), background_intensity=(0.2, 0.2))
    assert image[y, x : x + 2].tolist() == [251, 75]  # 51 shines through by 5 and 225 parts of 255
    assert (image == 51).sum() == 50 * 50 - 2


@pytest.mark.parametrize(("ink", "paper", "behind"), [(255, None, 0), (20, None, 255), (20, 0, 0), (255, 70, 70)])
def test_transparent_pixels_show_the_paper(tmp_path, ink, paper, behind):
    pixels = np.full((2, 2, 4), [ink, ink, ink, 255], np.uint8)
    pixels[0, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "half.png")
    assert np.asarray(read_picture(tmp_path / "half.png", paper)).tolist() == [[[behind] * 3] * 2, [[ink] * 3] * 2]


def test_pictures_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned to the right
    Image.new("L", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").size == (2, 4)


def test_unreadable_pictures(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.effect_noise((300, 300), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299 * 300)
    for name in ("text.png", "script.eps", "cut.png", "none.png", "", "whole.png"):
        with pytest.raises(DataError, match=r"^background: ") as caught:
            backdrop(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_digits": 17}, ["max_digits", "17"]),
        ({"margin": 25}, ["margin", "25", "(50, 50)"]),
        ({"width_scale": (2, 1)}, ["width_scale", "(2, 1)"]),
        ({"rotation": (0, 361)}, ["rotation", "361"]),
        ({"scale": (0.01, 1)}, ["scale", "0.01"]),
        ({"thickening": (0, 1.5)}, ["thickening", "1.5"]),
        ({"pen_fraction": 1.1}, ["pen_fraction", "1.1"]),
        ({"pen_width": (3, 2)}, ["pen_width", "(3, 2)"]),
        ({"brightness": (0, 1)}, ["brightness", "0"]),
        ({"plain_fraction": -0.1}, ["plain_fraction", "-0.1"]),
        ({"overlap": "circle"}, ["overlap", "'circle'", "'box'"]),
    ],
)
def test_impossible_configurations(fields, words):
    with pytest.raises(ConfigError) as caught:
        GeneratorConfig(**fields)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "total"),
    [({}, 161000), ({"per_count_files": True}, 361000), ({"per_count_files": True, "per_count_max_digits": 1}, 161000)],
)
def test_total_scenes(fields, total):
    assert GeneratorConfig(**fields).total_scenes == total
