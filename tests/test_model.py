"""Inference and generation: fields of `Scenes` are consistent, images are checked, and draws follow their distributions."""

import numpy as np
import pytest
import tensorflow as tf
from fitting import assert_same_scenes
from scipy import stats
from scipy.special import expit, logit

from air.errors import DataError
from air.model import presence
from air.model.air_model import AIRModel, Scenes

CONTROLLERS = pytest.mark.parametrize("controller", ["canvas", "convolutional"])


@pytest.fixture(scope="module")
def scenes(either_model, tiny_images):
    answer = either_model.infer(tiny_images)
    assert len(set(answer.count.tolist())) > 1  # or the tests below would say little
    return answer


STEPS = {"presence": (), "scale": (), "shift": (2,), "attention_boxes": (4,), "z_what": (4,)}
STEPS |= {"decoded_windows": (8, 6), "opacity": (8, 6), "nearness": ()}
CANVASES = dict.fromkeys(("reconstruction", "background"), (8, 20, 24))
SHAPES = {"count": (8,), **CANVASES, **{name: (8, 3, *shape) for name, shape in STEPS.items()}}


def test_shapes_types_and_ranges(scenes):
    for name, array in scenes._asdict().items():
        assert isinstance(array, np.ndarray), name
        assert array.shape == SHAPES[name], name
        assert array.dtype == (np.int32 if name == "count" else np.float32), name
        assert np.isfinite(array).all(), name
    assert (scenes.objects.shape, scenes.objects.dtype) == ((8, 3, 20, 24), np.float32)
    for name in ("presence", "scale", "decoded_windows", "objects", "reconstruction"):
        assert getattr(scenes, name).min() >= 0, name
        assert getattr(scenes, name).max() <= 1 + 1e-6, name
    assert np.abs(scenes.shift).max() <= 1
    assert set(scenes.count) <= {0, 1, 2, 3}


def assert_consistent(scenes, canvas_size=(20, 24), window_size=(8, 6)):
    height, width = canvas_size
    pixel = scenes.scale * max(canvas_size) / max(window_size)
    steps = np.arange(scenes.presence.shape[1])
    absent = steps >= scenes.count[:, None]
    assert (scenes.objects[absent] == 0).all()
    assert (scenes.objects[~absent].sum(axis=(1, 2)) > 0).all()
    np.testing.assert_allclose(scenes.reconstruction, scenes.objects.sum(axis=1).clip(0, 1), atol=1e-6)
    x, y, w, h = np.moveaxis(scenes.attention_boxes, -1, 0)
    np.testing.assert_allclose(w, pixel * window_size[1], rtol=1e-5)
    np.testing.assert_allclose(h, pixel * window_size[0], rtol=1e-5)
    np.testing.assert_allclose((x + w / 2) / width * 2 - 1, scenes.shift[..., 0], atol=1e-5)
    np.testing.assert_allclose((y + h / 2) / height * 2 - 1, scenes.shift[..., 1], atol=1e-5)


def test_consistency(scenes, either_model, tiny_images):
    assert_consistent(scenes)
    assert_consistent(either_model.infer(tiny_images, sample=True, seed=5))


def test_an_lstm_decides_at_a_single_look(tiny_model, tiny_images):
    scenes, posterior = tiny_model.infer(tiny_images), tiny_model.controller(tiny_images)
    probability, where = expit(posterior.presence_logits.numpy()), posterior.where
    np.testing.assert_allclose(scenes.presence, np.cumprod(probability, axis=1), rtol=1e-5)
    leading = [next((t for t, p in enumerate(row) if p <= 0.5), len(row)) for row in probability]
    assert scenes.count.tolist() == leading
    np.testing.assert_allclose(scenes.scale, expit(where["scale"].loc.numpy()[..., 0]), rtol=1e-4)
    np.testing.assert_allclose(scenes.shift, np.tanh(where["shift"].loc), atol=1e-5)


def test_calling_the_model_infers_posterior_means(scenes, either_model, tiny_images):
    for training in (False, True):
        assert_same_scenes(either_model(tiny_images, training=training), scenes)
    assert either_model.count(tiny_images).numpy().tolist() == scenes.count.tolist()


def test_objects_of_tensors_are_tensors(scenes, either_model, tiny_images):
    objects = either_model(tiny_images).objects
    assert tf.is_tensor(objects)
    np.testing.assert_allclose(objects, scenes.objects, atol=1e-5)


def test_bytes_and_floats_are_the_same_picture(either_model, tiny_images):
    images = np.round(tiny_images * 255).astype(np.uint8)
    assert images.max() > 100
    scenes = either_model.infer(images)
    for dtype in (np.float16, np.float32, np.float64):
        assert_same_scenes(either_model.infer((images / 255).astype(dtype)), scenes, atol=1e-5 if dtype != np.float16 else 0.02)
    assert_same_scenes(either_model.infer((images / 255).tolist()), scenes)


