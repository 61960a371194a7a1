"""Annealing: a scalar hyperparameter as a function of the training step.

Every scalar that may change during training is a `Schedule`. A plain number is a constant schedule, and the text form is
the same on the command line and in `config.json`:

    0.5
    linear(1, 0.1, steps=2000)
    cosine(2e-3, 1e-4, steps=8000)
    exponential(1e4, factor=0.1, every=3000, limit=1e-9)

A schedule of any kind may wait: `start=1000` keeps the first value for the first 1,000 steps.
"""

import ast
import dataclasses
import math
import warnings
from typing import Any

LONGEST = 1000  # characters of a schedule's text; Python's parser takes its time with megabytes


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A value that depends on the training step.

    Attributes:
        kind: "constant", "linear", "cosine" or "exponential".
        initial: value up to step `start`.
        final: for linear and cosine, the value from step `start + steps` on.
        steps: for linear and cosine, how many steps the change takes; None where only the run's length decides it, see `over`.
        factor: for exponential, what the value is multiplied by every `every` steps.
        every: for exponential, see `factor`; the change is continuous, not a staircase.
        limit: for exponential, a value that is never passed (a floor when factor < 1, a ceiling when factor > 1).
        start: the first step at which the value changes.
    """

    kind: str
    initial: float
    final: float | None = None
    steps: float | None = None
    factor: float | None = None
    every: float | None = None
    limit: float | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        wanted = _FIELDS.get(self.kind)
        if wanted is None:
            raise ValueError(f"unknown kind of schedule {self.kind!r}; use one of {', '.join(_FIELDS)}")
        for field in ("final", "steps", "factor", "every"):
            value = getattr(self, field)
            if field in wanted and value is None and field != "steps":
                raise ValueError(f"{self.kind} schedule needs {field}")
            if field not in wanted and value is not None:
                raise ValueError(f"{self.kind} schedule has no {field}")
        if self.limit is not None and self.kind != "exponential":
            raise ValueError(f"{self.kind} schedule has no limit")
        if self.start and self.kind == "constant":
            raise ValueError("constant schedule has no start")
        for field in ("initial", "final", "steps", "factor", "every", "limit", "start"):
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{field} must be finite, not {value}")
        for field in ("steps", "factor", "every"):
            value = getattr(self, field)
            if value is not None and value <= 0:
                raise ValueError(f"{field} must be above 0, not {value}")
        if self.start < 0:
            raise ValueError(f"start must be 0 or more, not {self.start}")
        if self.kind == "exponential":
            self._check_exponential()

    def _check_exponential(self) -> None:
        if self.initial <= 0:
            raise ValueError(f"initial must be above 0 for an exponential schedule, not {self.initial}")
        if self.limit is not None and self.factor < 1 and self.limit > self.initial:
            raise ValueError(f"limit must be at most the initial {self.initial} of a falling schedule, not {self.limit}")
        if self.limit is not None and self.factor > 1 and self.limit < self.initial:
            raise ValueError(f"limit must be at least the initial {self.initial} of a rising schedule, not {self.limit}")

    @classmethod
    def parse(cls, value: Any) -> "Schedule":
        """Reads a schedule from a number, a text of the form shown above, or a schedule.

        Raises:
            ValueError: if the text is not a schedule; the message says what is allowed.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return cls("constant", _float(value))
        if not isinstance(value, str) or len(value) > LONGEST:
            raise ValueError(f"{value!r:.80} is neither a number nor a schedule")
        try:
            number = float(value)
        except ValueError:
            return cls._parse_call(value)
        return cls("constant", number)

    @classmethod
    def _parse_call(cls, value: str) -> "Schedule":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's own remarks about odd literals
                call = ast.parse(value.strip(), mode="eval").body
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                raise SyntaxError
            arguments = [_float(ast.literal_eval(a)) for a in call.args]
            named = {k.arg: _float(ast.literal_eval(k.value)) for k in call.keywords}
        except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
            raise ValueError(
                f"{value!r:.80} is neither a number nor a schedule such as linear(1, 0.1, steps=2000), "
                "cosine(2e-3, 1e-4, steps=8000) or exponential(1e4, factor=0.1, every=3000, limit=1e-9)"
            ) from None
        if call.func.id not in _FIELDS:
            raise ValueError(f"unknown kind of schedule {call.func.id!r}; use one of {', '.join(_FIELDS)}")
        order = ("initial", *_FIELDS[call.func.id], "limit", "start")
        fields = dict(zip(order, arguments, strict=False))
        unknown = set(named) - set(order)
        if len(arguments) > len(order) or unknown or set(named) & set(fields) or not (fields or named):
            raise ValueError(f"{value!r:.80} has the wrong arguments; {call.func.id} takes ({', '.join(order)})")
        if "initial" not in fields | named:
            raise ValueError(f"{value!r:.80} lacks its initial value")
        return cls(call.func.id, **fields, **named)

    def __str__(self) -> str:
        if self.kind == "constant":
            return f"{self.initial:g}" if float(f"{self.initial:g}") == self.initial else repr(self.initial)
        fields = {name: getattr(self, name) for name in (*_FIELDS[self.kind], "limit", "start")}
        fields["start"] = fields["start"] or None
        named = [f"{name}={value!r}" for name, value in fields.items() if value is not None]
        return f"{self.kind}({self.initial!r}, {', '.join(named)})"

    @property
    def is_open_ended(self) -> bool:
        """Whether the schedule lacks the number of steps that its change takes."""
        return self.steps is None and "steps" in _FIELDS[self.kind]

    @property
    def is_zero(self) -> bool:
        """Whether the value is 0 at every step."""
        return self.kind == "constant" and self.initial == 0.0

    def over(self, steps: int) -> "Schedule":
        """The same schedule, ending at step `steps` if it was open-ended."""
        return dataclasses.replace(self, steps=max(steps - self.start, 1.0)) if self.is_open_ended else self

    @property
    def minimum(self) -> float:
        """The least value that the schedule takes; 0 for an exponential decay without a limit."""
        if self.kind in ("linear", "cosine"):
            return min(self.initial, self.final)
        if self.kind == "exponential" and self.factor < 1:
            return self.limit or 0.0
        return self.initial

    @property
    def maximum(self) -> float:
        """The greatest value that the schedule takes; infinite for an exponential rise without a limit."""
        if self.kind in ("linear", "cosine"):
            return max(self.initial, self.final)
        if self.kind == "exponential" and self.factor > 1:
            return math.inf if self.limit is None else self.limit
        return self.initial

    def __call__(self, step: Any) -> Any:
        """The value at a training step: float32 tensor of the shape of `step`."""
        from keras import ops  # here, so that configurations can be read without loading TensorFlow

        step = ops.cast(step, "float32")
        if self.is_open_ended:
            raise ValueError(f"{self} lacks its number of steps; call over() first")
        if self.kind == "constant":
            return ops.full_like(step, self.initial)
        elapsed = ops.maximum(step - self.start, 0.0)
        if self.kind == "exponential":
            value = self.initial * ops.exp(math.log(self.factor) * elapsed / self.every)
            if self.limit is None:
                return value
            return ops.maximum(value, self.limit) if self.factor < 1 else ops.minimum(value, self.limit)
        progress = ops.minimum(elapsed / self.steps, 1.0)
        if self.kind == "cosine":
            progress = 0.5 - 0.5 * ops.cos(math.pi * progress)
        return self.initial + (self.final - self.initial) * progress


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("number too large") from None


_FIELDS = {
    "constant": (),
    "linear": ("final", "steps"),
    "cosine": ("final", "steps"),
    "exponential": ("factor", "every"),
}
