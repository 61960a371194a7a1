"""The report of runs with several seeds, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from air.evaluation.config import SeedsConfig
from air.presets import Preset
from air.support.console import table


class SeedRun(NamedTuple):
    """What became of one run. Seconds are those of training, without those of scoring."""

    seed: int
    steps: int  # trained
    steps_to_goal: float  # to the first scoring at the goal; infinite if there was none
    seconds_to_goal: float  # compiling included
    compile_seconds: float
    seconds: float  # of the whole run, compiling included
    final: float  # count accuracy at the last scoring; 0 if there was none
    best: float
    by_count: dict[str, float]  # at the last scoring
    complete: bool  # False: it failed or was interrupted before its last step
    elbo: float | None = None  # this and all below as in `air.evaluation.seed_scores.Scores`
    iwae: float | None = None
    three_digits: float | None = None
    bounds: dict[str, Any] | None = None


class Study(NamedTuple):
    """What the runs of a report have in common."""

    preset: str
    recipe: Preset
    changes: Mapping[str, Any]  # fields in which the recipe differs from the preset
    config: SeedsConfig
    scenes: int  # test scenes that are scored
    bound_scenes: int  # that have bounds

    @property
    def title(self) -> str:
        changed = ", changed," if self.changes else ""
        return f"The {self.preset} recipe{changed} with {self.config.n} seed{'' if self.config.n == 1 else 's'}"


COSTS = ("steps_to_goal", "seconds_to_goal", "compile_seconds", "seconds")
GAINS = ("final", "best", "three_digits", "elbo", "iwae")


def summarise(runs: Sequence[SeedRun]) -> dict[str, Any]:
    """How many of an estimator's runs `reached` the goal, and the `median` and the `worst` of each number that all have.

    A run that never got somewhere counts as infinitely late, or as the worst there can be; it is left out of nothing.
    """
    summary: dict[str, Any] = {"runs": len(runs), "reached": sum(math.isfinite(run.steps_to_goal) for run in runs)}
    for name, of_costs, of_gains in (("median", median, median), ("worst", max, min)):
        summary[name] = {}
        for fields, of_runs in ((COSTS, of_costs), (GAINS, of_gains)):
            values = {field: [getattr(run, field) for run in runs] for field in fields}
            summary[name] |= {field: of_runs(several) for field, several in values.items() if None not in several}
    return summary


def markdown(study: Study, runs: Mapping[str, Sequence[SeedRun]]) -> str:
    """The report: a row for each estimator, then all runs of each estimator with their median and worst."""
    training = study.recipe.training
    changes = ", ".join(f"`{name} {value}`" for name, value in study.changes.items())
    sections = [
        f"# {study.title}",
        f"{training.iterations:,} steps of {training.batch_size} scenes; {study.scenes:,} test scenes, inferred "
        f"deterministically, scored every {training.validate_every} steps. Every run is in the tables.",
        *([f"Other than in the preset: {changes}."] if changes else []),
        _comparison(study, runs),
        *(section for name, several in runs.items() for section in (f"## {name}", _all_runs(study, several))),
        _notes(study),
        "![Error of the count over the steps](seeds.png)",
    ]
    return "\n\n".join(sections) + "\n"


def _comparison(study: Study, runs: Mapping[str, Sequence[SeedRun]]) -> str:
    scored = _scored(study)
    spread = {"steps": ("steps_to_goal", _steps), "seconds": ("seconds_to_goal", _seconds), "final": ("final", _percent)}
    head = [f"{name}, {side}" for name in spread for side in ("median", "worst")] + [f"{name}, median" for name in scored]
    rows = []
    for name, several in runs.items():
        summary = summarise(several)
        middle, worst = summary["median"], summary["worst"]
        cells = [show(side[field]) for field, show in spread.values() for side in (middle, worst)]
        cells += [show(middle) for show in scored.values()]
        rows.append([name, f"{summary['reached']} of {len(several)}", *cells])
    return table(["estimator", f"reached {study.config.goal_text}", *head], rows)


def _all_runs(study: Study, runs: Sequence[SeedRun]) -> str:
    goal = study.config.goal_text
    head = (
        "seed",
        f"steps to {goal}",
        f"seconds to {goal}",
        "compiling",
        "final accuracy",
        "by count",
        "best",
        "seconds in all",
    )
    rows = [
        (
            f"{run.seed}{'' if run.complete else f' (stopped at {run.steps:,})'}",
            *_cells(study, run._asdict(), ", ".join(f"{run.by_count[count]:.2%}" for count in sorted(run.by_count))),
        )
        for run in runs
    ]
    summary = summarise(runs)
    rows += [(f"**{name}**", *_cells(study, summary[name], "")) for name in ("median", "worst")]
    return table((*head, *_scored(study)), rows)


def _cells(study: Study, values: Mapping[str, Any], by_count: str) -> tuple[str, ...]:
    return (
        _steps(values["steps_to_goal"]),
        _seconds(values["seconds_to_goal"]),
        f"{values['compile_seconds']:.1f}",
        _percent(values["final"]),
        by_count,
        _percent(values["best"]),
        f"{values['seconds']:.0f}",
        *(show(values) for show in _scored(study).values()),
    )


def _scored(study: Study) -> dict[str, Any]:
    """The columns that were asked for, each with what shows it."""
    columns = {}
    if study.config.more_digits_scenes:
        columns["3 digits"] = lambda values: _percent(values["three_digits"])
    if study.config.has_bounds:
        columns["ELBO"] = lambda values: _nats(values["elbo"])
        columns[f"IWAE {study.config.samples}"] = lambda values: _nats(values["iwae"])
    return columns


def _steps(steps: float) -> str:
    return f"{steps:,.0f}" if math.isfinite(steps) else "never"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if math.isfinite(seconds) else "never"


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _nats(nats: float) -> str:
    return f"{nats:.1f}" if math.isfinite(nats) else "none"


def _notes(study: Study) -> str:
    model, config = study.recipe.model, study.config
    notes = [
        "*Never* counts as infinitely late in the median. Seconds are wall time of training with compilation, without the "
        "scoring. *Final* is at the last scoring, *best* the best one of the run; a run that never was scored has 0 %.",
    ]
    if config.more_digits_scenes:
        notes.append(
            f"*3 digits* is the count accuracy on {config.more_digits_scenes:,} scenes of 3 digits, with "
            f"{max(model.max_steps, 3)} steps, inferred deterministically."
        )
    if config.has_bounds:
        deviation = f"Normal({model.likelihood_std})"
        likelihood = {"cross_entropy": "cross-entropy", "normal": deviation}[model.likelihood]
        notes.append(
            f"*ELBO* and *IWAE {config.samples}*, the importance-weighted bound of {config.samples} samples, are of the "
            f"discrete model, in nats: means over the first {study.bound_scenes:,} test scenes, with the likelihood that it "
            f"learned ({likelihood}) and the *frequency* prior over n, which is how often the run inferred each count in "
            "training, at least 1e-6. Other likelihoods and priors are in seeds.json."
        )
    if config.has_bounds or config.more_digits_scenes:
        notes.append("Columns after *seconds in all* are of a run's newest checkpoint; without one, *none* and 0 %.")
    return "\n".join(f"- {note}" for note in notes)
