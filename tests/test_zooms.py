"""Objects of other sizes: of the scenes found at several zooms, the one that explains the picture best counts."""

import numpy as np
import pytest
import tensorflow as tf
from fitting import assert_same_scenes, draw_blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from air.model import transformer, zooms
from air.model.exploration import Found, Price
from air.model.generative import ADD
from air.model.inference import View

SIZE, WINDOW, STEPS = (40, 44), (8, 8), 5
Y, X = np.ogrid[:8, :8]
BLOB = np.exp(-((Y - 3.5) ** 2 + (X - 3.5) ** 2) / (2 * 1.5**2)).clip(1e-4, 0.999)  # with a std of 1.5 pixels
CENTRES = [(7, 7), (20, 8), (34, 8), (8, 28), (30, 28)]  # (x, y), pixels
COUNT, KL = 4.0, 2.5  # nats


def find(*objects):
    """What is found in one scene at one zoom: windows around (x, y) of a size in pixels, all of which show a blob."""
    z_where = np.full((1, STEPS, 3), 0.1, np.float32)
    for step, (x, y, size) in enumerate(objects):
        z_where[0, step] = size / max(SIZE), 2 * x / SIZE[1] - 1, 2 * y / SIZE[0] - 1
    present = (np.arange(STEPS) < len(objects)).astype(np.float32)[None]
    window = np.tile(logit(BLOB), (1, STEPS, 1, 1)).astype(np.float32)
    return Found(
        present, 0.9 * present, z_where, np.zeros((1, STEPS, 2), np.float32), window, np.full((1, STEPS), KL, np.float32)
    )


