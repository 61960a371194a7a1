"""Training with Keras: compile, fit and evaluate, what they report, saving and going on, and what fixes the outcome."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import COUNTS, STEPWISE, assert_same_weights, differ, save_and_load, train

from air.model.air_model import AIRModel
from air.model.metrics import GroupedMean, global_norm
from air.model.optimisation import LearningRate
from air.schedules import Schedule
from air.training.checkpoints import load, save_weights


def test_fit_and_evaluate_on_a_dataset_and_on_arrays(make_model, batches, tiny_images):
    """The one as a graph, the other step by step."""
    a, b = make_model(), make_model()
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


def train_three_steps(make_model, batches):
    """A model after three steps, with an annealed objective and learning rate."""
    model = make_model(
        seed=3, temperature="linear(1, 0.5, steps=6)", z_pres_prior_odds="exponential(100, factor=0.5, every=2, limit=1e-6)"
    )
    train(model, batches, 3, learning_rate=LearningRate("linear(1e-2, 1e-3, steps=6)"), clip_norm=50.0)
    return model


@pytest.fixture(scope="module")
def trained(make_model, batches):
    """The model of `train_three_steps`, for all tests that don't change it."""
    return train_three_steps(make_model, batches)


def test_the_reported_loss_is_the_objective(make_model, tiny_images):
    model = make_model(seed=7)
    expected = model.objective(tf.constant(tiny_images), tf.constant([7, 0]))[0]  # [seed, step]
    assert float(model.loss_of(tf.constant(tiny_images))) == pytest.approx(float(np.mean(expected.total)), rel=1e-6)
    model.compile(learning_rate=1e-3, **STEPWISE)
    history = model.fit(tiny_images, COUNTS, batch_size=8, verbose=0, shuffle=False).history
    assert history["loss"] == pytest.approx([float(np.mean(expected.total))], rel=1e-5)
    assert history["reconstruction"] == pytest.approx([float(np.mean(expected.reconstruction))], rel=1e-5)


def plain(logs):
    """Numbers, where some versions of Keras return scalar tensors."""
    return {name: float(value) for name, value in logs.items()}


def evaluate(model, *data):
    """The results of Keras' evaluation of a copy of the model, and its means by count."""
    copy = AIRModel.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    copy.compile(**STEPWISE)
    results = plain(copy.evaluate(*data, batch_size=4, verbose=0, return_dict=True))
    return results, copy.statistics.by_count()


def test_evaluation_counts_as_inference_does(tiny_model, tiny_images):
    inferred = tiny_model.infer(tiny_images).count
    assert 0 < inferred.mean() < 3
    results, means = evaluate(tiny_model, tiny_images, COUNTS)
    assert results["count_accuracy"] == pytest.approx(np.mean(inferred == COUNTS))
    assert means["count"]["all"] == pytest.approx(inferred.mean())
    for count in range(4):
        assert means["count"][str(count)] == pytest.approx(inferred[count == COUNTS].mean())
        assert means["count_accuracy"][str(count)] == pytest.approx(np.mean(inferred[count == COUNTS] == count))


def test_statistics_are_those_of_the_objective(make_model, tiny_images):
    model = make_model(seed=1)
    losses, _, attention = model.objective(tf.constant(tiny_images), tf.constant([1, -1]))
    z_where = attention.z_where
    model.compile(**STEPWISE)
    model.evaluate(tiny_images, COUNTS, batch_size=8, verbose=0)
    means = model.statistics.by_count()
    for count in range(4):
        members = count == COUNTS
        assert means["loss"][str(count)] == pytest.approx(losses.total.numpy()[members].mean(), rel=1e-5)
        for step in range(3):
            for name in ("z_pres_kl", "scale_kl", "shift_kl", "z_what_kl"):
                expected = getattr(losses, name).numpy()[members, step].mean()
                assert means[f"{name}_{step + 1}"][str(count)] == pytest.approx(expected, rel=1e-4, abs=1e-5)
            assert means[f"scale_{step + 1}"][str(count)] == pytest.approx(z_where.numpy()[members, step, 0].mean(), rel=1e-5)


