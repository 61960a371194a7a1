"""Do what people who know Keras do: every way in takes the same images, and what makes no sense is refused in one line."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import COUNTS, STEPWISE, assert_same_scenes, assert_same_weights

from air.errors import DataError
from air.model.air_model import AIRModel
from air.model.images import unpaintable_background

SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def grey(tiny_images):
    """The tiny images as bytes."""
    return np.round(255 * tiny_images).astype(np.uint8)


@pytest.fixture
def model(make_model):
    """A compiled model that draws no samples it could differ by."""
    model = make_model()
    model.compile(learning_rate=1e-2, **STEPWISE)
    return model


WAYS = {
    "predict": lambda model, images: model.predict(images, batch_size=3, verbose=0),
    "predict_on_batch": lambda model, images: model.predict_on_batch(images),
    "call": lambda model, images: model(images),
    "infer": lambda model, images: model.infer(images),
}
FORMS = {
    "int64": lambda grey: grey.astype(np.int64),
    "uint16": lambda grey: grey.astype(np.uint16),
    "float32": lambda grey: (grey / 255).astype(np.float32),
    "float64": lambda grey: grey / 255,
    "channel": lambda grey: grey[..., None],
    "float channel": lambda grey: (grey / 255)[..., None],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_understands_every_form(way, tiny_model, grey):
    expected = tiny_model.infer(grey)
    forms = ("int64", "channel") if "predict" in way else FORMS  # it traces a graph for each
    for name in forms:
        assert_same_scenes(WAYS[way](tiny_model, FORMS[name](grey)), expected, atol=1e-4)


def test_a_convolutional_controller_understands_every_form(tiny_cells, grey):
    expected = tiny_cells(grey)
    for form in FORMS.values():
        assert_same_scenes(tiny_cells(form(grey)), expected, atol=1e-4)
    assert_same_scenes(tiny_cells.predict(grey[..., None], batch_size=3, verbose=0), expected, atol=1e-4)


WAYS_OF_TRAINING = {
    "fit": lambda model, images: model.fit(images, COUNTS, batch_size=4, shuffle=False, verbose=0).history["loss"],
    "evaluate": lambda model, images: model.evaluate(images, COUNTS, batch_size=4, verbose=0),
    "train_on_batch": lambda model, images: model.train_on_batch(images, COUNTS),
    "test_on_batch": lambda model, images: model.test_on_batch(images, COUNTS),
    "loss_of": lambda model, images: float(model.loss_of(images)),
}


@pytest.mark.parametrize("way", WAYS_OF_TRAINING)
def test_losses_of_integers_are_those_of_floats(way, make_model, grey):
    losses = []
    for form in ("float32", "int64", "channel"):
        model = make_model()
        model.compile(learning_rate=1e-2, **STEPWISE)
        losses.append(WAYS_OF_TRAINING[way](model, FORMS[form](grey)))
    np.testing.assert_allclose(losses[1:], losses[:1] * 2, rtol=1e-5)


@pytest.mark.parametrize("way", [*WAYS, *list(WAYS_OF_TRAINING)[:-1]])
def test_floats_up_to_255_are_refused(way, model, grey):
    with pytest.raises(DataError, match=r"images: values from 0 to 2\d\d are not allowed; integers must .*\[0, 1\]"):
        ({**WAYS, **WAYS_OF_TRAINING}[way])(model, grey.astype(np.float32))


@pytest.mark.parametrize("kind", ["data set", "sequence"])
def test_the_first_batch_of_a_stream_is_checked(kind, model, grey):
    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return grey[4 * index : 4 * index + 4].astype(np.float32), COUNTS[:4]

    data = Sequence() if kind == "sequence" else tf.data.Dataset.from_tensor_slices(grey.astype(np.float32)).batch(4)
    with pytest.raises(DataError, match="images: values"):
        model.fit(data, verbose=0)
    with pytest.raises(DataError, match="images: values"):
        model.predict(data, verbose=0)


def test_unknown_counts_have_no_accuracy(model, tiny_images):
    loss, accuracy, reconstruction = model.evaluate(tiny_images, verbose=0)
    assert model.metrics_names == ["loss", "count_accuracy", "reconstruction"]
    assert np.isnan(accuracy)
    assert loss > reconstruction > 0
    assert np.isnan(model.fit(tiny_images, verbose=0).history["count_accuracy"]).all()
    logs = model.evaluate(tiny_images, COUNTS, verbose=0, return_dict=True)
    assert logs["count_accuracy"] == np.mean(model.infer(tiny_images).count == COUNTS)
    assert model.evaluate(tiny_images, COUNTS, verbose=0) == [logs[name] for name in model.metrics_names]


def test_dictionaries_are_taken(model, tiny_images):
    expected = model.evaluate(tiny_images, COUNTS, verbose=0)
    assert model.evaluate({"images": tiny_images, "count": COUNTS}, verbose=0) == expected
    data = tf.data.Dataset.from_tensor_slices({"images": tiny_images, "counts": COUNTS}).batch(8)
    assert model.evaluate(data, verbose=0) == expected
    scenes = model.infer(tiny_images)
    for pictures in (data, {"images": tiny_images}):
        np.testing.assert_allclose(model.predict(pictures, verbose=0).presence, scenes.presence, atol=1e-5)
    with pytest.raises(DataError, match="images: missing from the data, which has pictures"):
        model.fit({"pictures": tiny_images}, verbose=0)


def test_sample_weights_weigh_scenes(make_model, tiny_images):
    weighted, repeated = make_model(), make_model()
    twice = np.array([2.0] * 4 + [0.0] * 4, np.float32)  # the mean over 8 of 2, 0 is the mean over the first 4
    gradients = [
        model.differentiate(tf.constant(tiny_images), weight).gradients
        for model, weight in ((weighted, tf.constant(twice)), (repeated, None))
    ]
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(*gradients, strict=True))
    total = weighted.objective(tf.constant(tiny_images), weighted._seed(weighted.step))[0].total
    with tf.GradientTape() as tape:
        total = weighted.objective(tf.constant(tiny_images), weighted._seed(weighted.step))[0].total
        loss = tf.reduce_mean(total[:4])
    expected = tape.gradient(loss, weighted.encoder.trainable_variables[0].value)
    index = [id(v) for v in weighted.learners()[0]].index(id(weighted.encoder.trainable_variables[0]))
    np.testing.assert_allclose(gradients[0][index], expected, rtol=1e-4, atol=1e-6)
    weighted.compile(**STEPWISE)
    history = weighted.fit(tiny_images, COUNTS, sample_weight=twice, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_evaluate_weighs_the_loss_as_keras_does(model, tiny_images):
    def evaluate(weights):
        return model.evaluate(tiny_images, COUNTS, batch_size=8, sample_weight=np.float32(weights), verbose=0)

    first, second = evaluate([1] * 4 + [0] * 4), evaluate([0] * 4 + [1] * 4)
    loss, accuracy, reconstruction = evaluate([1] * 8)
    assert first[0] + second[0] == pytest.approx(loss, rel=1e-5)
    assert 0 < first[0] < loss
    assert first[1:] == second[1:] == [accuracy, reconstruction]


@pytest.mark.parametrize("clip_norm", [0, -1.0, "linear(1, 0, steps=10)"])
def test_a_gradient_norm_of_zero_is_refused(clip_norm, model):
    with pytest.raises(ValueError, match=f"^clip_norm: {re.escape(str(clip_norm))} is not allowed; it must stay above 0"):
        model.compile(clip_norm=clip_norm)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "controller"), [("concrete", "convolutional"), ("nvil", "canvas"), ("enumerated", "canvas")]
)
def test_a_last_batch_may_be_smaller(estimator, controller, make_model, tiny_images):
    changes = {"baseline_units": (4,), "refinement": "linear(0, 1, steps=2, start=1)"}
    model = make_model(estimator=estimator, controller=controller, **changes)
    model.compile(learning_rate=1e-3, jit_compile=True)
    history = model.fit(tiny_images, COUNTS, batch_size=5, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(model.step.numpy()) == 4


@pytest.mark.parametrize("argument", ["loss", "metrics", "loss_weights", "weighted_metrics"])
def test_other_losses_and_metrics_are_refused(argument, make_model):
    with pytest.raises(ValueError, match=f"{argument}: not allowed; the loss is the negative ELBO"):
        make_model().compile(**{argument: "mse"})


def test_optimisers_by_name_and_scaled_losses(make_model, tiny_images):
    plain, scaled = make_model(), make_model()
    plain.compile("sgd", clip_norm=None, **STEPWISE)
    scaled.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), clip_norm=None, **STEPWISE)
    for model in (plain, scaled):
        model.train_on_batch(tiny_images, COUNTS)
    assert_same_weights(plain, scaled, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("controller", ["canvas", "convolutional"])
@pytest.mark.parametrize(
    "policy", ["mixed_float16", *(pytest.param(name, marks=SLOW) for name in ("mixed_bfloat16", "float64"))]
)
def test_other_policies_leave_it_in_float32(policy, controller, make_model, tiny_images):
    expected = make_model(controller=controller)(tiny_images)
    keras.config.set_dtype_policy(policy)
    try:
        model = make_model(controller=controller)
        model.compile(**STEPWISE)
        assert keras.config.dtype_policy().name == policy
        np.testing.assert_allclose(model(tiny_images).z_what, expected.z_what, rtol=1e-6)
        assert np.isfinite(model.train_on_batch(tiny_images, COUNTS)).all()
    finally:
        keras.config.set_dtype_policy("float32")
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


def test_the_summary_counts_weights(either_model):
    lines = []
    either_model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "controller" in text
    assert f"{either_model.count_params():,}" in text
    assert "unbuilt" not in text
    assert "(None, 3, 8, 6)" in text  # what the decoder returns


@pytest.mark.slow
@pytest.mark.parametrize("first", ["air", "keras"])
def test_importing_air_registers_its_classes(first, make_model, tmp_path):
    make_model(seed=4).save(tmp_path / "a.keras")
    second = {"air": "keras", "keras": "air"}[first]
    code = f"import {first}, {second}; print(type(keras.models.load_model({str(tmp_path / 'a.keras')!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "AIRModel", done.stderr


@pytest.mark.slow
def test_exported_models_count_the_same(either_model, tiny_images, tmp_path):
    model = AIRModel.from_config(either_model.get_config())
    model.set_weights(either_model.get_weights())
    expected = either_model.infer(tiny_images)
    model.export(tmp_path / "saved", verbose=False)  # without a call before
    saved = tf.saved_model.load(tmp_path / "saved")
    served = saved.serve(tf.constant(tiny_images))
    np.testing.assert_array_equal(served.count, expected.count)
    np.testing.assert_allclose(served.reconstruction, expected.reconstruction, atol=1e-5)
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    run = tf.lite.Interpreter(model_content=content).get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    counts = [run(**{name: image[None]})["count"].item() for image in tiny_images]
    assert counts == expected.count.tolist()


BACKGROUNDS = {
    "black": (lambda images: images, False),
    "grey paper": (lambda images: 0.15 + 0.8 * images, True),
    "dark on light": (lambda images: 1 - images, True),
    "noise": (lambda images: np.maximum(images, np.random.default_rng(0).uniform(0, 0.4, images.shape)), True),
}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_is_noticed(name, model, tiny_images, recwarn):
    change, noticed = BACKGROUNDS[name]
    images = change(tiny_images).astype(np.float32)
    assert (unpaintable_background(images) is not None) == noticed
    model.train_on_batch(images, COUNTS)
    assert any("background" in str(warning.message) for warning in recwarn) == noticed
