"""The report of runs with several seeds: seeds.md, seeds.json and seeds.png."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from air.evaluation.config import SeedsConfig
from air.evaluation.curves import ACCURACY, Rows, seed_curves
from air.presets import Preset
from air.support import files
from air.support.console import table
from air.training import checkpoints
from air.training.run_folder import RunFolder


class Result(NamedTuple):
    """The result of a run. Seconds are wall time without scoring, and infinity means never.

    Scores that were not asked for, or that a run without a checkpoint lacks, are the worst possible.
    """

    seed: int
    rows: Rows  # of metrics.csv
    complete: bool
    steps: int = 0  # up to the last scoring
    steps_to_goal: float = math.inf
    seconds_to_goal: float = math.inf  # with compilation
    training_seconds_to_goal: float = math.inf  # without compilation
    seconds: float = math.inf  # of the whole run, with compilation
    final: float = 0.0  # count accuracy on all test scenes or, without a checkpoint, at the last scoring
    three_digits: float = 0.0  # this and the next four: see `Scorer.score`
    four_digits: float = 0.0
    canvas_100: float = 0.0
    elbo: float = -math.inf
    iwae: float = -math.inf


COLUMNS = {
    "steps_to_goal": ("steps to {goal}", ",.0f", max),
    "seconds_to_goal": ("seconds to {goal}", ".1f", max),
    "training_seconds_to_goal": ("without compilation", ".1f", max),
    "final": ("final accuracy", ".2%", min),
    "seconds": ("seconds in all", ".0f", max),
    "three_digits": ("3 digits", ".2%", min),
    "four_digits": ("4 digits", ".2%", min),
    "canvas_100": ("0-8 on 100x100", ".2%", min),
    "elbo": ("ELBO", ".1f", min),
    "iwae": ("IWAE {samples}", ".1f", min),
}
"""Head and format of each column, by its field of `Result`, and the function that finds the worst run."""


class Study(NamedTuple):
    """The recipe and settings that all runs share."""

    title: str
    changed: str  # from the preset
    config: SeedsConfig
    recipe: Preset

    @property
    def columns(self) -> list[str]:
        """The fields of `Result` that were asked for."""
        counted, bounded = bool(self.config.more_digits_scenes), self.config.has_bounds
        asked = {"three_digits": counted, "elbo": bounded, "iwae": bounded}
        asked |= dict.fromkeys(("four_digits", "canvas_100"), counted and self.recipe.model.takes_any_canvas)
        return [name for name in COLUMNS if asked.get(name, True)]


def trained_steps(folder: str | Path) -> int:
    """Return the step of a run's newest checkpoint or, if the checkpoints were deleted, of its last scoring."""
    steps = [step for step, _ in checkpoints.checkpoints(folder)]
    return int(max([0, *steps, *(row["step"] for row in RunFolder(folder).metrics.rows())]))


def read(folder: str | Path, run: Preset, goal: float, scores: Mapping[str, Any]) -> Result:
    """Read the result of a run from its metrics.csv, and add its scores."""
    accuracy = f"{ACCURACY}all"
    rows = RunFolder(folder).metrics.rows("seconds", "scoring_seconds", "compile_seconds", accuracy)
    result = Result(run.training.seed, rows, trained_steps(folder) >= run.training.iterations, **scores)
    for row in rows:
        step, seconds = int(row["step"]), row["seconds"] - row["scoring_seconds"]
        result = result._replace(steps=step, seconds=seconds, final=scores.get("final", row[accuracy]))
        if row[accuracy] >= goal and result.steps_to_goal == math.inf:
            training = seconds - row["compile_seconds"]
            result = result._replace(steps_to_goal=step, seconds_to_goal=seconds, training_seconds_to_goal=training)
    return result


def summarise(study: Study, results: Sequence[Result]) -> dict[str, Any]:
    """Return how many runs `reached` the goal, and the `median` and the `worst` of each column."""
    values = {name: [getattr(result, name) for result in results] for name in study.columns}
    return {
        "runs": len(results),
        "reached": sum(map(math.isfinite, values["steps_to_goal"])),
        "median": {name: median(column) for name, column in values.items()},
        "worst": {name: COLUMNS[name][2](column) for name, column in values.items()},
    }


def write(out: str | Path, study: Study, results: Mapping[str, Sequence[Result]]) -> str:
    """Write the three files into a folder, from the results by estimator, and return the text of seeds.md."""
    out = Path(out)
    text = markdown(study, results)
    fields = ("seed", "complete", "steps", *study.columns)
    content = {
        "model": study.recipe.model.to_dict(),
        "training": study.recipe.training.to_dict(),
        "seeds": study.config.to_dict(),
        "summary": {name: summarise(study, runs) for name, runs in results.items()},
        "runs": [
            {"estimator": name, **{field: getattr(run, field) for field in fields}}
            for name, runs in results.items()
            for run in runs
        ],
    }
    rows = {name: {run.seed: run.rows for run in runs} for name, runs in results.items()}
    files.write_json(out / "seeds.json", content)
    files.write_atomically(out / "seeds.md", lambda path: path.write_text(text, encoding="utf-8"))
    files.write_atomically(out / "seeds.png", seed_curves(rows, study.title, study.config.goal).savefig)
    return text


def markdown(study: Study, results: Mapping[str, Sequence[Result]]) -> str:
    """Return the report: all runs of each estimator, with their median and worst."""
    training, config = study.recipe.training, study.config
    sections = [
        f"# {study.title}",
        f"{training.iterations:,} steps of {training.batch_size} scenes, scored on {training.validation_scenes:,} test scenes "
        f"every {training.validate_every} steps, and on all at the end. Seconds are wall time without scoring; *never* counts "
        "as infinitely late.",
    ]
    if study.changed:
        sections.append(f"Changed from the preset: {study.changed}.")
    for name, runs in results.items():
        summary = summarise(study, runs)
        rows = {f"{run.seed}{'' if run.complete else f' (stopped at {run.steps:,})'}": run._asdict() for run in runs}
        rows |= {f"**{side}**": summary[side] for side in ("median", "worst")}
        cells = [[seed, *(_show(row[field], COLUMNS[field][1]) for field in study.columns)] for seed, row in rows.items()]
        heads = [COLUMNS[field][0].format(goal=config.goal_text, samples=config.samples) for field in study.columns]
        sections.append(f"## {name}: {summary['reached']} of {len(runs)} runs reach {config.goal_text}")
        sections.append(table(["seed", *heads], cells))
    if config.has_bounds:
        sections.append(
            f"ELBO and IWAE, the importance-weighted bound of {config.samples} samples, are those of the discrete model in "
            f"nats: means over at most {config.bound_scenes:,} test scenes, with the likelihood used in training and, as the "
            "prior over counts, how often the run inferred each count in training."
        )
    return "\n\n".join([*sections, "![Wrong counts over the training steps](seeds.png)"]) + "\n"


def _show(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "never" if value > 0 else "none"
