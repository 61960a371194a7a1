"""The layers have the shapes that they say, rebuild from their configurations, and compute what they say."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import correlate2d

from air.model.networks import LOG_VARIANCE_RANGE, Controller, GlimpseDecoder, GlimpseEncoder, Refiner

RNG = np.random.default_rng(0)
CANVAS, WINDOW, Z_WHAT = (RNG.random(shape, np.float32) for shape in ((5, 10, 14), (5, 3, 8, 6), (5, 3, 4)))
CNN = {"cnn_filters": (4, 3), "cnn_kernels": (3, 5), "cnn_strides": (2, 1), "cnn_pools": (1, 2)}
LAYERS = {
    "controller": (Controller(3, lstm_units=8, head_units=(6, 5), name="c"), CANVAS),
    "controller without hidden layers": (Controller(2, lstm_units=8, head_units=()), CANVAS),
    "controller with CNN": (Controller(3, lstm_units=8, head_units=(6,), **CNN), CANVAS),
    "refiner": (Refiner((7, 9), "softplus"), WINDOW),
    "encoder": (GlimpseEncoder((7, 9), 4, "softplus"), WINDOW),
    "encoder without hidden layers": (GlimpseEncoder((), 4), WINDOW),
    "decoder": (GlimpseDecoder((8, 6), (7, 9), "tanh", bias=-3.0), Z_WHAT),
}
EACH = pytest.mark.parametrize("name", LAYERS)


def outputs(layer, inputs):
    """All tensors that a layer answers with, as arrays."""
    answer = layer(inputs)
    if isinstance(layer, Refiner):
        return [part.numpy() for part in answer]
    if isinstance(layer, Controller):
        parts = (answer.scale.loc, answer.scale.scale, answer.shift.loc, answer.shift.scale, answer.presence_logits)
        return [part.numpy() for part in parts]
    return [answer.loc.numpy(), answer.scale.numpy()] if isinstance(layer, GlimpseEncoder) else [answer.numpy()]


def new(layer):
    return type(layer).from_config(layer.get_config())


def trained(layer, shape):
    """The same layer with weights of which none is 0, as a refiner's are before training."""
    copy = new(layer)
    copy.build((None, *shape[1:]))
    rng = np.random.default_rng(4)
    copy.set_weights([weight + rng.normal(0, 0.1, weight.shape) for weight in copy.get_weights()])
    return copy


@EACH
def test_configuration_round_trip(name):
    inputs = LAYERS[name][1]
    layer = trained(LAYERS[name][0], inputs.shape)
    first = outputs(layer, inputs)
    copy = new(layer)
    assert copy.get_config() == layer.get_config()
    copy.build(inputs.shape)
    assert any(not np.array_equal(a, b) for a, b in zip(first, outputs(copy, inputs), strict=True))
    copy.set_weights(layer.get_weights())
    for a, b in zip(first, outputs(copy, inputs), strict=True):
        np.testing.assert_array_equal(a, b)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert restored.get_config() == layer.get_config()


@EACH
def test_every_weight_is_built_and_trained(name):
    layer, inputs = LAYERS[name]
    copy = trained(layer, inputs.shape)
    built = [weight.path for weight in copy.weights]
    with tf.GradientTape() as tape:
        answer = copy(inputs)
        if isinstance(layer, Controller):
            parts = [answer.scale.sample(seed=1), answer.shift.sample(seed=2), answer.presence_logits]
        elif isinstance(layer, Refiner):
            parts = list(answer)
        else:
            parts = [answer.sample(seed=1) if isinstance(layer, GlimpseEncoder) else answer]
        total = tf.add_n([tf.reduce_sum(part * part) for part in parts])
    assert [weight.path for weight in copy.weights] == built
    for weight, gradient in zip(copy.trainable_weights, tape.gradient(total, copy.trainable_weights), strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient).all(), weight.path
        assert np.any(gradient), weight.path


