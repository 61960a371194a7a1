"""The controller without memory: it agrees with NumPy, and knows neither the size of a canvas nor where on it something is."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import draw_blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import correlate
from scipy.special import expit, softmax

from air.model import cells, transformer
from air.model.cells import CellController, Explained

CELL, TRAINING = 4, (20, 24)  # pixels


def make_controller(seed=1, **weights):
    """Build a controller with random weights, none of them 0, except for those that are given."""
    controller = CellController(TRAINING, scale_mean=-0.3, cell_size=CELL, filters=(4, 5), units=6, name="controller")
    controller.build((None, *TRAINING))
    rng = np.random.default_rng(seed)
    controller.set_weights([rng.normal(0, 0.3, weight.shape) for weight in controller.get_weights()])
    for name, value in {"saliency": 8.0, "inhibition": 3.0, "slope": [0.7, 1.2], **weights}.items():
        getattr(controller, name).assign(value)
    return controller


@pytest.fixture(scope="module")
def controller():
    return make_controller()


def take_step(controller, canvas, residual=None, coverage=None):
    """Take a step on one canvas, at the beginning unless something is explained already."""
    canvas = tf.constant(canvas[None], tf.float32)
    explained = Explained(canvas, tf.zeros_like(canvas))
    if residual is not None:
        explained = Explained(tf.constant(residual[None], tf.float32), tf.constant(coverage[None], tf.float32))
    return controller(controller.read(canvas), explained)


def in_pixels(posterior, size):
    """Summarise one scene's posterior so that it can be compared between canvases."""
    scale, shift = posterior.where["scale"], posterior.where["shift"]
    x, y = (np.tanh(shift.loc[0, 0]) + 1) / 2 * [size[1], size[0]]
    return np.array([x, y, float(scale.loc[0, 0, 0]), float(scale.scale[0, 0, 0]), float(posterior.presence_logits[0, 0])])


def around(mean, size):
    """Average over the cells around each one, as far as there are any."""
    window = np.ones((size, size))
    return correlate(mean, window, mode="constant") / correlate(np.ones_like(mean), window, mode="constant")


def reference(weights, canvas, residual, coverage):
    """Take one step in float64; return the centre in pixels, the other means and log-variances, and the log-odds."""
    w = weights
    rows, columns = canvas.shape[0] // CELL, canvas.shape[1] // CELL

    def divide(image):
        return image.reshape(rows, CELL, columns, CELL).swapaxes(1, 2).reshape(rows, columns, -1)

    padded = np.pad(canvas, CELL // 2)
    patches = [[padded[r : r + 2 * CELL, c : c + 2 * CELL] for c in CELL * np.arange(columns)] for r in CELL * np.arange(rows)]
    features = np.maximum(np.einsum("rcyx,yxin->rcn", patches, w["convolution_0/kernel"]) + w["convolution_0/bias"], 0)
    kernels = np.moveaxis(w["convolution_1/kernel"], -1, 0)
    planes = [correlate(features, kernel, mode="constant")[..., 2] for kernel in kernels]  # [2]: where all channels overlap
    features = np.maximum(np.stack(planes, axis=-1) + w["convolution_1/bias"], 0)

    left, covered = divide(residual).mean(axis=-1), divide(coverage).mean(axis=-1)
    sizes = cells.NEIGHBOURHOODS
    means = [10 * around(left, size) for size in sizes] + [covered] + [around(covered, size) for size in sizes]
    explained = np.concatenate([3 * divide(residual), np.stack(means, axis=-1)], axis=-1)

    def dense(name, x):
        return x @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0)

    hidden = np.maximum(dense("from_canvas", features) + dense("from_explained", explained), 0)
    logits = dense("presence", hidden)[..., 0]
    place = CELL * np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), axis=-1)
    score = cells.SHARPNESS * dense("score", hidden)[..., 0] + logits - place @ w["slope"] * 2 / max(*TRAINING, *canvas.shape)
    score += w["saliency"] * around(left, sizes[1]) - w["inhibition"] * covered
    best = np.unravel_index((score + 5 * expit(logits)).argmax(), score.shape)
    near = np.maximum(*(np.abs(index - i) for index, i in zip(np.indices(score.shape), best, strict=True))) <= cells.RADIUS
    choice = np.zeros_like(score)
    choice[near] = softmax(score[near])
    where = (choice[..., None] * dense("where", hidden)).sum(axis=(0, 1))
    centre = (choice[..., None] * place).sum(axis=(0, 1)) + cells.REACH * CELL * np.tanh(where[:2])
    shift = np.arctanh((2 * centre / canvas.shape[::-1] - 1).clip(-0.999, 0.999))
    stds = np.array([cells.INITIAL_STD[0], *[cells.INITIAL_STD[1] * max(TRAINING) / max(canvas.shape)] * 2])
    return np.concatenate([[where[2] - 0.3], shift, where[3:] + 2 * np.log(stds), [(choice * logits).sum()]])


