"""Backgrounds, colour and covering objects, through the whole model; and that nothing of it happens unless asked for."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf
from scipy import fft, stats

import air
from air.config import AIRConfig
from air.errors import ConfigError, DataError
from air.model import bounds
from air.model.background import BackgroundNetwork
from air.model.generative import cross_entropy, normal_log_prob

SEED = tf.constant([3, 4])
OPTIONS = {
    "colour": {"channels": 3},
    "covering": {"composition": "over"},
    "paper": {"background": "constant", "likelihood": "normal"},
    "photo": {"background": "smooth", "background_size": 2},
    "all": {
        "channels": 3,
        "composition": "over",
        "background": "learned",
        "background_size": 3,
        "background_units": 6,
        "likelihood": "normal",
        "learn_likelihood_std": True,
        "ascent_steps": 2,
    },
}


@pytest.fixture(scope="module", params=OPTIONS)
def model(request, make_model):
    model = make_model(controller="convolutional", z_pres_prior_odds=0.1, **OPTIONS[request.param])
    for layer in [] if model.background is None else model.background.encoder:
        layer.kernel.assign(4 * layer.kernel)  # so that backgrounds differ between scenes
    return model


@pytest.fixture
def images(model, tiny_images):
    grey = 0.2 + 0.8 * tiny_images
    return grey if model.config.channels == 1 else np.stack([grey, 1 - grey, grey**2], axis=-1)


@pytest.fixture(scope="module", autouse=True)
def _eagerly(uncompiled):
    pass


def test_a_constant_background_is_uniform_in_its_prior():
    network = BackgroundNetwork((4, 6), channels=3, latents=None)
    network.build()
    z = np.array([[0.0, 1.0, -2.0]], np.float32)
    picture = network.paint(tf.constant(z), (5, 7)).numpy()
    np.testing.assert_allclose(picture, np.broadcast_to(stats.norm.cdf(z), (1, 5, 7, 3)), rtol=1e-5)


def test_kl_and_log_ratio_agree_with_scipy(make_model, tiny_images):
    network = make_model(controller="convolutional", background="learned", background_size=3).background
    network.encoder[-1].bias.assign([0.5, -1.0, 2.0, 0.3, 1.0, -2.0])
    network.encoder[-1].kernel.assign(0 * network.encoder[-1].kernel)
    mean, std = np.array([0.5, -1.0, 2.0]), np.exp(0.5 * (np.array([0.3, 1.0, -2.0]) - 2.0))
    expected = (0.5 * (std**2 + mean**2 - 1) - np.log(std)).sum()
    np.testing.assert_allclose(network(tf.constant(tiny_images), None).kl, expected, rtol=1e-5)
    at_mean = (stats.norm.logpdf(mean) - stats.norm.logpdf(mean, mean, std)).sum()
    np.testing.assert_allclose(network(tf.constant(tiny_images), None).log_ratio, at_mean, rtol=1e-5)


def test_backgrounds_of_other_canvases_are_resized(make_model):
    network = make_model(controller="convolutional", background="learned").background
    slope = np.linspace(0, 1, 20)[:, None] * np.linspace(1, 0.5, 24)
    network.decoder[-1].kernel.assign(0 * network.decoder[-1].kernel)
    network.decoder[-1].bias.assign(slope.ravel())
    large = network.paint(tf.zeros([2, network.latents]), (40, 48)).numpy()
    np.testing.assert_allclose(large.reshape(2, 20, 2, 24, 2).mean(axis=(2, 4))[1], slope, atol=0.02)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_background_of_a_larger_canvas_is_inferred_tile_by_tile(make_model, tiny_images, axis):
    network = make_model(controller="convolutional", background="learned").background
    for layer in network.encoder:
        layer.kernel.assign(4 * layer.kernel)
    scenes = tiny_images.astype(np.float32)
    large = np.concatenate([scenes[:4], scenes[4:]], axis)
    middle = np.take(large, np.arange(scenes.shape[axis]) + scenes.shape[axis] // 2, axis)
    parts = [network(tf.constant(part), None) for part in (scenes[:4], middle, scenes[4:])]
    found = network(tf.constant(large), None)
    np.testing.assert_allclose(found.kl, sum(part.kl.numpy() for part in parts), rtol=1e-4)
    ends = np.array_split(found.picture.numpy(), 4, axis)  # only one tile reaches each of the outer quarters
    np.testing.assert_allclose(ends[0], np.array_split(parts[0].picture.numpy(), 2, axis)[0], atol=1e-5)
    np.testing.assert_allclose(ends[3], np.array_split(parts[2].picture.numpy(), 2, axis)[1], atol=1e-5)
    assert np.ptp(found.picture, axis=0).max() > 1e-3
    assert network(tf.constant(scenes[:, :17]), None).picture.shape == (8, 17, scenes.shape[2])


def test_a_smooth_background_has_no_detail(make_model, tiny_images):
    network = make_model(controller="convolutional", background="smooth").background
    network.decoder[-1].kernel.assign(100 * network.decoder[-1].kernel)
    z = tf.constant(np.random.default_rng(0).normal(size=(3, network.latents)), tf.float32)
    picture = network.paint(z, network.canvas_size).numpy()
    waves = fft.dctn(picture, axes=(1, 2), norm="ortho")
    assert np.abs(waves[:, 1:3, 1:3]).max() > 0.1
    np.testing.assert_allclose(waves[:, 3:], 0, atol=1e-4)
    np.testing.assert_allclose(waves[:, :, 3:], 0, atol=1e-4)
    np.testing.assert_allclose(network.paint(0 * z, network.canvas_size), 0.3, atol=0.1)


def test_scenes_are_composed_of_what_they_say(model, images):
    scenes, c = model.infer(images, sample=True, seed=1), model.config
    assert scenes.reconstruction.shape == scenes.background.shape == images.shape
    assert scenes.decoded_windows.shape == (8, 3, *c.window_size, *images.shape[3:])
    assert scenes.opacity.shape == (8, 3, *c.window_size)
    assert scenes.masks.shape == (8, 3, *c.canvas_size)
    assert (scenes.masks.sum(axis=1) <= 1 + 1e-5).all()
    empty = scenes.count == 0
    np.testing.assert_allclose(scenes.reconstruction[empty], scenes.background[empty], atol=1e-6)
    assert (c.background == "none") == (not scenes.background.any())


def test_deterministic_inference_knows_no_batch(model, images):
    together, alone = model.infer(images), model.infer(images[3:4])
    for name, field in alone._asdict().items():
        np.testing.assert_allclose(getattr(together, name)[3:4], field, atol=1e-4, err_msg=name)
    assert model.count(tf.constant(images, tf.float32)).numpy().tolist() == together.count.tolist()


def test_elbo_agrees_with_brute_force(model, images):
    floats = tf.constant(images, tf.float32)
    attention = model.attend(floats, SEED)
    picture = None if attention.background is None else attention.background.picture
    price = model.price()
    elbo = bounds.elbo(floats, attention, price.prior, price.std, model.composition)
    elbo = bounds.Elbo(*(np.asarray(field, float) for field in elbo))
    q, flat = np.exp(elbo.log_q), np.reshape(images, (8, images.shape[1], -1))
    expected = np.zeros((8, 2))
    for count in range(4):
        present = tf.tile(tf.sequence_mask([count], 3, tf.float32), [8, 1])
        canvas = model.decode(attention.z_what, attention.z_where, present, background=picture).reconstruction
        canvas = np.reshape(canvas, flat.shape)
        both = [-cross_entropy(flat, canvas), normal_log_prob(flat, canvas, price.std)]
        expected += q[:, count, None] * np.stack(both, axis=-1)
    np.testing.assert_allclose(elbo.log_likelihood, expected, rtol=1e-3)
    assert (elbo.background_kl > 0).all() == (picture is not None)
    prior = np.full(4, 0.25)
    parts = elbo.where_kl + elbo.what_kl + elbo.background_kl + elbo.count_kl(prior)
    np.testing.assert_allclose(elbo.bound("normal", prior), elbo.log_likelihood[:, 1] - parts, rtol=1e-5)


def test_the_mean_log_weight_is_the_elbo(model, images):
    """The estimators of the two bounds are independent of each other, but for one sample they have one expectation."""
    images = np.repeat(images[1:2], 400, axis=0).astype(np.float32)
    prior = np.full(4, 0.25)
    elbo = model.elbo(images, seed=1).bound("normal", prior)
    weights = model.importance_samples(images, 1, seed=2).log_weights("normal", prior)[:, 0]
    error = np.hypot(elbo.std(), weights.std()) / np.sqrt(len(images))
    assert abs(elbo.mean() - weights.mean()) < 4 * error


def test_every_way_in_takes_the_model(model, images, tmp_path):
    model.compile(run_eagerly=True, jit_compile=False)
    before = [weight.numpy() for weight in model.trainable_variables]
    model.fit(images, np.arange(8) % 4, epochs=1, batch_size=8, verbose=0)
    unmoved = [v.path for v, b in zip(model.trainable_variables, before, strict=True) if np.array_equal(v, b)]
    assert all("refiner" in path for path in unmoved)  # whose correction is not applied yet
    model.save(tmp_path / "air.keras")
    loaded = air.load(tmp_path / "air.keras")
    np.testing.assert_allclose(loaded.infer(images).reconstruction, model.infer(images).reconstruction, atol=1e-5)
    assert np.isfinite(model.log_prob_bound(images, 3)).all()
    generated, scenes = model.generate(3, count=2, seed=1)
    assert generated.shape == (3, *images.shape[1:])
    assert scenes.count.tolist() == [2, 2, 2]
    larger = np.tile(images[:2], (1, 2, 2, *[1] * (images.ndim - 3)))
    assert model.infer(larger).reconstruction.shape == larger.shape
    with pytest.raises(ValueError, match="any_size: True is not allowed; it needs the convolutional controller, and grey"):
        model.infer(larger, any_size=True)


@pytest.mark.parametrize("estimator", ["nvil", "enumerated"])
def test_all_estimators_take_it(make_model, tiny_images, estimator):
    model = make_model(controller="convolutional", estimator=estimator, **OPTIONS["all"])
    images = tf.constant(np.repeat(tiny_images[..., None], 3, axis=-1))
    assert np.isfinite(float(model.loss_of(images)))


def test_glimpses_of_one_object_show_no_other(make_model):
    """Turn what the others cover into background; what covers them stays."""
    model = make_model(controller="convolutional", composition="over", background="constant")
    network = model._network()
    images = tf.fill([1, 4, 4], 0.9)
    view = network.view(images, None)
    painted = np.zeros((2, 1, 1, 4, 4, 3), np.float32)
    painted[:, ..., 1:] = 1e-9
    painted[0, ..., :2, 1:], painted[1, ..., 1:, 1:] = (5.0, 20.0), (500.0, 20.0)  # the object is nearer than the other
    seen = network.without(view, tf.constant(painted[0]), tf.constant(painted[1])).numpy()[0, 0, 0, :, 0]
    behind = view.background.picture.numpy()[0, 0, 0]
    np.testing.assert_allclose(seen, [behind, 0.9, 0.9, 0.9], atol=0.02)


def test_glimpses_show_the_outline_of_an_object_whatever_its_colour(make_model):
    model = make_model(controller="convolutional", composition="over", background="constant", channels=3)
    picture = np.full((1, 4, 4, 3), 0.5, np.float32)
    outlines = []
    for colour in ([0.9, 0.5, 0.5], [0.1, 0.5, 0.5], [0.5, 0.5, 0.1]):
        image = picture.copy()
        image[0, 1, 2] = colour
        glimpse = model._network()._glimpsed(tf.constant(image), tf.constant(picture)).numpy()
        np.testing.assert_array_equal(glimpse[..., :3], image)
        outlines.append(glimpse[0, ..., 3])
    expected = np.zeros((4, 4))
    expected[1, 2] = 1.0 - np.exp(-(0.4**2) / (2 * 0.2**2))  # two of the standard deviations of 0.1
    np.testing.assert_allclose(outlines, [expected] * 3, atol=1e-6)


def test_files_of_a_version_with_other_glimpses_are_refused(make_model, tmp_path):
    make_model(controller="convolutional", background="constant").save(tmp_path / "air.keras")
    with zipfile.ZipFile(tmp_path / "air.keras") as new, zipfile.ZipFile(tmp_path / "older.keras", "w") as older:
        for name in new.namelist():
            older.writestr(name, new.read(name).replace(b', "glimpses": "image, difference"', b""))
    with pytest.raises(DataError, match="of an older version, whose glimpses of scenes with a background were others"):
        air.load(tmp_path / "older.keras")
    assert air.load(tmp_path / "air.keras").config.background == "constant"


def test_a_plain_model_has_no_other_weights():
    plain = air.AIRModel(AIRConfig())
    assert plain.background is None
    assert plain.log_std is None
    assert plain.count_params() == air.load("model").count_params()
    assert not plain.infer(np.zeros((1, 50, 50))).background.any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 3, "controller": "canvas"}, "channels: 3 is not allowed with controller canvas"),
        ({"background": "learned", "controller": "latents"}, "background: learned is not allowed with controller latents"),
        ({"ascent_steps": 5, "controller": "canvas"}, "ascent_steps: 5 is not allowed with controller canvas"),
        ({"composition": "over", "controller": "residual"}, "composition: over is not allowed with controller residual"),
        ({"learn_likelihood_std": True}, "learn_likelihood_std: True is not allowed with likelihood cross_entropy"),
        ({"channels": 2}, "channels: 2 is not allowed"),
    ],
)
def test_options_that_do_not_fit_get_one_line(fields, message):
    with pytest.raises(ConfigError, match=message) as error:
        AIRConfig(**fields)
    assert "\n" not in str(error.value)


def test_images_with_other_channels_get_one_line(make_model, tiny_images):
    colour = make_model(controller="convolutional", channels=3)
    with pytest.raises(DataError, match=r"images: shape \(8, 20, 24\) is not allowed; it must be \[batch, 8, 6, 3\]"):
        colour.infer(tiny_images)
    grey = make_model(controller="convolutional")
    with pytest.raises(DataError, match=r"images: shape \(8, 20, 24, 3\) is not allowed; it must be \[batch, 8, 6\]"):
        grey.infer(np.repeat(tiny_images[..., None], 3, axis=-1))
