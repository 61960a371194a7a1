"""Training with Keras: compile, fit and evaluate, their reports, saving and resuming, and reproducibility."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import COUNTS, STEPWISE, assert_same_weights, differ, save_and_load, set_bias, train

from air.model.air_model import AIRModel
from air.model.metrics import PER_SCENE, PER_STEP, GroupedMean
from air.model.optimisation import LearningRate, global_norm
from air.schedules import Schedule
from air.training.checkpoints import load, save_weights


def plain(logs):
    """Convert to numbers, as some versions of Keras return scalar tensors."""
    return {name: float(value) for name, value in logs.items()}


CONTROLLERS = pytest.mark.parametrize("controller", ["canvas", "convolutional"])


@pytest.mark.parametrize("controller", ["convolutional", pytest.param("canvas", marks=pytest.mark.slow)])
def test_fit_and_evaluate_take_datasets_and_arrays(controller, make_model, batches, tiny_images):
    """Train once as a graph and once eagerly."""
    a, b = (make_model(controller=controller) for _ in range(2))
    a.compile(learning_rate=1e-2, jit_compile=False)
    b.compile(learning_rate=1e-2, **STEPWISE)
    first = a.fit(batches, steps_per_epoch=2, epochs=30, verbose=0).history
    second = b.fit(tiny_images, COUNTS, batch_size=4, shuffle=False, verbose=0).history
    assert set(first) == {"loss", "reconstruction", "count_accuracy"}
    for name, values in second.items():
        np.testing.assert_allclose(values, first[name][:1], rtol=1e-4, err_msg=name)
    assert int(a.step.numpy()) == 60
    assert np.mean(first["loss"][-5:]) < 0.7 * np.mean(first["loss"][:5])
    results = [plain(b.evaluate(batches.take(2), verbose=0, return_dict=True))]
    results.append(plain(b.evaluate(tiny_images, COUNTS, batch_size=4, verbose=0, return_dict=True)))
    assert results[0] == pytest.approx(results[1])
    assert int(b.step.numpy()) == 2


def train_three_steps(make_model, batches, controller="canvas"):
    """Train a model with an annealed objective and learning rate."""
    odds = "exponential(100, factor=0.5, every=2, limit=1e-6)"
    model = make_model(seed=3, controller=controller, temperature="linear(1, 0.5, steps=6)", z_pres_prior_odds=odds)
    train(model, batches, 3, learning_rate=LearningRate("linear(1e-2, 1e-3, steps=6)"), clip_norm=50.0)
    return model


@pytest.fixture(scope="module")
def trained(make_model, batches):
    """The model of `train_three_steps`; tests must not change it."""
    return train_three_steps(make_model, batches)


def test_the_reported_loss_is_the_objective(make_model, tiny_images):
    model = make_model(seed=7)
    expected = model.objective(tf.constant(tiny_images), tf.constant([7, 0]))[0]  # [seed, step]
    loss, reconstruction = (float(np.mean(values)) for values in (expected.total, expected.reconstruction))
    assert float(model.loss_of(tf.constant(tiny_images))) == pytest.approx(loss, rel=1e-6)
    model.compile(learning_rate=1e-3, **STEPWISE)
    history = model.fit(tiny_images, COUNTS, batch_size=8, verbose=0, shuffle=False).history
    assert history["loss"] == pytest.approx([loss], rel=1e-5)
    assert history["reconstruction"] == pytest.approx([reconstruction], rel=1e-5)


def evaluate(model, *data):
    """Evaluate a copy of a model with Keras; return the results and the means by count."""
    copy = AIRModel.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    copy.compile(**STEPWISE)
    results = plain(copy.evaluate(*data, batch_size=8, verbose=0, return_dict=True))
    return results, copy.statistics.by_count()


def test_evaluation_counts_as_inference_does(either_model, tiny_images):
    inferred = either_model.infer(tiny_images).count
    assert 0 < inferred.mean() < 3
    results, means = evaluate(either_model, tiny_images, COUNTS)
    assert results["count_accuracy"] == pytest.approx(np.mean(inferred == COUNTS))
    assert means["count"]["all"] == pytest.approx(inferred.mean())
    for count in range(4):
        assert means["count"][str(count)] == pytest.approx(inferred[count == COUNTS].mean())
        assert means["count_accuracy"][str(count)] == pytest.approx(np.mean(inferred[count == COUNTS] == count))


def test_a_stop_requested_before_training_ends_it_after_a_step(make_model, tiny_images):
    model = make_model()
    model.compile(**STEPWISE)
    model.request_stop()
    for steps in (1, 1 + 4):  # the next training is a new one
        model.fit(tiny_images, COUNTS, batch_size=2, epochs=1, verbose=0)
        assert int(model.step) == steps


def test_statistics_are_those_of_the_objective(make_model, tiny_images):
    model = make_model(seed=1)
    before = {variable.path: variable.numpy() for variable in model.weights if "statistics" not in variable.path}
    losses, _, attention = model.objective(tf.constant(tiny_images), tf.constant([1, -1]))
    model.compile(**STEPWISE)
    model.evaluate(tiny_images, COUNTS, batch_size=8, verbose=0)
    columns = {"loss": losses.total}
    for step in range(3):
        columns[f"scale_{step + 1}"] = attention.z_where[:, step, 0]
        for name in ("z_pres_kl", "scale_kl", "shift_kl", "z_what_kl"):
            columns[f"{name}_{step + 1}"] = getattr(losses, name)[:, step]
    means = model.statistics.by_count()
    for name, values in columns.items():
        expected = {str(count): values.numpy()[count == COUNTS].mean() for count in range(4)}
        assert means[name] == pytest.approx({**expected, "all": values.numpy().mean()}, rel=1e-4, abs=1e-5), name
    for variable in model.weights:  # which evaluation leaves unchanged
        if variable.path in before:
            np.testing.assert_array_equal(variable.numpy(), before[variable.path], err_msg=variable.path)


def test_decoder_noise_is_for_training_only(make_model, batches, tiny_images):
    quiet, noisy = make_model(), make_model(decoder_noise=2.0)
    noisy.set_weights(quiet.get_weights())
    assert evaluate(noisy, tiny_images, COUNTS)[0] == pytest.approx(evaluate(quiet, tiny_images, COUNTS)[0], rel=1e-5)
    assert np.isfinite([train(model, batches, 1)["loss"][0] for model in (quiet, noisy)]).all()
    assert differ(quiet, noisy)


def test_scenes_without_counts(make_model, tiny_images):
    losses, groups = [], []
    for counts in ((), (COUNTS,)):
        model = make_model()
        model.compile(learning_rate=1e-3, **STEPWISE)
        losses.append(model.fit(tiny_images, *counts, batch_size=8, shuffle=False, verbose=0).history["loss"])
        groups.append(set(model.statistics.by_count()["loss"]))
    assert losses[0] == pytest.approx(losses[1])
    assert groups == [{"all"}, {"0", "1", "2", "3", "all"}]


def test_bytes_are_the_same_images_as_floats(make_model, tiny_images):
    images = np.round(tiny_images * 255).astype(np.uint8)
    model = make_model()
    floats, _ = evaluate(model, (images / 255).astype(np.float32), COUNTS)
    assert evaluate(model, images, COUNTS)[0] == pytest.approx(floats, rel=1e-4)


@pytest.mark.parametrize("clip_norm", [1e-2, 1e6, None])
def test_gradients_are_clipped_by_their_global_norm(clip_norm, make_model, tiny_images):
    model = make_model(refinement=1.0)
    with tf.GradientTape() as tape:
        loss = model.loss_of(tf.constant(tiny_images))
    gradients = tape.gradient(loss, model.trainable_variables)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
    factor = min(1, clip_norm / norm) if clip_norm else 1
    expected = [w.numpy() - 1e-3 * factor * g.numpy() for w, g in zip(model.trainable_variables, gradients, strict=True)]
    model.compile(keras.optimizers.SGD(1e-3), clip_norm=clip_norm, **STEPWISE)
    model.fit(tiny_images, COUNTS, batch_size=8, shuffle=False, verbose=0)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6, err_msg=variable.path)
    means = model.statistics.by_count()
    assert means["gradient_norm"]["all"] == pytest.approx(norm, rel=1e-4)
    assert means["clipped_gradient_norm"]["all"] == pytest.approx(norm * factor, rel=1e-4)


def test_global_norm_is_that_of_tensorflow():
    rng = np.random.default_rng(0)
    tensors = [tf.constant(rng.normal(size=shape), tf.float32) for shape in [(7,), (30, 5), (3, 3, 2, 4), (1, 1), ()]]
    assert float(global_norm(tensors)) == pytest.approx(float(tf.linalg.global_norm(tensors)), rel=1e-6)


def test_the_count_prior_follows_the_inferred_counts(make_model, tiny_images):
    model = make_model()
    for bias, count in ((-60, 0), (60, 3)):
        set_bias(model.controller.heads["presence"].layers[-1], bias)
        model.compile(keras.optimizers.SGD(1e-12), **STEPWISE)
        before = model.count_prior.numpy()
        model.fit(tiny_images, COUNTS, batch_size=8, verbose=0)
        after = model.count_prior.numpy()
        assert after.sum() == pytest.approx(1)
        np.testing.assert_array_equal(after > before, np.arange(4) == count)


def test_grouped_mean():
    rng, metric = np.random.default_rng(0), GroupedMean(steps=3)
    counts = [np.array([0, 1, 1, -1, 3]), np.array([1, 0, -1, -1, 3, 3, 7])]  # 7: beyond the groups
    columns = {name: [] for name in metric.quantities}
    for count in counts:
        values = {name: rng.normal(size=len(count)).astype(np.float32) for name in PER_SCENE}
        values |= {name: rng.normal(size=(len(count), 3)).astype(np.float32) for name in PER_STEP}
        metric.update_state(values, tf.constant(count))
        for name in PER_SCENE:
            columns[name].append(values[name])
        for name in PER_STEP:
            for step in range(3):
                columns[f"{name}_{step + 1}"].append(values[name][:, step])
    means, count = metric.by_count(), np.concatenate(counts)
    for name, column in columns.items():
        column = np.concatenate(column)
        overall = np.nan if name == "count_accuracy" else column.mean()  # some true counts are unknown
        expected = {str(group): column[count == group].mean() for group in (0, 1, 3)} | {"all": overall}
        assert means[name] == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)
        assert float(metric.result()[name]) == pytest.approx(overall, rel=1e-4, abs=1e-6, nan_ok=True)
    metric.reset_state()
    assert set(map(str, metric.by_count().values())) == {"{}"}
    assert float(metric.overall("loss")) == 0


@CONTROLLERS
def test_the_same_seed_trains_the_same_model(controller, make_model, batches):
    same = [make_model(seed=11, controller=controller) for _ in range(2)]
    for model in same:
        train(model, batches, 2)
    assert_same_weights(*same)
    other, initial = (make_model(seed=seed, controller=controller) for seed in (12, 11))
    assert differ(initial, other)
    other.set_weights(initial.get_weights())  # the same initial weights, other draws
    train(other, batches, 2)
    assert differ(same[0], other)


def assert_same_scenes(left, right, images):
    for a, b in zip(left.infer(images), right.infer(images), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loaded_model_infers_generates_and_anneals_like_the_saved_one(trained, tiny_images, tmp_path):
    loaded = save_and_load(trained, tmp_path / "model.keras")
    assert isinstance(loaded, AIRModel)
    assert (loaded.config, loaded.seed, int(loaded.step.numpy())) == (trained.config, trained.seed, 3)
    assert_same_weights(trained, loaded)
    assert_same_scenes(trained, loaded, tiny_images)
    np.testing.assert_array_equal(trained.generate(3)[0], loaded.generate(3)[0])
    images = tf.constant(tiny_images)
    assert float(loaded.loss_of(images)) == float(trained.loss_of(images))
    loaded.step.assign(0)
    assert float(loaded.loss_of(images)) != pytest.approx(float(trained.loss_of(images)), rel=1e-3)


@CONTROLLERS
def test_training_resumes_after_loading(controller, make_model, batches, tmp_path):
    unsaved = train_three_steps(make_model, batches, controller)
    loaded = save_and_load(unsaved, tmp_path / "model.keras")
    forgetful = save_and_load(unsaved, tmp_path / "model.keras")
    assert loaded.clip_norm == Schedule.parse(50.0)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(float(unsaved.optimizer.learning_rate))
    for variable in forgetful.optimizer.variables[2:]:  # all but the step and the learning rate: Adam's moments
        variable.assign(0 * variable)
    for model in (unsaved, loaded, forgetful):
        model.run_eagerly = True
        train(model, batches, 1)
    assert int(loaded.step.numpy()) == int(loaded.optimizer.iterations.numpy()) == 4
    assert_same_weights(unsaved, loaded)
    assert differ(unsaved, forgetful)


def test_models_without_an_optimiser_are_saved_too(tiny_model, trained, tiny_images, tmp_path):
    save_weights(trained, tmp_path / "weights.keras")
    loaded = load(tmp_path / "weights.keras")
    assert_same_weights(trained, loaded)
    assert_same_scenes(trained, loaded, tiny_images)
    train(loaded, tf.data.Dataset.from_tensors((tiny_images, COUNTS)), 1)
    assert int(loaded.step.numpy()) == 4
    uncompiled = AIRModel(tiny_model.config)
    uncompiled.set_weights(tiny_model.get_weights())
    assert_same_scenes(save_and_load(uncompiled, tmp_path / "uncompiled.keras"), tiny_model, tiny_images)


@pytest.mark.slow
@CONTROLLERS
def test_a_step_compiled_with_xla_is_the_same_step(controller, make_model, tiny_images):
    """Posteriors are so narrow that it does not matter that XLA draws other random numbers."""
    losses, changes = [], []
    for xla in (False, True):
        fields = {"max_steps": 2, "z_pres_kl_weight": 0, "activation": "softplus", "refiner_units": ()}
        model = make_model(seed=2, controller=controller, **fields)
        if controller == "convolutional":
            model.controller.where.bias.assign([0, 0, 2, -100, -100, -100])
            model.controller.presence.bias.assign([12])
        else:
            biases = {"scale_log_variance": -100, "shift_log_variance": -100, "presence": 12, "scale_mean": 2}
            for name, bias in biases.items():
                variable = model.controller.heads[name].layers[-1].bias
                variable.assign(0 * variable + bias)
        model.encoder.parameters.bias.assign(np.where(np.arange(8) < 4, 0, -100))
        before = [variable.numpy() for variable in model.trainable_variables]
        model.compile(keras.optimizers.SGD(1.0), clip_norm=1e-2, jit_compile=xla, run_eagerly=not xla)
        assert model.jit_compile == xla
        losses += model.fit(tiny_images, COUNTS, batch_size=8, verbose=0, shuffle=False).history["loss"]
        moved = [(variable.numpy() - old).ravel() for variable, old in zip(model.trainable_variables, before, strict=True)]
        changes.append(np.concatenate(moved))
        assert int(model.step.numpy()) == 1
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert np.linalg.norm(changes[0]) == pytest.approx(1e-2, rel=1e-3)
    assert np.linalg.norm(changes[0] - changes[1]) < 0.1 * 1e-2