def test_neither_batch_size_nor_order_matters(scenes, either_model, tiny_images):
    for size in (1, 3, 100):
        assert_same_scenes(either_model.infer(tiny_images, batch_size=size), scenes)
    assert_same_scenes(either_model.infer(tiny_images[::-1]), Scenes(*(array[::-1] for array in scenes)))


@pytest.mark.slow
def test_xla_infers_the_same(scenes, either_model, tiny_images):
    assert not tf.config.functions_run_eagerly()
    for _ in range(2):  # the last batch has two scenes
        assert_same_scenes(either_model.infer(tiny_images, batch_size=3, jit_compile=True), scenes, atol=1e-4)
    first = Scenes(*(array[:1] for array in scenes))
    assert_same_scenes(either_model.infer(tiny_images[:1], jit_compile=True), first, atol=1e-4)


@CONTROLLERS
def test_no_scenes(controller, make_model, uncompiled):
    model = make_model(controller=controller, cnn_filters=(4,), cnn_kernels=(4,), cnn_strides=(2,), cnn_pools=(1,))
    scenes = model.infer(np.zeros((0, 20, 24), np.uint8))
    assert [array.shape[0] for array in scenes] == [0] * len(scenes)


GOOD = np.zeros((2, 20, 24), np.float32)
BAD = {
    "one picture": (GOOD[0], ["(20, 24)", "[batch, 20, 24]"]),
    "channels": (np.repeat(GOOD[..., None], 3, axis=-1), ["(2, 20, 24, 3)", "[batch, 20, 24]"]),
    "turned": (GOOD.transpose(0, 2, 1), ["(2, 24, 20)", "[batch, 20, 24]"]),
    "number": (np.float32(1), ["()", "[batch, 20, 24]"]),
    "large integers": (GOOD.astype(np.int32) + 256, ["256", "0 to 255"]),
    "negative integers": (GOOD.astype(np.int8) - 1, ["-1", "0 to 255"]),
    "booleans": (GOOD.astype(bool), ["bool", "0 to 255"]),
    "complex": (GOOD.astype(complex), ["complex", "0 to 255"]),
    "text": (GOOD.astype(str), ["<U", "0 to 255"]),
    "objects": (GOOD.astype(object), ["object", "0 to 255"]),
    "floats to 255": (GOOD + 255, ["255", "[0, 1]"]),
    "negative": (GOOD - 0.5, ["-0.5", "[0, 1]"]),
    "NaN": (np.where(np.arange(24) == 3, np.nan, GOOD), ["nan", "[0, 1]"]),
    "infinite": (GOOD + np.inf, ["inf", "[0, 1]"]),
    "ragged": ([[[0.0]], [[0.0, 1.0]]], ["images"]),
    "none": (None, ["images"]),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_images_are_refused(name, tiny_model):
    images, words = BAD[name]
    with pytest.raises(DataError) as caught:
        tiny_model.infer(images)
    message = str(caught.value)
    assert message.startswith("images:")
    assert "\n" not in message
    assert len(message) < 300
    assert all(word in message for word in words)


@pytest.mark.parametrize("size", [0, -1])
def test_impossible_batch_sizes_are_refused(size, tiny_model):
    with pytest.raises(ValueError, match=f"^batch_size: {size} is not allowed"):
        tiny_model.infer(GOOD, batch_size=size)


def test_samples_depend_on_seed_and_batch_only(scenes, either_model, tiny_images):
    first, again, other = (either_model.infer(tiny_images, sample=True, seed=seed) for seed in (1, 1, 2))
    assert_same_scenes(first, again, atol=0)
    for name in ("scale", "shift", "z_what", "reconstruction"):
        assert not np.allclose(getattr(first, name), getattr(other, name), atol=1e-3), name
        assert not np.allclose(getattr(first, name), getattr(scenes, name), atol=1e-3), name
    twice = either_model.infer(np.stack([tiny_images[1]] * 2), sample=True, batch_size=1)
    assert np.abs(twice.scale[0] - twice.scale[1]).max() > 1e-4


def test_samples_follow_the_posterior(tiny_model, tiny_images):
    number = 4000
    images = np.repeat(tiny_images[3:4], number, axis=0)
    scenes = tiny_model.infer(images, sample=True, seed=3, batch_size=number)
    where = tiny_model.controller(images[:1]).where
    np.testing.assert_allclose(scenes.presence[0], tiny_model.infer(images[:1]).presence[0], atol=1e-6)
    draws = {"scale": logit(scenes.scale.astype(np.float64)), "shift": np.arctanh(scenes.shift.astype(np.float64))}
    for name, values in draws.items():
        mean, std = where[name].loc.numpy().ravel(), where[name].scale.numpy().ravel()
        for column in ((values.reshape(number, -1) - mean) / std).T:
            assert stats.kstest(column, stats.norm.cdf).pvalue > 1e-3
    # Every pair of draws is independent.
    columns = np.concatenate([values.reshape(number, -1) for values in draws.values()], axis=1)
    assert np.abs(np.corrcoef(columns, rowvar=False) - np.eye(9)).max() < 5 / number**0.5
    # The count is drawn from the probabilities of its steps.
    present, p = np.arange(3) < scenes.count[:, None], scenes.presence[0]
    np.testing.assert_array_less(np.abs(present.mean(axis=0) - p), 5 * (p * (1 - p) / number) ** 0.5 + 1e-9)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_generated_scenes(count, either_model):
    images, scenes = either_model.generate(5, count=count, seed=1)
    assert (images.shape, images.dtype, scenes.count.dtype) == ((5, 20, 24), np.float32, np.int32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.max() > 0) == (count > 0)
    np.testing.assert_array_equal(images, scenes.reconstruction)
    assert scenes.count.tolist() == [count] * 5
    np.testing.assert_array_equal(scenes.presence, np.tile(np.arange(3) < count, (5, 1)))
    assert_consistent(scenes)


def test_generation_depends_on_the_seed_only(either_model):
    for count in (None, 2):
        first, again, other = (either_model.generate(6, count=count, seed=seed)[1] for seed in (4, 4, 5))
        assert_same_scenes(first, again, atol=0)
        assert np.abs(other.scale - first.scale).max() > 1e-3


def test_generated_latents_follow_the_prior(make_model):
    priors = {"scale": (-0.5, 0.3), "shift": (0.2, 0.4), "z_what": (1.5, 2.0)}  # mean and variance
    fields = ("mean", "variance")
    model = make_model(**{f"{name}_prior_{f}": v for name, prior in priors.items() for f, v in zip(fields, prior, strict=True)})
    model.count_prior.assign([0.1, 0.0, 0.6, 0.3])
    _, scenes = model.generate(1500, seed=2)
    scale, shift = logit(scenes.scale.astype(np.float64)), np.arctanh(scenes.shift.astype(np.float64))
    for (name, (mean, variance)), values in zip(priors.items(), (scale, shift, scenes.z_what), strict=True):
        assert stats.kstest(values.ravel(), stats.norm(mean, variance**0.5).cdf).pvalue > 1e-3, name
    frequencies = np.bincount(scenes.count, minlength=4) / 1500
    assert frequencies[1] == 0
    np.testing.assert_allclose(frequencies, [0.1, 0, 0.6, 0.3], atol=5 * 0.5 / 1500**0.5)


@pytest.mark.parametrize("learned_after", [None, 10])
def test_the_prior_of_the_count_is_learned_from_a_step_on(learned_after, make_model):
    odds = "exponential(4, factor=0.5, every=10, limit=1e-3)"
    model = make_model(z_pres_prior_odds=odds, learn_count_prior_after=learned_after)
    frequencies = [0.5, 0.1, 0.15, 0.25]
    model.count_prior.assign(frequencies)
    for step in (0, 9, 10, 500):
        model.step.assign(step)
        logits = model.prior_logits()
        if learned_after is None or step < learned_after:
            np.testing.assert_allclose(logits, [np.log(max(4 * 0.5 ** (step / 10), 1e-3))] * 3, rtol=1e-5)
        else:
            np.testing.assert_allclose(np.exp(presence.log_count(logits)), frequencies, rtol=1e-5)
    model.count_prior.assign([0.0, 1.0, 0.0, 0.0])  # a count that was never inferred is unlikely, not impossible
    if learned_after is not None:
        np.testing.assert_allclose(np.exp(presence.log_count(model.prior_logits())), [1e-6, 1, 1e-6, 1e-6], rtol=1e-3)


@pytest.mark.parametrize(("arguments", "name"), [({"count": -1}, "count"), ({"count": 4}, "count"), ({"scenes": 0}, "scenes")])
def test_impossible_generation_is_refused(arguments, name, tiny_model):
    with pytest.raises(ValueError, match=f"^{name}: {arguments[name]} is not allowed"):
        tiny_model.generate(**{"scenes": 2, **arguments})


def test_a_model_is_made_from_a_dictionary(tiny_config):
    model = AIRModel(tiny_config.to_dict(), seed=5)
    assert model.config == tiny_config
    assert AIRModel.from_config(model.get_config()).get_config() == model.get_config()


@CONTROLLERS
def test_draws_of_a_model_with_other_sizes(controller, make_model, uncompiled):
    cnn = {"cnn_filters": (2,), "cnn_kernels": (3,), "cnn_strides": (2,), "cnn_pools": (2,)}
    mlps = {"head_units": (), "encoder_units": (), "decoder_units": ()}
    model = make_model(controller=controller, max_steps=1, canvas_size=(9, 31), window_size=(5, 4), **cnn, **mlps)
    scenes = model.infer(np.random.default_rng(0).random((2, 9, 31)), sample=True)
    assert scenes.objects.shape == (2, 1, 9, 31)
    assert_consistent(scenes, (9, 31), (5, 4))
