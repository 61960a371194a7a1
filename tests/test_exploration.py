"""Exploration: a single look is attention; a second one drops the objects that aren't worth their price."""

import numpy as np
import pytest
import tensorflow as tf
from fitting import assert_same_scenes
from scipy import stats
from scipy.special import expit, logit

from air.model import presence, transformer
from air.model.composition import Composition
from air.model.distributions import gaussian
from air.model.exploration import Found, Price, as_scenes, explore
from air.model.inference import InferenceNetwork
from air.model.networks import Posterior

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.mark.parametrize("size", [(20, 24), (30, 33)])
def test_one_look_is_attention_rounded(size, make_model, tiny_images):
    model = make_model(controller="convolutional", looks=1, decoder_bias=0.0)
    model.controller.presence.kernel.assign(100 * model.controller.presence.kernel)
    images = tf.pad(tiny_images, [[0, 0], [0, size[0] - 20], [0, size[1] - 24]])
    attention, scenes = model.attend(images, None), model(images)
    probability = tf.sigmoid(attention.presence_logits)
    present = presence.discrete(probability)
    assert 0 < np.mean(present) < 1
    expected = model.decode(attention.z_what, attention.z_where, present, size)
    assert_same_scenes(expected._replace(presence=scenes.presence), scenes)
    reached = presence.cumulative_product(probability)
    np.testing.assert_allclose(scenes.presence[present > 0], reached[present > 0], rtol=1e-4)


# The second look at objects whose posterior is known


SIZE, WINDOW, STEPS = (24, 20), (6, 8), 4
PLACES = np.array([[0.35, -0.5, -0.6], [0.45, 0.1, 0.0], [0.35, 0.5, 0.5], [0.3, -0.3, 0.6]], np.float32)
WINDOWS = np.random.default_rng(0).uniform(0.1, 0.4, (STEPS, *WINDOW)).astype(np.float32)
STDS = {"scale": 0.2, "shift": 0.1, "z_what": 0.3}
PRIOR = {"scale": (-0.4, 0.5), "shift": (0.0, 1.0), "z_what": (0.1, 1.2)}  # mean and std


class KnownController:
    """Attends to the known places in turn, and doubts whether there is an object by the last of them."""

    log_odds = (5.0, 4.0, 3.0, -3.0)

    def __init__(self):
        self.step = 0

    def read(self, canvas):
        return canvas

    def __call__(self, features, explained):
        place, scenes = PLACES[self.step], features.shape[0]
        means = {"scale": logit(place[:1]), "shift": np.arctanh(place[1:])}
        where = {name: known(name, np.tile(mean, (scenes, 1, 1))) for name, mean in means.items()}
        self.step += 1
        return Posterior(where, tf.fill([scenes, 1], self.log_odds[self.step - 1]))


def known(name, mean):
    mean = tf.cast(mean, tf.float32)
    return gaussian(mean, tf.fill(mean.shape, 2 * tf.math.log(STDS[name])))


def explore_known(config, images, likelihood="cross_entropy", count=0.0, looks=2, seed=None, encode=None, **options):
    """Explore images whose windows are decoded as the known ones, in turn at either look."""
    windows = iter([*WINDOWS[: len(PLACES)]] * looks)
    encode = encode or (lambda window: known("z_what", np.zeros((len(window), 1, 3))))
    network = InferenceNetwork(
        config.replace(canvas_size=SIZE, window_size=WINDOW, controller="convolutional", z_what_size=3),
        controller=KnownController(),
        refiner=None,
        refinement=tf.constant(1.0),
        encoder=encode,
        decoder=lambda z_what: tf.constant(np.tile(logit(next(windows)), (z_what.shape[0], 1, 1, 1))),
    )
    prior = {name: gaussian(tf.constant(mean), tf.constant(2 * np.log(std), tf.float32)) for name, (mean, std) in PRIOR.items()}
    price = Price(prior, tf.constant(count, tf.float32), likelihood, tf.constant(0.4))
    return explore(network, network.view(tf.constant(images, tf.float32), None), STEPS, price, looks, seed, **options)


def places_on(size):
    """The known places on another canvas, where windows have as many pixels."""
    return PLACES * np.float32([max(SIZE) / max(size), 1, 1])


def objects(size=SIZE):
    """The known objects, each on a canvas of its own."""
    return transformer.render(tf.constant(WINDOWS[:, None]), places_on(size)[:, None], size).numpy()[:, 0].astype(float)


def log_prob(image, canvas, likelihood):
    canvas = canvas.clip(1e-6, 1 - 1e-6)
    if likelihood == "normal":
        return stats.norm.logpdf(image, canvas, 0.4).sum()
    return (image * np.log(canvas) + (1 - image) * np.log(1 - canvas)).sum()


def object_kl(place):
    means = {"scale": logit(place[:1]), "shift": np.arctanh(place[1:]), "z_what": np.zeros(3)}
    kl = 0.0
    for name, mean in means.items():
        prior_mean, prior_std = PRIOR[name]
        ratio = STDS[name] / prior_std
        kl += 0.5 * np.sum(ratio**2 + ((mean - prior_mean) / prior_std) ** 2 - 1 - 2 * np.log(ratio))
    return kl


