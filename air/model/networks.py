"""The trainable parts of AIR: controllers with heads, refiner, glimpse encoder and glimpse decoder."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from air.model import transformer
from air.model.distributions import Normals, gaussian, tfd

LOG_VARIANCE_RANGE = (-12.0, 6.0)  # keeps exp() and its gradient finite
HEADS = {"scale_mean": 1, "scale_log_variance": 1, "shift_mean": 2, "shift_log_variance": 2, "presence": 1}
"""The parameters of a step's posterior that a controller answers, and their sizes."""


class Posterior(NamedTuple):
    """The controller's posterior of z_where and z_pres at every step, and of z_what if it takes no glimpse."""

    where: Normals  # "scale" [batch, steps, 1], before a sigmoid, and "shift" [batch, steps, 2], before a tanh
    presence_logits: tf.Tensor  # [batch, steps] log-odds
    what: tfd.Normal | None = None  # [batch, steps, Z] z_what; None if the glimpse encoder infers it


class State(NamedTuple):
    """The LSTM's state (c, h)."""

    c: tf.Tensor  # [batch, lstm_units] cell
    h: tf.Tensor  # [batch, lstm_units] output


def mlp(units: Sequence[int], activation: str, name: str) -> list[keras.layers.Layer]:
    return [keras.layers.Dense(n, activation=activation, name=f"{name}_{i}") for i, n in enumerate(units)]


def build_chain(layers: Sequence[keras.layers.Dense], inputs: int) -> int:
    """Build a chain of dense layers, the first of which takes `inputs` numbers, and return how many the last one gives."""
    for layer in layers:
        layer.build((None, inputs))
        inputs = layer.units
    return inputs


def run(layers: Sequence[keras.layers.Layer], x: tf.Tensor) -> tf.Tensor:
    for layer in layers:
        x = layer(x)
    return x


