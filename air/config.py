"""The hyperparameters of the model and of a training run: immutable, validated, convertible to JSON and back.

config = AIRConfig(lstm_units=128, temperature="linear(1, 0.5, steps=2000)")
config.replace(max_steps=4)
AIRConfig.from_dict(config.to_dict()) == config
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from typing_extensions import Self

from air.errors import ConfigError
from air.schedules import Schedule
from air.support import files

DEFAULT_DATA = Path("multi_mnist")  # generated when it is missing

DEFAULT_MODEL = Path("model")  # the one that comes with the project, unless the working folder has one

RENAMED = {
    "presence": "estimator",
    "likelihood_deviation": "likelihood_std",
    "bank_scenes": "reference_scenes",
    "controller_input": "controller",
}
"""Old names of fields, and so of flags, mapped to the new ones."""
MIN_FLOAT32 = 1.2e-38  # smaller positive numbers become 0 in float32


def find_model(path: Path) -> Path:
    """Return a model's path unchanged, except for a DEFAULT_MODEL that the working folder lacks."""
    return files.shipped("model") if path == DEFAULT_MODEL and not path.exists() else path


class Config(BaseModel):
    """Base of all configurations; construction raises ConfigError for an unknown field or an impossible value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(_one_line(error, type(self))) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated as a whole."""
        return type(self)(**{**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, fields: Any) -> Self:
        """Make a configuration from its fields, under their present names or those in older files."""
        if not isinstance(fields, dict):
            raise ConfigError(f"{cls.__name__}: {fields!r:.80} is not allowed; it must be an object of named fields")
        return cls(**{RENAMED.get(name, name): value for name, value in fields.items()})


def _one_line(error: ValidationError, cls: type[BaseModel]) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        if field in RENAMED:
            return f"{field}: is now called {RENAMED[field]}"
        return f"{field}: {cls.__name__} has no such field; it has {', '.join(cls.model_fields)}"
    if not field:  # fields that contradict each other; the message already names them
        return message
    value = first["input"]
    shown = str(value) if isinstance(value, Schedule) else f"{value!r:.80}"
    return f"{field}: {shown} is not allowed; {message[0].lower()}{message[1:]}"


def _scheduled(minimum: float = -math.inf, *, above: bool = False, below: float = math.inf, open_ended: bool = False) -> Any:
    """Return the type of a scalar that may be annealed, with values from `minimum` (or `above` it) to `below`."""

    def parse(value: Any) -> Schedule:
        schedule = Schedule.parse(value)
        least, greatest = schedule.range
        if least < minimum or (above and least < minimum + MIN_FLOAT32):
            limit = ", so give it a limit" if schedule.kind == "exponential" and schedule.limit is None else ""
            raise ValueError(f"values must be {'above' if above else 'at least'} {minimum:g}{limit}")
        if greatest >= below:
            raise ValueError(f"values must be below {below:g}")
        if schedule.is_open_ended and not open_ended:
            raise ValueError(f"a {schedule.kind} schedule needs its steps here")
        return schedule

    def serialise(schedule: Schedule) -> float | str:
        return schedule.initial if schedule.kind == "constant" else str(schedule)

    return Annotated[Schedule, BeforeValidator(parse), PlainSerializer(serialise)]


def _constant(value: float) -> Schedule:
    return Schedule("constant", value)


Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
Seed = CountOrZero
Size = tuple[Annotated[int, Field(ge=4, le=1024)], Annotated[int, Field(ge=4, le=1024)]]
Width = Annotated[int, Field(ge=1, le=8192)]
Units = Annotated[tuple[Width, ...], Field(max_length=16)]
if TYPE_CHECKING:  # fields take numbers and text too, and hold schedules
    Scalar: TypeAlias = Any
    NonNegative: TypeAlias = Any
    Positive: TypeAlias = Any
    Fraction: TypeAlias = Any
    LearningRate: TypeAlias = Any
else:
    Scalar = _scheduled()
    NonNegative = _scheduled(0.0)
    Positive = _scheduled(0.0, above=True)
    Fraction = _scheduled(0.0, above=True, below=1.0)
    LearningRate = _scheduled(0.0, above=True, open_ended=True)
EstimatorName = Literal["concrete", "nvil", "enumerated"]


class AIRConfig(Config):
    """Every hyperparameter of the model and of its objective.

    FLOAT|SCHEDULE is a number, or a schedule over training steps: linear(1, 0.1, steps=2000), cosine(2e-3, 1e-4, steps=8000)
    or exponential(1e4, factor=0.1, every=3000, limit=1e-9); start=1000 delays it. See `air.schedules`.
    """

    canvas_size: Size = (50, 50)
    """Height and width of a training scene, in pixels; a convolutional controller takes other canvases too."""
    window_size: Size = (28, 28)
    """Height and width of the attention window, in pixels."""
    channels: Literal[1, 3] = 1
    """1 for grey scenes, 3 for colour."""
    max_steps: Annotated[int, Field(ge=1, le=16)] = 3
    """Steps in training, and in inference on a canvas of this size unless told otherwise: at most so many objects are found."""

    controller: Literal["convolutional", "canvas", "latents", "residual", "dense"] = "convolutional"
    """Network that decides where to look: convolutions without memory, for canvases of any size and any number of objects;
    an LSTM that sees the canvas, the canvas and the previous latents, or the canvas minus all explained so far; or dense
    layers that see the canvas once and infer z_what too, without a glimpse."""
    cell_size: Annotated[int, Field(ge=2, le=64)] = 5
    """Side of the cells among which a convolutional controller chooses, in pixels."""
    cell_filters: Annotated[Units, Field(min_length=1)] = (32, 32, 64)
    """Filters of its convolutions: the first as wide as two cells, the others as three."""
    cell_units: Width = 64
    """Width of its layer that joins the canvas and what is explained of it."""
    cell_certainty: Annotated[float, Field(ge=0)] = 5.0
    """Bonus of a cell, times its probability of an object, where the best cell is chosen: objects go before empty cells."""

    lstm_units: Width = 256
    """Units of the controller's LSTM."""
    recurrence: Literal["lstm", "mlp"] = "lstm"
    """The LSTM, or in its place two ReLU layers of lstm_units, the second of which is the state."""
    head_units: Units = (64,)
    """Hidden ReLU layers of each head that maps the LSTM's output to the parameters of one latent."""
    head_biases: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """Initial biases of these heads, or of a dense controller's: mean and log-variance of the scale before the sigmoid, the
    same of the shift before the tanh, and log-odds of presence."""
    cnn_filters: Units = (32, 32)
    """Filters of the convolutions between canvas and LSTM; empty feeds the raw canvas to the LSTM."""
    cnn_kernels: Units = (6, 3)
    """Kernel width of each convolution, in pixels; one per entry of cnn_filters."""
    cnn_strides: Units = (4, 2)
    """Stride of each convolution, in pixels; one per entry of cnn_filters."""
    cnn_pools: Units = (1, 1)
    """Width of the max-pooling after each convolution, 1 for none; one per entry of cnn_filters."""

    refiner_units: Units = (128,)
    """Hidden layers of the network that corrects z_where after a first glimpse; empty disables the correction."""
    refinement: NonNegative = Schedule("linear", 0.0, final=1.0, steps=2000.0, start=2000.0)
    """Fraction of that correction to apply. Applied before counting is learned, it draws several windows to one object."""
    looks: Literal[1, 2] = 2
    """2: inference looks at each object again, at what the other objects leave unexplained; training looks once."""
    ascent_steps: CountOrZero = 0
    """Steps of gradient ascent on the latent variables, by which inference fits a doubtful object and its neighbours with and
    without it; 0 to believe the networks."""
    encoder_units: Units = (512, 256)
    """Hidden layers of the glimpse encoder, or of a dense controller."""
    decoder_units: Units = (256, 512)
    """Hidden layers of the glimpse decoder."""
    z_what_size: Width = 50
    """Dimensions of z_what, the latent that describes an object's appearance."""
    activation: Literal["relu", "softplus", "elu", "tanh", "silu", "gelu"] = "elu"
    """Activation of the hidden layers of the glimpse encoder and decoder."""
    decoder_bias: float = -3.0
    """Initial bias of the decoder's logits; a negative bias makes an untrained decoder draw dark windows."""
    decoder_noise: NonNegative = _constant(0.0)
    """Standard deviation of the Gaussian noise added to the decoder's logits during training."""

    composition: Literal["add", "over"] = "add"
    """Add objects up on the canvas, or let nearer ones cover what lies behind them."""
    background: Literal["none", "constant", "learned", "smooth"] = "none"
    """Put behind the objects: black, one colour inferred for each scene, a picture from a few latents, or one that varies only
    as smoothly as light does, and so can't show objects in a regular layout."""
    background_size: Width = 8
    """Latents of a learned or smooth background."""
    background_units: Width = 128
    """Hidden units of the network that infers a background, and of the one that paints it from latents."""
    background_kl_weight: NonNegative = _constant(1.0)
    """Weight of the KL divergence of the background's latents in the loss; 1 gives the ELBO."""

    likelihood: Literal["cross_entropy", "normal"] = "cross_entropy"
    """Likelihood of the pixels given the rendered canvas."""
    likelihood_std: Positive = _constant(0.3)
    """Standard deviation of the normal likelihood."""
    learn_likelihood_std: bool = False
    """Add a learned standard deviation to it."""

    scale_prior_mean: Scalar = _constant(-0.4)
    """Prior mean of the scale before the sigmoid."""
    scale_prior_variance: Positive = _constant(0.02)
    """Prior variance of the scale before the sigmoid."""
    shift_prior_mean: Scalar = _constant(0.0)
    """Prior mean of the shift before the tanh."""
    shift_prior_variance: Positive = _constant(1.0)
    """Prior variance of the shift before the tanh."""
    z_what_prior_mean: Scalar = _constant(0.0)
    """Prior mean of z_what."""
    z_what_prior_variance: Positive = _constant(1.0)
    """Prior variance of z_what."""
    z_pres_prior_odds: Positive = Schedule("exponential", 1e4, factor=0.1, every=40.0, limit=1e-4)
    """Prior odds that a step attends to an object."""
    learn_count_prior_after: CountOrZero | None = None
    """Training step after which the prior over counts follows the inferred counts; never if not given."""

    estimator: EstimatorName = "concrete"
    """Estimator of z_pres: a continuous relaxation (concrete), its score function (nvil), or the sum over every
    count (enumerated). The default preset has a recipe for each."""
    temperature: Positive = _constant(1.0)
    """Temperature of the Concrete z_pres; concrete only."""
    stop_threshold: Fraction = _constant(0.99)
    """A scene stops once the running sum of 1 - z_pres reaches this, as in adaptive computation time; concrete only."""
    baseline_units: Units = (256, 128)
    """Hidden layers of the baseline network; nvil only."""
    centre_signal: bool = True
    """Subtract a running mean from the learning signal; nvil only."""
    normalise_signal: bool = False
    """Divide the learning signal by its running standard deviation where that exceeds 1; nvil only."""

    z_pres_kl_weight: NonNegative = _constant(1.0)
    """Weight of the KL divergence of z_pres in the loss; 1 gives the ELBO."""
    scale_kl_weight: NonNegative = _constant(1.0)
    """Weight of the KL divergence of the scale in the loss; 1 gives the ELBO."""
    shift_kl_weight: NonNegative = _constant(1.0)
    """Weight of the KL divergence of the shift in the loss; 1 gives the ELBO."""
    z_what_kl_weight: NonNegative = _constant(1.75)
    """Weight of the KL divergence of z_what in the loss; 1 gives the ELBO."""
    eccentricity_weight: NonNegative = _constant(0.0)
    """Nats that an object costs whose centre of mass lies on the edge of its window, falling with the square of its distance
    from the centre of the window; 0 gives the ELBO."""

    @model_validator(mode="after")
    def _cnn_is_complete(self) -> Self:
        for name in ("cnn_kernels", "cnn_strides", "cnn_pools"):
            if len(getattr(self, name)) != len(self.cnn_filters):
                wrong = f"{name}: {getattr(self, name)} is not allowed"
                raise ValueError(f"{wrong}; it must have as many values as cnn_filters {self.cnn_filters}")
        strides = math.prod(self.cnn_strides) * math.prod(self.cnn_pools)
        if self.controller != "convolutional" and strides > min(self.canvas_size):
            both = f"cnn_strides: {self.cnn_strides} with cnn_pools {self.cnn_pools} is not allowed"
            raise ValueError(f"{both}; together they shrink a canvas_size of {self.canvas_size} to nothing")
        return self

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.learn_likelihood_std and self.likelihood != "normal":
            raise ValueError(f"learn_likelihood_std: True is not allowed with likelihood {self.likelihood}; it must be normal")
        for name, plain in (("channels", 1), ("composition", "add"), ("background", "none"), ("ascent_steps", 0)):
            if self.controller != "convolutional" and getattr(self, name) != plain:
                value = f"{name}: {getattr(self, name)} is not allowed with controller {self.controller}"
                raise ValueError(f"{value}; it needs the convolutional one")
        return self

    @classmethod
    def from_dict(cls, fields: Any) -> Self:
        """Make a configuration as `Config.from_dict` does; raise ConfigError if an older version's windows were not square."""
        if isinstance(fields, dict) and "controller_input" in fields:
            for name in ("canvas_size", "window_size"):
                if isinstance(fields.get(name), (list, tuple)) and len(set(fields[name])) > 1:
                    raise ConfigError(
                        f"{name}: {fields[name]} is not allowed in a file of an older version, whose windows were stretched to "
                        "the proportions of the canvas; train the model again"
                    )
        return super().from_dict(cls.upgrade(fields) if isinstance(fields, dict) else fields)

    @staticmethod
    def upgrade(fields: dict[str, Any]) -> dict[str, Any]:
        """Add what the fields of an older file lack: controllers that were trained to choose by the score alone still do so."""
        is_file = fields.keys() >= {"canvas_size", "cell_filters", "cell_size", "cell_units"}  # a few that nobody sets together
        is_convolutional = fields.get("controller") == "convolutional"
        return {"cell_certainty": 0.0, **fields} if is_file and is_convolutional else fields

    @property
    def attends_at_once(self) -> bool:
        """True of a controller that decides on all steps from the canvas alone, before the first glimpse."""
        return self.controller in ("canvas", "dense")

    @property
    def takes_any_canvas(self) -> bool:
        """True of a controller for canvases of any size and any number of steps."""
        return self.controller == "convolutional"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of a training scene as an array: (height, width), or (height, width, 3)."""
        return self.canvas_size if self.channels == 1 else (*self.canvas_size, self.channels)

    @property
    def is_plain(self) -> bool:
        """True of grey objects that add up on black."""
        return self.channels == 1 and self.composition == "add" and self.background == "none"

    @property
    def takes_any_size(self) -> bool:
        """True of a model that finds objects of other sizes than in training, see `air.model.zooms`."""
        return self.takes_any_canvas and self.is_plain

    @property
    def smallest_canvas(self) -> tuple[int, int]:
        """Height and width of the smallest canvas that is taken: the window's, or the training canvas' if that is smaller."""
        if not self.takes_any_canvas:
            return self.canvas_size
        return min(self.window_size[0], self.canvas_size[0]), min(self.window_size[1], self.canvas_size[1])

    def steps_on(self, canvas_size: tuple[int, int]) -> int:
        """Return the default number of steps on a canvas: `max_steps`, or as many more as it is larger than the training's."""
        larger = math.prod(canvas_size) / math.prod(self.canvas_size)
        return max(self.max_steps, math.ceil(self.max_steps * larger)) if self.takes_any_canvas else self.max_steps

    @property
    def latent_size(self) -> int:
        """The number of latents that the LSTM receives from the previous step, if there is one; 0 if it receives none."""
        return 3 + self.z_what_size if self.controller == "latents" and self.max_steps > 1 else 0

    @property
    def can_take_more_steps(self) -> bool:
        """Return False for a controller that lacks weights for more: a dense one, or one step that reads no step's latents."""
        return self.controller != "dense" and (self.controller != "latents" or self.max_steps > 1)

    @property
    def scheduled_fields(self) -> tuple[str, ...]:
        """The names of the fields that may be annealed."""
        return tuple(name for name in type(self).model_fields if isinstance(getattr(self, name), Schedule))


class TrainingConfig(Config):
    """Every hyperparameter of a training run."""

    iterations: Count = 12000
    """Training steps, one batch each."""
    batch_size: Count = 64
    """Scenes in a batch."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam, or centred RMSProp with momentum 0.9."""
    learning_rate: LearningRate = Schedule("cosine", 3e-3, final=5e-5)
    """Its learning rate; a schedule without steps spans the whole run."""
    baseline_learning_rate: LearningRate = _constant(1e-3)
    """Learning rate of the baseline's own Adam; a schedule without steps spans the whole run; nvil only."""
    clip_norm: Positive = _constant(1.0)
    """Global norm to which gradients are clipped."""
    seed: Seed = 0
    """Seed of the initialisation, of the order of the data and of all random draws."""
    xla: bool = True
    """Compile the training step with XLA."""

    validation_scenes: Count = 1000
    """Held-out scenes to evaluate during training."""
    validate_every: Count = 500
    """Training steps between evaluations on held-out scenes."""
    scalars_every: Count = 50
    """Training steps between scalar summaries."""
    gradients_every: Count = 100
    """Training steps between summaries of gradient norms."""
    histograms_every: Count = 500
    """Training steps between histograms of variables and gradients."""
    images_every: Count = 500
    """Training steps between images of attention and reconstruction."""
    checkpoints_every: Count = 1000
    """Training steps between checkpoints."""
    keep_checkpoints: Count = 5
    """Number of checkpoints to keep; older ones are deleted."""

    @property
    def intervals(self) -> tuple[int, ...]:
        """All intervals above, in training steps."""
        summaries = self.scalars_every, self.gradients_every, self.histograms_every, self.images_every
        return (self.validate_every, self.checkpoints_every, *summaries)
