"""Robustness: the default recipe trained with several seeds, every one of them reported.

Each run is a `training.py` of its own, one after another, so that none shares anything with the next.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from air import checkpoints, dataset
from air.config import AIRConfig, TrainingConfig
from air.curves import ACCURACY, seed_curves
from air.errors import AIRError, DataError
from air.evaluation_config import SeedsConfig
from air.files import BusyError, Claim
from air.runs import LOCK, RunFolder
from air.scenes import SceneSet
from air.tables import table

GOAL = 0.98
SCRIPT = Path(__file__).resolve().parent.parent / "training.py"


class SeedRun(NamedTuple):
    """What became of one run. Seconds are those of training, without those of scoring."""

    seed: int
    steps: int  # trained
    steps_to_goal: float  # to the first scoring of 98 % or more; infinite if there was none
    seconds_to_goal: float  # compiling included
    compile_seconds: float
    seconds: float  # of the whole run, compiling included
    final: float  # count accuracy at the last scoring; 0 if there was none
    best: float
    by_count: dict[str, float]  # at the last scoring
    complete: bool  # False: it failed or was interrupted before its last step


def report(out: Path, config: SeedsConfig, data: Path) -> str:
    """Trains what is not trained yet, and writes seeds.md, seeds.json and seeds.png.

    Args:
        out: folder of the runs seed_0, seed_1 ... and of the report.
        config: which runs.
        data: folder of scenes, whose test.npz is scored; `multi_mnist` is made if missing.

    Returns:
        The text of seeds.md. All runs are in it, also those that failed.

    Raises:
        AIRError: if the data can't be used, or a run in `out` has another configuration.
    """
    held_out = data / "test.npz"
    dataset.ensure(data, AIRConfig().canvas_size, None)
    if not held_out.is_file():
        raise DataError(f"{held_out}: no such file; its scenes are scored")
    test = SceneSet.load(held_out)
    if test.counts is None:
        raise DataError(f"{held_out}: has no counts, by which the runs are scored")
    scenes = min(config.scenes, len(test))
    out.mkdir(parents=True, exist_ok=True)
    with Claim(out / LOCK) as claim:
        if not claim.take():
            raise BusyError(f"{out}: in use by another process; wait for its end, or choose another --out")
        return _report(out, config, data, scenes)


def _report(out: Path, config: SeedsConfig, data: Path, scenes: int) -> str:
    for seed in range(config.n):
        _train(out / f"seed_{seed}", _recipe(seed, config), data)
    runs = [summary(seed, out / f"seed_{seed}", _recipe(seed, config).iterations) for seed in range(config.n)]
    if not any(run.steps for run in runs):
        raise AIRError(f"{out}: no run came as far as its first scoring; the reason is above")
    text = markdown(runs, scenes, _recipe(0, config))
    checkpoints.write_json(out / "seeds.json", {"goal": GOAL, "scenes": scenes, "runs": [_plain(run) for run in runs]})
    checkpoints.write_atomically(out / "seeds.md", lambda path: path.write_text(text, encoding="utf-8"))
    figure = seed_curves({run.seed: RunFolder(out / f"seed_{run.seed}").metrics.rows() for run in runs})
    checkpoints.write_atomically(out / "seeds.png", figure.savefig)
    return text


def _recipe(seed: int, config: SeedsConfig) -> TrainingConfig:
    """The default recipe, but for what `config` asks for; a shortened run is the recipe's beginning, learning rate included."""
    default = TrainingConfig()
    return default.replace(
        seed=seed,
        iterations=config.iterations or default.iterations,
        learning_rate=default.learning_rate.over(default.iterations),
        validate_every=config.score_every,
        validation_scenes=config.scenes,
    )


