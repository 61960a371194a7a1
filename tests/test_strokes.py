"""Strokes of digits keep their place when they are thickened, turned or drawn anew."""

import numpy as np
import pytest

from air.data import mnist, strokes
from air.gui.pen import LINE_WIDTHS, Drawing


def bar(height, width, value=255):
    return np.full((height, width), value, np.uint8)


@pytest.fixture(scope="module")
def digits():
    return mnist.load().test_images[:20]


def centre(image):
    """Return x and y of the centre of mass, in pixels from the upper left corner."""
    return np.array([image.sum(axis=axis) @ (np.arange(image.shape[1 - axis]) + 0.5) for axis in (0, 1)]) / image.sum()


def test_a_centre_line_is_in_the_middle_of_a_stroke():
    points = strokes.centre_line(bar(16, 4))
    assert np.abs(points[:, 0] - 2).max() < 0.5
    assert points[:, 1].min() < 3
    assert points[:, 1].max() > 13
    assert np.diff(np.sort(points[:, 1])).max() < 0.5
    speck = np.zeros((20, 12), np.uint8)
    speck[:16, :4], speck[18, 10] = 255, 255
    np.testing.assert_array_equal(strokes.centre_line(speck), points)
    assert strokes.centre_line(bar(5, 5, value=strokes.INK // 2)).shape == (0, 2)


@pytest.mark.parametrize("width", LINE_WIDTHS)
def test_the_pen_is_that_of_the_window(width):
    rng = np.random.default_rng(0)
    for start, end in rng.uniform(10, 40, (10, 2, 2)):
        drawing = Drawing((50, 50))
        drawing.begin(tuple(start), width)
        drawing.extend(tuple(end))
        points = np.linspace(start, end, 100)
        line = strokes.draw(points, width)
        # Move the line, which knows no canvas, to where the drawing has it.
        corner = np.floor(points.min(axis=0)).astype(int) - int(np.ceil(width / 2 + 0.5))
        image = np.zeros((60, 60))
        image[corner[1] : corner[1] + line.shape[0], corner[0] : corner[0] + line.shape[1]] = line
        image = image[:50, :50]
        stroke = (image > 0) | (drawing.image > 0)
        assert np.abs(image - drawing.image)[stroke].mean() < 10
        assert image.sum() == pytest.approx(drawing.image.sum(), rel=0.1)


def test_nothing_to_draw():
    assert strokes.draw(np.zeros((0, 2)), 2.0).size == 0


@pytest.mark.parametrize(("pixels", "width"), [(1, 5), (0.5, 4.5), (-0.25, 3.75), (-1, 3)])
def test_strokes_become_thicker_and_thinner(pixels, width):
    image = strokes.thicken(bar(20, 4), pixels)
    assert image.sum(axis=1).max() / 255 == pytest.approx(width, abs=0.01)
    assert image.sum(axis=0).max() / 255 == pytest.approx(20 + pixels, abs=0.01)


def test_thinning_keeps_the_thinnest_strokes(digits):
    assert (strokes.thicken(bar(12, 1), -1) == 255).sum() == 12
    for digit in digits:
        assert strokes.thicken(digit, -1).max() > 200


@pytest.mark.parametrize(("scale", "angle"), [((1, 1), 0), ((2, 1.5), 0), ((1.5, 2), 30), ((1, 1), -70)])
def test_a_pen_draws_a_digit_where_its_own_strokes_would_be(digits, scale, angle):
    for digit in digits:
        drawn = strokes.draw(strokes.rotate(strokes.centre_line(digit) * scale, angle), 2.5 * min(scale))
        image = strokes.scale_and_rotate(digit, scale, angle)
        offsets = []
        for picture in (drawn, image):
            y, x = (picture > 100).nonzero()
            box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
            offsets.append([*(box[2:] - box[:2]), *(centre(picture) - (box[:2] + box[2:]) / 2)])
        np.testing.assert_allclose(offsets[0], offsets[1], atol=3 * max(scale))


def test_pens_do_not_grow_with_the_digit(digits):
    for digit in digits:
        points = strokes.centre_line(digit)
        small, large = (strokes.draw(points * size, 2.0) for size in (1.0, 2.0))
        assert 1.5 < (large > 127).sum() / (small > 127).sum() < 2.8  # four times for strokes that grow
