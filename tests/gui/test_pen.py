"""The pen: strokes, undo and redo, and their similarity to MNIST's."""

from pathlib import Path

import numpy as np
import pytest
from events import drawn
from scipy import ndimage

from air.data import mnist
from air.gui.pen import LINE_WIDTHS, Drawing, enlarge

STROKES = sorted((Path(__file__).parent.parent / "strokes").glob("*.jsonl"))


def stroke(drawing, *points, width=3.0, erase=False):
    drawing.begin(points[0], width, erase)
    for point in points[1:]:
        drawing.extend(point)
    drawing.end()


@pytest.mark.parametrize("canvas_size", [(50, 50), (20, 36), (700, 600)])
@pytest.mark.parametrize("width", LINE_WIDTHS)
def test_a_line_has_its_width(canvas_size, width):
    drawing = Drawing(canvas_size)
    stroke(drawing, (2.0, 10.3), (18.0, 10.3), width=width)
    assert (drawing.image.shape, drawing.image.dtype) == (canvas_size, np.uint8)
    assert drawing.image[:, 10].sum() / 255 == pytest.approx(width, rel=0.05)
    assert not drawing.image[:, 21:].any()


def test_a_dot_is_round_and_soft():
    drawing = Drawing((9, 9))
    stroke(drawing, (4.5, 4.5), width=4.0)
    image = drawing.image
    assert (image == image.T).all()
    assert (image == image[::-1]).all()
    assert len(np.unique(image)) > 3
    assert image.sum() / 255 == pytest.approx(np.pi * 4, rel=0.03)


def test_slow_strokes_are_no_darker_than_fast_ones():
    fast, slow = Drawing((20, 20)), Drawing((20, 20))
    stroke(fast, (3, 3), (15, 12))
    stroke(slow, *((3 + 12 * t, 3 + 9 * t) for t in np.linspace(0, 1, 50)))
    assert np.abs(fast.image.astype(int) - slow.image).max() <= 2


def test_strokes_may_leave_the_canvas():
    drawing = Drawing((20, 20))
    stroke(drawing, (-50, -50), (-40, -50))
    assert drawing.is_empty
    assert not drawing.can_undo
    assert not drawing.version
    stroke(drawing, (-30, 10), (50, 10))
    assert (drawing.image[10] == 255).all()


def test_erasing():
    drawing = Drawing((20, 20))
    stroke(drawing, (2, 10), (18, 10))
    before = drawing.image
    stroke(drawing, (10, 2), (10, 18), width=4.0, erase=True)
    assert not drawing.image[:, 9:11].any()
    assert (drawing.image[:, :6] == before[:, :6]).all()


def test_undo_and_redo_work_stroke_by_stroke():
    drawing = Drawing((20, 20))
    drawing.clear()
    assert not drawing.can_undo  # nothing was cleared
    pictures = [drawing.image]
    for y in (4, 9, 14):
        stroke(drawing, (2, y), (18, y))
        pictures.append(drawing.image)
    drawing.clear()
    pictures.append(drawing.image)
    versions = {drawing.version}
    for picture in reversed(pictures[:-1]):
        assert drawing.undo()
        assert (drawing.image == picture).all()
        versions.add(drawing.version)
    assert not drawing.undo()
    for picture in pictures[1:]:
        assert drawing.redo()
        assert (drawing.image == picture).all()
        versions.add(drawing.version)
    assert not drawing.redo()
    assert len(versions) == 1 + 2 * 4
    drawing.undo()
    stroke(drawing, (2, 4), (18, 4))
    assert not drawing.can_redo


def test_undo_in_the_middle_of_a_stroke_removes_it():
    drawing = Drawing((20, 20))
    drawing.begin((4, 4), 3.0)
    drawing.extend((9, 9))
    drawing.undo()
    drawing.extend((15, 15))
    assert drawing.is_empty


