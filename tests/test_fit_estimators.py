"""Training with Keras with every estimator and every controller."""

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
LSTMS = ("canvas", "latents", "residual")
ESTIMATORS = ("concrete", "nvil", "enumerated")
LIKELIHOODS = ("cross_entropy", "normal")
# Every combination of any two of the three choices; XLA compiles one of each estimator with either kind of controller.
CELLS = [(estimator, "convolutional", LIKELIHOODS[i % 2]) for i, estimator in enumerate(ESTIMATORS)]
CHOICES = [(estimator, LSTMS[(i + j) % 3], LIKELIHOODS[j % 2]) for i, estimator in enumerate(ESTIMATORS) for j in range(3)]
CASES = [(*choice, False) for choice in CELLS + CHOICES]
CASES += [pytest.param(*choice, True, marks=pytest.mark.slow) for choice in CELLS + CHOICES[::4]]


@pytest.mark.parametrize(("estimator", "controller", "likelihood", "xla"), CASES)
def test_every_choice_is_trained_saved_and_loaded(estimator, controller, likelihood, xla, make_model, tmp_path):
    changes = {"estimator": estimator, "controller": controller, "likelihood": likelihood}
    images = np.random.default_rng(0).random((8, 9, 8), np.float32)
    model = make_model(**SMALL, **changes, learn_count_prior_after=1)
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
    scenes = model(images)
    for name, ours, theirs in zip(scenes._fields, scenes, loaded(images), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
    np.testing.assert_array_equal(model.count(tf.constant(images)), scenes.count)


@pytest.mark.slow
@pytest.mark.parametrize("controller", ["canvas", "convolutional"])
def test_a_strategy_trains_the_same_model(controller, make_model):
    images, losses = np.random.default_rng(0).random((8, 9, 8), np.float32), []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])):
        with strategy.scope():
            model = make_model(**SMALL, controller=controller)
            model.compile(learning_rate=1e-2, jit_compile=True)
        losses.append(model.fit(images, COUNTS % 3, batch_size=4, epochs=2, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.fixture
def one_batch(tiny_images):
    return tf.data.Dataset.from_tensors((tiny_images, COUNTS))


def test_a_single_step_has_no_latents_before_it(make_model, one_batch):
    model, untrained = (make_model(max_steps=1, controller="latents") for _ in range(2))
    train(model, one_batch, 1)
    assert differ(model, untrained)


@pytest.fixture
def make_nvil(make_model):
    return lambda **changes: make_model(seed=3, estimator="nvil", baseline_units=(6,), **changes)


def state(model):
    """Weights by owner."""
    ours, baseline = model.learners()
    parts = {"model": ours, "baseline": baseline, "averages": model.estimator.non_trainable_variables}
    return {name: [variable.numpy() for variable in variables] for name, variables in parts.items()}


def moved(before, after):
    return {name: any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True)) for name in before}


@pytest.mark.parametrize(("rate", "baseline_rate"), [(0.0, 1e-3), (1e-3, 0.0)])
def test_the_baseline_has_an_optimiser_of_its_own(rate, baseline_rate, make_nvil, one_batch):
    model = make_nvil()
    model.compile(keras.optimizers.SGD(rate), baseline_learning_rate=baseline_rate, **STEPWISE)
    before = state(model)
    train(model, one_batch, 1)
    assert moved(before, state(model)) == {"baseline": rate == 0, "averages": True, "model": rate > 0}
    ours, theirs = ({v.path for v in optimizer.variables} for optimizer in (model.optimizer, model.baseline_optimizer))
    assert not ours & theirs
    assert len(theirs) == 1 + 2 * len(before["baseline"])  # Adam's step and moments


def test_the_gradient_norm_excludes_the_baseline(make_nvil, tiny_images):
    model = make_nvil(refinement=1.0)
    ours, baseline = model.learners()
    assert len(ours) + len(baseline) == len(model.trainable_variables)
    with tf.GradientTape() as tape:
        loss = model.loss_of(tf.constant(tiny_images))
    expected = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in tape.gradient(loss, ours)))
    model.compile(keras.optimizers.SGD(1e-6), **STEPWISE)
    model.fit(tiny_images, COUNTS, batch_size=8, shuffle=False, verbose=0)
    assert model.statistics.by_count()["gradient_norm"]["all"] == pytest.approx(expected, rel=1e-4)


def test_losses_and_evaluation_change_nothing(make_nvil, tiny_images):
    model = make_nvil()
    before = state(model)
    model.loss_of(tf.constant(tiny_images))
    model.compile(**STEPWISE)
    model.evaluate(tiny_images, COUNTS, batch_size=4, verbose=0)
    assert not any(moved(before, state(model)).values())


@pytest.mark.parametrize("rate", [1e-2, "linear(1e-2, 1e-3, steps=6)"])
def test_training_a_baseline_resumes_after_loading(rate, make_nvil, batches, tmp_path):
    unsaved = make_nvil()
    train(unsaved, batches, 2, baseline_learning_rate=rate)
    models = [unsaved, *(save_and_load(unsaved, tmp_path / "model.keras") for _ in range(3))]
    _, loaded, resumed, forgetful = models
    for variable in forgetful.baseline_optimizer.variables[1:]:  # all but the step: Adam's moments
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