def test_evaluation_leaves_the_model_alone(make_model, tiny_images):
    model = make_model()
    before = {variable.path: variable.numpy() for variable in model.weights if "statistics" not in variable.path}
    model.compile(**STEPWISE)
    model.evaluate(tiny_images, COUNTS, batch_size=4, verbose=0)
    for variable in model.weights:
        if variable.path in before:
            np.testing.assert_array_equal(variable.numpy(), before[variable.path], err_msg=variable.path)


def test_evaluation_has_no_decoder_noise(make_model, tiny_images):
    quiet, noisy = make_model(), make_model(decoder_noise=2.0)
    noisy.set_weights(quiet.get_weights())
    assert evaluate(noisy, tiny_images, COUNTS)[0] == pytest.approx(evaluate(quiet, tiny_images, COUNTS)[0], rel=1e-5)


def test_training_with_decoder_noise(make_model, batches):
    quiet, noisy = make_model(), make_model(decoder_noise=2.0)
    losses = [train(model, batches, 2)["loss"][0] for model in (quiet, noisy)]
    assert np.isfinite(losses).all()
    assert differ(quiet, noisy)


def test_scenes_without_counts(make_model, tiny_images):
    model = make_model()
    model.compile(learning_rate=1e-3, **STEPWISE)
    unlabelled = model.fit(tiny_images, batch_size=4, shuffle=False, verbose=0).history
    assert set(model.statistics.by_count()["loss"]) == {"all"}
    again = make_model()
    again.compile(learning_rate=1e-3, **STEPWISE)
    labelled = again.fit(tiny_images, COUNTS, batch_size=4, shuffle=False, verbose=0).history
    assert unlabelled["loss"] == pytest.approx(labelled["loss"])


def test_bytes_are_the_same_pictures_as_floats(make_model, tiny_images):
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


def test_the_prior_of_counts_follows_what_is_inferred(make_model, tiny_images):
    model = make_model()
    for bias, count in ((-60, 0), (60, 3)):
        head = model.controller.heads["presence"].layers[-1]
        head.kernel.assign(0 * head.kernel)
        head.bias.assign([bias])
        model.compile(keras.optimizers.SGD(1e-12), **STEPWISE)
        before = model.count_prior.numpy()
        model.fit(tiny_images, COUNTS, batch_size=4, epochs=2, verbose=0)
        after = model.count_prior.numpy()
        assert after.sum() == pytest.approx(1)
        assert after[count] > before[count]
        others = np.arange(4) != count
        assert (after[others] < before[others]).all()


def test_grouped_mean():
    rng = np.random.default_rng(0)
    metric = GroupedMean(("a", "b"), groups=4)
    values = [rng.normal(size=(n, 2)).astype(np.float32) for n in (5, 7)]
    counts = [np.array([0, 1, 1, -1, 3]), np.array([1, 0, -1, -1, 3, 3, 7])]  # 7: beyond the groups
    for batch in zip(values, counts, strict=True):
        metric.update_state(*map(tf.constant, batch))
    values, counts = np.concatenate(values), np.concatenate(counts)
    means = metric.by_count()
    for q, name in enumerate("ab"):
        assert set(means[name]) == {"0", "1", "3", "all"}
        for group in (0, 1, 3):
            assert means[name][str(group)] == pytest.approx(values[counts == group, q].mean(), rel=1e-5)
        assert means[name]["all"] == pytest.approx(values[:, q].mean(), rel=1e-5)
        assert float(metric.overall(name)) == pytest.approx(values[:, q].mean(), rel=1e-5)
        assert float(metric.result()[name]) == pytest.approx(values[:, q].mean(), rel=1e-5)
    metric.reset_state()
    assert metric.by_count() == {"a": {}, "b": {}}
    assert float(metric.overall("a")) == 0


