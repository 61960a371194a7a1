"""The layers have the shapes that they promise, are restored from their configurations, and agree with NumPy and SciPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import flatten, set_bias
from scipy.signal import correlate2d

from air.model.networks import LOG_VARIANCE_RANGE, Controller, DenseController, GlimpseDecoder, GlimpseEncoder, Refiner

RNG = np.random.default_rng(0)
CANVAS, WINDOW, Z_WHAT = (RNG.random(shape, np.float32) for shape in ((5, 10, 14), (5, 3, 8, 6), (5, 3, 4)))
CNN = {"cnn_filters": (4, 3), "cnn_kernels": (3, 5), "cnn_strides": (2, 1), "cnn_pools": (1, 2)}
POSTERIOR = [(5, 3, 1)] * 2 + [(5, 3, 2)] * 2 + [(5, 3)]
LAYERS = {  # with their inputs and the shapes of their outputs
    "controller": (Controller(3, lstm_units=8, head_units=(6, 5), name="c"), CANVAS, POSTERIOR),
    "controller without hidden layers": (Controller(3, lstm_units=8, head_units=()), CANVAS, POSTERIOR),
    "controller with MLP": (Controller(3, lstm_units=8, head_units=(6,), recurrence="mlp"), CANVAS, POSTERIOR),
    "controller with CNN": (Controller(3, lstm_units=8, head_units=(6,), **CNN), CANVAS, POSTERIOR),
    "dense controller": (DenseController(3, (8, 7), 4, "tanh"), CANVAS, [*POSTERIOR, (5, 3, 4), (5, 3, 4)]),
    "dense controller without hidden layers": (DenseController(3, (), 4), CANVAS, [*POSTERIOR, (5, 3, 4), (5, 3, 4)]),
    "refiner": (Refiner((7, 9), "softplus"), WINDOW, [(5, 3, 1), (5, 3, 2)] * 2),
    "encoder": (GlimpseEncoder((7, 9), 4, "softplus"), WINDOW, [(5, 3, 4)] * 2),
    "encoder without hidden layers": (GlimpseEncoder((), 4), WINDOW, [(5, 3, 4)] * 2),
    "decoder": (GlimpseDecoder((8, 6), (7, 9), "tanh", bias=-3.0), Z_WHAT, [(5, 3, 8, 6)]),
}
EACH = pytest.mark.parametrize("name", LAYERS)


def outputs(layer, inputs):
    return [tensor.numpy() for tensor in flatten(layer(inputs))]


def randomised(layer, inputs, std=0.3):
    """A copy of a layer with random weights, none of them 0, as a refiner's are before training."""
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, *inputs.shape[1:]))
    rng = np.random.default_rng(3)
    copy.set_weights([rng.normal(0, std, weight.shape) for weight in copy.get_weights()])
    return copy


@EACH
def test_configuration_round_trip(name):
    layer, inputs, shapes = LAYERS[name]
    layer = randomised(layer, inputs)
    first = outputs(layer, inputs)
    assert [array.shape for array in first] == shapes
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    copy.set_weights(layer.get_weights())
    for a, b in zip(first, outputs(copy, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("channels", "covers"), [(1, False), (3, False), (1, True), (3, True)])
def test_the_decoder_knows_its_output_shape(channels, covers):
    decoder = GlimpseDecoder((8, 6), units=(5,), channels=channels, covers=covers)
    decoder.build((None, 2, 4))
    assert decoder.compute_output_shape((7, 2, 4)) == decoder(tf.zeros([7, 2, 4])).shape


@EACH
def test_every_weight_is_built_and_trained(name):
    layer, inputs, _ = LAYERS[name]
    layer = randomised(layer, inputs)
    built = [weight.path for weight in layer.weights]
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.reduce_sum(output * output) for output in flatten(layer(inputs))])
    assert [weight.path for weight in layer.weights] == built
    for weight, gradient in zip(layer.trainable_weights, tape.gradient(total, layer.trainable_weights), strict=True):
        assert np.isfinite(gradient).all(), weight.path
        assert np.any(gradient), weight.path


