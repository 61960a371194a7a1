"""Robustness: a recipe trained with several seeds, perhaps by several estimators of z_pres, every run reported.

Each run is a `training.py` of its own, one after another, so that none shares anything with the next.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from air import presets
from air.config import AIRConfig, TrainingConfig
from air.data import mnist, multi_mnist
from air.errors import AIRError, DataError
from air.evaluation import seed_report, seed_scores
from air.evaluation.config import SeedsConfig, scored_often
from air.evaluation.curves import ACCURACY, seed_curves
from air.evaluation.seed_report import SeedRun, Study
from air.presets import PRESETS, Preset, PresetName
from air.support import files
from air.support.files import BusyError, Claim
from air.training import checkpoints
from air.training.run_folder import LOCK, RunFolder

SCRIPT = Path(__file__).resolve().parents[2] / "training.py"


class Planned(NamedTuple):
    """A run that is to be."""

    folder: Path
    model: AIRConfig
    training: TrainingConfig


def report(
    out: Path, config: SeedsConfig, data: Path, recipe: Preset, preset: PresetName = "default", mnist_path: Path | None = None
) -> str:
    """Trains what is not trained yet, and writes seeds.md, seeds.json and seeds.png.

    Args:
        out: folder of the report and of the runs seed_0, seed_1 ..., in a folder for each estimator if there are several.
        config: which runs, and what is measured of them.
        data: folder of scenes, whose test.npz is scored; `multi_mnist` is made if missing.
        recipe: configurations of all runs; `training.seed` is the first seed.
        preset: that the recipe comes from.
        mnist_path: the digits of these scenes and of those of three digits, see `air.data.mnist.load`.

    Returns:
        The text of seeds.md. All runs are in it, also those that failed.

    Raises:
        AIRError: if the data can't be used, or a run in `out` has another configuration.
    """
    plans = plan(out, config, recipe, preset)
    multi_mnist.ensure(data, recipe.model.canvas_size, mnist_path)
    held_out = data / "test.npz"
    if not held_out.is_file():
        raise DataError(f"{held_out}: no such file; its scenes are scored")
    test = multi_mnist.read(held_out, recipe.model.canvas_size)
    if test.count is None:
        raise DataError(f"{held_out}: has no counts; runs are judged by them")
    digits = mnist.load(mnist_path) if config.more_digits_scenes else None
    more = seed_scores.more_digits(config.more_digits_scenes, recipe.model, digits) if digits else None
    out.mkdir(parents=True, exist_ok=True)
    with Claim(out / LOCK) as claim:
        if not claim.take():
            raise BusyError(f"{out}: in use by another process; wait for its end, or choose another --out")
        for same_seed in zip(*plans.values(), strict=True):  # in turn: estimators share the machine's good and bad hours
            for planned in same_seed:
                _train(planned, data)
        wanted = seed_scores.tasks(config, test, more)
        runs = {name: _judged(several, wanted, config.goal) for name, several in plans.items()}
        if not any(run.steps for several in runs.values() for run in several):
            raise AIRError(f"{out}: no run came as far as its first scoring; the reason is above")
        scenes = min(recipe.training.validation_scenes, len(test))
        changes = _changes(recipe, scored_often(presets.recipe(preset, recipe.model.estimator)))
        study = Study(preset, recipe, changes, config, scenes, min(config.bound_scenes, len(test)))
        return _write(out, study, plans, runs)


def plan(out: Path, config: SeedsConfig, recipe: Preset, preset: PresetName) -> dict[str, list[Planned]]:
    """The runs of each estimator; a run shorter than the preset's is its beginning, learning rates included."""
    whole = max(recipe.training.iterations, PRESETS[preset]().training.iterations)
    seeds = range(recipe.training.seed, recipe.training.seed + config.n)
    plans = {}
    for presence in config.estimators or (recipe.model.estimator,):
        folder = out / presence if len(config.estimators) > 1 else out
        model, training = presets.with_estimator(preset, recipe, presence)
        rates = {name: getattr(training, name).over(whole) for name in ("learning_rate", "baseline_learning_rate")}
        plans[presence] = [Planned(folder / f"seed_{seed}", model, training.replace(seed=seed, **rates)) for seed in seeds]
    return plans


def flags(model: AIRConfig, training: TrainingConfig) -> list[str]:
    """The flags of training.py that make these configurations of the default ones."""
    words = ["--estimator", model.estimator]
    for config, defaults in zip((model, training), presets.default(model.estimator), strict=True):
        for name in type(config).model_fields:
            value = getattr(config, name)
            if value == getattr(defaults, name):
                continue
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return words


