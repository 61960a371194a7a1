"""Evaluate a trained model on held-out scenes like those it was trained on, and outside of that box, and write a report."""

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

from air.config import DEFAULT_DATA
from air.data import held_out, mnist, multi_mnist
from air.data.scenes import SceneSet, read_canvas_size
from air.errors import DataError, UsageError
from air.evaluation import measures, probes, recognition, report
from air.evaluation.config import EvaluationConfig
from air.evaluation.recognition import ReferenceSet
from air.model import bounds
from air.model.air_model import AIRModel
from air.support.console import stage
from air.training import checkpoints, run_folder


def evaluate(
    path: str | Path,
    out: str | Path,
    config: EvaluationConfig | None = None,
    *,
    data: str | Path = DEFAULT_DATA,
    mnist_path: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluate a model, write report.json, report.md and figures/, and return the content of report.json.

    The model is a `.keras` file, a folder with `air.keras` or a run folder; `data` is a folder or file of scenes, of which
    `multi_mnist` is made if missing, from the digits at `mnist_path`. They have the canvas of training, or any canvas if the
    model takes it. The folder `out` is made, or its report replaced.

    Raises:
        AIRError: if the model, the data or the digits can't be used.
    """
    began = time.perf_counter()
    path, out, data = Path(path), Path(out), Path(data)
    config = config or EvaluationConfig()
    model = checkpoints.load(path)
    multi_mnist.ensure(data, model.config.canvas_size, mnist_path)
    digits = mnist.load(mnist_path)
    any_canvas = model.config.takes_any_canvas
    size = read_canvas_size(multi_mnist.find_scenes(data, "test")) if any_canvas else model.config.canvas_size
    channels = model.config.channels
    test, training = held_out.load(data, size, config.scenes, config.reference_scenes, digits, channels)
    out.mkdir(parents=True, exist_ok=True)

    reference = _reference_objects(model, training)
    names = _names(model, training) if reference is not None and config.other_scenes else None
    evaluator = Evaluator(model, config, reference, names)
    found, measured = evaluator.measure(test, "test scenes", config.importance_scenes)
    result: dict[str, Any] = {
        "model": {
            "path": str(path),
            "step": int(model.step.numpy()),
            "likelihood_std": float(model.likelihood_std()),
            "config": model.config.to_dict(),
        },
        "data": str(data),
        "evaluation": config.to_dict(),
        "held_out": measured,
        "generalisation": evaluator.generalisation(digits) if config.other_scenes else {},
    }
    if config.pyro_scenes:
        result["pyro"] = evaluator.pyro(digits)
    result["versions"] = run_folder.versions()
    result["seconds"] = time.perf_counter() - began
    report.write(out, result)  # also before the figures, so that no failure of theirs costs the numbers
    if config.figures:
        with stage("Figures", 0):
            rows = run_folder.MetricsFile(path / "metrics.csv").rows() if path.is_dir() else []
            result["figures"] = report.draw(out / "figures", model, test, found, measured, rows, config.seed)
    result["seconds"] = time.perf_counter() - began
    report.write(out, result)
    return result


class Evaluator(NamedTuple):
    """A model, and what all its measurements share."""

    model: AIRModel
    config: EvaluationConfig
    reference: probes.Objects | None  # labelled objects that train the classifiers of z_what
    names: ReferenceSet | None  # by which objects are named, as in the demo

    def measure(self, scenes: SceneSet, title: str, importance_scenes: int = 0) -> tuple[measures.Observations, dict[str, Any]]:
        """Infer scenes and compute all measures; importance-weighted bounds for the first `importance_scenes` only."""
        model, config = self.model, self.config
        with stage(f"Inferring {title}", len(scenes)) as advance:
            found = measures.observe(model, scenes.images, advance)
        with stage(f"ELBO of {title}", len(scenes)) as advance:
            elbo = model.elbo(scenes.images, config.seed, advance)
        importance = None
        if importance_scenes:
            images = scenes.images[:importance_scenes]
            with stage(f"{config.samples}-sample bound of {title}", len(images)) as advance:
                importance = model.importance_samples(images, config.samples, config.seed, advance)
        with stage(f"Measuring {title}", 0):
            measured = measures.measure(scenes, found, self.reference, config.seed)
            priors = bounds.count_priors(model.count_prior_on(scenes.canvas_size))
            measured["bounds"] = measures.summarise_bounds(elbo, importance, priors)
        return found, measured

    def pyro(self, digits: mnist.MNIST) -> dict[str, Any]:
        """Measure scenes by the rules of Pyro's generator; state the reason if the canvas is too small for them."""
        kind = held_out.pyro_scenes(self.config.pyro_scenes, self.model.config.canvas_size, digits)
        try:
            scenes = kind.make_for(self.model.config.channels)
        except UsageError as error:
            return {"title": kind.title, "not_possible": str(error)}
        return {"title": kind.title, **self.measure(scenes, kind.title, self.config.importance_scenes)[1]}

    def generalisation(self, digits: mnist.MNIST) -> dict[str, Any]:
        """Measure, briefly, all kinds of scenes that are unlike the training scenes."""
        c = self.model.config
        kinds = held_out.generalisation(self.config.other_scenes, c.canvas_size, digits, c.max_steps, c.takes_any_canvas)
        measured = {kind.name: self.measure_kind(kind) for kind in kinds}
        if not c.takes_any_canvas:
            reason = f"this controller sees canvases of {c.canvas_size[0]}x{c.canvas_size[1]} pixels only"
            measured["larger_canvas"] = {"title": "larger canvas", "not_possible": reason}
        return measured

    def measure_kind(self, kind: held_out.SceneKind) -> dict[str, Any]:
        """Make and measure scenes of a kind, those with objects of other sizes also by `any_size` if the model offers it.

        A reason is stated instead if the canvas has no room for the digits or for the model's window.
        """
        c = self.model.config
        try:
            model = measures.with_steps(self.model, c.max_steps + kind.more_steps) if kind.more_steps else self.model
            scenes = kind.make_for(c.channels)
            steps = measures.enough_steps(c, scenes.canvas_size)
            with stage(kind.title, len(scenes)) as advance:
                found = measures.observe(model, scenes.images, advance, steps)
        except (UsageError, DataError) as error:
            return {"title": kind.title, "not_possible": str(error)}
        measured = {"title": kind.title, **measures.measure_briefly(scenes, found, self.names)}
        if c.takes_any_size and _varies_in_size(kind):
            with stage(f"{kind.title}, any size", len(scenes)) as advance:
                found = measures.observe(model, scenes.images, advance, steps, any_size=True)
            measured["any_size"] = measures.measure_briefly(scenes, found, self.names)
        return measured


def _varies_in_size(kind: held_out.SceneKind) -> bool:
    """Return True if objects are larger or smaller than in training."""
    changed = kind.rules if isinstance(kind, held_out.Generated) else {}
    return isinstance(kind, held_out.Drawn | held_out.Pyro) or any("scale" in rule for rule in changed)


def _names(model: AIRModel, scenes: SceneSet) -> ReferenceSet | None:
    """Make the reference set of a model; None if it counts no scene with an object right."""
    with stage("Naming training objects", 0), contextlib.suppress(DataError):
        return recognition.build(model, scenes)
    return None


def _reference_objects(model: AIRModel, scenes: SceneSet | None) -> probes.Objects | None:
    """Infer and label the objects of training scenes; None without such scenes or their labels."""
    if scenes is None or any(field is None for field in (scenes.count, scenes.boxes, scenes.labels)):
        return None
    with stage("Inferring training scenes", len(scenes)) as advance:
        found = measures.observe(model, scenes.images, advance)
    return probes.matched_objects(found.count, found.attention_boxes, found.z_what, scenes)
