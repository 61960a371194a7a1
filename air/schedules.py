"""Annealing: a scalar hyperparameter as a function of the training step.

The text form is the same on the command line and in `config.json`:

    0.5
    linear(1, 0.1, steps=2000)
    cosine(2e-3, 1e-4, steps=8000)
    exponential(1e4, factor=0.1, every=3000, limit=1e-9)

Every kind but the constant one accepts a delay: `start=1000` holds the initial value for the first 1,000 steps.
"""

import dataclasses
import math
import numbers
import re
from typing import Any

_FIELDS = {
    "constant": ("initial",),
    "linear": ("initial", "final", "steps", "start"),
    "cosine": ("initial", "final", "steps", "start"),
    "exponential": ("initial", "factor", "every", "limit", "start"),
}
"""The fields of each kind, in the order of positional arguments in its text form."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A value that depends on the training step.

    Attributes:
        kind: "constant", "linear", "cosine" or "exponential".
        initial: value up to step `start`.
        final: for linear and cosine, the value from step `start + steps` on.
        steps: for linear and cosine, the length of the change in steps; None leaves it to `over`.
        factor, every: for exponential, the value is multiplied by `factor` every `every` steps, continuously.
        limit: for exponential, a bound on the value: a floor when factor < 1, a ceiling when factor > 1.
        start: the step at which the change begins.

    Raises:
        ValueError: at construction, for a field that is missing, impossible or not of this kind.
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
        for field in dataclasses.fields(self)[1:]:
            name, value = field.name, getattr(self, field.name)
            if name not in _FIELDS[self.kind]:
                if value != field.default:
                    raise ValueError(f"{self.kind} schedule has no {name}")
            elif value is None:
                if name in ("final", "factor", "every"):
                    raise ValueError(f"{self.kind} schedule needs {name}")
            elif not math.isfinite(value):
                raise ValueError(f"{name} must be finite, not {value}")
            elif value <= 0 and (name in ("steps", "factor", "every") or (name, self.kind) == ("initial", "exponential")):
                raise ValueError(f"{name} must be above 0, not {value}")
        if self.start < 0:
            raise ValueError(f"start must be 0 or more, not {self.start}")
        if self.limit is not None and (self.limit > self.initial if self.factor < 1 else self.limit < self.initial):
            side = "most" if self.factor < 1 else "least"
            raise ValueError(f"limit must be at {side} the initial {self.initial}, not {self.limit}")

    @classmethod
    def parse(cls, value: Any) -> "Schedule":
        """Read a schedule from a number or its text form, or return it unchanged; raise ValueError for anything else."""
        if isinstance(value, cls):
            return value
        if isinstance(value, bool) or not isinstance(value, (numbers.Real, str)):
            raise ValueError(f"{value!r:.80} is neither a number nor a schedule")
        text = str(value).strip()
        call = re.fullmatch(r"(\w+)\((.*)\)", text)
        kind, pairs = "constant", [("", text)]
        if call:
            kind, pairs = call[1], [argument.rpartition("=")[::2] for argument in call[2].split(",")]
        try:
            values = [float(number) for _, number in pairs]
        except ValueError:
            raise ValueError(
                f"{text!r:.80} is neither a number nor a schedule such as linear(1, 0.1, steps=2000), "
                "cosine(2e-3, 1e-4, steps=8000) or exponential(1e4, factor=0.1, every=3000, limit=1e-9)"
            ) from None
        if kind not in _FIELDS:
            raise ValueError(f"unknown kind of schedule {kind!r}; use one of {', '.join(_FIELDS)}")
        allowed = _FIELDS[kind]
        names = [name.strip() or allowed[min(i, len(allowed) - 1)] for i, (name, _) in enumerate(pairs)]
        if len(set(names)) < len(names) or not set(names) <= set(allowed):
            raise ValueError(f"{text!r:.80} has the wrong arguments; {kind} takes ({', '.join(allowed)})")
        if "initial" not in names:
            raise ValueError(f"{text!r:.80} lacks its initial value")
        return cls(kind, **dict(zip(names, values, strict=True)))

    def __str__(self) -> str:
        if self.kind == "constant":
            return f"{self.initial:g}" if float(f"{self.initial:g}") == self.initial else repr(self.initial)
        fields = {name: getattr(self, name) for name in _FIELDS[self.kind][1:]}
        named = [f"{name}={value!r}" for name, value in fields.items() if value is not None and (name, value) != ("start", 0)]
        return f"{self.kind}({self.initial!r}, {', '.join(named)})"

    @property
    def is_open_ended(self) -> bool:
        """Return whether the length of the change is still to be set by `over`."""
        return self.steps is None and "steps" in _FIELDS[self.kind]

    @property
    def is_zero(self) -> bool:
        """Return whether the value is 0 at every step."""
        return self.kind == "constant" and self.initial == 0.0

    def over(self, steps: int) -> "Schedule":
        """Return the schedule with an open end set to step `steps`."""
        return dataclasses.replace(self, steps=max(steps - self.start, 1.0)) if self.is_open_ended else self

    @property
    def end(self) -> float:
        """The final value; an exponential schedule without a limit approaches 0 or infinity."""
        if self.kind == "exponential":
            return self.limit if self.limit is not None else 0.0 if self.factor < 1 else math.inf
        return self.initial if self.final is None else self.final

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return min(self.initial, self.end), max(self.initial, self.end)

    def __call__(self, step: Any) -> Any:
        """Return the value at a training step, as a float32 tensor of the shape of `step`."""
        from keras import ops  # imported here so that reading configurations does not load TensorFlow

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