def _train(planned: Planned, data: Path) -> None:
    """Trains a run that is not finished, or was to have fewer iterations, in a process of its own."""
    folder, model, training = planned
    if folder.exists() and (folder / "config.json").exists():
        known, trained, _ = RunFolder(folder).read()
        longer = trained.replace(iterations=max(trained.iterations, training.iterations))
        if (known, longer) != (model, training):
            raise DataError(f"{folder}: was trained by another recipe or with other flags; choose another --out")
        if _last_step(folder) >= training.iterations:
            return
    title = f"Seed {training.seed}, {model.estimator}"
    print(f"{title}: {folder}", file=sys.stderr, flush=True)
    if checkpoints.checkpoints(folder):
        words = ["--resume", folder, "--iterations", training.iterations]
    else:
        words = ["--run", folder, "--overwrite", "--data", data, "--held-out", data / "test.npz", *flags(model, training)]
    with subprocess.Popen([sys.executable, SCRIPT, *map(str, words)], stdout=subprocess.DEVNULL) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # which the other process hears too, and saves a checkpoint
            process.wait()
            raise
    if status == 130:
        raise KeyboardInterrupt
    if status:
        print(f"{title}, failed; it is reported as it is.", file=sys.stderr, flush=True)


def _last_step(folder: Path) -> int:
    rows = RunFolder(folder).metrics.rows()
    return int(rows[-1]["step"]) if rows else 0


def _judged(plans: Sequence[Planned], wanted: dict[str, seed_scores.Task], goal: float) -> list[SeedRun]:
    scores = seed_scores.judge([planned.folder for planned in plans], wanted, plans[0].model.likelihood)
    return [
        summary(planned.training.seed, planned.folder, planned.training.iterations, goal)._replace(**measured._asdict())
        for planned, measured in zip(plans, scores, strict=True)
    ]


def summary(seed: int, folder: Path, iterations: int, goal: float) -> SeedRun:
    """What the metrics.csv of a run folder tells; a run that never was scored has steps 0 and accuracy 0."""
    rows = RunFolder(folder).metrics.rows("seconds", "scoring_seconds", "compile_seconds", f"{ACCURACY}all")
    infinite = float("inf")
    if not rows:
        return SeedRun(seed, 0, infinite, infinite, 0.0, 0.0, 0.0, 0.0, {}, False)

    def trained(row: dict[str, float]) -> float:
        return row["seconds"] - row["scoring_seconds"]

    name, last = f"{ACCURACY}all", rows[-1]
    reached = next((row for row in rows if row[name] >= goal), None)
    return SeedRun(
        seed=seed,
        steps=int(last["step"]),
        steps_to_goal=int(reached["step"]) if reached else infinite,
        seconds_to_goal=trained(reached) if reached else infinite,
        compile_seconds=last["compile_seconds"],
        seconds=trained(last),
        final=last[name],
        best=max(row[name] for row in rows),
        by_count={key.removeprefix(ACCURACY): last[key] for key in last if key.startswith(ACCURACY) and key != name},
        # The last scoring is the last one before the end, where that is no multiple of the interval.
        complete=int(last["step"]) > iterations - _interval(rows),
    )


def _interval(rows: Sequence[dict[str, float]]) -> float:
    return rows[0]["step"]


def _changes(recipe: Preset, default: Preset) -> dict[str, Any]:
    """The fields in which a recipe differs from another, but for those that a report tells in any case."""
    told = ("seed", "iterations", "validate_every", "validation_scenes", "presence")
    return {
        name: getattr(ours, name)
        for ours, theirs in zip(recipe, default, strict=True)
        for name in type(ours).model_fields
        if name not in told and getattr(ours, name) != getattr(theirs, name)
    }


def _write(out: Path, study: Study, plans: dict[str, list[Planned]], runs: dict[str, list[SeedRun]]) -> str:
    text = seed_report.markdown(study, runs)
    content = {
        "goal": study.config.goal,
        "preset": study.preset,
        "model": study.recipe.model.to_dict(),
        "training": study.recipe.training.to_dict(),
        "seeds": study.config.to_dict(),
        "scenes": study.scenes,
        "summary": {name: seed_report.summarise(several) for name, several in runs.items()},
        "runs": [{"estimator": name, **run._asdict()} for name, several in runs.items() for run in several],
    }
    files.write_json(out / "seeds.json", content)
    files.write_atomically(out / "seeds.md", lambda path: path.write_text(text, encoding="utf-8"))
    rows = {
        name: {planned.training.seed: RunFolder(planned.folder).metrics.rows() for planned in several}
        for name, several in plans.items()
    }
    files.write_atomically(out / "seeds.png", seed_curves(rows, study.title, study.config.goal).savefig)
    return text
