"""What the newest checkpoint of a run is worth: bounds of log p(x), and the count of scenes with more digits than it knows.

The answers are kept in the run folder's scores.json, with what they are of, so that nothing is measured twice.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from air.config import AIRConfig
from air.data import held_out, mnist
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.evaluation.config import SeedsConfig
from air.support import cli, files
from air.support.console import stage
from air.support.files import read_json
from air.training import checkpoints

if TYPE_CHECKING:
    from air.model.air_model import AIRModel

DIGITS = 3  # in the scenes of more digits
PRIOR = "frequency"  # over the count, see `air.model.bounds.count_priors`


class Scores(NamedTuple):
    """None is not asked for; a run without a checkpoint has bounds of minus infinity and an accuracy of 0."""

    elbo: float | None = None  # nats, mean over scenes, with the model's own likelihood and its frequency prior
    iwae: float | None = None  # likewise, importance-weighted
    three_digits: float | None = None  # count accuracy
    bounds: dict[str, Any] | None = None  # with all likelihoods and priors, see `air.evaluation.measures.summarise_bounds`


class Task(NamedTuple):
    """A measurement of a model on some scenes."""

    measure: Callable[["AIRModel"], Any]
    subject: dict[str, Any]  # what it is of, besides the checkpoint


def tasks(config: SeedsConfig, test: SceneSet, more: SceneSet | None) -> dict[str, Task]:
    """What a report asks for, by its name in scores.json.

    Args:
        config: which bounds.
        test: test scenes, the first of which have bounds.
        more: scenes of more digits, if they are wanted; see `more_digits`.
    """
    wanted = {}
    if config.has_bounds:
        images = test.images[: config.bound_scenes]
        subject = {"samples": config.samples, "scenes": len(images), "images": _digest(images)}
        wanted["bounds"] = Task(lambda model: _bounds(model, images, config.samples), subject)
    if more is not None:
        wanted["three_digits"] = Task(
            lambda model: _accuracy(model, more), {"scenes": len(more), "images": _digest(more.images)}
        )
    return wanted


def more_digits(scenes: int, model: AIRConfig, digits: mnist.MNIST) -> SceneSet:
    """Scenes of 3 digits, such as `air.evaluation.evaluate` judges; raises UsageError where the canvas is too small."""
    kinds = held_out.generalisation(scenes, model.canvas_size, digits, model.max_steps)
    try:
        return next(kind for kind in kinds if kind.name == "three_digits_same_steps").make()
    except UsageError as error:
        raise UsageError(f"{error}; --more-digits-scenes 0 leaves out the scenes of {DIGITS} digits") from None


def judge(folders: Sequence[Path], wanted: dict[str, Task], likelihood: str) -> list[Scores]:
    """Measures the newest checkpoint of each run folder, unless that was done before.

    Args:
        folders: of runs that differ in nothing but their seeds; one may be missing or without a checkpoint.
        wanted: see `tasks`.
        likelihood: of the bounds in `Scores`.
    """
    first: AIRModel | None = None
    answers = []
    for folder in folders:
        path = folder / "scores.json"
        known, found = _read(path), checkpoints.checkpoints(folder)
        subjects = {name: {"step": found[-1][0], **task.subject} for name, task in wanted.items()} if found else {}
        missing = [name for name in subjects if not _is_of(known, name, subjects[name])]
        if missing:
            model = _load(folder, first)
            for name in missing if model else ():
                with stage(f"{folder}: {name.replace('_', ' ')}"):
                    known[name] = {"of": subjects[name], "value": wanted[name].measure(model)}
                files.write_json(path, known)
            first = model or first
        current = {name: known[name]["value"] for name in subjects if _is_of(known, name, subjects[name])}
        answers.append(_scores(current, wanted, likelihood))
    return answers


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(images)).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """scores.json; nothing if it is missing or damaged, as it can be made again."""
    try:
        content = read_json(path)
    except DataError:
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict) and {"of", "value"} <= set(entry)}


def _is_of(known: dict[str, Any], name: str, subject: dict[str, Any]) -> bool:
    return name in known and known[name]["of"] == subject


def _load(folder: Path, first: "AIRModel | None") -> "AIRModel | None":
    """The model of a run; in the place of the one before, as each new one would be compiled anew."""
    with cli.quiet_import():  # here, because a report whose runs are judged already does without
        from air.model import air_model  # noqa: F401
    try:
        _, loaded = checkpoints.newest_checkpoint(folder)
    except DataError as error:
        print(f"warning: {error}", file=sys.stderr)
        return None
    if first is None:
        return loaded
    first.set_weights(loaded.get_weights())
    return first


def _bounds(model: "AIRModel", images: np.ndarray, samples: int) -> dict[str, Any]:
    from air.evaluation import measures
    from air.model import bounds

    weights = bounds.importance_samples(model, images, samples)
    return measures.summarise_bounds(bounds.elbo(model, images), weights, bounds.count_priors(model))


def _accuracy(model: "AIRModel", scenes: SceneSet) -> float:
    from air.evaluation import measures
    from air.training.validation import count_scores

    if model.config.max_steps < DIGITS:
        model = measures.with_steps(model, DIGITS)
    return count_scores(model, scenes)["count_accuracy/all"]


def _scores(values: dict[str, Any], wanted: dict[str, Task], likelihood: str) -> Scores:
    scores = Scores()
    if "bounds" in wanted:
        tree = values.get("bounds")
        by_samples = tree["importance"][likelihood][PRIOR]["by_samples"] if tree else {}
        iwae = by_samples[max(by_samples, key=int)]["mean"] if tree else None
        elbo = tree["elbo"][likelihood][PRIOR]["mean"] if tree else None
        scores = scores._replace(elbo=_or_worst(elbo), iwae=_or_worst(iwae), bounds=tree)
    if "three_digits" in wanted:
        scores = scores._replace(three_digits=values.get("three_digits", 0.0))
    return scores


def _or_worst(nats: float | None) -> float:
    """Null in JSON is a bound that is no number."""
    return -float("inf") if nats is None or not np.isfinite(nats) else nats