def test_shapes():
    for name, steps in (("controller", 3), ("controller without hidden layers", 2), ("controller with CNN", 3)):
        shapes = [array.shape for array in outputs(*LAYERS[name])]
        assert shapes == [(5, steps, 1)] * 2 + [(5, steps, 2)] * 2 + [(5, steps)]
    assert [array.shape for array in outputs(*LAYERS["refiner"])] == [(5, 3, 1), (5, 3, 2)] * 2
    assert [array.shape for array in outputs(*LAYERS["encoder"])] == [(5, 3, 4)] * 2
    assert [array.shape for array in outputs(*LAYERS["decoder"])] == [(5, 3, 8, 6)]


@EACH
def test_scenes_do_not_mix(name):
    layer, inputs = LAYERS[name]
    layer = trained(layer, inputs.shape)
    for whole, alone in zip(outputs(layer, inputs), outputs(layer, inputs[1:2]), strict=True):
        np.testing.assert_allclose(whole[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("value", "log_variance"), [(1e4, LOG_VARIANCE_RANGE[1]), (-1e4, LOG_VARIANCE_RANGE[0]), (1.0, 1.0)])
def test_deviations_stay_finite(value, log_variance):
    controller, encoder = new(LAYERS["controller"][0]), new(LAYERS["encoder"][0])
    controller.build(CANVAS.shape)
    encoder.build(WINDOW.shape)
    for name in ("scale_log_variance", "shift_log_variance"):
        output = controller.heads[name].layers[-1]
        output.kernel.assign(0 * output.kernel)
        output.bias.assign(0 * output.bias + value)
    encoder.parameters.kernel.assign(0 * encoder.parameters.kernel)
    encoder.parameters.bias.assign(0 * encoder.parameters.bias + value)
    posterior = controller(CANVAS)
    for deviation in (posterior.scale.stddev(), posterior.shift.stddev(), encoder(WINDOW).stddev()):
        np.testing.assert_allclose(deviation, np.exp(0.5 * log_variance), rtol=1e-5)


def features_to_heads(controller, features):
    """The linear heads of a controller on an LSTM of Keras' own, whose input at every step is `features`."""
    units = controller.lstm_units
    cell = keras.layers.LSTMCell(units)
    cell.build((None, features.shape[1]))
    # Keras orders the gates as input, forget, candidate, output, and keeps the forget gate's 1 in the bias.
    bias = controller.input_gates.bias.numpy() + np.repeat([0, 1, 0, 0], units)
    cell.set_weights([controller.input_gates.kernel.numpy(), controller.recurrent_gates.kernel.numpy(), bias])
    state, answers = [tf.zeros([len(features), units])] * 2, {name: [] for name in controller.heads}
    for _ in range(controller.steps):
        output, state = cell(tf.constant(features, tf.float32), state)
        for name, head in controller.heads.items():
            kernel, bias = head.get_weights()
            answers[name].append(output.numpy() @ kernel + bias)
    return {name: np.stack(steps, axis=1) for name, steps in answers.items()}


def assert_equals_heads(controller, canvas, features):
    expected = features_to_heads(controller, features)
    answer = controller(canvas)
    np.testing.assert_allclose(answer.scale.loc, expected["scale_mean"], atol=1e-5)
    np.testing.assert_allclose(answer.scale.scale, np.exp(expected["scale_log_variance"] / 2), rtol=1e-4)
    np.testing.assert_allclose(answer.shift.loc, expected["shift_mean"], atol=1e-5)
    np.testing.assert_allclose(answer.shift.scale, np.exp(expected["shift_log_variance"] / 2), rtol=1e-4)
    np.testing.assert_allclose(answer.presence_logits, expected["presence"][..., 0], atol=1e-5)


def randomised(controller):
    controller.build(CANVAS.shape)
    rng = np.random.default_rng(3)
    controller.set_weights([rng.normal(0, 0.3, weight.shape) for weight in controller.get_weights()])
    return controller


def test_the_recurrence_is_an_lstm():
    controller = randomised(Controller(4, lstm_units=6, head_units=()))
    steps = controller(CANVAS).presence_logits.numpy()
    assert np.abs(np.diff(steps, axis=1)).min() > 1e-5
    assert_equals_heads(controller, CANVAS, CANVAS.reshape(len(CANVAS), -1))


def test_latents_are_an_input_of_the_lstm():
    """Beside the canvas, whose projection the step after none has to itself."""
    controller = randomised(Controller(3, lstm_units=6, head_units=(), latent_size=4))
    latents = [None, *RNG.random((2, 5, 4), np.float32)]
    cell = keras.layers.LSTMCell(6)
    cell.build((None, 10 * 14 + 4))
    kernel = np.concatenate([controller.input_gates.kernel.numpy(), controller.latent_gates.kernel.numpy()])
    bias = controller.input_gates.bias.numpy() + np.repeat([0, 1, 0, 0], 6)
    cell.set_weights([kernel, controller.recurrent_gates.kernel.numpy(), bias])
    theirs, ours = [tf.zeros([5, 6])] * 2, None
    for seen in latents:
        features = np.concatenate([CANVAS.reshape(5, -1), np.zeros((5, 4)) if seen is None else seen], axis=1)
        expected, theirs = cell(tf.constant(features, tf.float32), theirs)
        ours = controller.advance(controller.read(CANVAS), seen, ours)
        np.testing.assert_allclose(ours.output, expected, atol=1e-5)
        np.testing.assert_allclose(ours.cell, theirs[1], atol=1e-5)


def test_an_untrained_refiner_corrects_nothing():
    for part in outputs(*LAYERS["refiner"]):
        np.testing.assert_array_equal(part, np.zeros_like(part))


def test_the_cnn():
    """One convolution with ReLU and one max-pooling, against SciPy's correlation."""
    controller = randomised(
        Controller(2, lstm_units=6, head_units=(), cnn_filters=(3,), cnn_kernels=(3,), cnn_strides=(1,), cnn_pools=(2,))
    )
    kernel, bias = controller.cnn[0].get_weights()
    planes = [[correlate2d(canvas, kernel[:, :, 0, f], "same") + bias[f] for f in range(3)] for canvas in CANVAS]
    planes = np.maximum(np.moveaxis(planes, 1, -1), 0)  # [batch, 10, 14, 3]
    pooled = planes.reshape(5, 5, 2, 7, 2, 3).max(axis=(2, 4))
    assert_equals_heads(controller, CANVAS, pooled.reshape(5, -1))


def test_sizes_of_the_cnn():
    controller, _ = LAYERS["controller with CNN"]
    outputs(controller, CANVAS)
    # 10x14 by stride 2 is 5x7, by a pooling of 2 is 2x3, with 3 filters
    assert controller.input_gates.kernel.shape == (2 * 3 * 3, 4 * 8)


def test_the_encoder_and_the_decoder_are_mlps():
    encoder, decoder = LAYERS["encoder"][0], LAYERS["decoder"][0]
    mean, deviation = outputs(encoder, WINDOW)
    x = WINDOW.reshape(-1, 48)
    for kernel, bias in zip(*[iter(encoder.get_weights()[:4])] * 2, strict=True):
        x = np.logaddexp(0, x @ kernel + bias)
    kernel, bias = encoder.get_weights()[4:]
    parameters = (x @ kernel + bias).reshape(5, 3, 8)
    np.testing.assert_allclose(mean, parameters[..., :4], atol=1e-5)
    np.testing.assert_allclose(deviation, np.exp(parameters[..., 4:] / 2), rtol=1e-4)

    logits = outputs(decoder, Z_WHAT)[0]
    x = Z_WHAT.reshape(-1, 4)
    for kernel, bias in zip(*[iter(decoder.get_weights()[:4])] * 2, strict=True):
        x = np.tanh(x @ kernel + bias)
    kernel, bias = decoder.get_weights()[4:]
    np.testing.assert_allclose(logits, (x @ kernel + bias).reshape(5, 3, 8, 6), atol=1e-5)
    np.testing.assert_array_equal(bias, -3.0)