def weights_of(controller):
    """The weights by name, in float64."""
    return {v.path.removeprefix("controller/"): v.numpy().astype(np.float64) for v in controller.weights}


def flat(posterior):
    """The first scene's posterior in the order of `reference`."""
    means, stds = zip(*((posterior.where[name].loc, posterior.where[name].scale) for name in ("scale", "shift")), strict=True)
    return tf.concat([*means, *(2 * tf.math.log(std) for std in stds), posterior.presence_logits[:, None]], axis=-1)[0, 0]


def a_scene(size, seed):
    """A canvas, what is left of it, and where windows have been: [H, W] each."""
    rng = np.random.default_rng(seed)
    canvas = draw_blobs(size, rng.uniform(3, min(size) - 3, (3, 2)))
    coverage = np.zeros(size)
    y, x = rng.integers(0, 12, 2)
    coverage[y : y + 7, x : x + 6] = 1
    return canvas, canvas * rng.uniform(0, 1, size), coverage


@pytest.mark.parametrize("size", [TRAINING, (8, 12), (28, 16), (40, 48)])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_agrees_with_numpy(size, seed):
    controller = make_controller(seed)
    scene = a_scene(size, seed)
    expected = reference(weights_of(controller), *scene)
    np.testing.assert_allclose(flat(take_step(controller, *scene)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cell_size", [3, 4])
def test_the_first_layer_is_a_convolution(cell_size):
    """Keras' own, of a canvas in colour that is completed with zeros to whole cells."""
    controller = CellController(TRAINING, cell_size=cell_size, filters=(4,), units=6, channels=3)
    controller.build((None, *TRAINING, 3))
    (layer,), rng = controller.convolutions, np.random.default_rng(0)
    layer.bias.assign(rng.normal(size=4))
    canvas = rng.random((2, 16, 19, 3)).astype(np.float32)
    padded = np.pad(canvas, [(0, 0), (0, -16 % cell_size), (0, -19 % cell_size), (0, 0)])
    expected = controller.from_canvas(layer(padded))
    np.testing.assert_allclose(controller.read(tf.constant(canvas)), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_gradients_agree_with_finite_differences(seed):
    """Compare with those of the reference, which has more digits, along a random direction of each weight array."""
    controller, rng = make_controller(seed), np.random.default_rng(seed)
    scene, direction = a_scene(TRAINING, seed), rng.normal(size=7)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(flat(take_step(controller, *scene)) * direction.astype(np.float32))
    gradients = tape.gradient(value, controller.trainable_variables)
    for variable, gradient in zip(controller.trainable_variables, gradients, strict=True):
        change, values = rng.normal(size=variable.shape), []
        for h in (1e-6, -1e-6):
            weights = weights_of(controller)
            weights[variable.path.removeprefix("controller/")] += h * change
            values.append(reference(weights, *scene) @ direction)
        expected = (values[0] - values[1]) / 2e-6
        assert np.sum(gradient * change) == pytest.approx(expected, rel=5e-3, abs=2e-3), variable.path
        assert np.any(gradient), variable.path


SCORES = st.floats(-30, 30, width=32, allow_subnormal=False)  # TensorFlow takes subnormal numbers for 0


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.tuples(st.just(2), st.just(2), st.integers(1, 9), st.integers(1, 9)), elements=SCORES))
def test_the_choice_is_a_softmax_near_the_best_cell(score_and_bonus):
    score, bonus = score_and_bonus
    answer = cells._softmax_around_best(tf.constant(score), tf.constant(bonus)).numpy()
    np.testing.assert_allclose(answer.sum(axis=(1, 2)), 1, rtol=1e-5)
    for scene, more, choice in zip(score, bonus, answer, strict=True):
        row, column = np.unravel_index((scene + more).argmax(), scene.shape)
        r, c = (slice(max(i - cells.RADIUS, 0), i + cells.RADIUS + 1) for i in (row, column))
        expected = np.zeros_like(scene)
        expected[r, c] = softmax(scene[r, c])
        np.testing.assert_allclose(choice, expected, rtol=1e-4, atol=1e-6)
        assert (choice[expected == 0] == 0).all()


@pytest.mark.parametrize(("certainty", "expected"), [(5.0, 24), (0.0, 6)])
def test_an_object_goes_before_an_empty_cell_with_a_better_score(certainty, expected):
    """The score is learned so that it just makes up for the log-odds, and the slope is against the object."""
    controller = make_controller(saliency=0.0, inhibition=0.0, slope=[1.0, 1.0])
    controller.certainty = certainty
    for layer in (controller.from_canvas, controller.from_explained, controller.where):
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    mean_residual = np.zeros(controller.from_explained.kernel.shape)
    mean_residual[CELL**2] = 1  # of 3 x 3 cells
    controller.from_explained.kernel.assign(mean_residual)
    controller.presence.set_weights([np.full((6, 1), 6.0), np.array([-4.0])])
    controller.score.set_weights([np.full((6, 1), -6.0 / cells.SHARPNESS)])
    posterior = take_step(controller, draw_blobs((30, 30), [(24, 24)]))
    assert (posterior.presence_logits[0, 0] > 0) == (certainty > 0)
    np.testing.assert_allclose(in_pixels(posterior, (30, 30))[:2], expected, atol=2.5 * CELL)


# What it doesn't know


CENTRES = np.array([[37, 39], [46, 36], [43.5, 47]])  # of blobs far from the borders of a canvas of 80x84


def test_the_answer_moves_with_the_canvas():
    controller = make_controller(seed=2, slope=[0.0, 0.0])
    before = in_pixels(take_step(controller, draw_blobs((80, 84), CENTRES)), (80, 84))
    assert np.abs(before[:2] - CENTRES.mean(axis=0)).max() < 10
    for x, y in ((CELL, 0), (0, -CELL), (-CELL, 2 * CELL)):
        after = in_pixels(take_step(controller, draw_blobs((80, 84), np.add(CENTRES, (x, y)))), (80, 84))
        np.testing.assert_allclose(after - before, [x, y, 0, 0, 0], atol=1e-3)


@pytest.mark.parametrize("size", [(80, 84), (78, 81), (79, 84)])
def test_the_answer_does_not_depend_on_the_size_of_the_canvas(size):
    """In pixels, and without the slope; the cells at the borders see that there is nothing beyond."""
    controller = make_controller(seed=2, slope=[0.0, 0.0])
    canvas, larger = draw_blobs(size, CENTRES), np.zeros((112, 120), np.float32)
    larger[12 : 12 + size[0], 20 : 20 + size[1]] = canvas
    before, after = (in_pixels(take_step(controller, picture), picture.shape) for picture in (canvas, larger))
    np.testing.assert_allclose(after - before, [20, 12, 0, 0, 0], atol=1e-3)


@pytest.mark.parametrize("size", [(17, 24), (18, 21), (19, 22), (20, 23)])
def test_a_last_cell_may_be_cut_off(size, controller):
    """Beyond the canvas it is black."""
    scene = a_scene(size, 0)
    padded = [np.pad(image, [(0, 20 - size[0]), (0, 24 - size[1])]) for image in scene]
    expected = in_pixels(take_step(controller, *padded), (20, 24))
    np.testing.assert_allclose(in_pixels(take_step(controller, *scene), size), expected, atol=3e-3)


def test_the_initial_shift_has_the_same_std_in_pixels():
    controller = make_controller()
    controller.where.set_weights([0 * weight for weight in controller.where.get_weights()])
    for size in (TRAINING, (40, 48), (200, 160)):
        shift = take_step(controller, draw_blobs(size, [(size[1] / 2, size[0] / 2)])).where["shift"]
        np.testing.assert_allclose(shift.scale * max(size), cells.INITIAL_STD[1] * max(TRAINING), rtol=1e-4)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_a_window_never_leaves_the_canvas(offset, controller):
    copy = make_controller()
    copy.where.bias.assign(np.full(6, offset))
    posterior = take_step(copy, *a_scene(TRAINING, 0))
    assert np.abs(np.tanh(posterior.where["shift"].loc)).max() <= 0.9991
    assert all(np.isfinite(array).all() for array in flat(posterior))


def test_configuration_round_trip(controller):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(controller))
    assert copy.get_config() == controller.get_config()
    copy.set_weights(controller.get_weights())
    scene = a_scene(TRAINING, 3)
    np.testing.assert_array_equal(flat(take_step(copy, *scene)), flat(take_step(controller, *scene)))


