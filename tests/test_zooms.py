"""Objects of other sizes: of what is found in several views, each group takes what explains it best."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from fitting import assert_same_scenes, draw_blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from scipy.special import logit

from air.model import zooms
from air.model.exploration import Found
from air.model.zooms import VIEWS, View

SIZE, STEPS = (40, 44), 5
Y, X = np.ogrid[:8, :8]
BLOB = np.exp(-((Y - 3.5) ** 2 + (X - 3.5) ** 2) / (2 * 1.5**2)).clip(1e-4, 0.999)  # with a std of 1.5 pixels
CENTRES = [(7, 7), (20, 8), (34, 8), (8, 28), (30, 28)]  # (x, y), pixels
OTHERS = range(1, len(VIEWS))
FOR_SMALL = [position for position, view in enumerate(VIEWS) if view.zoom >= 0.5]  # in smaller ones, blobs are dots


def find(*objects):
    """Return what is found in one scene in one view: windows around (x, y) of a size in pixels, all of which show a blob."""
    z_where = np.full((1, STEPS, 3), 0.1, np.float32)
    for step, (x, y, size) in enumerate(objects):
        z_where[0, step] = size / max(SIZE), 2 * x / SIZE[1] - 1, 2 * y / SIZE[0] - 1
    present = (np.arange(STEPS) < len(objects)).astype(np.float32)[None]
    window = np.tile(logit(BLOB), (1, STEPS, 1, 1)).astype(np.float32)
    z_what = np.zeros((1, STEPS, 2), np.float32)
    return Found(present, 0.9 * present, z_where, z_what, window, np.full((1, STEPS), 2.5, np.float32))


def choose(image, found):
    """Return (x, y, position of its view) of each object chosen, x and y in whole pixels."""
    marked = [each._replace(z_what=each.z_what + position) for position, each in enumerate(found)]
    answer = zooms.choose(zooms.look(image[None]), marked)
    assert answer.present.shape == (1, STEPS)
    count = int(answer.present.numpy().sum())
    assert answer.present.numpy()[0, :count].all()
    np.testing.assert_allclose(answer.presence, 0.9 * answer.present.numpy())  # what is dropped is no longer probable
    x, y = (answer.z_where.numpy()[0, :count, 1:] + 1).T * np.array([[SIZE[1]], [SIZE[0]]]) / 2
    return sorted(
        zip(x.round().astype(int), y.round().astype(int), answer.z_what.numpy()[0, :count, 0].astype(int), strict=True)
    )


def at(position, found, others):
    """Return what is found in the views, if it is something else in one of them."""
    return [found if each == position else others for each in range(len(VIEWS))]


@settings(max_examples=15, deadline=None)
@given(shown=st.sets(st.sampled_from(CENTRES), max_size=4), position=st.sampled_from(FOR_SMALL))
def test_whatever_view_sees_the_objects_gives_them(shown, position):
    objects = find(*((*centre, 8) for centre in shown))
    chosen = choose(draw_blobs(SIZE, sorted(shown)), at(position, objects, find()))
    assert chosen == sorted((*centre, position) for centre in shown)


def test_the_first_view_is_chosen_between_equals():
    objects = find(*((*centre, 8) for centre in CENTRES[:2]))
    assert choose(draw_blobs(SIZE, CENTRES[:2]), [objects] * len(VIEWS)) == [(7, 7, 0), (20, 8, 0)]


@pytest.mark.parametrize("position", OTHERS)
def test_one_window_replaces_those_that_split_a_large_object_but_not_its_neighbour(position):
    image = np.maximum(draw_blobs(SIZE, [(14, 20)], std=4.0), draw_blobs(SIZE, [(38, 34)]))
    large, small, split = (14, 20, 8 * 4 / 1.5), (38, 34, 8), [(11, 19, 14), (17, 21, 14)]
    assert choose(image, at(position, find(large), find(*split, small))) == [(14, 20, position), (38, 34, 0)]
    chosen = choose(image, at(position, find(*split), find(large, small)))
    assert [(x, y) for x, y, _ in chosen] == [(14, 20), (38, 34)]
    assert position not in [view for _, _, view in chosen]


@pytest.mark.parametrize("position", FOR_SMALL)
def test_two_small_objects_are_not_taken_for_a_large_one(position):
    two, over_both = find((14, 20, 8), (21, 20, 8)), find((17, 20, 20))
    image = draw_blobs(SIZE, [(14, 20), (21, 20)])
    assert [centre[:2] for centre in choose(image, at(position, two, over_both))] == [(14, 20), (21, 20)]
    if position:
        assert [centre[:2] for centre in choose(image, at(position, over_both, two))] == [(14, 20), (21, 20)]


@pytest.mark.parametrize(("position", "is_replaced"), [(2, True), (3, False), (4, False)])
def test_the_smaller_a_view_the_more_one_object_must_explain(position, is_replaced):
    """Two that explain a large object exactly, and one that leaves 15 % of it unexplained."""
    two, one = find((20, 20, 24), (20, 20, 24)), find((20, 20, 24))
    two, one = (
        each._replace(window_logits=logit(share * BLOB)[None, None].repeat(STEPS, 1).astype(np.float32))
        for each, share in ((two, 0.5), (one, 1 - 0.15 ** (1 / zooms.POWER)))
    )
    image = draw_blobs(SIZE, [(20, 20)], std=1.5 * 24 / 8)
    chosen = choose(image, at(position, one, two))
    assert [view == position for _, _, view in chosen] == ([True] if is_replaced else [False, False])


@pytest.mark.parametrize("position", FOR_SMALL[1:])
def test_a_badly_explained_window_of_another_view_does_not_count(position):
    """One beside an object, which reaches into it, and one over nothing."""
    image, good = draw_blobs(SIZE, CENTRES[:3]), [(*centre, 8) for centre in CENTRES[:3]]
    found = at(position, find(*good, (27, 14, 8), (25, 33, 8)), find())
    assert choose(image, found) == sorted((*centre, position) for centre in CENTRES[:3])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 43), st.integers(0, 39), st.integers(2, 16)), max_size=STEPS))
def test_groups_are_the_connected_components_of_overlapping_footprints(objects):
    found = find(*objects)
    groups = zooms._groups(found, SIZE).numpy()[0]
    x, y, size = np.array(objects, float).reshape(-1, 3).T
    reach = zooms.FOOTPRINT * (size[:, None] + size) / 2
    # Equal coordinates apart, a half-open overlap is decided by rounding.
    distance = np.maximum(abs(x[:, None] - x), abs(y[:, None] - y))
    if (abs(distance - reach) < 1e-3).any():
        return
    number, expected = connected_components(distance < reach)
    pairs = groups[: len(objects), None] == groups[: len(objects)]
    assert (pairs == (expected[:, None] == expected)).all()
    assert len(set(groups)) == number + STEPS - len(objects)


@pytest.mark.parametrize("zoom", [1.0, 1.4, 0.7, 0.5, 0.35])
@pytest.mark.parametrize("size", [(50, 50), (28, 61)])
def test_resizing_keeps_the_mean_brightness(monkeypatch, zoom, size):
    monkeypatch.setattr(zooms, "VIEWS", [View(zoom)])
    images = np.stack([draw_blobs(size, [(13, 12)]), draw_blobs(size, [(size[1] / 2, 14)], std=3.0)])
    seen = zooms.look(images)[0].numpy()
    assert seen.dtype == np.float32
    assert seen.shape[1:] == tuple(round(zoom * side) for side in size)
    assert 0 <= seen.min() <= seen.max() <= 1
    np.testing.assert_allclose(seen.mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=0.02)
    np.testing.assert_allclose(zooms.look(np.full((1, *size), 0.7, np.float32))[0], 0.7, rtol=1e-5)


def test_a_brush_thickens_as_a_maximum_filter_does(monkeypatch):
    monkeypatch.setattr(zooms, "VIEWS", [View(1.0, 3)])
    images = np.random.default_rng(0).random((2, 9, 11), np.float32)
    np.testing.assert_allclose(zooms.look(images)[0], scipy.ndimage.maximum_filter(images, (1, 3, 3)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"likelihood": "normal", "learn_likelihood_std": True},
        {"likelihood": "normal", "channels": 3, "composition": "over", "background": "learned"},
        {"background": "constant", "looks": 1},
    ],
)
def test_a_program_for_all_canvases_finds_what_one_for_a_canvas_does(make_model, changes):
    model = make_model(controller="convolutional", decoder_bias=0.0, **changes)
    model.controller.presence.bias.assign([1.0])
    for size in [(20, 24), (31, 43)]:
        images = np.random.default_rng(0).random((2, *size, *([3] if "channels" in changes else []))).astype(np.float32)
        inferred, called = model.infer(images), model(images)
        assert inferred.count.any()
        assert_same_scenes(inferred, called, atol=1e-4)


def test_one_program_serves_all_canvases(tiny_cells, monkeypatch):
    """TensorFlow takes seconds to trace one, and never frees all of its memory."""
    monkeypatch.setattr(tiny_cells, "_programs", {})
    for size in [(38, 40), (44, 46), (60, 38)]:
        image = draw_blobs(size, [(9, 11), (28, 27)])[None]
        assert tiny_cells.infer(image, max_steps=size[0] // 10).count == 2
        assert tiny_cells.infer(image, any_size=True).count == 2
    assert [program.experimental_get_tracing_count() for program in tiny_cells._programs.values()] == [1, 1]


@pytest.mark.slow
def test_xla_finds_objects_of_any_size_too(tiny_cells):
    images = np.stack([draw_blobs((44, 46), [(9, 11), (28, 27)]), draw_blobs((44, 46), [(15, 15)], std=3.0)])
    scenes = tiny_cells.infer(images, any_size=True)
    assert scenes.count.tolist() == [2, 1]
    assert not tf.config.functions_run_eagerly()
    assert_same_scenes(tiny_cells.infer(images, any_size=True, jit_compile=True), scenes, atol=1e-4)


@pytest.mark.usefixtures("uncompiled")
def test_one_look_is_enough_for_objects_as_in_training(tiny_cells):
    images = np.stack([draw_blobs((38, 40), centres) for centres in ([], [(8, 9)], [(9, 11), (30, 27)])])
    once, any_size = tiny_cells.infer(images), tiny_cells.infer(images, any_size=True, batch_size=2)
    assert any_size.count.tolist() == [0, 1, 2]
    assert_same_scenes(any_size, once)


@pytest.mark.usefixtures("uncompiled")
def test_large_objects_are_found_whole(tiny_cells):
    times = np.array([1.5, 2.0, 2.0])
    centres = [[(14, 13)], [(15, 15)], [(14, 12), (33, 32)]]
    images = np.stack([draw_blobs((44, 46), some, std=1.5 * each) for some, each in zip(centres, times, strict=True)])
    scenes = tiny_cells.infer(images, any_size=True)
    assert scenes.count.tolist() == [1, 1, 2]
    for each, boxes, count in zip(times, scenes.attention_boxes, scenes.count, strict=True):
        np.testing.assert_allclose(boxes[:count, 3], each * 9.6, rtol=0.25)  # as high as a window in training, times so much
    np.testing.assert_allclose(scenes.reconstruction, images, atol=0.5)
