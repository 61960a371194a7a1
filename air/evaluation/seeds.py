"""Train one recipe with several seeds, score and report every run.

Each run is a process of `air.training.command`, one after another, so that runs share no state.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from air import presets
from air.config import DEFAULT_DATA, AIRConfig
from air.data import held_out, mnist, multi_mnist
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.evaluation import seed_report
from air.evaluation.config import SeedsConfig, scored_often
from air.evaluation.seed_report import Result, Study
from air.presets import Preset, PresetName
from air.support import cli, files
from air.support.console import stage
from air.training import checkpoints
from air.training.run_folder import RunFolder

if TYPE_CHECKING:
    from air.model.air_model import AIRModel

COMMAND = [sys.executable, "-m", "air.training.command"]
INTERRUPTED = 130  # its exit status


def report(
    out: str | Path,
    config: SeedsConfig,
    data: str | Path | None,
    recipe: Preset,
    preset: PresetName = "default",
    mnist_path: str | Path | None = None,
) -> str:
    """Train the runs that are not finished, write seeds.md, seeds.json and seeds.png, and return the text of seeds.md.

    The runs seed_0, seed_1 ... are in `out`, inside a folder per estimator if there are several. They all have the `recipe`,
    derived from the `preset`; its seed is the first. They train on the train.npz in the folder `data`, or draw their scenes
    if that is None. The test.npz in it, or else in the default folder, is scored; that one is made if missing.

    Raises:
        AIRError: if the data can't be used, a run in `out` has another configuration, or no run was ever scored.
    """
    out, scored = Path(out), Path(data or DEFAULT_DATA)
    runs = planned_runs(out, config, recipe, preset)
    for folder, run in runs.items():  # before the data set is made and the first run is trained
        check_recipe(folder, run)
    more_digits = make_more_digits(config, recipe.model, mnist_path)
    multi_mnist.ensure(scored, recipe.model.canvas_size, mnist_path)
    scorer = Scorer(config, recipe.model, scored / "test.npz", more_digits)
    for folder in runs:
        scorer.check(folder)
    source: list[Any] = ["--data", data] if data else ["--mnist", mnist_path] if mnist_path else []
    source += ["--held-out", scored / "test.npz"]
    failed = [folder for folder, run in runs.items() if not train(folder, run, source)]
    results: dict[str, list[Result]] = {}
    for folder, run in runs.items():
        result = seed_report.read(folder, run, config.goal, scorer.score(folder))
        results.setdefault(run.model.estimator, []).append(result)
    if not any(result.steps for several in results.values() for result in several):
        raise AIRError(f"{out}: no run got as far as its first scoring{'; the reason is above' if failed else ''}")
    changes = differences(recipe, scored_often(presets.recipe(preset, recipe.model.estimator, recipe.model.channels)))
    changed = ", ".join(f"`{name} {value}`" for name, value in changes.items() if name not in ("seed", "iterations"))
    title = f"The {preset} recipe{', changed,' if changed else ''} with {config.n} seed{'' if config.n == 1 else 's'}"
    return seed_report.write(out, Study(title, changed, config, recipe), results)


def planned_runs(out: Path, config: SeedsConfig, recipe: Preset, preset: PresetName) -> dict[Path, Preset]:
    """Return the configuration of each run by its folder; estimators alternate, to meet the same load of the machine.

    A run shorter than the preset's is its beginning: the learning rate falls as it would in the whole run.
    """
    steps = max(recipe.training.iterations, presets.recipe(preset).training.iterations)
    runs = {}
    for seed in range(recipe.training.seed, recipe.training.seed + config.n):
        for estimator in config.estimators or (recipe.model.estimator,):
            folder = out / estimator if len(config.estimators) > 1 else out
            model, training = presets.with_estimator(preset, recipe, estimator)
            rates = {name: getattr(training, name).over(steps) for name in ("learning_rate", "baseline_learning_rate")}
            runs[folder / f"seed_{seed}"] = Preset(model, training.replace(seed=seed, **rates))
    return runs


def check_recipe(folder: Path, run: Preset) -> None:
    """Raise DataError if a folder has a run of another recipe; fewer iterations don't matter."""
    if (folder / "config.json").exists():
        model, known, _ = RunFolder(folder).read()
        longer = known.replace(iterations=max(known.iterations, run.training.iterations))
        if (model, longer) != run:
            raise DataError(f"{folder}: was trained with another recipe or other flags; choose another --output")


def train(folder: Path, run: Preset, source: list[Any]) -> bool:
    """Train a run that is not finished, resuming it if it has a checkpoint; return whether it reached its end.

    A new run has the flags `source` for its scenes. The process reports its progress, or its error, on standard error.

    Raises:
        KeyboardInterrupt: once an interrupted run has saved its checkpoint.
    """
    model, training = run
    if (folder / "config.json").exists() and seed_report.trained_steps(folder) >= training.iterations:
        return True
    title = f"Seed {training.seed}, {model.estimator}"
    print(f"{title}: {folder}", file=sys.stderr, flush=True)
    words = ["--run", folder, "--overwrite", *source, *flags(run)]
    if checkpoints.checkpoints(folder):
        words = ["--resume", folder, "--iterations", training.iterations]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # where `air` is found
    with subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, env=environment) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            status = process.wait()
        except KeyboardInterrupt:  # the run gets it too, and saves a checkpoint
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    if status in (INTERRUPTED, -signal.SIGTERM):
        raise KeyboardInterrupt
    if status:
        print(f"{title}: failed; the report shows how far it got", file=sys.stderr)
    return not status


