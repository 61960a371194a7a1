"""The figures of a run: their summary, their file, and how they compare with those of another run."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from air.errors import DataError
from air.support.console import table
from air.support.files import MAX_JSON, check_file

Sample = dict[str, tuple[float, str]]
"""The figures of one round: value and unit by name."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Figure(_Strict):
    """One quantity over all rounds."""

    unit: str
    median: float
    least: float
    greatest: float
    rounds: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.least <= self.median <= self.greatest:
            raise ValueError("the median must lie between least and greatest")
        return self

    def __str__(self) -> str:
        if self.rounds == 1:
            return _short(self.median)
        return f"{_short(self.median)} ({_short(self.least)} to {_short(self.greatest)})"


class Results(_Strict):
    """What `--output` writes."""

    machine: dict[str, str | int | bool]
    """What the figures were measured with; see `machine.description`."""
    figures: dict[str, Figure]
    """By name, such as `steps/default/concrete/64/step`."""


def summarise(rounds: Sequence[Sample]) -> dict[str, Figure]:
    """The median and the spread of each figure of the rounds, which all have the same ones."""
    figures = {}
    for name, (_, unit) in rounds[0].items():
        values = [float(sample[name][0]) for sample in rounds]
        figures[name] = Figure(
            unit=unit, median=statistics.median(values), least=min(values), greatest=max(values), rounds=len(values)
        )
    return figures


def read(path: Path) -> Results:
    """Reads what `--output` wrote; raises DataError for anything else."""
    check_file(path)
    try:
        with open(path, "rb") as file:
            return Results.model_validate_json(file.read(MAX_JSON))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: no result of python -m benchmarks ({place}{': ' if place else ''}{first['msg']})") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from None


def report(results: Results) -> str:
    """All figures as a table, under a line about the machine."""
    head = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    rows = [[name, str(figure), figure.unit] for name, figure in results.figures.items()]
    return f"{head}\n\n{table(['figure', 'median (least to greatest)', 'unit'], rows)}"


def ratios(new: Results, old: Results) -> dict[str, float | None]:
    """New median over old one, of the figures that both have in the same unit; None where the old one is 0."""
    return {
        name: figure.median / old.figures[name].median if old.figures[name].median else None
        for name, figure in new.figures.items()
        if name in old.figures and old.figures[name].unit == figure.unit
    }


def comparison(new: Results, old: Results) -> str:
    """The ratios as a table, under a line about what differs between the machines."""
    names = list(dict.fromkeys((*old.machine, *new.machine)))
    other = [
        f"{name} {old.machine.get(name, 'unknown')} -> {new.machine.get(name, 'unknown')}"
        for name in names
        if old.machine.get(name) != new.machine.get(name)
    ]
    shared = ratios(new, old)
    lines = [f"Not measured under the same conditions: {', '.join(other)}"] if other else []
    lines.append(
        f"{len(shared)} figures in common; {len(new.figures) - len(shared)} only in this run, "
        f"{len(old.figures) - len(shared)} only in the earlier one."
    )
    rows = [
        [name, str(old.figures[name]), str(new.figures[name]), new.figures[name].unit, "-" if ratio is None else f"{ratio:.3f}"]
        for name, ratio in shared.items()
    ]
    if rows:
        lines += ["", table(["figure", "earlier", "now", "unit", "now / earlier"], rows)]
    return "\n".join(lines)


def _short(value: float) -> str:
    """Four significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
