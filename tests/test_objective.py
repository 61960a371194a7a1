"""The loss is the negative ELBO: it agrees with NumPy in float64, and its gradients with finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.ndimage import center_of_mass, map_coordinates
from scipy.special import expit, logit

from air.model.cells import CellController
from air.model.objective import eccentricity

KL_WEIGHTS = {"z_pres": 0.7, "scale": 1.3, "shift": 1.0, "z_what": 0.4}  # at step 5
PRIORS = {"scale": (-0.5, 0.3), "shift": (0.1, 0.8), "z_what": (-0.2, 1.5)}  # mean and variance
PRIOR_LOG_ODDS = np.log(10 * 0.1 ** (5 / 5))
TEMPERATURE, STOP_THRESHOLD = 0.8, 0.8
SEED = tf.constant([1, 2])


@pytest.fixture(scope="module")
def make_annealed(make_model):
    """Build a model whose annealed values are all between their ends, and whose z_what is its mean to within 1 %."""

    def make(**changes):
        config = {f"{name}_kl_weight": weight for name, weight in KL_WEIGHTS.items()}
        config["shift_kl_weight"] = "linear(0, 2, steps=10)"
        for name, (mean, variance) in PRIORS.items():
            config |= {f"{name}_prior_mean": mean, f"{name}_prior_variance": variance}
        model = make_model(
            **config,
            **changes,
            seed=4,
            z_pres_prior_odds="exponential(10, factor=0.1, every=5, limit=1e-6)",
            temperature="linear(1, 0.6, steps=10)",
            stop_threshold=STOP_THRESHOLD,
            activation="softplus",
            decoder_bias=-1.0,
        )
        model.step.assign(5)
        model.encoder.parameters.bias.assign(np.where(np.arange(8) < 4, 0, -100))  # the least variance of z_what
        return model

    return make


@pytest.fixture(scope="module")
def model(make_annealed):
    return make_annealed()


# The loss in NumPy


def gaussian_kl(mean, std, prior_mean, prior_variance):
    mean, variance = np.asarray(mean, np.float64), np.asarray(std, np.float64) ** 2
    terms = np.log(prior_variance / variance) + (variance + (mean - prior_mean) ** 2) / prior_variance - 1
    return 0.5 * terms.sum(axis=-1)


def sample(picture, centre_x, centre_y, pixel, size):
    """Sample a picture bilinearly at `size` points around a centre, `pixel` apart, all in pixels of the picture."""
    rows, columns = (pixel * (np.arange(n) - (n - 1) / 2) for n in size)
    grid = np.meshgrid(rows + centre_y - 0.5, columns + centre_x - 0.5, indexing="ij")
    return map_coordinates(np.asarray(picture, np.float64), grid, order=1, mode="grid-constant")


def mlp(x, layer):
    *hidden, kernel, bias = [weight.astype(np.float64) for weight in layer.get_weights()]
    for k, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = np.logaddexp(0, x @ k + b)
    return x @ kernel + bias


def infer(model, images, attention):
    """Infer what does not depend on the estimator, for windows where the controller puts them, in float64.

    Returns the probability of presence if all steps before are present, [batch, steps]; the KLs of scale, shift and z_what,
    [batch, steps] each; and every object on a canvas of its own, [batch, steps, height, width].
    """
    where, logits = (x.numpy().astype(np.float64) for x in (attention.z_where, attention.presence_logits))
    posterior = {name: attention.posterior[name] for name in ("scale", "shift")}
    kl = {name: gaussian_kl(q.loc, q.scale, *PRIORS[name]) for name, q in posterior.items()}
    kl["z_what"], objects = np.zeros(logits.shape), np.zeros((*logits.shape, 20, 24))
    for b, t in np.ndindex(logits.shape):
        x, y = (where[b, t, 1:] + 1) / 2 * [24, 20]
        pixel = where[b, t, 0] * 24 / 8
        mean = mlp(sample(images[b], x, y, pixel, (8, 6)).ravel(), model.encoder)[:4]
        kl["z_what"][b, t] = gaussian_kl(mean, np.full(4, np.exp(-6)), *PRIORS["z_what"])
        window = expit(mlp(mean, model.decoder).reshape(8, 6))
        objects[b, t] = sample(window, 3 + (12 - x) / pixel, 4 + (10 - y) / pixel, 1 / pixel, (20, 24))
    return expit(logits), kl, objects


def reconstruction_of(likelihood, images, canvas):
    if likelihood == "normal":
        return -stats.norm.logpdf(images, canvas, 0.4).sum(axis=(1, 2))
    canvas = canvas.clip(1e-6, 1 - 1e-6)
    return -np.sum(images * np.log(canvas) + (1 - images) * np.log(1 - canvas), axis=(1, 2))


def reached(p):
    """q(n >= t - 1), and 1 at the first step."""
    return np.concatenate([np.ones((len(p), 1)), np.cumprod(p, axis=1)[:, :-1]], axis=1)


def count_kl(p):
    """KL of the posterior of the count and its prior by step, by the chain rule."""
    prior = expit(PRIOR_LOG_ODDS)
    return reached(p) * (p * np.log(p / prior) + (1 - p) * np.log((1 - p) / (1 - prior)))


def concrete_terms(z, p, reconstruct):
    absence = np.cumsum(1 - z, axis=1)
    attending = absence < STOP_THRESHOLD
    running = np.concatenate([np.ones((len(z), 1)), attending[:, :-1]], axis=1)
    assert 0 < attending.sum() < running.sum() < attending.size
    log_q, log_p = (stats.logistic.logpdf(logit(z), odds / TEMPERATURE, 1 / TEMPERATURE) for odds in (logit(p), PRIOR_LOG_ODDS))
    return reconstruct(z * attending), running * (log_q - log_p), attending


def nvil_terms(z, p, reconstruct):
    assert len(set(z.sum(axis=1))) > 1
    return reconstruct(z), count_kl(p), z


def enumerated_terms(z, p, reconstruct):
    """The sum over every count n of q(n)."""
    np.testing.assert_allclose(z, p, rtol=1e-5)
    reconstruction, attending = 0, np.zeros(p.shape)
    for n in range(4):
        q = np.prod(p[:, :n], axis=1) * (1 - p[:, n] if n < 3 else 1)
        reconstruction = reconstruction + q * reconstruct(np.tile(np.arange(3) < n, (len(p), 1)))
        attending[:, :n] += q[:, None]
    return reconstruction, count_kl(p), attending


TERMS = {"concrete": concrete_terms, "nvil": nvil_terms, "enumerated": enumerated_terms}


@pytest.mark.parametrize("likelihood", ["cross_entropy", "normal"])
@pytest.mark.parametrize("estimator", TERMS)
@pytest.mark.parametrize("controller", ["canvas", "convolutional"])
def test_the_loss_is_the_negative_elbo_of_the_paper(controller, estimator, likelihood, make_annealed, tiny_images):
    changes = {"likelihood": likelihood, "likelihood_std": "linear(0.5, 0.3, steps=10)", "baseline_units": (5,)}
    model = make_annealed(controller=controller, estimator=estimator, **changes)
    losses, estimate, attention = model.objective(tf.constant(tiny_images), SEED)
    p, kl, objects = infer(model, tiny_images, attention)

    def reconstruct(weights):
        return reconstruction_of(likelihood, tiny_images, np.einsum("bt,bthw->bhw", weights, objects))

    reconstruction, z_pres_kl, attending = TERMS[estimator](estimate.z_pres.numpy().astype(np.float64), p, reconstruct)
    expected = {"z_pres": z_pres_kl, **{name: attending * value for name, value in kl.items()}}
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(losses, f"{name}_kl"), value, rtol=2e-3, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(losses.reconstruction, reconstruction, rtol=2e-3)
    weighted = sum(KL_WEIGHTS[name] * value for name, value in expected.items()).sum(axis=1)
    np.testing.assert_allclose(losses.total - losses.reconstruction, weighted, rtol=2e-3, atol=5e-3)


# Other properties


def test_decoder_noise(make_model, tiny_images):
    quiet, noisy = make_model(), make_model(decoder_noise="linear(0, 2, steps=10)")
    noisy.set_weights(quiet.get_weights())
    images = tf.constant(tiny_images)
    expected = quiet.objective(images, SEED)[0]
    np.testing.assert_allclose(noisy.objective(images, SEED)[0].total, expected.total, rtol=1e-6)  # 0 at step 0
    for model in (quiet, noisy):
        model.step.assign(10)
    losses, expected = noisy.objective(images, SEED)[0], quiet.objective(images, SEED)[0]
    for name in ("z_pres_kl", "scale_kl", "shift_kl", "z_what_kl"):
        np.testing.assert_allclose(getattr(losses, name), getattr(expected, name), rtol=1e-5)
    for other in (expected, noisy.objective(images, tf.constant([1, 3]))[0]):
        assert np.abs(losses.reconstruction - other.reconstruction).max() > 1


def test_eccentricity_is_that_of_the_centre_of_mass():
    rng, size = np.random.default_rng(0), np.array([9, 14])
    opacity = rng.uniform(0, 1, (2, 3, *size)) ** 8  # so that the centres lie apart
    opacity[0, 0] = np.outer(np.arange(9) == 8, np.ones(14))  # the last row
    masses = opacity.sum(axis=(2, 3))
    centres = np.array([[center_of_mass(picture) for picture in scene] for scene in opacity])
    expected = np.sum(((2 * centres + 1) / size - 1) ** 2, axis=-1) * (masses / (masses + 1)) ** 2
    np.testing.assert_allclose(eccentricity(tf.constant(opacity, tf.float32)), expected, rtol=1e-4, atol=1e-7)
    assert eccentricity(tf.zeros((1, 1, 4, 4))).numpy() == [[0]]


@pytest.mark.parametrize("composition", ["add", "over"])
def test_an_object_costs_its_eccentricity(composition, make_model, tiny_images):
    changes = {"controller": "convolutional", "estimator": "enumerated", "composition": composition, "decoder_bias": 0.0}
    free, costly = make_model(**changes), make_model(**changes, eccentricity_weight="linear(0, 1e4, steps=10)")
    for model in (free, costly):
        model.step.assign(5)
    losses, _, attention = free.objective(tf.constant(tiny_images), SEED)
    cost = eccentricity(free.composition.appearance(attention.window_logits)[1])
    attending = np.cumprod(expit(attention.presence_logits), axis=1)
    costlier = costly.objective(tf.constant(tiny_images), SEED)[0]
    np.testing.assert_allclose(costlier.total - losses.total, np.sum(5e3 * attending * cost, axis=1), rtol=1e-2, atol=1e-3)
    assert (costlier.total - losses.total).numpy().min() > 0.1


@pytest.mark.parametrize("controller", ["canvas", "convolutional"])
def test_the_objective_looks_once(controller, make_model, tiny_images):
    """In training and validation, no matter how often inference looks."""
    once, twice = (make_model(controller=controller, looks=looks, decoder_bias=0.0) for looks in (1, 2))
    twice.set_weights(once.get_weights())
    assert np.abs(twice(tiny_images).z_what - once(tiny_images).z_what).max() > 0.01
    for training in (True, False):
        losses = [model.objective(tf.constant(tiny_images), SEED, training)[0].total for model in (once, twice)]
        np.testing.assert_array_equal(*losses)


# Its gradients


LATENTS = {
    "estimator": "enumerated",
    "controller": "latents",
    "refiner_units": (6,),
    "refinement": "linear(0, 1, steps=10)",
    "likelihood": "normal",
    "window_size": (5, 4),  # fewer kinks between pixels
}
CELLS = {"controller": "convolutional", "refiner_units": (), "max_steps": 1}  # no gradient passes from step to step
HEADS = ("scale_mean", "scale_log_variance", "shift_mean", "shift_log_variance", "presence")
LSTM = ("input_gates", "recurrent_gates", *HEADS, "encoder", "decoder")
SMOOTH = {  # with the parts whose gradients are large enough to be seen
    "concrete": ({"refiner_units": ()}, LSTM),
    "enumerated, latents, refiner, normal": (LATENTS, (*LSTM, "latent_gates", "refiner")),
    "convolutional": (CELLS, ("convolution_0", "convolution_1", "from_canvas", "presence", "where", "encoder", "decoder")),
}


def move_posterior(controller):
    """Make windows large, narrow posteriors, and objects likely."""
    biases = {"scale_mean": 4, "scale_log_variance": -4, "shift_log_variance": -5, "presence": 1.5}
    if isinstance(controller, CellController):
        controller.where.bias.assign_add([0, 0, 4, -1, -1, -1])
        controller.presence.bias.assign_add([1.5])
        for layer in (*controller.convolutions, controller.from_canvas):  # whose ReLUs see every brightness
            layer.bias.assign_add(np.ones(layer.bias.shape))
    else:
        for head, value in biases.items():
            variable = controller.heads[head].layers[-1].bias
            variable.assign_add(np.full(variable.shape, value))


@pytest.fixture(params=SMOOTH)
def smooth_model(request, model, make_model):
    """A model whose loss has few kinks nearby, and the parts to check.

    The canvas stays away from 0 and 1, where its logarithm bends sharply, because windows are dim and cover it; no ReLU is at
    its kink, as all are for a black picture before training.
    """
    changes, parts = SMOOTH[request.param]
    # A window of the canvas' proportions covers it.
    smooth = make_model(**{**model.config.to_dict(), "decoder_bias": -3.0, "window_size": (5, 6), **changes})
    rng = np.random.default_rng(0)
    for variable in smooth.trainable_variables:
        if variable.path.endswith("bias"):
            variable.assign_add(rng.normal(0, 0.2, variable.shape))
    move_posterior(smooth.controller)
    smooth.step.assign(5)
    return smooth, parts


def test_gradients_agree_with_finite_differences(smooth_model, tiny_images):
    """Along the gradient of each weight array, and along random directions that mix all of them."""
    model, parts = smooth_model
    variables, images = model.trainable_variables, tf.constant(0.1 + 0.6 * tiny_images)
    total = tf.function(lambda: model.objective(images, SEED)[0].total)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(total())
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, variables)]
    before = [variable.numpy() for variable in variables]

    def difference(direction, h):
        def loss_at(h):
            for variable, value, d in zip(variables, before, direction, strict=True):
                variable.assign(value + h * d)
            return total().numpy().astype(np.float64).mean()

        return (loss_at(h) - loss_at(-h)) / (2 * h)

    checked = []
    for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        norm = np.linalg.norm(gradient)
        if norm < 0.3:  # its weights would have to change too much for a difference that float32 can show
            continue
        direction = [gradient / norm if i == j else np.zeros_like(g) for j, g in enumerate(gradients)]
        if difference(direction, 0.02 / norm) != pytest.approx(norm, rel=0.01):  # a kink may lie within this reach
            assert difference(direction, 0.005 / norm) == pytest.approx(norm, rel=0.01), variable.path
        checked.append(variable.path)
    for part in parts:
        assert any(part in path for path in checked), part
    whole, rng = np.sqrt(sum(np.sum(g**2) for g in gradients)), np.random.default_rng(0)
    for _ in range(3):
        direction = [rng.normal(size=g.shape) / np.sqrt(g.size) + g / whole for g in gradients]
        slope = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
        assert difference(direction, 0.02 / abs(slope)) == pytest.approx(slope, rel=0.02)
