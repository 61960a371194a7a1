"""The loss is the negative ELBO: against NumPy in float64, against finite differences, and finite wherever weights go."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.ndimage import map_coordinates
from scipy.special import expit, logit

WEIGHTS = {
    "z_pres_kl_weight": 0.7,
    "scale_kl_weight": 1.3,
    "shift_kl_weight": "linear(0, 2, steps=10)",
    "z_what_kl_weight": 0.4,
}
SEED = tf.constant([1, 2])


def model_at_step_5(make_model, **changes):
    """A model whose annealed values are all between their ends; z_what is its mean to within 1 %."""
    model = make_model(
        **changes,
        seed=4,
        z_pres_prior_odds="exponential(10, factor=0.1, every=5, limit=1e-6)",
        temperature="linear(1, 0.6, steps=10)",
        scale_prior_mean=-0.5,
        scale_prior_variance=0.3,
        shift_prior_mean=0.1,
        shift_prior_variance=0.8,
        z_what_prior_mean=-0.2,
        z_what_prior_variance=1.5,
        stop_threshold=0.8,
        activation="softplus",
        decoder_bias=-1.0,
        **WEIGHTS,
    )
    model.step.assign(5)
    bias = model.encoder.parameters.bias
    bias.assign(np.where(np.arange(8) < 4, 0, -100))  # to the least variance that the encoder can answer with
    return model


@pytest.fixture(scope="module")
def model(make_model):
    return model_at_step_5(make_model)


def gaussian_kl(mean, deviation, prior_mean, prior_variance):
    mean, variance = np.asarray(mean, np.float64), np.asarray(deviation, np.float64) ** 2
    return 0.5 * np.sum(
        np.log(prior_variance / variance) + (variance + (mean - prior_mean) ** 2) / prior_variance - 1, axis=-1
    )  # fmt: skip


def masks(z_pres, threshold):
    """Who had not stopped before a step, and who has not after it, scene by scene."""
    running, attending = np.zeros(z_pres.shape), np.zeros(z_pres.shape)
    for b, row in enumerate(z_pres):
        total = 0.0
        for t, z in enumerate(row):
            running[b, t] = total < threshold
            total += 1 - z
            attending[b, t] = total < threshold
    return running, attending


def read(picture, centre_x, centre_y, half_width, size):
    """Bilinear samples of a picture at `size` points that fill a rectangle, all in units where the picture is [-1, 1]."""
    rows, columns = ((np.arange(n) + 0.5) * 2 / n - 1 for n in size)
    rows, columns = half_width * rows + centre_y, half_width * columns + centre_x
    height, width = picture.shape
    grid = np.meshgrid((rows + 1) / 2 * height - 0.5, (columns + 1) / 2 * width - 0.5, indexing="ij")
    return map_coordinates(np.asarray(picture, np.float64), grid, order=1, mode="grid-constant")


def mlp(x, layer):
    *hidden, kernel, bias = [weight.astype(np.float64) for weight in layer.get_weights()]
    for k, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = np.logaddexp(0, x @ k + b)
    return x @ kernel + bias


class Steps(NamedTuple):
    """What the steps of scenes are, in NumPy."""

    p: np.ndarray  # [batch, steps] probability of presence, if all steps before are present
    kl: dict  # of scale, shift and z_what, [batch, steps] each
    objects: np.ndarray  # [batch, steps, height, width]

    def weighted_kl(self):
        return 1.3 * self.kl["scale"] + 1.0 * self.kl["shift"] + 0.4 * self.kl["z_what"]


def steps_of(model, images, z_where):
    """All that does not depend on how z_pres is learned, for windows in given places."""
    posterior = model.controller(images)
    where = z_where.numpy().astype(np.float64)
    logits = posterior.presence_logits.numpy().astype(np.float64)
    kl = {
        "scale": gaussian_kl(posterior.scale.loc, posterior.scale.scale, -0.5, 0.3),
        "shift": gaussian_kl(posterior.shift.loc, posterior.shift.scale, 0.1, 0.8),
        "z_what": np.zeros(logits.shape),
    }
    objects = np.zeros((*logits.shape, 20, 24))
    for b, t in np.ndindex(logits.shape):
        s, x, y = where[b, t]
        mean = mlp(read(images[b], x, y, s, (8, 6)).ravel(), model.encoder)[:4]
        kl["z_what"][b, t] = gaussian_kl(mean, np.full(4, np.exp(-6)), -0.2, 1.5)
        window = expit(mlp(mean, model.decoder).reshape(8, 6))
        objects[b, t] = read(window, -x / s, -y / s, 1 / s, (20, 24))
    return Steps(expit(logits), kl, objects)


def negative_log_likelihood(likelihood, images, canvas):
    if likelihood == "normal":
        return -stats.norm.logpdf(images, canvas, 0.4).sum(axis=(1, 2))
    canvas = canvas.clip(1e-6, 1 - 1e-6)
    return -np.sum(images * np.log(canvas) + (1 - images) * np.log(1 - canvas), axis=(1, 2))


LIKELIHOOD = pytest.mark.parametrize("likelihood", ["cross_entropy", "normal"])


def judged(make_model, images, likelihood, **changes):
    """A model, its losses, its estimate of z_pres, and its steps in NumPy."""
    model = model_at_step_5(make_model, likelihood=likelihood, likelihood_std="linear(0.5, 0.3, steps=10)", **changes)
    losses, estimate, attention = model.objective(tf.constant(images), SEED)
    return model, losses, estimate, steps_of(model, images, attention.z_where)


def assert_losses(losses, reconstruction, z_pres_kl, attending, steps):
    for name, kl in steps.kl.items():
        np.testing.assert_allclose(getattr(losses, f"{name}_kl"), attending * kl, rtol=2e-3, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(losses.z_pres_kl, z_pres_kl, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(losses.reconstruction, reconstruction, rtol=2e-3)
    weighted = 0.7 * z_pres_kl + attending * steps.weighted_kl()
    np.testing.assert_allclose(losses.total - losses.reconstruction, weighted.sum(axis=1), rtol=2e-3, atol=5e-3)


PRIOR_LOG_ODDS = np.log(10 * 0.1 ** (5 / 5))


@LIKELIHOOD
def test_the_loss_is_the_elbo_of_the_paper(likelihood, make_model, tiny_images):
    """With a Concrete z_pres in its place."""
    _, losses, estimate, steps = judged(make_model, tiny_images, likelihood)
    z = estimate.z_pres.numpy().astype(np.float64)
    running, attending = masks(z, 0.8)
    assert 0 < attending.sum() < running.sum() < attending.size
    temperature, logits = 0.8, logit(steps.p)
    log_q = stats.logistic.logpdf(logit(z), logits / temperature, 1 / temperature)
    log_p = stats.logistic.logpdf(logit(z), PRIOR_LOG_ODDS / temperature, 1 / temperature)
    canvas = np.einsum("bt,bthw->bhw", z * attending, steps.objects)
    reconstruction = negative_log_likelihood(likelihood, tiny_images, canvas)
    assert_losses(losses, reconstruction, running * (log_q - log_p), attending, steps)


def count_kl_by_step(p):
    """KL of the posterior of the count and its prior, by the chain rule; the sum is checked by enumeration."""
    prior = expit(PRIOR_LOG_ODDS)
    reached = np.concatenate([np.ones((len(p), 1)), np.cumprod(p, axis=1)[:, :-1]], axis=1)
    shares = reached * (p * np.log(p / prior) + (1 - p) * np.log((1 - p) / (1 - prior)))
    q, log_ratio = posterior_of_count(p), posterior_of_count(np.full_like(p, prior))
    np.testing.assert_allclose(shares.sum(axis=1), (q * np.log(q / log_ratio)).sum(axis=1), rtol=1e-6)
    return shares


def posterior_of_count(p):
    """q(n), [batch, steps + 1]."""
    ends = np.concatenate([1 - p, np.ones((len(p), 1))], axis=1)
    return np.concatenate([np.ones((len(p), 1)), np.cumprod(p, axis=1)], axis=1) * ends


@LIKELIHOOD
def test_the_loss_of_the_enumerated_count_is_brute_force(likelihood, make_model, tiny_images):
    _, losses, _, steps = judged(make_model, tiny_images, likelihood, estimator="enumerated")
    count = posterior_of_count(steps.p)
    reconstruction, attending = np.zeros(8), np.zeros((8, 3))
    for n in range(4):
        canvas = steps.objects[:, :n].sum(axis=1)
        reconstruction += count[:, n] * negative_log_likelihood(likelihood, tiny_images, canvas)
        attending[:, :n] += count[:, n, None]
    assert_losses(losses, reconstruction, count_kl_by_step(steps.p), attending, steps)


@LIKELIHOOD
def test_the_loss_of_nvil_is_the_elbo_of_its_sample(likelihood, make_model, tiny_images):
    changes = {"estimator": "nvil", "baseline_units": (5,)}
    _, losses, estimate, steps = judged(make_model, tiny_images, likelihood, **changes)
    assert len(set(estimate.z_pres.numpy().sum(axis=1))) > 1
    canvas = np.einsum("bt,bthw->bhw", estimate.z_pres, steps.objects)
    reconstruction = negative_log_likelihood(likelihood, tiny_images, canvas)
    assert_losses(losses, reconstruction, count_kl_by_step(steps.p), estimate.z_pres.numpy(), steps)


def test_z_where_is_drawn_from_the_posterior(model, tiny_images):
    number = 3000
    images = tf.constant(np.repeat(tiny_images[2:3], number, axis=0))
    _, estimate, attention = model.objective(images, tf.constant([3, 4]))
    z_where = attention.z_where
    posterior = model.controller(images[:1])
    scale, shift = logit(z_where[..., :1].numpy().astype(np.float64)), np.arctanh(z_where[..., 1:].numpy().astype(np.float64))
    for draws, normal in ((scale, posterior.scale), (shift, posterior.shift)):
        standard = (draws - normal.loc.numpy()) / normal.scale.numpy()
        for column in standard.reshape(number, -1).T:
            assert stats.kstest(column, stats.norm.cdf).pvalue > 1e-3
    draws = np.concatenate([array.reshape(number, -1) for array in (scale, shift, estimate.z_pres.numpy())], axis=1)
    correlation = np.corrcoef(draws, rowvar=False)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / number**0.5


def test_draws_depend_on_the_seed(model, tiny_images):
    seeds = ([1, 2], [1, 2], [1, 3])
    first, again, other = (model.objective(tf.constant(tiny_images), tf.constant(seed))[0].total for seed in seeds)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2


def loss_and_gradients(model, images):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.objective(tf.constant(images), SEED)[0].total)
    return loss, tape.gradient(loss, model.trainable_variables)


OTHER_WAYS = {
    "estimator": "enumerated",
    "controller_input": "latents",
    "refiner_units": (6,),
    "refinement": "linear(0, 1, steps=10)",
    "likelihood": "normal",
    "window_size": (5, 4),  # fewer kinks between pixels
}


@pytest.fixture(params=[{"refiner_units": ()}, OTHER_WAYS], ids=["concrete", "enumerated, latents, refiner, normal"])
def smooth_model(request, model, make_model):
    """A model whose loss has few kinks nearby.

    The canvas stays away from 0 and 1, where its logarithm bends sharply, because windows are dim and cover it; no ReLU is at
    its kink, as all are for a black picture before training.
    """
    smooth = make_model(**{**model.config.to_dict(), "decoder_bias": -3.0, **request.param})
    rng = np.random.default_rng(0)
    for variable in smooth.trainable_variables:
        if variable.path.endswith("bias"):
            variable.assign_add(rng.normal(0, 0.2, variable.shape))
    for head, bias in {"scale_mean": 4, "scale_log_variance": -4, "shift_log_variance": -5, "presence": 1.5}.items():
        variable = smooth.controller.heads[head].layers[-1].bias
        variable.assign_add(np.full(variable.shape, bias))
    smooth.step.assign(5)
    return smooth


def test_gradients_by_finite_differences(smooth_model, tiny_images):
    """Along the gradient of each weight array, and along random directions that mix all of them."""
    model, variables, tiny_images = smooth_model, smooth_model.trainable_variables, 0.1 + 0.6 * tiny_images
    _, gradients = loss_and_gradients(model, tiny_images)
    gradients = [gradient.numpy() for gradient in gradients]
    before = [variable.numpy() for variable in variables]
    rng = np.random.default_rng(0)
    total = tf.function(lambda: model.objective(tf.constant(tiny_images), SEED)[0].total)

    def difference(direction, h):
        values = []
        for sign in (1, -1):
            for variable, value, d in zip(variables, before, direction, strict=True):
                variable.assign(value + sign * h * d)
            values.append(total().numpy().astype(np.float64).mean())
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return (values[0] - values[1]) / (2 * h)

    checked = []
    for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        norm = np.linalg.norm(gradient)
        if norm < 0.3:  # its weights would have to change too much for a difference that float32 can show
            continue
        direction = [gradient / norm if i == j else np.zeros_like(g) for j, g in enumerate(gradients)]
        if difference(direction, 0.02 / norm) != pytest.approx(norm, rel=0.01):  # a kink may lie within this reach
            assert difference(direction, 0.005 / norm) == pytest.approx(norm, rel=0.01), variable.path
        checked.append(variable.path)
    heads = ("scale_mean", "scale_log_variance", "shift_mean", "shift_log_variance", "presence")
    chosen = ("latent_gates", "refiner") if model.refiner else ()
    for part in ("input_gates", "recurrent_gates", *heads, "encoder", "decoder", *chosen):
        assert any(part in path for path in checked), part
    whole = np.sqrt(sum(np.sum(g**2) for g in gradients))
    for _ in range(3):
        direction = [rng.normal(size=g.shape) / np.sqrt(g.size) + g / whole for g in gradients]
        slope = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
        assert difference(direction, 0.02 / abs(slope)) == pytest.approx(slope, rel=0.02)


def test_the_loss_of_the_next_step(model, tiny_images):
    expected = model.objective(tf.constant(tiny_images), tf.constant([4, 5]))[0].total.numpy().mean()  # [seed, step]
    assert float(model.loss_of(tf.constant(tiny_images))) == pytest.approx(expected, rel=1e-6)


def test_decoder_noise(make_model, tiny_images):
    quiet, noisy = make_model(), make_model(decoder_noise="linear(0, 2, steps=10)")
    noisy.set_weights(quiet.get_weights())
    images = tf.constant(tiny_images)
    expected = quiet.objective(images, SEED)[0]
    np.testing.assert_allclose(noisy.objective(images, SEED)[0].total, expected.total, rtol=1e-6)  # 0 at step 0
    noisy.step.assign(10)
    quiet.step.assign(10)
    loud, expected = noisy.objective(images, SEED)[0], quiet.objective(images, SEED)[0]
    assert np.abs(loud.reconstruction - expected.reconstruction).max() > 1
    for name in ("z_pres_kl", "scale_kl", "shift_kl", "z_what_kl"):
        np.testing.assert_allclose(getattr(loud, name), getattr(expected, name), rtol=1e-5)
    assert np.abs(loud.reconstruction - noisy.objective(images, tf.constant([1, 3]))[0].reconstruction).max() > 1


def test_the_objective_looks_once(make_model, tiny_images):
    """In training and in judging, however often inference looks."""
    once, twice = (make_model(looks=looks, decoder_bias=0.0) for looks in (1, 2))
    twice.set_weights(once.get_weights())
    images = tf.constant(tiny_images)
    assert np.abs(twice.infer(tiny_images).z_what - once.infer(tiny_images).z_what).max() > 0.01
    for training in (True, False):
        ours, theirs = (model.objective(images, SEED, training=training)[0].total for model in (once, twice))
        np.testing.assert_array_equal(ours, theirs)
    for model in (once, twice):
        model.compile(jit_compile=False)
    counts = tf.zeros(8, tf.int32)
    logs = [{name: float(value) for name, value in model.test_step((images, counts)).items()} for model in (once, twice)]
    assert logs[0] == logs[1]


def set_bias(layer, value):
    layer.kernel.assign(0 * layer.kernel)
    layer.bias.assign(0 * layer.bias + value)


def test_weighted_kl_does_not_touch_the_rest(make_model, tiny_images):
    one, none = (make_model(**dict.fromkeys(WEIGHTS, weight)) for weight in (1.0, 0.0))
    none.set_weights(one.get_weights())
    a, b = one.objective(tf.constant(tiny_images), SEED)[0], none.objective(tf.constant(tiny_images), SEED)[0]
    np.testing.assert_allclose(b.total, b.reconstruction, rtol=1e-6)
    np.testing.assert_allclose(a.z_pres_kl, b.z_pres_kl, rtol=1e-6)
    np.testing.assert_allclose(a.total, a.reconstruction + sum(tf.reduce_sum(kl, axis=1) for kl in a[2:]), rtol=1e-5)


def refiner_says(model, value):
    for variable in model.refiner.trainable_variables:
        variable.assign(0 * variable + value)


SATURATED = {
    "as built": lambda model: None,
    "huge weights": lambda model: model.set_weights([w * 30 if w.ndim else w for w in model.get_weights()]),
    "black decoder": lambda model: set_bias(model.decoder.logits, -200),
    "white decoder": lambda model: set_bias(model.decoder.logits, 200),
    "sure presence": lambda model: set_bias(model.controller.heads["presence"].layers[-1], 60),
    "sure absence": lambda model: set_bias(model.controller.heads["presence"].layers[-1], -60),
    "tiny windows": lambda model: set_bias(model.controller.heads["scale_mean"].layers[-1], -50),
    "vanishing windows": lambda model: set_bias(model.controller.heads["scale_mean"].layers[-1], -200),
    "whole canvas": lambda model: set_bias(model.controller.heads["scale_mean"].layers[-1], 200),
    "in the corner": lambda model: set_bias(model.controller.heads["shift_mean"].layers[-1], 200),
    "wide": lambda model: set_bias(model.controller.heads["shift_log_variance"].layers[-1], 1e4),
    "refined far away": lambda model: refiner_says(model, 1e3),
    "refined to nothing": lambda model: refiner_says(model, -1e3),
    "narrow": lambda model: set_bias(model.controller.heads["scale_log_variance"].layers[-1], -1e4),
}


ESTIMATORS = {"concrete": {}, "nvil": {"controller_input": "latents"}, "enumerated": {"controller_input": "residual"}}


OF_PRESENCE = ("huge weights", "white decoder", "sure presence", "sure absence")
CASES = [*((name, "concrete") for name in SATURATED), *((name, p) for name in OF_PRESENCE for p in ("nvil", "enumerated"))]


@pytest.mark.parametrize(("name", "presence"), CASES)
def test_saturation_is_finite(name, presence, make_model, tiny_images):
    likelihood = "cross_entropy" if presence == "concrete" else "normal"
    refiner = (4,) if "refined" in name else ()
    model = make_model(estimator=presence, likelihood=likelihood, refiner_units=refiner, refinement=1.0, **ESTIMATORS[presence])
    SATURATED[name](model)
    images = np.concatenate([np.zeros((2, 20, 24), np.float32), np.ones((2, 20, 24), np.float32), tiny_images])
    for step in (0, 10**6):  # prior odds of 1e4, and of 1e-9
        model.step.assign(step)
        loss, gradients = loss_and_gradients(model, images)
        assert np.isfinite(loss)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            assert np.isfinite(gradient).all(), variable.path
    for field, array in model.infer(images)._asdict().items():
        assert np.isfinite(array).all(), field
