"""Objects add up, or cover what lies behind them: known answers, and what any order of the objects must leave unchanged."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, logit

from air.model import transformer
from air.model.composition import MAX_NEARNESS, Composition

SIZE = WINDOW = (4, 4)
WHOLE = [1.0, 0.0, 0.0]  # a window as large as the canvas
OPAQUE, CLEAR = 20.0, -20.0
COLOURS = np.array([[0.9, 0.2, 0.4], [0.1, 0.6, 0.7], [0.5, 0.5, 0.2]])
BACKGROUND = np.array([0.3, 0.8, 0.1])
OVER = Composition("over", 3)


def windows(opacities, nearness, colours=COLOURS):
    """Logits of one scene whose objects have one colour each: [1, steps, 4, 4, 5]."""
    pixel = np.concatenate([logit(colours[: len(opacities)]), np.stack([opacities, nearness], axis=-1)], axis=-1)
    return tf.constant(np.tile(pixel[None, :, None, None], (1, 1, *WINDOW, 1)), tf.float32)


def canvas(logits, z_pres=None, background=BACKGROUND, composition=OVER):
    """The middle pixel of the canvas."""
    z_where = tf.tile(tf.constant([[WHOLE]]), [1, logits.shape[1], 1])
    painted = transformer.render_sum(composition.paint(logits, z_pres), z_where, SIZE)
    behind = None if background is None else tf.fill([1, *SIZE, 1], 1.0) * tf.constant(background, tf.float32)
    return composition.flatten(painted, behind).numpy()[0, 2, 2]


@pytest.mark.parametrize(("nearness", "seen"), [((5, -5), 0), ((-5, 5), 1)])
def test_the_nearer_of_two_opaque_objects_hides_the_other(nearness, seen):
    np.testing.assert_allclose(canvas(windows([OPAQUE, OPAQUE], nearness)), COLOURS[seen], atol=2e-3)


def test_equally_near_objects_mix():
    np.testing.assert_allclose(canvas(windows([OPAQUE, OPAQUE], [1, 1])), COLOURS[:2].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("background", [BACKGROUND, None])
def test_opacity_decides_between_object_and_background(background):
    behind = np.zeros(3) if background is None else background
    for opacity, expected in ((OPAQUE, COLOURS[0]), (CLEAR, behind), (0.0, (COLOURS[0] + behind) / 2)):
        np.testing.assert_allclose(canvas(windows([opacity], [0]), background=background), expected, atol=1e-5)


def test_z_pres_multiplies_the_opacity():
    logits = windows([OPAQUE, 0.4], [0, 1])
    np.testing.assert_allclose(canvas(logits, tf.constant([[0.0, 0.0]])), BACKGROUND, atol=1e-6)
    np.testing.assert_allclose(canvas(logits, tf.constant([[0.0, 1.0]])), canvas(logits[:, 1:]), atol=1e-6)
    half = canvas(logits, tf.constant([[0.5, 0.0]]))
    np.testing.assert_allclose(half, (COLOURS[0] + BACKGROUND) / 2, atol=1e-5)


def test_three_objects_agree_with_the_formula():
    opacities, nearness = np.array([0.7, -1.0, 0.1]), np.array([1.5, 0.0, -2.0])
    weight = expit(opacities) * np.exp(MAX_NEARNESS * np.tanh(nearness / MAX_NEARNESS))
    clear = np.prod(1 - expit(opacities))
    expected = clear * BACKGROUND + (1 - clear) * weight @ COLOURS / weight.sum()
    np.testing.assert_allclose(canvas(windows(opacities, nearness)), expected, rtol=1e-5)
    order = [2, 0, 1]
    permuted = canvas(windows(opacities[order], nearness[order], COLOURS[order]))
    np.testing.assert_allclose(permuted, expected, rtol=1e-5)


def test_taking_an_object_away_is_never_having_painted_it():
    logits = windows([1.0, OPAQUE, 0.3], [0.5, 2.0, -1.0])
    all_painted, one = OVER.paint(logits), OVER.paint(logits[:, 1:2])
    rest = OVER.flatten(tf.reduce_sum(all_painted, axis=1) - one[:, 0]).numpy()
    expected = OVER.flatten(tf.reduce_sum(OVER.paint(tf.gather(logits, [0, 2], axis=1)), axis=1)).numpy()
    np.testing.assert_allclose(rest, expected, atol=1e-4)


def test_visible_fractions_and_the_background_fill_each_pixel():
    painted = OVER.paint(windows([0.5, -0.3, 1.0], [1.0, 0.0, 2.0]))
    total = tf.reduce_sum(painted, axis=1)
    visible = [OVER.visible(painted[:, step], total).numpy() for step in range(3)]
    clear = np.prod(1 - expit([0.5, -0.3, 1.0]))
    np.testing.assert_allclose(np.sum(visible, axis=0) + clear, 1, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_objects_add_up_with_the_background(channels):
    composition = Composition("add", channels)
    logits = tf.constant(np.random.default_rng(0).normal(size=(1, 2, *WINDOW, *composition.painted_shape)), tf.float32)
    painted = composition.paint(logits, tf.constant([[1.0, 0.5]]))
    np.testing.assert_allclose(painted, expit(logits.numpy()) * np.reshape([1, 0.5], [2] + [1] * (painted.ndim - 2)), rtol=1e-5)
    picture = composition.flatten(painted[:, 0], tf.fill(painted.shape[:1] + painted.shape[2:], 0.25))
    np.testing.assert_allclose(picture, painted.numpy()[:, 0] + 0.25, rtol=1e-6)


def test_gradients_agree_with_finite_differences():
    rng = np.random.default_rng(1)
    composition = Composition("over", 1)
    logits, direction = (rng.normal(size=(2, 2, *WINDOW, 3)).astype(np.float32) for _ in range(2))
    z_where = tf.constant(rng.uniform(0.3, 0.6, (2, 2, 3)), tf.float32)
    background = tf.constant(rng.uniform(size=(2, 6, 5)), tf.float32)

    def loss(logits):
        painted = transformer.render_sum(composition.paint(logits, tf.fill([2, 2], 0.8)), z_where, (6, 5))
        return tf.reduce_sum(composition.flatten(painted, background) ** 2)

    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(variable)
    slope = float(tf.reduce_sum(tape.gradient(value, variable) * direction))
    assert slope == pytest.approx(
        (float(loss(logits + 1e-2 * direction)) - float(loss(logits - 1e-2 * direction))) / 2e-2, rel=2e-2
    )


def test_saturated_logits_have_finite_gradients():
    logits = tf.Variable(windows([100.0, -100.0], [100.0, -100.0]))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(OVER.flatten(tf.reduce_sum(OVER.paint(logits), axis=1)))
    assert np.isfinite(tape.gradient(value, logits).numpy()).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_rendered_and_cropped_one_by_one(channels):
    rng = np.random.default_rng(2)
    windows = tf.constant(rng.uniform(size=(2, 3, 5, 4, channels)), tf.float32)
    z_where = tf.constant(rng.uniform(0.2, 0.6, (2, 3, 3)), tf.float32)
    for function in (transformer.render, transformer.render_sum, transformer.render_cumsum):
        together = function(windows, z_where, (9, 11)).numpy()
        for channel in range(channels):
            np.testing.assert_allclose(together[..., channel], function(windows[..., channel], z_where, (9, 11)), atol=1e-5)
    for steps in (1, 3):
        canvases = tf.constant(rng.uniform(size=(2, steps, 9, 11, channels)), tf.float32)
        together = transformer.crop(canvases, z_where, (5, 4)).numpy()
        for channel in range(channels):
            alone = transformer.crop(canvases[..., channel], z_where, (5, 4))
            np.testing.assert_allclose(together[..., channel], alone, atol=1e-5)
