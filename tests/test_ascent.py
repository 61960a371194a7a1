"""Doubtful objects are fitted with and without each other: known optima, superfluous windows, and real objects that stay."""

import numpy as np
import pytest
import tensorflow as tf
from fitting import assert_same_scenes
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from air.config import AIRConfig
from air.model import generative, transformer
from air.model.ascent import ascend, settle
from air.model.distributions import LATENTS, gaussian
from air.model.exploration import Found, Price
from air.model.generative import normal_log_prob
from air.model.inference import InferenceNetwork, View
from air.model.parts import Part

CANVAS, WINDOW, LATENT_SIZE = (40, 36), (12, 12), 2
CONFIG = AIRConfig(canvas_size=CANVAS, window_size=WINDOW, z_what_size=LATENT_SIZE, likelihood="normal", ascent_steps=60)
STD, COUNT_PRICE, KL = 0.1, 5.0, 2.0
OBJECTS = np.array([[0.4, -0.25, 0.1], [0.4, 0.25, -0.1], [0.4, 0.0, 0.0]], np.float32)  # z_where on a training canvas
LOOKS = np.array([[1.0, -0.5], [-0.5, 1.0], [0.0, 0.0]], np.float32)  # z_what
ERROR = np.array([[0.02, 0.03, -0.03], [-0.02, -0.04, 0.02], [0.0, 0.0, 0.0]], np.float32)  # of what the networks find


def decode(z_what):
    """Decode logits of an ellipse whose axes are exp(z_what / 3): [batch, steps, 12, 12]."""
    line = tf.reshape(transformer.centres(WINDOW[0]), [1, 1, -1])
    axes = tf.exp(z_what / 3.0)
    squares = [tf.square(line / (0.5 * axes[..., k, None])) for k in range(2)]
    return 6.0 * (1.0 - squares[1][..., :, None] - squares[0][..., None, :])


NETWORK = InferenceNetwork(CONFIG, None, None, tf.constant(0.0), None, decode)
PRIOR = {name: gaussian(tf.constant(mean), tf.constant(0.0)) for name, mean in zip(LATENTS, (-0.4, 0.0, 0.0), strict=True)}
PRICE = Price(PRIOR, tf.constant(COUNT_PRICE), "normal", tf.constant(STD))


def on_canvas(z_where, size, corner):
    """Convert z_where on a training canvas to a larger canvas that has it at a corner (x, y), in pixels."""
    scale = z_where[..., :1] * max(CANVAS) / max(size)
    pixels = (z_where[..., 1:] + 1) / 2 * np.array(CANVAS[::-1]) + corner
    return np.concatenate([scale, 2 * pixels / np.array(size[::-1]) - 1], axis=-1).astype(np.float32)


def scenes(size=CANVAS, corner=(0, 0)):
    """Scenes of two objects, three, one and none, and what is found: three objects in each of the first two, a little off."""
    truth = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]], np.float32)
    present = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 0, 0]], np.float32)
    z_where = np.tile(on_canvas(OBJECTS, size, corner), (4, 1, 1))
    painted = tf.sigmoid(decode(tf.tile(LOOKS[None], [4, 1, 1]))) * truth[..., None, None]
    images = transformer.render_sum(painted, z_where, size)
    wrong = np.tile(on_canvas(OBJECTS + ERROR, size, corner), (4, 1, 1))
    z_what = np.tile(0.5 * LOOKS, (4, 1, 1))
    z_what[0, 2] = -4.0  # a small one, between the two
    found = Found(present, 0.9 * present, wrong, z_what, decode(tf.constant(z_what)), np.full((4, 3), KL, np.float32))
    view = View(images, None, images, images[:, None])
    return truth, view, Found(*map(tf.constant, found))


def settled(view, found, price=PRICE, shrink=True):
    return tf.function(lambda: settle(NETWORK, view, found, price, shrink), autograph=False)()


def log_likelihood(view, found):
    windows = tf.sigmoid(found.window_logits) * found.present[..., None, None]
    painted = transformer.render_sum(windows, found.z_where, transformer.size_of(view.images))
    return normal_log_prob(view.images, tf.clip_by_value(painted, 0.0, 1.0), STD).numpy()


@pytest.mark.parametrize(("size", "corner"), [(CANVAS, (0, 0)), ((90, 110), (0, 0)), ((90, 110), (37, 50))])
def test_superfluous_objects_go_and_others_stay(size, corner):
    truth, view, found = scenes(size, corner)
    after = settled(view, found)
    np.testing.assert_array_equal(after.present, truth)
    np.testing.assert_array_equal(after.presence, 0.9 * truth)
    log_probs = [log_likelihood(view, each) for each in (found, after)]
    assert (log_probs[1][:2] > log_probs[0][:2] + 50).all()
    np.testing.assert_array_equal(log_probs[1][2:], log_probs[0][2:])
    errors = [np.abs(each.z_where - on_canvas(OBJECTS, size, corner))[0, :2].max() for each in (found, after)]
    assert errors[1] < 0.5 * errors[0]


def test_all_scenes_at_once_and_only_those_in_doubt_agree():
    _, view, found = scenes()
    at_once, in_doubt = (settled(view, found, shrink=shrink) for shrink in (False, True))
    np.testing.assert_array_equal(at_once.present, in_doubt.present)
    np.testing.assert_allclose(at_once.z_where, in_doubt.z_where, atol=5e-3)
    np.testing.assert_allclose(log_likelihood(view, at_once), log_likelihood(view, in_doubt), atol=1.0)