@pytest.mark.parametrize("likelihood", ["cross_entropy", "normal"])
@pytest.mark.parametrize("shown", [(0, 1, 2), (0, 2), (1,), ()])
@pytest.mark.parametrize("count", [-3.0, 0.0, 5.0])
@pytest.mark.parametrize("size", [SIZE, (45, 61)])
def test_objects_that_lower_the_bound_are_dropped(size, shown, count, likelihood, tiny_config):
    rendered = objects(size)
    image = rendered[list(shown)].sum(axis=0)
    kept, worths = [0, 1, 2], []
    for step in (0, 1, 2):
        others = rendered[[other for other in kept if other != step]].sum(axis=0)
        gain = log_prob(image, others + rendered[step], likelihood) - log_prob(image, others, likelihood)
        worths.append(gain - object_kl(PLACES[step]) - count)
        if worths[-1] <= 0:
            kept.remove(step)
    assert np.abs(worths).min() > 0.01
    found = explore_known(tiny_config, image[None], likelihood, count)
    np.testing.assert_array_equal(found.present[0], np.arange(STEPS) < len(kept))  # those that are kept come first
    np.testing.assert_allclose(found.z_where[0, : len(kept)], places_on(size)[kept], atol=1e-5)
    np.testing.assert_allclose(found.kl[0, : len(kept)], [object_kl(PLACES[step]) for step in kept], rtol=1e-4)
    reached = np.cumprod(expit(KnownController.log_odds))
    rest = [0.0 if step < 3 else reached[3] if step == 3 else 0.0 for step in range(STEPS) if step not in kept]
    np.testing.assert_allclose(found.presence[0], [*reached[kept], *rest], rtol=1e-5)


@pytest.mark.parametrize(("threshold", "number"), [(0.01, 4), (0.04, 4), (0.05, 3), (0.5, 3), (0.97, 2), (0.995, 0)])
def test_steps_end_at_the_threshold(threshold, number, tiny_config):
    everything = objects().sum(axis=0)[None]
    found = explore_known(tiny_config, everything, count=-1e3, threshold=threshold)
    np.testing.assert_array_equal(found.present[0], np.arange(STEPS) < number)
    seed = tf.constant([0, 4])
    drawn = [explore_known(tiny_config, everything, seed=seed, threshold=each).present for each in (threshold, 0.5)]
    np.testing.assert_array_equal(*drawn)


def test_each_object_is_seen_without_the_others(tiny_config):
    """Those that are not dropped so far."""
    rendered, seen = objects(), []

    def encode(window):
        seen.append(window.numpy()[0, 0])
        return known("z_what", np.zeros((1, 1, 3)))

    explore_known(tiny_config, rendered[[0, 2]].sum(axis=0)[None], count=0.0, encode=encode)
    first, second = np.array(seen[:STEPS]), np.array(seen[STEPS:])
    assert len(second) == STEPS - 1  # not where the first look found nothing
    left = [np.maximum(rendered[0] - rendered[1], 0), 0 * rendered[1], rendered[2]]
    for step, canvas in enumerate(left):
        expected = transformer.crop(tf.constant(canvas[None], tf.float32), PLACES[None, step : step + 1], WINDOW)[0, 0]
        np.testing.assert_allclose(second[step], expected, atol=1e-4)
    assert np.abs(first[:-1] - second).max() > 0.1


@pytest.mark.parametrize("present", [(0, 1, 0, 0), (1, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 0)])
def test_objects_are_composed_wherever_they_come(present):
    number = np.float32([present, (1, 0, 0, 0)])
    windows, places = (tf.constant(np.stack([array, array])) for array in (logit(WINDOWS), PLACES))
    found = Found(tf.constant(number), tf.constant(number), places, tf.zeros((2, STEPS, 3)), windows, tf.zeros((2, STEPS)))
    expected = np.tensordot(number, objects(), axes=(1, 0))
    for trim in (True, False):
        scenes = as_scenes(found, SIZE, Composition(), trim=trim)
        np.testing.assert_allclose(scenes.reconstruction, expected.clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("looks", [1, 2])
def test_samples_follow_the_posterior(looks, tiny_config):
    number = 3000
    found = explore_known(tiny_config, np.zeros((number, *SIZE)), looks=looks, seed=tf.constant([3, 5]))
    reached = np.cumprod(expit(KnownController.log_odds))
    error = (reached * (1 - reached) / number) ** 0.5
    assert (np.abs(found.present.numpy().mean(axis=0) - reached) < 5 * error).all()  # nothing is dropped
    where = found.z_where.numpy()[:, 0].astype(float)
    scale, shift = logit(where[:, 0]), np.arctanh(where[:, 1:])
    columns = [scale, *shift.T, *found.z_what.numpy()[:, 0].T]
    expected = [logit(PLACES[0, 0]), *np.arctanh(PLACES[0, 1:]), 0, 0, 0]
    stds = [STDS["scale"], *[STDS["shift"]] * 2, *[STDS["z_what"]] * 3]
    for column, mean, std in zip(columns, expected, stds, strict=True):
        assert stats.kstest(column, stats.norm(mean, std).cdf).pvalue > 1e-3