def differences(recipe: Preset, other: Preset) -> dict[str, Any]:
    """Return the fields in which a recipe differs from another, with its values."""
    ours, theirs = (dict([*preset.model, *preset.training]) for preset in (recipe, other))
    return {name: value for name, value in ours.items() if value != theirs[name]}


def flags(recipe: Preset) -> list[str]:
    """Return the flags of a training run for a recipe."""
    model = recipe.model
    # Those that would else follow from how the data look, see `own_data`, are stated always.
    words = ["--preset", "default", "--estimator", model.estimator, "--channels", str(model.channels)]
    words += ["--canvas-size", *map(str, model.canvas_size)]
    for name, value in differences(recipe, presets.default(model.estimator)).items():
        if name in ("channels", "canvas_size"):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


def make_more_digits(config: SeedsConfig, model: AIRConfig, mnist_path: str | Path | None) -> dict[str, SceneSet]:
    """Generate the scenes of more digits to count, by field of `Result`; none if none are wanted.

    Raises:
        DataError: if the digits can't be used.
        UsageError: if the canvas is too small.
    """
    if not config.more_digits_scenes or not model.can_take_more_steps:
        return {}
    any_canvas = model.takes_any_canvas
    names = ("three_digits", "four_digits", "canvas_100") if any_canvas else ("three_digits_same_steps",)
    scenes = config.more_digits_scenes
    kinds = held_out.generalisation(scenes, model.canvas_size, mnist.load(mnist_path), model.max_steps, any_canvas)
    try:
        return {kind.name.removesuffix("_same_steps"): kind.make_for(model.channels) for kind in kinds if kind.name in names}
    except UsageError as error:
        raise UsageError(f"{error}; --more-digits-scenes 0 leaves out the scenes of more digits") from None


class Scorer:
    """Scores runs, with one model per estimator that takes the weights of all its runs, so that it is compiled once.

    Raises:
        DataError: at construction, if the test scenes at `path` can't be used.
    """

    def __init__(self, config: SeedsConfig, model: AIRConfig, path: Path, more_digits: dict[str, SceneSet]) -> None:
        self.config = config
        self.more_digits = more_digits  # by field of `Result`
        self.models: dict[str, AIRModel] = {}  # by estimator
        self.path, self.test = path, multi_mnist.read(path, model.canvas_size, model.channels)
        self.checksum = self.test.checksum()
        if self.test.count is None:
            raise DataError(f"{path}: has no counts; runs are scored by them")

    def check(self, folder: Path) -> None:
        """Raise DataError if a folder has a run that was scored on other scenes while it trained."""
        if (folder / "config.json").exists():
            scenes = RunFolder(folder).read().fields.get("scenes", {})  # runs of older versions have none
            if scenes.get("held-out", self.checksum) != self.checksum:
                raise DataError(f"{folder}: was trained with other held-out scenes than {self.path}; choose another --output")

    def score(self, folder: Path) -> dict[str, float]:
        """Return `final`, the count accuracy on all test scenes, and the scores that were asked for.

        These are `elbo` and `iwae` in nats, and count accuracies on scenes of more digits. They take minutes, so that the run
        folder's scores.json keeps them. There are none without a checkpoint.
        """
        found, path = checkpoints.checkpoints(folder), folder / "scores.json"
        if not found:
            return {}
        subject = {"step": found[-1][0], **self.config.model_dump(include={"samples", "bound_scenes", "more_digits_scenes"})}
        known = files.read_json(path) if path.exists() else {}
        if known.get("of") != subject:
            known = {"of": subject, "scores": self._measure(folder)}
            files.write_json(path, known)
        return {name: value for name, value in known["scores"].items() if value is not None}

    def _measure(self, folder: Path) -> dict[str, float]:
        with cli.quiet_import():  # only here: runs whose scores are known need no TensorFlow
            from air.evaluation import measures
        _, loaded = checkpoints.newest_checkpoint(folder)
        model = self.models.setdefault(loaded.config.estimator, loaded)
        model.set_weights(loaded.get_weights())
        with stage(f"{folder}: scores"):
            scores = {"final": float(np.mean(model.infer(self.test.images).count == self.test.count))}
            if self.config.has_bounds:
                images = self.test.images[: self.config.bound_scenes]
                prior = model.count_prior_on(self.test.canvas_size)
                scores["elbo"] = float(model.elbo(images).bound(model.config.likelihood, prior).mean())
                scores["iwae"] = float(model.log_prob_bound(images, self.config.samples).mean())
            can_count = model.config.takes_any_canvas or model.config.max_steps >= 3
            wider = model if can_count else measures.with_steps(model, 3)
            for name, scenes in self.more_digits.items():
                steps = measures.enough_steps(model.config, scenes.canvas_size)
                scores[name] = float(np.mean(wider.infer(scenes.images, max_steps=steps).count == scenes.count))
        return scores