def test_objects_without_neighbours_are_left_alone():
    _, view, found = scenes()
    apart = found.z_where.numpy()
    apart[:, :, 1:] = [[-0.7, -0.7], [0.7, 0.7], [0.7, -0.7]]
    found = found._replace(z_where=tf.constant(apart))
    for before, after in zip(found, settled(view, found), strict=True):
        np.testing.assert_array_equal(before, after)


def test_an_object_that_costs_more_than_it_adds_is_superfluous():
    truth, view, found = scenes()
    dear = PRICE._replace(count=tf.constant(1000.0))
    assert settled(view, found, dear).present.numpy()[1].sum() < truth[1].sum()


def test_a_quick_look_believes_the_networks(make_model, tiny_images, uncompiled):
    options = {"controller": "convolutional", "looks": 1, "decoder_bias": 0.0}
    model, plain = make_model(ascent_steps=5, **options), make_model(**options)
    for each in (model, plain):
        each.controller.presence.kernel.assign(100 * each.controller.presence.kernel)
    assert_same_scenes(model.infer(tiny_images, quick=True), plain.infer(tiny_images))
    thorough = model.infer(tiny_images)
    assert not np.allclose(thorough.z_what, plain.infer(tiny_images).z_what, atol=1e-3)
    assert_same_scenes(thorough, model(tiny_images))


@pytest.mark.parametrize(("probability", "proposed"), [(0.05, False), (0.3, True), (0.6, True)])
def test_less_likely_objects_are_proposed_where_they_are_settled(probability, proposed, make_model, tiny_images, uncompiled):
    model = make_model(ascent_steps=1, controller="convolutional", looks=1)
    model.controller.presence.kernel.assign(0 * model.controller.presence.kernel)
    model.controller.presence.bias.assign([logit(probability)])
    model.price = lambda: PRICE._replace(prior=generative.prior(model.config, 0), count=tf.constant(-1e4))
    assert (model.infer(tiny_images, quick=True).count == (3 if probability > 0.5 else 0)).all()
    assert (model.infer(tiny_images).count == (3 if proposed else 0)).all()


# Ascent


def latents(number, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    shapes = {"scale": (number, 2, 1), "shift": (number, 2, 2), "z_what": (number, 2, 3)}
    return {name: tf.constant(draw(shape), tf.float32) for name, shape in shapes.items()}


def test_ascent_finds_the_maxima_of_quadratic_functions():
    best = latents(4, seed=1)

    def objective(x):
        return -tf.add_n([tf.reduce_sum(3.0 * tf.square(x[name] - best[name]), axis=(1, 2)) for name in LATENTS])

    found, value = ascend(objective, latents(4), 300)
    for name in LATENTS:
        np.testing.assert_allclose(found[name], best[name], atol=0.02)
    np.testing.assert_allclose(value, objective(found), rtol=1e-5)


def test_ascent_never_ends_below_its_start():
    def objective(x):  # too steep for its steps
        return -1e4 * tf.add_n([tf.reduce_sum(tf.abs(x[name]), axis=(1, 2)) for name in LATENTS])

    start = {name: tf.concat([value, tf.zeros_like(value)], axis=0) for name, value in latents(2).items()}
    found, value = ascend(objective, start, 1)
    assert (value.numpy() >= objective(start).numpy()).all()
    for name in LATENTS:
        np.testing.assert_array_equal(found[name][2:], 0.0)


# Parts of canvases


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.integers(12, 70), st.integers(12, 70))
def test_a_part_of_a_canvas_is_within_it_and_as_large_as_a_training_scene(x, y, height, width):
    canvas = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    part = Part.around(tf.constant([[x, y]], tf.float32), (height, width), CANVAS)
    row, column = part.origin.numpy()[0]
    size = min(height, CANVAS[0]), min(width, CANVAS[1])
    np.testing.assert_array_equal(part.cut(tf.constant(canvas))[0], canvas[0, row : row + size[0], column : column + size[1]])
    assert part.cut(tf.constant(canvas)).shape == (1, *size)
    middle = (np.array([y, x]) + 1) / 2 * (height, width)
    corner = np.array([row, column])
    inside = (corner > 0) & (corner + size < (height, width))
    assert (np.abs(corner + np.array(size) / 2 - middle)[inside] <= 1.5).all()


def test_latents_of_a_part_are_those_of_the_canvas():
    _, _, found = scenes((90, 110), (37, 50))
    part = Part.around(found.z_where[:, 0, 1:], (90, 110), CANVAS)
    latents = part.latents(found.z_where, found.z_what)
    np.testing.assert_allclose(part.z_where(latents), found.z_where, atol=1e-6)
    assert np.abs(part.z_where({**latents, "shift": 9.0 * latents["shift"]})[..., 1:]).max() < 1
    np.testing.assert_allclose(latents["scale"][..., 0], np.tile(logit((OBJECTS + ERROR)[:, 0]), (4, 1)), rtol=1e-4)
    _, view, here = scenes()
    cut = Part.around(here.z_where[:, 0, 1:], CANVAS, CANVAS)
    np.testing.assert_array_equal(cut.cut(view.images), view.images)
    np.testing.assert_allclose(cut.latents(here.z_where, here.z_what)["shift"], here.z_where[..., 1:], atol=1e-6)
