"""The hyperparameters of the model and of a training run: immutable, validated, to JSON and back.

    config = AIRConfig(lstm_units=128, temperature="linear(1, 0.5, steps=2000)")
    config.replace(max_steps=4)
    AIRConfig.from_json(config.to_json()) == config

This file loads neither TensorFlow nor Keras, so that command lines answer at once.
"""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

from air.errors import ConfigError
from air.schedules import Schedule
from air.support.files import parse_json

DEFAULT_DATA = Path("multi_mnist")
"""The folder of scenes that is made when it is missing."""
MAX_WEIGHTS = 2**28
"""Of a model: a gibibyte, and with the state of Adam three."""

RENAMED = {
    "presence": "estimator",
    "likelihood_deviation": "likelihood_std",
    "bank_scenes": "reference_scenes",
}
"""Fields, and so flags, by the name that they had before."""

SMALLEST = 1.2e-38  # anything above 0 but below this is 0 in float32


class Config(BaseModel):
    """Base of all configurations.

    Raises:
        ConfigError: at construction, for a field that is unknown or has an impossible value; the message names the field, the
            value and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(_one_line(error, type(self))) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated as a whole."""
        return type(self)(**{**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-compatible values."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, fields: Any) -> Self:
        """Make a configuration from its fields, under their present names or those that older files have."""
        if not isinstance(fields, dict):
            raise ConfigError(f"{cls.__name__}: {fields!r:.80} is not allowed; it must be an object of named fields")
        return cls(**{RENAMED.get(name, name): value for name, value in fields.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            fields = parse_json(text)
        except ValueError as error:
            raise ConfigError(f"{cls.__name__}: not valid JSON ({error})") from None
        return cls.from_dict(fields)


def _one_line(error: ValidationError, cls: type) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if first["type"] == "extra_forbidden":
        if field in RENAMED:
            return f"{field}: is now called {RENAMED[field]}"
        return f"{field}: {cls.__name__} has no such field; it has {', '.join(cls.model_fields)}"
    if not field:  # a contradiction between fields, whose own message names them
        return message
    value = first["input"]
    shown = str(value) if isinstance(value, Schedule) else f"{value!r:.80}"
    return f"{field}: {shown} is not allowed; {message[0].lower()}{message[1:]}"


def _scheduled(minimum: float = -math.inf, *, above: bool = False, below: float = math.inf, open_ended: bool = False) -> Any:
    """The type of a scalar that may be annealed, whose values are at least `minimum` (or above it) and below `below`.

    An `open_ended` one may leave out how many steps its change takes.
    """

    def parse(value: Any) -> Schedule:
        schedule = Schedule.parse(value)
        if schedule.minimum < minimum or (above and schedule.minimum < minimum + SMALLEST):
            limit = ", so give it a limit" if schedule.kind == "exponential" and schedule.limit is None else ""
            raise ValueError(f"values must be {'above' if above else 'at least'} {minimum:g}{limit}")
        if schedule.maximum >= below:
            raise ValueError(f"values must be below {below:g}")
        if schedule.is_open_ended and not open_ended:
            raise ValueError(f"a {schedule.kind} schedule needs its steps here")
        return schedule

    def serialise(schedule: Schedule) -> float | str:
        return schedule.initial if schedule.kind == "constant" else str(schedule)

    return Annotated[Schedule, BeforeValidator(parse), PlainSerializer(serialise)]


Count = Annotated[int, Field(ge=1, lt=2**31)]
Size = tuple[Annotated[int, Field(ge=4, le=1024)], Annotated[int, Field(ge=4, le=1024)]]
Width = Annotated[int, Field(ge=1, le=65536)]
Units = Annotated[tuple[Width, ...], Field(max_length=16)]
Scalar = _scheduled()
NonNegative = _scheduled(0.0)
Positive = _scheduled(0.0, above=True)
Fraction = _scheduled(0.0, above=True, below=1.0)
LearningRate = _scheduled(0.0, above=True, open_ended=True)
EstimatorName = Literal["concrete", "nvil", "enumerated"]


def _dense(*sizes: int) -> int:
    """The weights of dense layers between layers of these sizes."""
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))


def _constant(value: float) -> Schedule:
    return Schedule("constant", value)


class AIRConfig(Config):
    """Every hyperparameter of the model and of its objective.

    A field of type `Schedule` takes a number or a schedule over training steps, see `air.schedules`.
    """

    canvas_size: Size = (50, 50)
    """Height and width of a scene, in pixels."""
    window_size: Size = (28, 28)
    """Height and width of the attention window, in pixels."""
    max_steps: Annotated[int, Field(ge=1, le=16)] = 3
    """Most objects that the model can attend to in one scene."""

    controller_input: Literal["canvas", "latents", "residual"] = "canvas"
    """What the controller sees at every step: the canvas, the canvas and the latents of the step before, or the canvas less
    what the steps so far explain."""
    lstm_units: Width = 256
    """Units of the controller's LSTM."""
    head_units: Units = (64,)
    """Hidden ReLU layers of each head between the LSTM and a latent's parameters."""
    cnn_filters: Units = (32, 32)
    """Filters of the convolutions between canvas and LSTM; empty: the LSTM sees the raw canvas."""
    cnn_kernels: Units = (6, 3)
    """Width of each convolution's kernel, in pixels; as many as filters."""
    cnn_strides: Units = (4, 2)
    """Stride of each convolution, in pixels; as many as filters."""
    cnn_pools: Units = (1, 1)
    """Width of the max-pooling after each convolution, 1 for none; as many as filters."""

    refiner_units: Units = (128,)
    """Hidden layers of the network that corrects z_where after a first glimpse there; empty: no such glimpse."""
    refinement: NonNegative = Schedule("linear", 0.0, final=1.0, steps=2000.0, start=2000.0)
    """Share of that correction which is applied. Before counting is learned, it would draw several windows to one object."""
    looks: Literal[1, 2] = 2
    """2: inference looks at each object again, in what the others leave unexplained of the canvas; training looks once."""
    encoder_units: Units = (512, 256)
    """Hidden layers of the glimpse encoder."""
    decoder_units: Units = (256, 512)
    """Hidden layers of the glimpse decoder."""
    z_what_size: Width = 50
    """Latent dimensions that describe an object."""
    activation: Literal["relu", "softplus", "elu", "tanh", "silu", "gelu"] = "elu"
    """Activation of the hidden layers of the glimpse encoder and decoder."""
    decoder_bias: float = -3.0
    """Initial bias of the decoder's logits: below 0, an untrained window is dark."""
    decoder_noise: NonNegative = _constant(0.0)
    """Standard deviation of the Normal noise added to the decoder's logits while training."""

    likelihood: Literal["cross_entropy", "normal"] = "cross_entropy"
    """Of the pixels given the canvas."""
    likelihood_std: Positive = _constant(0.3)
    """Standard deviation of the Normal likelihood."""

    scale_prior_mean: Scalar = _constant(-0.4)
    """Mean of the prior of the pre-sigmoid scale."""
    scale_prior_variance: Positive = _constant(0.02)
    """Variance of the prior of the pre-sigmoid scale."""
    shift_prior_mean: Scalar = _constant(0.0)
    """Mean of the prior of the pre-tanh shift."""
    shift_prior_variance: Positive = _constant(1.0)
    """Variance of the prior of the pre-tanh shift."""
    z_what_prior_mean: Scalar = _constant(0.0)
    """Mean of the prior of z_what."""
    z_what_prior_variance: Positive = _constant(1.0)
    """Variance of the prior of z_what."""
    z_pres_prior_odds: Positive = Schedule("exponential", 1e4, factor=0.1, every=40.0, limit=1e-4)
    """Prior odds that a step attends to an object."""
    learn_count_prior_after: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Training step from which on the prior of the count is learned, by following the inferred counts; never when None."""

    estimator: EstimatorName = "concrete"
    """How z_pres is learned: relaxed, by its score function, or by summing over every count. Each has a recipe of its own, see
    `air.presets.default`."""
    temperature: Positive = _constant(1.0)
    """Temperature of the Concrete z_pres; concrete only."""
    stop_threshold: Fraction = _constant(0.99)
    """A scene stops when the running sum of 1 - z_pres reaches this (ACT); concrete only."""
    baseline_units: Units = (256, 128)
    """Hidden layers of the baseline; nvil only."""
    centre_signal: bool = True
    """Subtract a running average from the learning signal; nvil only."""
    normalise_signal: bool = False
    """Divide the learning signal by its running deviation where that is above 1; nvil only."""

    z_pres_kl_weight: NonNegative = _constant(1.0)
    """Weight of the KL of z_pres in the loss; 1 is the ELBO."""
    scale_kl_weight: NonNegative = _constant(1.0)
    """Weight of the KL of the scale in the loss; 1 is the ELBO."""
    shift_kl_weight: NonNegative = _constant(1.0)
    """Weight of the KL of the shift in the loss; 1 is the ELBO."""
    z_what_kl_weight: NonNegative = _constant(1.75)
    """Weight of the KL of z_what in the loss; 1 is the ELBO."""

    @model_validator(mode="after")
    def _cnn_is_complete(self) -> Self:
        for name in ("cnn_kernels", "cnn_strides", "cnn_pools"):
            if len(getattr(self, name)) != len(self.cnn_filters):
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not allowed; it must have as many values as "
                    f"cnn_filters {self.cnn_filters}"
                )
        shrinking = math.prod(self.cnn_strides) * math.prod(self.cnn_pools)
        if shrinking > min(self.canvas_size):
            raise ValueError(
                f"cnn_strides: {self.cnn_strides} with cnn_pools {self.cnn_pools} is not allowed; together they shrink a "
                f"canvas_size of {self.canvas_size} to nothing"
            )
        if self.weights > MAX_WEIGHTS:
            raise ValueError(
                f"a model of {self.weights} weights is not allowed; at most {MAX_WEIGHTS} are: make canvas_size, lstm_units, "
                "head_units, cnn_filters, encoder_units, decoder_units or z_what_size smaller"
            )
        return self

    @property
    def latent_size(self) -> int:
        """The size of the latents that the LSTM sees of the step before; 0 for none.

        A single step has none before it, and weights that nothing reads would have no gradient.
        """
        return 3 + self.z_what_size if self.controller_input == "latents" and self.max_steps > 1 else 0

    @property
    def weights(self) -> int:
        """The number of weights of the model's networks."""
        height, width = self.canvas_size
        window = math.prod(self.window_size)
        channels, total = 1, 0
        if self.estimator == "nvil":
            total += _dense(height * width, *self.baseline_units, self.max_steps)
        total += self.latent_size * 4 * self.lstm_units
        if self.refiner_units:
            total += _dense(window, *self.refiner_units, 6)
        cnn = zip(self.cnn_filters, self.cnn_kernels, self.cnn_strides, self.cnn_pools, strict=True)
        for filters, kernel, stride, pool in cnn:
            total += (kernel**2 * channels + 1) * filters
            height, width, channels = -(-height // stride) // pool, -(-width // stride) // pool, filters
        total += (height * width * channels + 1 + self.lstm_units) * 4 * self.lstm_units
        for outputs in (1, 1, 2, 2, 1):
            total += _dense(self.lstm_units, *self.head_units, outputs)
        total += _dense(window, *self.encoder_units, 2 * self.z_what_size)
        return total + _dense(self.z_what_size, *self.decoder_units, window)

    def at(self, step: Any) -> SimpleNamespace:
        """The values of all fields that may be annealed, at a training step: float32 scalar tensors."""
        return SimpleNamespace(**{name: getattr(self, name)(step) for name in self.scheduled_fields})

    @property
    def scheduled_fields(self) -> tuple[str, ...]:
        """The names of the fields that may be annealed."""
        return tuple(name for name in type(self).model_fields if isinstance(getattr(self, name), Schedule))


class TrainingConfig(Config):
    """Every hyperparameter of a training run."""

    iterations: Count = 20000
    """Training steps, one batch each."""
    batch_size: Count = 64
    """Scenes in a batch."""
    learning_rate: LearningRate = Schedule("cosine", 3e-3, final=5e-5)
    """Learning rate of Adam; a schedule without steps lasts the whole run."""
    baseline_learning_rate: LearningRate = _constant(1e-3)
    """Learning rate of the baseline's own Adam, likewise; nvil only."""
    clip_norm: Positive = _constant(1.0)
    """Global norm to which gradients are clipped."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes initialisation, order of the data and all random draws of a run."""
    xla: bool = True
    """Compile the training step with XLA."""

    validation_scenes: Count = 1000
    """Held-out scenes that are scored while training runs."""
    validate_every: Count = 500
    """Training steps between two scorings of held-out scenes."""
    scalars_every: Count = 50
    """Training steps between two rows of scalar summaries."""
    gradients_every: Count = 100
    """Training steps between two summaries of gradient norms."""
    histograms_every: Count = 250
    """Training steps between two summaries of the histograms of variables and gradients."""
    images_every: Count = 500
    """Training steps between two pictures of attention and reconstruction."""
    checkpoints_every: Count = 1000
    """Training steps between two checkpoints."""
    keep_checkpoints: Count = 5
    """Checkpoints that are kept, the newest ones."""