@EACH
def test_scenes_do_not_mix(name):
    layer, inputs, _ = LAYERS[name]
    layer = randomised(layer, inputs)
    for whole, alone in zip(outputs(layer, inputs), outputs(layer, inputs[1:2]), strict=True):
        np.testing.assert_allclose(whole[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("value", "log_variance"), [(1e4, LOG_VARIANCE_RANGE[1]), (-1e4, LOG_VARIANCE_RANGE[0]), (1.0, 1.0)])
def test_stds_stay_finite(value, log_variance):
    controller, encoder = (randomised(*LAYERS[name][:2]) for name in ("controller", "encoder"))
    heads = [controller.heads[f"{name}_log_variance"].layers[-1] for name in ("scale", "shift")]
    for layer in (*heads, encoder.parameters):
        set_bias(layer, value)
    where = controller(CANVAS).where
    for normal in (where["scale"], where["shift"], encoder(WINDOW)):
        np.testing.assert_allclose(normal.scale, np.exp(0.5 * log_variance), rtol=1e-5)


def keras_cell(controller, inputs, *latent_kernels):
    """Keras' own LSTM with a controller's weights; it has the same order of gates, but the forget gate's 1 in its bias."""
    cell = keras.layers.LSTMCell(controller.lstm_units)
    cell.build((None, inputs))
    kernel = np.concatenate([controller.input_gates.kernel.numpy(), *latent_kernels])
    bias = controller.input_gates.bias.numpy() + np.repeat([0, 1, 0, 0], controller.lstm_units)
    cell.set_weights([kernel, controller.recurrent_gates.kernel.numpy(), bias])
    return cell


def assert_lstm_reads(features, controller):
    """Compare a controller without hidden layers with linear heads on an LSTM that sees `features` at every step."""
    cell, state = keras_cell(controller, features.shape[1]), [tf.zeros([len(features), controller.lstm_units])] * 2
    expected = {name: [] for name in controller.heads}
    for _ in range(controller.steps):
        output, state = cell(tf.constant(features, tf.float32), state)
        for name, head in controller.heads.items():
            kernel, bias = head.get_weights()
            expected[name].append(output.numpy() @ kernel + bias)
    expected = {name: np.stack(steps, axis=1) for name, steps in expected.items()}
    answer = controller(CANVAS)
    for name, normal in answer.where.items():
        np.testing.assert_allclose(normal.loc, expected[f"{name}_mean"], atol=1e-5)
        np.testing.assert_allclose(normal.scale, np.exp(expected[f"{name}_log_variance"] / 2), rtol=1e-4)
    np.testing.assert_allclose(answer.presence_logits, expected["presence"][..., 0], atol=1e-5)
    assert np.abs(np.diff(answer.presence_logits, axis=1)).min() > 1e-5


def test_the_recurrence_is_an_lstm():
    controller = randomised(Controller(4, lstm_units=6, head_units=()), CANVAS)
    assert_lstm_reads(CANVAS.reshape(len(CANVAS), -1), controller)


def test_latents_are_an_input_of_the_lstm():
    controller = randomised(Controller(3, lstm_units=6, head_units=(), latent_size=4), CANVAS)
    cell = keras_cell(controller, 10 * 14 + 4, controller.latent_gates.kernel.numpy())
    theirs, ours = [tf.zeros([5, 6])] * 2, None
    for latents in (None, *RNG.random((2, 5, 4), np.float32)):
        features = np.concatenate([CANVAS.reshape(5, -1), np.zeros((5, 4)) if latents is None else latents], axis=1)
        expected, theirs = cell(tf.constant(features, tf.float32), theirs)
        ours = controller.advance(controller.read(CANVAS), latents, ours)
        np.testing.assert_allclose(ours.h, expected, atol=1e-5)
        np.testing.assert_allclose(ours.c, theirs[1], atol=1e-5)


def test_an_mlp_in_place_of_the_lstm():
    controller = randomised(Controller(3, lstm_units=6, head_units=(), latent_size=4, recurrence="mlp"), CANVAS)
    state = controller.advance(controller.read(CANVAS), None, None)
    latents = RNG.random((5, 4), np.float32)
    first = CANVAS.reshape(5, -1) @ controller.input_gates.kernel.numpy() + controller.input_gates.bias.numpy()
    first += state.h @ controller.recurrent_gates.kernel.numpy() + latents @ controller.latent_gates.kernel.numpy()
    kernel, bias = controller.second_layer.get_weights()
    expected = np.maximum(np.maximum(first, 0) @ kernel + bias, 0)
    np.testing.assert_allclose(controller.advance(controller.read(CANVAS), latents, state).h, expected, rtol=1e-4, atol=1e-5)
    assert expected.any()


BIASES = {"head_biases": (-0.5, -2.0, 0.25, -3.0, 1.0)}


@pytest.mark.parametrize("controller", [Controller(3, lstm_units=8, recurrence="mlp", **BIASES), DenseController(3, **BIASES)])
def test_heads_begin_at_their_biases(controller):
    answer = flatten(controller(0 * CANVAS))
    for tensor, value in zip(answer[:5], (-0.5, np.exp(-1), 0.25, np.exp(-1.5), 1.0), strict=True):
        np.testing.assert_allclose(tensor, np.full(tensor.shape, value), rtol=1e-5)


def test_a_dense_controller_is_an_mlp_with_a_head_for_every_step():
    controller = randomised(*LAYERS["dense controller"][:2])
    hidden = CANVAS.reshape(5, -1)
    for layer in controller.hidden:
        hidden = np.tanh(hidden @ layer.kernel.numpy() + layer.bias.numpy())

    def head(name):
        kernel, bias = controller.heads[name].get_weights()
        return (hidden @ kernel + bias).reshape(5, 3, -1)

    answer = controller(CANVAS)
    for name, normal in {**answer.where, "what": answer.what}.items():
        np.testing.assert_allclose(normal.loc, head(f"{name}_mean"), atol=1e-5)
        np.testing.assert_allclose(normal.scale, np.exp(head(f"{name}_log_variance") / 2), rtol=1e-4)
    np.testing.assert_allclose(answer.presence_logits, head("presence")[..., 0], atol=1e-5)


def test_the_cnn_agrees_with_scipy():
    """One convolution with ReLU and one max-pooling."""
    cnn = {"cnn_filters": (3,), "cnn_kernels": (3,), "cnn_strides": (1,), "cnn_pools": (2,)}
    controller = randomised(Controller(2, lstm_units=6, head_units=(), **cnn), CANVAS)
    kernel, bias = controller.cnn[0].get_weights()
    planes = [[correlate2d(canvas, kernel[:, :, 0, f], "same") + bias[f] for f in range(3)] for canvas in CANVAS]
    planes = np.maximum(np.moveaxis(planes, 1, -1), 0)  # [batch, 10, 14, 3]
    pooled = planes.reshape(5, 5, 2, 7, 2, 3).max(axis=(2, 4))
    assert_lstm_reads(pooled.reshape(5, -1), controller)


def test_strides_and_pools_shrink_the_canvas():
    # 10x14 by a stride of 2 is 5x7, by a pooling of 2 is 2x3, with 3 filters
    assert randomised(*LAYERS["controller with CNN"][:2]).input_gates.kernel.shape == (2 * 3 * 3, 4 * 8)


def test_the_encoder_and_the_decoder_are_mlps():
    def mlp(layer, x, activation):
        *hidden, kernel, bias = layer.get_weights()
        for k, b in zip(hidden[::2], hidden[1::2], strict=True):
            x = activation(x @ k + b)
        return x @ kernel + bias

    encoder, decoder = (randomised(*LAYERS[name][:2]) for name in ("encoder", "decoder"))
    mean, std = outputs(encoder, WINDOW)
    parameters = mlp(encoder, WINDOW.reshape(-1, 48), lambda x: np.logaddexp(0, x)).reshape(5, 3, 8)
    np.testing.assert_allclose(mean, parameters[..., :4], atol=1e-5)
    np.testing.assert_allclose(std, np.exp(parameters[..., 4:] / 2), rtol=1e-4)
    (logits,) = outputs(decoder, Z_WHAT)
    np.testing.assert_allclose(logits, mlp(decoder, Z_WHAT.reshape(-1, 4), np.tanh).reshape(5, 3, 8, 6), atol=1e-5)
    decoder = LAYERS["decoder"][0]
    decoder.build(Z_WHAT.shape)
    np.testing.assert_array_equal(decoder.logits.bias, np.full(48, -3.0))