def test_scenes_do_not_mix(controller):
    scenes = np.stack([a_scene(TRAINING, seed) for seed in range(3)], axis=1).astype(np.float32)
    canvas, *explained = map(tf.constant, scenes)
    together = controller(controller.read(canvas), Explained(*explained))
    alone = take_step(controller, *(images[1] for images in scenes))
    np.testing.assert_allclose(together.where["shift"].loc[1], alone.where["shift"].loc[0], atol=1e-5)
    np.testing.assert_allclose(together.presence_logits[1], alone.presence_logits[0], atol=1e-5)


def test_what_is_explained():
    """The residual is never negative, the coverage never above 1, and no gradient passes."""
    canvas, windows = (np.random.default_rng(0).random((2, *size), np.float32) for size in ((20, 24), (1, 8, 6)))
    places = np.array([[[[0.4, -0.2, 0.1]], [[0.3, 0.5, -0.5]]], [[[0.5, 0.1, 0.3]], [[0.4, -0.6, 0.2]]]], np.float32)
    explained = Explained(tf.constant(canvas), tf.zeros_like(canvas))
    np.testing.assert_array_equal(explained.residual, canvas)
    assert not np.any(explained.coverage)
    residual, coverage, windows = canvas, 0, tf.constant(windows)
    with tf.GradientTape() as tape:
        tape.watch(windows)
        for z_where in places:
            explained = explained.by(windows, tf.constant(z_where))
        total = tf.reduce_sum(explained.residual) + tf.reduce_sum(explained.coverage)
    assert tape.gradient(total, windows) is None
    for z_where in places:
        residual = np.maximum(residual - transformer.render(windows, z_where, (20, 24)).numpy()[:, 0], 0)
        coverage = np.maximum(coverage, transformer.render(tf.ones_like(windows), z_where, (20, 24)).numpy()[:, 0])
    np.testing.assert_allclose(explained.residual, residual, atol=1e-5)
    np.testing.assert_allclose(explained.coverage, coverage, atol=1e-5)
    assert coverage.max() <= 1 + 1e-5