def test_the_same_seed_trains_the_same_model(make_model, batches):
    same = [make_model(seed=11), make_model(seed=11)]
    for model in same:
        train(model, batches, 3)
    assert_same_weights(*same)
    other = make_model(seed=12)
    other.set_weights(make_model(seed=11).get_weights())  # the same initial weights, other draws
    train(other, batches, 3)
    assert differ(same[0], other)
    assert differ(make_model(seed=11), make_model(seed=12))


def assert_same_scenes(left, right, images):
    for a, b in zip(left.infer(images), right.infer(images), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_saved_model_infers_and_generates_the_same(trained, tiny_images, tmp_path):
    loaded = save_and_load(trained, tmp_path / "model.keras")
    assert isinstance(loaded, AIRModel)
    assert loaded.config == trained.config
    assert loaded.seed == trained.seed
    assert_same_weights(trained, loaded)
    assert_same_scenes(trained, loaded, tiny_images)
    np.testing.assert_array_equal(trained.generate(3)[0], loaded.generate(3)[0])


def test_annealing_survives_saving(trained, tiny_images, tmp_path):
    loaded = save_and_load(trained, tmp_path / "model.keras")
    assert int(loaded.step.numpy()) == 3
    images = tf.constant(tiny_images)
    assert float(loaded.loss_of(images)) == float(trained.loss_of(images))
    loaded.step.assign(0)
    assert float(loaded.loss_of(images)) != pytest.approx(float(trained.loss_of(images)), rel=1e-3)


def test_training_goes_on_after_loading(make_model, batches, tmp_path):
    unsaved = train_three_steps(make_model, batches)
    loaded = save_and_load(unsaved, tmp_path / "model.keras")
    forgetful = save_and_load(unsaved, tmp_path / "model.keras")
    assert loaded.clip_norm == Schedule.parse(50.0)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(float(unsaved.optimizer.learning_rate))
    for variable in forgetful.optimizer.variables[2:]:  # all but the step and the learning rate: Adam's momenta
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


def test_a_step_compiled_with_xla_is_the_same_step(make_model, tiny_images):
    """With posteriors so narrow that it does not matter that XLA draws other random numbers."""
    steps = []
    for xla in (False, True):
        model = make_model(seed=2, max_steps=2, z_pres_kl_weight=0, activation="softplus")
        heads, step = model.controller.heads, {}
        for name, bias in {"scale_log_variance": -100, "shift_log_variance": -100, "presence": 12, "scale_mean": 2}.items():
            heads[name].layers[-1].bias.assign(0 * heads[name].layers[-1].bias + bias)
        model.encoder.parameters.bias.assign(np.where(np.arange(8) < 4, 0, -100))
        before = [variable.numpy() for variable in model.trainable_variables]
        model.compile(keras.optimizers.SGD(1.0), clip_norm=1e-2, jit_compile=xla, run_eagerly=not xla)
        assert model.jit_compile == xla
        step["loss"] = model.fit(tiny_images, COUNTS, batch_size=8, verbose=0, shuffle=False).history["loss"][0]
        step["change"] = [variable.numpy() - old for variable, old in zip(model.trainable_variables, before, strict=True)]
        step["step"] = int(model.step.numpy())
        steps.append(step)
    plain, compiled = steps
    assert compiled["step"] == plain["step"] == 1
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=5e-3)
    norm = np.sqrt(sum(np.sum(change**2) for change in plain["change"]))
    assert norm == pytest.approx(1e-2, rel=1e-3)
    error = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(plain["change"], compiled["change"], strict=True)))
    assert error < 0.1 * norm


def test_global_norm_is_tensorflows():
    rng = np.random.default_rng(0)
    tensors = [tf.constant(rng.normal(size=shape), tf.float32) for shape in [(7,), (30, 5), (3, 3, 2, 4), (1, 1)]]
    assert float(global_norm(tensors)) == pytest.approx(float(tf.linalg.global_norm(tensors)), rel=1e-6)
