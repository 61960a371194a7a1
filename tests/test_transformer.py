"""Crop and render are bilinear sampling of square pixels, with its gradients, even where a window leaves the canvas."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from air.model import transformer

SIZES = st.tuples(st.integers(4, 24), st.integers(4, 24))
Z_WHERE = st.tuples(st.floats(0.1, 2.5), st.floats(-2, 2), st.floats(-2, 2))
PLACES = {"inside": (0.37, 0.21, -0.33), "partly outside": (0.41, 0.93, 0.71), "wholly outside": (0.31, -1.73, 0.2)}


def sample(picture, x, y):
    """Sample a picture at columns x and rows y, in pixels from its outer edges, in float64; 0 outside of it."""
    rows, columns = np.meshgrid(y - 0.5, x - 0.5, indexing="ij")
    return map_coordinates(np.asarray(picture, np.float64), [rows, columns], order=1, mode="grid-constant", cval=0)


def locate(z_where, canvas_size, window_size):
    """Compute the centre (x, y) of a window, and the side of its pixels, in pixels of the canvas."""
    scale, shift_x, shift_y = z_where
    centre = (shift_x + 1) * canvas_size[1] / 2, (shift_y + 1) * canvas_size[0] / 2
    return *centre, scale * max(canvas_size) / max(window_size)


def reference_crop(canvas, z_where, window_size):
    x, y, pixel = locate(z_where, canvas.shape, window_size)
    rows, columns = (pixel * (np.arange(n) - (n - 1) / 2) for n in window_size)
    return sample(canvas, x + columns, y + rows)


def reference_render(window, z_where, canvas_size):
    x, y, pixel = locate(z_where, canvas_size, window.shape)
    rows, columns = (np.arange(n) + 0.5 for n in canvas_size)
    return sample(window, (columns - x) / pixel + window.shape[1] / 2, (rows - y) / pixel + window.shape[0] / 2)


REFERENCES = {transformer.crop: reference_crop, transformer.render: reference_render}
BOTH = pytest.mark.parametrize("function", REFERENCES, ids=lambda function: function.__name__)


def apply(function, picture, z_where, size):
    """Crop from or render one picture, in one step."""
    picture = tf.constant(picture, tf.float32)
    picture = picture[None] if function is transformer.crop else picture[None, None]
    return function(picture, tf.constant(z_where, tf.float32)[None, None], size)[0, 0].numpy()


@BOTH
@settings(max_examples=60, deadline=None)
@given(source=SIZES, target=SIZES, z_where=Z_WHERE, seed=st.integers(0, 99))
def test_equals_an_independent_bilinear_sampler(function, source, target, z_where, seed):
    picture = np.random.default_rng(seed).random(source, np.float32)
    answer = apply(function, picture, z_where, target)
    assert answer.shape == target
    np.testing.assert_allclose(answer, REFERENCES[function](picture, z_where, target), atol=2e-4)


def random_places(batch, steps):
    rng = np.random.default_rng(1)
    places = [rng.uniform(0.2, 0.9, (batch, steps, 1)), rng.uniform(-1, 1, (batch, steps, 2))]
    return np.concatenate(places, axis=-1).astype(np.float32)


def test_batches_and_steps():
    """Crop from one canvas for all steps, or from one for each."""
    rng, z_where = np.random.default_rng(1), random_places(3, 2)
    canvas, window = rng.random((3, 2, 12, 15), np.float32), rng.random((3, 2, 6, 5), np.float32)
    shared = transformer.crop(tf.constant(canvas[:, 0]), z_where, (6, 5))
    separate = transformer.crop(tf.constant(canvas), z_where, (6, 5))
    rendered = transformer.render(window, z_where, (12, 15))
    for b, t in np.ndindex(3, 2):
        where = z_where[b, t]
        np.testing.assert_allclose(shared[b, t], reference_crop(canvas[b, 0], where, (6, 5)), atol=1e-5)
        np.testing.assert_allclose(separate[b, t], reference_crop(canvas[b, t], where, (6, 5)), atol=1e-5)
        np.testing.assert_allclose(rendered[b, t], reference_render(window[b, t], where, (12, 15)), atol=1e-5)
    np.testing.assert_array_equal(shared, transformer.crop(tf.constant(canvas[:, :1]), z_where, (6, 5)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seed", range(3))
@BOTH
def test_gradients(function, place, seed):
    """Compare with central differences of the float64 reference, whose error is far below the tolerance."""
    rng = np.random.default_rng(seed)
    z_where = np.array(PLACES[place]) + rng.uniform(-0.03, 0.03, 3)
    source, target = ((13, 17), (9, 7)) if function is transformer.crop else ((9, 7), (13, 17))
    picture, weights = rng.random(source), rng.normal(size=target)

    def value(picture, z_where):
        return np.sum(weights * REFERENCES[function](picture, z_where, target))

    inputs = tf.constant(picture[None] if function is transformer.crop else picture[None, None], tf.float32)
    where = tf.constant(z_where[None, None], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([inputs, where])
        answer = tf.reduce_sum(tf.constant(weights, tf.float32) * function(inputs, where, target))
    by_picture, by_where = tape.gradient(answer, [inputs, where])
    by_picture, by_where = by_picture.numpy().reshape(source), by_where.numpy()[0, 0]

    h = 1e-6
    differences = [(value(picture, z_where + d) - value(picture, z_where - d)) / (2 * h) for d in h * np.eye(3)]
    np.testing.assert_allclose(by_where, differences, rtol=2e-3, atol=2e-3)
    for row, column in rng.integers(0, source, (12, 2)):
        change = np.zeros(source)
        change[row, column] = 1
        np.testing.assert_allclose(by_picture[row, column], value(change, z_where), atol=1e-4)
    is_outside = place == "wholly outside"
    assert (by_where == 0).all() == is_outside
    assert (by_picture == 0).all() == is_outside


@pytest.mark.parametrize("size", [(8, 16), (50, 50), (28, 28), (13, 31)])
@BOTH
def test_identity(function, size):
    """Exact where the coordinates are exact in float32, elsewhere to their rounding."""
    picture = np.random.default_rng(0).random(size, np.float32)
    answer = apply(function, picture, (1, 0, 0), size)
    np.testing.assert_allclose(answer, picture, atol=0 if size == (8, 16) else 5e-6)


def test_x_points_right_and_y_down():
    canvas = np.zeros((8, 12), np.float32)
    canvas[:4, 6:] = 1  # upper right quarter
    for shift, expected in (((0.5, -0.5), 1), ((-0.5, -0.5), 0), ((0.5, 0.5), 0)):
        assert (apply(transformer.crop, canvas, (0.25, *shift), (4, 4)) == expected).all()


@pytest.mark.parametrize(
    ("z_where", "window_size", "box"),
    [
        ((1, 0, 0), (28, 28), (0, -5, 30, 30)),  # as long as the longer side
        ((0.5, 0, 0), (28, 28), (7.5, 2.5, 15, 15)),
        ((0.5, 0.5, -0.5), (28, 28), (15, -2.5, 15, 15)),
        ((0.2, -1, 1), (28, 28), (-3, 17, 6, 6)),
        ((0.4, 0, 0), (8, 6), (10.5, 4, 9, 12)),
        ((0.4, 0, 0), (6, 8), (9, 5.5, 12, 9)),
    ],
)
def test_attention_boxes(z_where, window_size, box):
    answer = transformer.attention_boxes(tf.constant([z_where], tf.float32), (20, 30), window_size)
    np.testing.assert_allclose(answer, [box], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(z_where=Z_WHERE, size=st.integers(4, 24), window_size=st.integers(4, 24))
def test_a_square_window_has_the_scale_of_a_square_canvas(z_where, size, window_size):
    """Canvas coordinate = scale * window coordinate + shift, as in the paper."""
    scale, *shift = z_where
    np.testing.assert_allclose(transformer.extents(scale, (size, size), (window_size, window_size)), scale, rtol=1e-6)
    box = transformer.attention_boxes(tf.constant(z_where, tf.float32), (size, size), (window_size, window_size)).numpy()
    np.testing.assert_allclose(box[:2] / size * 2 - 1, np.subtract(shift, scale), atol=1e-5)
    np.testing.assert_allclose(box[2:] / size * 2, 2 * scale, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    scale=st.floats(0.2, 0.6), shift_x=st.floats(-0.3, 0.3), shift_y=st.floats(-0.3, 0.3), canvas_size=SIZES, window_size=SIZES
)
def test_a_window_is_rendered_in_its_attention_box(scale, shift_x, shift_y, canvas_size, window_size):
    """Up to half a pixel of the window."""
    z_where = (scale, shift_x, shift_y)
    x, y, width, height = transformer.attention_boxes(tf.constant(z_where), canvas_size, window_size).numpy()
    assert width / height == pytest.approx(window_size[1] / window_size[0], rel=1e-5)
    pixel = width / window_size[1]
    rendered = apply(transformer.render, np.ones(window_size), z_where, canvas_size)
    rows, columns = np.ogrid[: canvas_size[0], : canvas_size[1]]
    distance = np.maximum(np.abs(columns + 0.5 - x - width / 2) - width / 2, np.abs(rows + 0.5 - y - height / 2) - height / 2)
    np.testing.assert_allclose(rendered[distance < -0.51 * pixel], 1, atol=1e-5)
    np.testing.assert_allclose(rendered[distance > 0.51 * pixel], 0, atol=1e-5)


def test_pixels_stay_square():
    """A disc in a wide canvas is cropped as a disc, and rendered as one again."""
    rows, columns = np.ogrid[:30, :60]
    canvas = ((columns - 39.5) ** 2 + (rows - 14.5) ** 2 < 100).astype(np.float32)
    z_where = (24 / 60, 40 / 60 * 2 - 1, 0)
    window = apply(transformer.crop, canvas, z_where, (24, 24))
    np.testing.assert_allclose(window, canvas[3:27, 28:52], atol=1e-5)
    np.testing.assert_array_equal(window > 0.5, window.T > 0.5)
    np.testing.assert_allclose(apply(transformer.render, window, z_where, (30, 60)), canvas, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(window=SIZES, canvas=SIZES, places=st.lists(Z_WHERE, min_size=1, max_size=4), seed=st.integers(0, 99))
def test_render_cumsum_has_every_number_of_objects(window, canvas, places, seed):
    """The sum of the first n independent renders, for every n from none to all."""
    windows = np.random.default_rng(seed).random((1, len(places), *window), np.float32)
    answer = transformer.render_cumsum(tf.constant(windows), tf.constant([places], tf.float32), canvas).numpy()[0]
    renders = [reference_render(picture, place, canvas) for picture, place in zip(windows[0], places, strict=True)]
    assert answer.shape == (len(places) + 1, *canvas)
    assert (answer[0] == 0).all()
    np.testing.assert_allclose(answer[1:], np.cumsum(renders, axis=0), atol=1e-3)


def test_render_sum_and_cumsum_keep_scenes_apart():
    windows, z_where = np.random.default_rng(3).random((4, 3, 7, 5), np.float32), random_places(4, 3)
    renders = transformer.render(windows, z_where, (20, 24)).numpy()
    np.testing.assert_allclose(transformer.render_sum(windows, z_where, (20, 24)), renders.sum(axis=1), atol=1e-5)
    cumulative = transformer.render_cumsum(windows, z_where, (20, 24))
    np.testing.assert_allclose(cumulative[:, 1:], renders.cumsum(axis=1), atol=1e-5)
