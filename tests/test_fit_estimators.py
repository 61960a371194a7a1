"""Training with Keras, whichever way z_pres is learned and whatever the controller sees."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import COUNTS, STEPWISE, assert_same_weights, differ, save_and_load, train

from air.model.optimisation import LearningRate

SMALL = {
    "canvas_size": (9, 8),
    "window_size": (5, 4),
    "max_steps": 2,
    "lstm_units": 4,
    "refiner_units": (3,),
    "refinement": 1.0,
    "encoder_units": (),
    "decoder_units": (),
    "z_what_size": 2,
    "baseline_units": (3,),
}
INPUTS = ("canvas", "latents", "residual")
PRESENCE = ("concrete", "nvil", "enumerated")
# Of any two of the three choices, every combination.
CHOICES = [(p, INPUTS[(i + j) % 3], ("cross_entropy", "normal")[j % 2]) for i, p in enumerate(PRESENCE) for j in range(3)]


@pytest.mark.parametrize(("presence", "controller_input", "likelihood"), CHOICES)
def test_every_way_to_learn_is_trained_saved_and_gone_on_with(presence, controller_input, likelihood, make_model, tmp_path):
    """Compiled by XLA where the estimators differ most."""
    changes = {"estimator": presence, "controller_input": controller_input, "likelihood": likelihood}
    images = np.random.default_rng(0).random((8, 9, 8), np.float32)
    model = make_model(**SMALL, **changes, learn_count_prior_after=1)
    xla = CHOICES.index((presence, controller_input, likelihood)) % 4 == 0  # one of each estimator, and of each input
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    model.compile(learning_rate=1e-2, jit_compile=xla, run_eagerly=not xla)
    history = model.fit(images, COUNTS % 3, batch_size=4, verbose=0, shuffle=False).history
    assert model.jit_compile == xla
    assert np.isfinite(history["loss"]).all()
    assert int(model.step.numpy()) == 2
    for variable in model.trainable_variables:
        assert np.isfinite(variable).all()
        assert not np.array_equal(variable, before[variable.path]), variable.path
    loaded = save_and_load(model, tmp_path / "model.keras")
    assert loaded.config == model.config
    assert_same_weights(model, loaded)
    scenes = model.infer(images)
    for name, ours, theirs in zip(scenes._fields, scenes, loaded.infer(images), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
    np.testing.assert_array_equal(model.count(tf.constant(images)), scenes.count)


def test_a_single_step_has_no_latents_before_it(make_model, tiny_images):
    model = make_model(max_steps=1, controller_input="latents")
    before = model.get_weights()
    train(model, tf.data.Dataset.from_tensors((tiny_images, COUNTS)), 1)
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def nvil_model(make_model, **changes):
    return make_model(seed=3, estimator="nvil", baseline_units=(6,), **changes)


def state(model):
    """The weights by whom they belong to."""
    parts = {"baseline": model.estimator.trainable_variables, "averages": model.estimator.non_trainable_variables}
    baseline = {id(variable) for variable in parts["baseline"]}
    parts["model"] = [variable for variable in model.trainable_variables if id(variable) not in baseline]
    return {name: [variable.numpy() for variable in variables] for name, variables in parts.items()}


def moved(before, after):
    return {name: any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True)) for name in before}


def test_the_baseline_and_the_rest_have_optimisers_of_their_own(make_model, tiny_images):
    data = tf.data.Dataset.from_tensors((tiny_images, COUNTS))
    for rate, baseline_rate in ((0.0, 1e-3), (1e-3, 0.0)):
        model = nvil_model(make_model)
        model.compile(keras.optimizers.SGD(rate), baseline_learning_rate=baseline_rate, **STEPWISE)
        before = state(model)
        train(model, data, 1)
        assert moved(before, state(model)) == {"baseline": rate == 0, "averages": True, "model": rate > 0}
        ours = {variable.path for variable in model.optimizer.variables}
        theirs = {variable.path for variable in model.baseline_optimizer.variables}
        assert not ours & theirs
        assert len(theirs) == 1 + 2 * len(before["baseline"])  # Adam's step and momenta


def test_the_gradient_norm_is_not_the_baselines(make_model, tiny_images):
    model = nvil_model(make_model, refinement=1.0)
    own = state(model)["model"]
    with tf.GradientTape() as tape:
        loss = model.loss_of(tf.constant(tiny_images))
    gradients = tape.gradient(loss, model.trainable_variables)
    baseline = {id(variable) for variable in model.estimator.trainable_variables}
    ours = [g for v, g in zip(model.trainable_variables, gradients, strict=True) if id(v) not in baseline]
    assert len(ours) == len(own) < len(gradients)
    model.compile(keras.optimizers.SGD(1e-6), **STEPWISE)
    model.fit(tiny_images, COUNTS, batch_size=8, shuffle=False, verbose=0)
    expected = np.sqrt(sum(np.sum(np.square(g)) for g in ours))
    assert model.statistics.by_count()["gradient_norm"]["all"] == pytest.approx(expected, rel=1e-4)


def test_looking_at_the_loss_changes_nothing(make_model, tiny_images):
    model = nvil_model(make_model)
    before = state(model)
    model.loss_of(tf.constant(tiny_images))
    model.compile(**STEPWISE)
    model.evaluate(tiny_images, COUNTS, batch_size=4, verbose=0)
    assert not any(moved(before, state(model)).values())


@pytest.mark.parametrize("rate", [1e-2, "linear(1e-2, 1e-3, steps=6)"])
def test_training_a_baseline_goes_on_after_loading(rate, make_model, batches, tmp_path):
    unsaved = nvil_model(make_model)
    train(unsaved, batches, 2, baseline_learning_rate=rate)
    models = [unsaved, *(save_and_load(unsaved, tmp_path / "model.keras") for _ in range(3))]
    _, loaded, resumed, forgetful = models
    for variable in forgetful.baseline_optimizer.variables[1:]:  # all but the step: Adam's momenta
        variable.assign(0 * variable)
    now = float(unsaved.baseline_optimizer.learning_rate)
    resumed.compile(resumed.optimizer, baseline_learning_rate=LearningRate(rate), **STEPWISE)  # as a resumed run does
    for model in models:
        assert float(model.baseline_optimizer.learning_rate) == pytest.approx(now)
        model.run_eagerly = True
        train(model, batches, 1)
        assert int(model.baseline_optimizer.iterations.numpy()) == 3
    assert_same_weights(unsaved, loaded)
    assert_same_weights(unsaved, resumed, rtol=1e-5, atol=1e-6)
    assert differ(unsaved, forgetful)