def test_a_picture_is_kept_exactly_and_can_be_drawn_on():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    drawing = Drawing((20, 30))
    drawing.replace(picture)
    assert (drawing.image == picture).all()
    stroke(drawing, (5, 5), (9, 5))
    assert (drawing.image[10:] == picture[10:]).all()
    drawing.undo()
    assert (drawing.image == picture).all()
    drawing.undo()
    assert drawing.is_empty


def test_a_drawing_has_the_title_of_the_picture_under_it():
    drawing = Drawing((20, 30))
    drawing.replace(np.full((20, 30), 9, np.uint8), "photo.png")
    stroke(drawing, (5, 5), (9, 5))
    assert drawing.title == "photo.png"
    drawing.clear()
    stroke(drawing, (5, 5), (9, 5))
    assert drawing.title == "Your drawing"
    drawing.undo()
    drawing.undo()
    assert drawing.title == "photo.png"


def test_ink_is_the_image_on_a_finer_grid():
    drawing = Drawing((20, 30))
    stroke(drawing, (5, 5), (25, 15))
    n = drawing.fineness
    np.testing.assert_allclose(drawing.ink.reshape(20, n, 30, n).mean(axis=(1, 3)), drawing.image, atol=0.51)
    y, x = np.mgrid[:20, :30]
    np.testing.assert_array_equal(enlarge(np.uint8(2 * x + 3 * y), 1), 2 * x + 3 * y)
    finer = enlarge(np.uint8(8 * x), 4)
    assert finer.shape == (80, 120)
    np.testing.assert_array_equal(finer[:, 2:-2], np.broadcast_to(np.rint(2 * np.arange(116) + 1), (80, 116)))


def test_a_picture_moves_to_a_canvas_of_another_size():
    drawing = Drawing((20, 30))
    stroke(drawing, (24, 6), (27, 15))
    image, version = drawing.image, drawing.version
    drawing.resize((40, 50))
    assert (drawing.image[10:30, 10:40] == image).all()
    assert drawing.image.sum() == image.sum(dtype=int)
    assert drawing.version > version
    stroke(drawing, (2, 35), (45, 35))  # on the finer surface of this canvas
    drawing.undo()
    drawing.resize((14, 12))
    assert drawing.image.sum() == image.sum(dtype=int)  # nothing is cut off that fits
    for shape in ((40, 50), (20, 30)):
        assert drawing.undo()
        assert drawing.image.shape == shape
        assert drawing.image.sum() == image.sum(dtype=int)
    assert (drawing.image == image).all()
    drawing.redo()
    assert drawing.image.shape == (40, 50)
    empty = Drawing((20, 30))
    empty.resize((10, 10))
    assert empty.is_empty
    assert empty.image.shape == (10, 10)


def test_history_is_bounded(monkeypatch):
    monkeypatch.setattr("air.gui.pen.HISTORY_BYTES", 1)
    drawing = Drawing((20, 20))
    for _ in range(20):
        stroke(drawing, (5, 5), (9, 5))
    assert sum(1 for _ in iter(drawing.undo, False)) == 8


def thickness(images):
    """The median stroke thickness of each picture, in pixels: twice the distance from the ridge of a stroke to its edge."""
    found = []
    for image in images:
        ink = ndimage.zoom(image.astype(float), 4, order=1) > 127
        distance = ndimage.distance_transform_edt(ink) / 4
        ridge = (distance == ndimage.maximum_filter(distance, 5)) & (distance > 0.3)
        found.append(2 * np.median(distance[ridge]))
    return np.array(found)


def test_the_default_pen_matches_mnist():
    digits = mnist.load().train_images[:300]
    drawings = [drawn(path) for path in STROKES]
    low, high = np.percentile(thickness(digits), [35, 65])
    assert low <= np.median(thickness(drawings)) <= high

    def greys(images):
        ink = np.concatenate([image[image > 0] for image in images])
        return np.histogram(ink, [1, 64, 128, 192, 250, 256])[0] / len(ink)

    assert np.abs(greys(drawings) - greys(digits)).max() < 0.05
