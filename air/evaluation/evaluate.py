"""Evaluate a trained model on held-out scenes like those it was trained on, and on others, and write a report."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from air.config import DEFAULT_DATA
from air.data import held_out, mnist, multi_mnist
from air.data.scenes import SceneSet
from air.errors import UsageError
from air.evaluation import measures, probes, report
from air.evaluation.config import EvaluationConfig
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
    `multi_mnist` is made if missing, from the digits at `mnist_path`. The folder `out` is made, or its report replaced.

    Raises:
        AIRError: if the model, the data or the digits can't be used.
    """
    began = time.perf_counter()
    path, out, data = Path(path), Path(out), Path(data)
    config = config or EvaluationConfig()
    model = checkpoints.load(path)
    size = model.config.canvas_size
    multi_mnist.ensure(data, size, mnist_path)
    digits = mnist.load(mnist_path)
    test, training = held_out.load(data, size, config.scenes, config.reference_scenes, digits)
    out.mkdir(parents=True, exist_ok=True)

    evaluator = Evaluator(model, config, _reference_objects(model, training))
    found, measured = evaluator.measure(test, "test scenes", config.importance_scenes)
    result: dict[str, Any] = {
        "model": {"path": str(path), "step": int(model.step.numpy()), "config": model.config.to_dict()},
        "data": str(data),
        "evaluation": config.to_dict(),
        "held_out": measured,
        "generalisation": evaluator.generalisation(digits) if config.other_scenes else {},
    }
    if config.pyro_scenes:
        pyro = held_out.pyro_scenes(config.pyro_scenes, size, digits)
        result["pyro"] = evaluator.measure_kind(pyro, config.importance_scenes)
    result["versions"] = run_folder.versions()
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
            priors = bounds.count_priors(model.count_frequencies().numpy())
            measured["bounds"] = measures.summarise_bounds(elbo, importance, priors)
        return found, measured

    def measure_kind(self, kind: held_out.SceneKind, importance_scenes: int = 0) -> dict[str, Any]:
        """Make and measure scenes of another kind; state the reason if the canvas is too small for them."""
        try:
            scenes = kind.make()
        except UsageError as error:
            return {"title": kind.title, "not_possible": str(error)}
        steps = self.model.config.max_steps + kind.more_steps
        evaluator = self._replace(model=measures.with_steps(self.model, steps)) if kind.more_steps else self
        return {"title": kind.title, **evaluator.measure(scenes, kind.title, importance_scenes)[1]}

    def generalisation(self, digits: mnist.MNIST) -> dict[str, Any]:
        """Measure all kinds of scenes that are unlike the training scenes."""
        height, width = size = self.model.config.canvas_size
        kinds = held_out.generalisation(self.config.other_scenes, size, digits, self.model.config.max_steps)
        reason = f"this controller sees canvases of {height}x{width} pixels only"  # flattened by a layer of that size
        measured = {kind.name: self.measure_kind(kind) for kind in kinds}
        return measured | {"larger_canvas": {"title": "larger canvas", "not_possible": reason}}


def _reference_objects(model: AIRModel, scenes: SceneSet | None) -> probes.Objects | None:
    """Infer and label the objects of training scenes; None without such scenes or their labels."""
    if scenes is None or any(field is None for field in (scenes.count, scenes.boxes, scenes.labels)):
        return None
    with stage("Inferring training scenes", len(scenes)) as advance:
        found = measures.observe(model, scenes.images, advance)
    return probes.matched_objects(found.count, found.attention_boxes, found.z_what, scenes)