def _train(folder: Path, recipe: TrainingConfig, data: Path) -> None:
    """Trains a run that is not finished, in a process of its own."""
    if folder.exists() and (folder / "config.json").exists():
        model, training, _ = RunFolder(folder).read()
        if (model, training) != (AIRConfig(), recipe):
            raise DataError(f"{folder}: was trained by another recipe or with other flags; choose another --out")
        if _last_step(folder) >= recipe.iterations:
            return
    print(f"Seed {recipe.seed}: {folder}", file=sys.stderr, flush=True)
    if checkpoints.checkpoints(folder):
        flags = ["--resume", folder]
    else:
        flags = ["--run", folder, "--overwrite", "--data", data, "--held-out", data / "test.npz"]
        for name in ("seed", "iterations", "learning_rate", "validate_every", "validation_scenes"):
            flags += [f"--{name.replace('_', '-')}", getattr(recipe, name)]
    status = subprocess.run([sys.executable, SCRIPT, *map(str, flags)], stdout=subprocess.DEVNULL).returncode
    if status == 130:
        raise KeyboardInterrupt
    if status:
        print(f"Seed {recipe.seed} failed; it is reported as it is.", file=sys.stderr, flush=True)


def _last_step(folder: Path) -> int:
    rows = RunFolder(folder).metrics.rows()
    return int(rows[-1]["step"]) if rows else 0


def summary(seed: int, folder: Path, iterations: int) -> SeedRun:
    """What the metrics.csv of a run folder tells; a run that never was scored has steps 0 and accuracy 0."""
    rows = RunFolder(folder).metrics.rows("seconds", "scoring_seconds", "compile_seconds", f"{ACCURACY}all")
    infinite = float("inf")
    if not rows:
        return SeedRun(seed, 0, infinite, infinite, 0.0, 0.0, 0.0, 0.0, {}, False)

    def trained(row: dict[str, float]) -> float:
        return row["seconds"] - row["scoring_seconds"]

    name, last = f"{ACCURACY}all", rows[-1]
    goal = next((row for row in rows if row[name] >= GOAL), None)
    return SeedRun(
        seed=seed,
        steps=int(last["step"]),
        steps_to_goal=int(goal["step"]) if goal else infinite,
        seconds_to_goal=trained(goal) if goal else infinite,
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


def _plain(run: SeedRun) -> dict[str, Any]:
    """For JSON, which knows no infinity: null."""
    return {name: None if value == float("inf") else value for name, value in run._asdict().items()}


def markdown(runs: Sequence[SeedRun], scenes: int, recipe: TrainingConfig) -> str:
    """The report of all runs, with their median and worst."""
    head = ("seed", "steps to 98 %", "seconds to 98 %", "compiling", "final accuracy", "by count", "best", "seconds in all")
    rows = [
        (
            f"{run.seed}{'' if run.complete else f' (stopped at {run.steps:,})'}",
            *_cells(run),
            ", ".join(f"{run.by_count[count]:.2%}" for count in sorted(run.by_count)),
            f"{run.best:.2%}",
            f"{run.seconds:.0f}",
        )
        for run in runs
    ]
    for name, of_costs, of_accuracies in (("median", median, median), ("worst", max, min)):
        costs = ("steps_to_goal", "seconds_to_goal", "compile_seconds", "seconds")
        values = {field: of_costs([getattr(run, field) for run in runs]) for field in costs}
        values |= {field: of_accuracies([getattr(run, field) for run in runs]) for field in ("final", "best")}
        of_all = SeedRun(seed=-1, steps=0, by_count={}, complete=True, **values)
        rows.append((f"**{name}**", *_cells(of_all), "", f"{of_all.best:.2%}", f"{of_all.seconds:.0f}"))
    reached = sum(run.steps_to_goal < float("inf") for run in runs)
    sections = [
        f"# The default recipe with {len(runs)} seeds",
        f"{recipe.iterations:,} steps of {recipe.batch_size} scenes; {scenes:,} test scenes, inferred deterministically, "
        f"scored every {recipe.validate_every} steps. {reached} of {len(runs)} runs reached 98 %. Every run is in the table.",
        table(head, rows),
        "Seconds are wall time of training with compilation, without the scoring. *Final* is at the last scoring, *best* the "
        "best one of the run.",
        "![Error of the count over the steps](seeds.png)",
    ]
    return "\n\n".join(sections) + "\n"


def _cells(run: SeedRun) -> tuple[str, ...]:
    reached = run.steps_to_goal < float("inf")
    return (
        f"{run.steps_to_goal:,.0f}" if reached else "never",
        f"{run.seconds_to_goal:.1f}" if reached else "never",
        f"{run.compile_seconds:.1f}",
        f"{run.final:.2%}",
    )