def clip_log_variance(x: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(x, *LOG_VARIANCE_RANGE)


@keras.saving.register_keras_serializable(package="air")
class Controller(keras.layers.Layer):
    """The recurrent network that decides where each step attends and whether there is an object.

    An LSTM sees the canvas (flattened, or after a small CNN) at every step, and a head for each parameter of the posterior
    reads its output. If the canvas is the same at every step, its projection to the gates is computed only once.

    Args:
        steps: number of steps T.
        lstm_units: units of the LSTM.
        head_units: hidden ReLU layers of each head.
        cnn_filters: filters of the convolutions before the LSTM, empty for none.
        cnn_kernels: widths of their kernels, in pixels.
        cnn_strides: their strides, in pixels.
        cnn_pools: widths of the max-poolings after them, 1 for none.
        latent_size: size of the previous step's latents, which the LSTM sees; 0 if it sees none.
        recurrence: "lstm", or "mlp" for two ReLU layers of `lstm_units` in its place, the second of which is the state.
        head_biases: initial biases of the heads, see `AIRConfig`.
    """

    def __init__(
        self,
        steps: int,
        lstm_units: int = 256,
        head_units: Sequence[int] = (64,),
        cnn_filters: Sequence[int] = (),
        cnn_kernels: Sequence[int] = (),
        cnn_strides: Sequence[int] = (),
        cnn_pools: Sequence[int] = (),
        latent_size: int = 0,
        recurrence: str = "lstm",
        head_biases: Sequence[float] = (0.0,) * 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.recurrence = recurrence
        self.steps, self.lstm_units, self.head_units, self.latent_size = steps, lstm_units, tuple(head_units), latent_size
        self.cnn_filters, self.cnn_kernels = tuple(cnn_filters), tuple(cnn_kernels)
        self.cnn_strides, self.cnn_pools = tuple(cnn_strides), tuple(cnn_pools)
        self.cnn: list[keras.layers.Layer] = []
        layers = zip(self.cnn_filters, self.cnn_kernels, self.cnn_strides, self.cnn_pools, strict=True)
        for i, (filters, kernel, stride, pool) in enumerate(layers):
            name = f"cnn_{i}"
            self.cnn.append(keras.layers.Conv2D(filters, kernel, stride, padding="same", activation="relu", name=name))
            if pool > 1:
                self.cnn.append(keras.layers.MaxPooling2D(pool, name=f"pool_{i}"))
        self.flatten = keras.layers.Flatten(name="flatten")
        gates = 4 * lstm_units if recurrence == "lstm" else lstm_units
        self.input_gates = keras.layers.Dense(gates, name="input_gates")
        self.recurrent_gates = keras.layers.Dense(
            gates, use_bias=False, kernel_initializer="orthogonal", name="recurrent_gates"
        )
        if latent_size:
            self.latent_gates = keras.layers.Dense(gates, use_bias=False, name="latent_gates")
        if recurrence == "mlp":
            self.second_layer = keras.layers.Dense(lstm_units, activation="relu", name="second_layer")
        biases = map(keras.initializers.Constant, head_biases)
        self.heads = {
            name: keras.Sequential(
                [*mlp(self.head_units, "relu", "hidden"), keras.layers.Dense(n, bias_initializer=b)], name=name
            )
            for (name, n), b in zip(HEADS.items(), biases, strict=True)
        }

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        shape = (*input_shape, 1)
        for layer in self.cnn:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.input_gates.build((None, shape[1] * shape[2] * shape[3]))
        self.recurrent_gates.build((None, self.lstm_units))
        if self.latent_size:
            self.latent_gates.build((None, self.latent_size))
        if self.recurrence == "mlp":
            self.second_layer.build((None, self.lstm_units))
        for head in self.heads.values():
            head.build((None, self.lstm_units))
        super().build(input_shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> dict[str, tuple[int | None, ...]]:
        return {"z_pres": (input_shape[0], self.steps), "z_where": (input_shape[0], self.steps, 3)}

    def call(self, canvas: tf.Tensor) -> Posterior:
        """Take all steps at once, each seeing the same canvas [batch, height, width] and no latents."""
        from_canvas, state = self.read(canvas), None
        outputs = []
        for _ in range(self.steps):
            state = self.advance(from_canvas, None, state)
            outputs.append(state.h)
        return self.answer(tf.stack(outputs, axis=1))

    def read(self, canvas: tf.Tensor) -> tf.Tensor:
        """Compute what a canvas [batch, height, width] in [0, 1] contributes to the gates.

        Returns:
            [batch, 4 * lstm_units], or [batch, lstm_units] for an MLP.
        """
        return self.input_gates(self.flatten(run(self.cnn, canvas[..., None])))

    def advance(self, from_canvas: tf.Tensor, latents: tf.Tensor | None, state: State | None) -> State:
        """Take one step of the LSTM and return the state after it.

        Args:
            from_canvas: from `read`.
            latents: [batch, latent_size] of the previous step; None if the LSTM sees none.
            state: after the previous step; None at the first.
        """
        if state is None:  # zeros, not None: in a model of one step, weights that nothing reads would have no gradient
            nothing = tf.zeros([tf.shape(from_canvas)[0], self.lstm_units])
            state = State(nothing, nothing)
        gates = from_canvas + self.recurrent_gates(state.h)
        if latents is not None:
            gates += self.latent_gates(latents)
        if self.recurrence == "mlp":
            output = self.second_layer(tf.nn.relu(gates))
            return State(output, output)
        i, f, g, o = tf.split(gates, 4, axis=-1)
        # + 1: an LSTM learns faster if it starts out remembering (Jozefowicz et al., 2015)
        c = tf.sigmoid(f + 1.0) * state.c + tf.sigmoid(i) * tf.tanh(g)
        return State(c, tf.sigmoid(o) * tf.tanh(c))

    def answer(self, outputs: tf.Tensor) -> Posterior:
        """Compute the posterior of every step from the LSTM's outputs [batch, steps, lstm_units]."""
        steps = outputs.shape[1]
        features = tf.reshape(outputs, [-1, self.lstm_units])

        def head(name: str) -> tf.Tensor:
            answer = self.heads[name](features)
            return tf.reshape(answer, [-1, steps, answer.shape[-1]])

        where = {
            name: gaussian(head(f"{name}_mean"), clip_log_variance(head(f"{name}_log_variance"))) for name in ("scale", "shift")
        }
        return Posterior(where, head("presence")[..., 0])


@keras.saving.register_keras_serializable(package="air")
class DenseController(keras.layers.Layer):
    """Answers all latents of every step at once from the whole canvas, z_what too: without memory and without a glimpse.

    Args:
        steps: number of steps T.
        units: hidden layers.
        z_what_size: latent dimensions of z_what.
        activation: of the hidden layers.
        head_biases: initial biases of the heads, see `AIRConfig`.
    """

    def __init__(
        self,
        steps: int,
        units: Sequence[int] = (200, 100),
        z_what_size: int = 50,
        activation: str = "relu",
        head_biases: Sequence[float] = (0.0,) * 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.steps = steps
        self.hidden = mlp(units, activation, "hidden")
        heads = {**HEADS, "what_mean": z_what_size, "what_log_variance": z_what_size}
        biases = map(keras.initializers.Constant, (*head_biases, 0.0, 0.0))
        self.heads = {
            name: keras.layers.Dense(steps * n, bias_initializer=b, name=name)
            for (name, n), b in zip(heads.items(), biases, strict=True)
        }

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        features = build_chain(self.hidden, math.prod(input_shape[1:]))
        for head in self.heads.values():
            head.build((None, features))
        super().build(input_shape)

    def call(self, canvas: tf.Tensor) -> Posterior:
        """Answer from a canvas [batch, height, width] in [0, 1]."""
        hidden = run(self.hidden, tf.reshape(canvas, [-1, math.prod(canvas.shape[1:])]))

        def head(name: str) -> tf.Tensor:
            layer = self.heads[name]
            return tf.reshape(layer(hidden), [-1, self.steps, layer.units // self.steps])

        scale, shift, what = (
            gaussian(head(f"{name}_mean"), clip_log_variance(head(f"{name}_log_variance")))
            for name in ("scale", "shift", "what")
        )
        return Posterior({"scale": scale, "shift": shift}, head("presence")[..., 0], what)


class Correction(NamedTuple):
    """Hold what the refiner adds to the posterior of z_where at every step."""

    scale: tf.Tensor  # [batch, steps, 1] to the mean of the unbounded scale
    shift: tf.Tensor  # [batch, steps, 2] to the mean of the unbounded shift, window units
    scale_log_variance: tf.Tensor  # [batch, steps, 1]
    shift_log_variance: tf.Tensor  # [batch, steps, 2]


@keras.saving.register_keras_serializable(package="air")
class Refiner(keras.layers.Layer):
    """Predicts a correction to z_where from a first glimpse; zero-initialised, so that it starts as a no-op.

    Args:
        units: hidden layers.
        activation: of the hidden layers.
    """

    def __init__(self, units: Sequence[int], activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.activation = tuple(units), activation
        self.hidden = mlp(self.units, activation, "hidden")
        self.correction = keras.layers.Dense(6, kernel_initializer="zeros", name="correction")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        build_chain([*self.hidden, self.correction], math.prod(input_shape[2:]))
        super().build(input_shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:2], 6)

    def call(self, window: tf.Tensor) -> Correction:
        """Predict the correction from glimpses [batch, steps, height, width], perhaps with channels."""
        steps = window.shape[1]
        answer = self.correction(run(self.hidden, tf.reshape(window, [-1, math.prod(window.shape[2:])])))
        return Correction(*tf.split(tf.reshape(answer, [-1, steps, 6]), [1, 2, 1, 2], axis=-1))


@keras.saving.register_keras_serializable(package="air")
class GlimpseEncoder(keras.layers.Layer):
    """Infers the posterior of z_what from a glimpse.

    Args:
        units: hidden layers.
        z_what_size: latent dimensions.
        activation: of the hidden layers.
    """

    def __init__(
        self, units: Sequence[int] = (512, 256), z_what_size: int = 50, activation: str = "relu", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.z_what_size, self.activation = tuple(units), z_what_size, activation
        self.hidden = mlp(self.units, activation, "hidden")
        self.parameters = keras.layers.Dense(2 * z_what_size, name="parameters")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        build_chain([*self.hidden, self.parameters], math.prod(input_shape[2:]))
        super().build(input_shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:2], self.z_what_size)

    def call(self, window: tf.Tensor) -> tfd.Normal:
        """Encode glimpses [batch, steps, height, width], perhaps with channels, to a Normal [batch, steps, z_what_size]."""
        steps = window.shape[1]
        answer = self.parameters(run(self.hidden, tf.reshape(window, [-1, math.prod(window.shape[2:])])))
        mean, log_variance = tf.split(tf.reshape(answer, [-1, steps, 2 * self.z_what_size]), 2, axis=-1)
        return gaussian(mean, clip_log_variance(log_variance))


@keras.saving.register_keras_serializable(package="air")
class GlimpseDecoder(keras.layers.Layer):
    """Decodes z_what to the picture of an object.

    Args:
        window_size: height and width of a window, in pixels.
        units: hidden layers.
        activation: of the hidden layers.
        bias: initial bias of the logits.
        channels: C of a window.
        covers: also decode opacities, whose logits then have the bias, and a nearness, see `composition`.
    """

    def __init__(
        self,
        window_size: Sequence[int] = (28, 28),
        units: Sequence[int] = (256, 512),
        activation: str = "relu",
        bias: float = -2.0,
        channels: int = 1,
        covers: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.window_size, self.units, self.activation, self.bias = tuple(window_size), tuple(units), activation, bias
        self.channels, self.covers = channels, covers
        self.hidden = mlp(self.units, activation, "hidden")
        pixels = window_size[0] * window_size[1]
        self.logits = keras.layers.Dense(
            pixels * (1 if covers else channels), bias_initializer=keras.initializers.Constant(bias), name="logits"
        )
        if covers:
            self.colour = keras.layers.Dense(pixels * channels, name="colour")
            self.nearness = keras.layers.Dense(1, name="nearness")

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        features = build_chain(self.hidden, input_shape[-1])
        for layer in (self.logits, self.colour, self.nearness) if self.covers else (self.logits,):
            layer.build((None, features))
        super().build(input_shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        painted = [self.channels + 2] if self.covers else [self.channels] if self.channels > 1 else []
        return (*input_shape[:2], *self.window_size, *painted)

    def call(self, z_what: tf.Tensor) -> tf.Tensor:
        """Decode z_what [batch, steps, z_what_size] to logits of pixels, [batch, steps, height, width].

        In colour, they are [batch, steps, height, width, C]; of objects that cover, [batch, steps, height, width, C + 2].
        """
        steps, size = transformer.size_of(z_what)[0], z_what.shape[-1]
        hidden = run(self.hidden, tf.reshape(z_what, [-1, size]))
        logits = self.logits(hidden)
        if not self.covers:
            return tf.reshape(logits, [-1, *self.compute_output_shape((None, steps))[1:]])
        shape = [-1, steps, *self.window_size]
        colour, opacity = tf.reshape(self.colour(hidden), [*shape, self.channels]), tf.reshape(logits, [*shape, 1])
        nearness = tf.reshape(self.nearness(hidden), [-1, steps, 1, 1, 1])
        return tf.concat([colour, opacity, nearness + tf.zeros_like(opacity)], axis=-1)