def choose(image, *found, likelihood="cross_entropy"):
    """Return the position of the zoom whose scene is chosen."""
    marked = [each._replace(z_what=each.z_what + position) for position, each in enumerate(found)]
    price = Price({}, tf.constant(COUNT), likelihood, tf.constant(0.3))
    pictures = [image[None], *(zooms.shrink(image[None], zoom) for zoom in zooms.ZOOMS[1:])]
    views = [View(picture, None, picture, picture[:, None]) for picture in pictures]
    answer = zooms.most_probable(views, marked, ADD, price)
    position = int(answer.z_what[0, 0, 0])
    for ours, theirs in zip(answer, marked[position], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return position


def rendered(found, size):
    """The objects of one scene on one canvas."""
    windows = tf.sigmoid(found.window_logits) * found.present[..., None, None]
    return transformer.render_sum(windows, tf.constant(found.z_where), size).numpy()[0].clip(0, 1).astype(float)


def worth(image, found, zoom, likelihood):
    canvas, objects = rendered(found, SIZE).clip(1e-6, 1 - 1e-6), int(found.present.sum())
    if likelihood == "normal":
        log_prob = -np.square(image - canvas).sum() / (2 * 0.3**2) - image.size * np.log(0.3 * np.sqrt(2 * np.pi))
    else:
        log_prob = (image * np.log(canvas) + (1 - image) * np.log(1 - canvas)).sum()
    small = zooms.shrink(image[None], zoom)
    missing = np.abs(small - rendered(found, small.shape[1:])).astype(np.float32)
    for step in range(objects if zoom != 1.0 else 0):
        where = tf.constant(found.z_where[:, step : step + 1])
        seen, rest = (transformer.crop(tf.constant(picture), where, WINDOW).numpy().sum() for picture in (small, missing))
        if rest > zooms.MAX_UNEXPLAINED * seen:
            return -np.inf
    return log_prob - objects * (KL + COUNT + zooms.EXTRA_PRICE)


SOME = st.sets(st.sampled_from(range(5)), max_size=4)


@settings(max_examples=20, deadline=None)
@given(
    shown=SOME,
    chosen=st.lists(SOME, min_size=len(zooms.ZOOMS), max_size=len(zooms.ZOOMS)),
    sizes=st.lists(st.sampled_from([6, 8, 12]), min_size=len(zooms.ZOOMS), max_size=len(zooms.ZOOMS)),
    likelihood=st.sampled_from(["cross_entropy", "normal"]),
)
def test_the_scene_of_the_greatest_bound_is_chosen(shown, chosen, sizes, likelihood):
    """Less a price for each object, and only if each window is well explained at its own zoom."""
    image = draw_blobs(SIZE, [CENTRES[i] for i in sorted(shown)])
    found = [find(*((*CENTRES[i], size) for i in sorted(some))) for some, size in zip(chosen, sizes, strict=True)]
    worths = [worth(image, each, zoom, likelihood) for each, zoom in zip(found, zooms.ZOOMS, strict=True)]
    best = choose(image, *found, likelihood=likelihood)
    assert worths[best] == pytest.approx(max(worths), abs=0.1)


def test_full_size_is_chosen_between_equals():
    image = draw_blobs(SIZE, CENTRES[:2])
    assert zooms.ZOOMS[choose(image, *[find(*((*centre, 8) for centre in CENTRES[:2]))] * len(zooms.ZOOMS))] == 1.0


def at(zoom, found, others):
    """What is found at one zoom, if it is something else than at all others."""
    return [found if each == zoom else others for each in zooms.ZOOMS]


@pytest.mark.parametrize("zoom", [0.55, 0.4])
def test_one_window_replaces_those_that_split_a_large_object(zoom):
    large, half = draw_blobs(SIZE, [(20, 20)], std=4.0), [(17, 19, 14), (23, 21, 14)]
    assert zooms.ZOOMS[choose(large, *at(zoom, find((20, 20, 8 * 4 / 1.5)), find(*half)))] == zoom
    assert zooms.ZOOMS[choose(large, *at(zoom, find(*half, (5, 5, 8)), find((20, 20, 8 * 4 / 1.5))))] == 1.0


@pytest.mark.parametrize("zoom", [zoom for zoom in zooms.ZOOMS if zoom != 1.0])
def test_a_scene_with_a_badly_explained_window_does_not_count(zoom):
    """Whatever its bound: a window beside the object, or over nothing."""
    image = draw_blobs(SIZE, CENTRES[:3])
    good, bad = [(*centre, 8) for centre in CENTRES[:3]], (25, 33, 8)
    assert zooms.ZOOMS[choose(image, *at(zoom, find(*good), find()))] == zoom
    assert zooms.ZOOMS[choose(image, *at(zoom, find(*good, bad), find()))] == 1.0


@pytest.mark.parametrize("zoom", zooms.ZOOMS)
@pytest.mark.parametrize("size", [(50, 50), (28, 61)])
def test_shrinking_keeps_the_mean_brightness(zoom, size):
    images = np.stack([draw_blobs(size, [(13, 12)]), draw_blobs(size, [(size[1] / 2, 14)], std=3.0)])
    small = zooms.shrink(images, zoom).numpy()
    assert small.dtype == np.float32
    assert small.shape[1:] == tuple(round(zoom * side) for side in size)
    assert 0 <= small.min() <= small.max() <= 1
    np.testing.assert_allclose(small.mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=0.02)
    np.testing.assert_allclose(zooms.shrink(np.full((1, *size), 0.7, np.float32), zoom), 0.7, rtol=1e-5)
    if zoom == 1:
        np.testing.assert_allclose(small, images, atol=1e-6)


@pytest.mark.usefixtures("uncompiled")
def test_one_look_is_enough_for_objects_as_in_training(tiny_cells):
    images = np.stack([draw_blobs((38, 40), centres) for centres in ([], [(8, 9)], [(9, 11), (30, 27)])])
    once, any_size = tiny_cells.infer(images), tiny_cells.infer(images, any_size=True, batch_size=2)
    assert any_size.count.tolist() == [0, 1, 2]
    assert_same_scenes(any_size, once)


@pytest.mark.usefixtures("uncompiled")
def test_large_objects_are_found_whole(tiny_cells):
    times = np.array([1.5, 2.0, 2.0])
    centres = [[(14, 13)], [(15, 15)], [(13, 12), (33, 32)]]
    images = np.stack([draw_blobs((44, 46), some, std=1.5 * each) for some, each in zip(centres, times, strict=True)])
    scenes = tiny_cells.infer(images, any_size=True)
    assert scenes.count.tolist() == [1, 1, 2]
    for each, boxes, count in zip(times, scenes.attention_boxes, scenes.count, strict=True):
        np.testing.assert_allclose(boxes[:count, 3], each * 9.6, rtol=0.25)  # as high as a window in training, times so much
    np.testing.assert_allclose(scenes.reconstruction, images, atol=0.5)
