"""Judging a model on held-out scenes: while it trains, and thoroughly afterwards."""

import time
from pathlib import Path
from typing import Any

from air.config import DEFAULT_DATA
from air.data import held_out, mnist, multi_mnist
from air.data.scenes import SceneSet
from air.errors import UsageError
from air.evaluation import measures, probes
from air.evaluation.config import EvaluationConfig
from air.model import bounds
from air.model.air_model import AIRModel
from air.support.console import stage
from air.training import checkpoints, run_folder


def evaluate(
    path: Path,
    out: Path,
    config: EvaluationConfig | None = None,
    *,
    data: Path = DEFAULT_DATA,
    mnist_path: Path | None = None,
) -> dict[str, Any]:
    """Measures a model in every respect, and writes report.json, report.md and figures/.

    Args:
        path: a `.keras` file, a folder with `air.keras` or a run folder.
        out: folder to write, made if missing; files of an earlier report are replaced.
        config: how thoroughly; None for the defaults.
        data: folder of scenes or a file, see `air.data.held_out.load`; `multi_mnist` is made if missing.
        mnist_path: the digits of these scenes and for others, see `air.data.mnist.load`.

    Returns:
        The report, as in report.json.

    Raises:
        AIRError: if the model, the data or the digits can't be used.
    """
    from air.evaluation import report  # here, because training imports this file and needs no matplotlib

    began = time.perf_counter()
    config = config or EvaluationConfig()
    model = checkpoints.load(path)
    size = model.config.canvas_size
    multi_mnist.ensure(data, size, mnist_path)
    digits = mnist.load(mnist_path)
    known = held_out.load(data, size, config.scenes, config.reference_scenes, digits)
    out.mkdir(parents=True, exist_ok=True)

    bank = _bank(model, known.bank)
    found, measured = _judge(model, known.test, config, "test scenes", importance_scenes=config.importance_scenes, bank=bank)
    result: dict[str, Any] = {
        "model": {"path": str(path), "step": int(model.step.numpy()), "config": model.config.to_dict()},
        "data": str(data),
        "evaluation": config.to_dict(),
        "held_out": measured,
        "generalisation": {},
    }
    kinds = held_out.generalisation(config.other_scenes, size, digits, model.config.max_steps) if config.other_scenes else []
    for kind in kinds:
        result["generalisation"][kind.name] = {"title": kind.title, **_judge_kind(model, kind, config, bank)}
    if kinds:
        # Its controller reads a flattened canvas of one size.
        result["generalisation"]["larger_canvas"] = {
            "title": "larger canvas",
            "not_possible": f"this controller sees canvases of {size[0]}x{size[1]} pixels only",
        }
    if config.pyro_scenes:
        kind = held_out.pyro_scenes(config.pyro_scenes, size, digits)
        result["pyro"] = {"title": kind.title, **_judge_kind(model, kind, config, bank, config.importance_scenes)}
    result["versions"] = run_folder.versions()
    if config.figures:
        with stage("Figures", 0):
            rows = run_folder.MetricsFile(path / "metrics.csv").rows() if path.is_dir() else []
            result["figures"] = report.draw(out / "figures", model, known.test, found, measured, rows, config.seed)
    result["seconds"] = time.perf_counter() - began
    report.write(out, result)
    return result


def _judge_kind(
    model: AIRModel,
    kind: held_out.TestSet,
    config: EvaluationConfig,
    bank: probes.Objects | None,
    importance_scenes: int = 0,
) -> dict[str, Any]:
    try:
        scenes = kind.make()
    except UsageError as error:
        return {"not_possible": str(error)}
    if kind.more_steps:
        model = measures.with_steps(model, model.config.max_steps + kind.more_steps)
    return _judge(model, scenes, config, kind.title, importance_scenes=importance_scenes, bank=bank)[1]


def _judge(
    model: AIRModel,
    scenes: SceneSet,
    config: EvaluationConfig,
    title: str,
    *,
    importance_scenes: int,
    bank: probes.Objects | None,
) -> tuple[measures.Observations, dict[str, Any]]:
    with stage(f"Inferring {title}", len(scenes)) as advance:
        found = measures.observe(model, scenes.images, advance)
    with stage(f"ELBO of {title}", len(scenes)) as advance:
        elbo = bounds.elbo(model, scenes.images, config.seed, advance)
    weights = None
    if importance_scenes:
        images = scenes.images[:importance_scenes]
        with stage(f"{config.samples}-sample bound of {title}", len(images)) as advance:
            weights = bounds.importance_samples(model, images, config.samples, config.seed, advance)
    with stage(f"Measuring {title}", 0):
        return found, measures.measure(model, scenes, found, elbo=elbo, weights=weights, bank=bank, seed=config.seed)


def _bank(model: AIRModel, scenes: SceneSet | None) -> probes.Objects | None:
    """Labelled objects of training scenes; None where there are no labels."""
    if scenes is None or scenes.count is None or scenes.boxes is None or scenes.labels is None:
        return None
    with stage("Inferring training scenes", len(scenes)) as advance:
        found = measures.observe(model, scenes.images, advance)
    return probes.matched_objects(found.count, found.attention_boxes, found.z_what, scenes)
