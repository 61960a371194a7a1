"""Judging a model on held-out scenes: while it trains, and thoroughly afterwards."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from air import bounds, checkpoints, dataset, measures, mnist, probes, runs, test_sets
from air.config import DEFAULT_DATA
from air.errors import UsageError
from air.evaluation_config import EvaluationConfig
from air.images import cross_entropy
from air.model import AIRModel
from air.progress import stage
from air.scenes import SceneSet

RECONSTRUCTED = 1000  # scenes are enough for a mean reconstruction; inferring a count alone is many times cheaper


def count_scores(model: AIRModel, scenes: SceneSet, batch_size: int = 250) -> dict[str, float]:
    """What a training run wants to know of held-out scenes, inferred deterministically.

    Args:
        model: of the scenes' canvas size.
        scenes: at least one.
        batch_size: scenes at a time.

    Returns:
        Means over all scenes and by true count: "count_accuracy/all", "count_accuracy/0" ..., left out where the counts are
        unknown; and "reconstruction/all", cross-entropy in nats per scene, over the first thousand scenes.
    """
    counts, nats = [], []
    for start in range(0, len(scenes), batch_size):
        images = scenes.images[start : start + batch_size].astype(np.float32) / 255.0
        if start < RECONSTRUCTED:
            inferred = model(images)
            counts.append(inferred.count.numpy())
            nats.append(cross_entropy(images, inferred.reconstruction).numpy())
        else:
            counts.append(model.count(images).numpy())
    scores = {"reconstruction/all": float(np.concatenate(nats).mean())}
    if scenes.counts is not None:
        right = np.concatenate(counts) == scenes.counts
        scores["count_accuracy/all"] = float(right.mean())
        for count in np.unique(scenes.counts):
            scores[f"count_accuracy/{count}"] = float(right[scenes.counts == count].mean())
    return scores


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
        data: folder of scenes or a file, see `air.test_sets.load`; `multi_mnist` is made if missing.
        mnist_path: the digits of these scenes and for others, see `air.mnist.load`.

    Returns:
        The report, as in report.json.

    Raises:
        AIRError: if the model, the data or the digits can't be used.
    """
    from air import report  # here, because training imports this file and needs no matplotlib

    began = time.perf_counter()
    config = config or EvaluationConfig()
    model = checkpoints.load(path)
    size = model.config.canvas_size
    dataset.ensure(data, size, mnist_path)
    digits = mnist.load(mnist_path)
    held_out = test_sets.load(data, size, config.scenes, config.bank_scenes, digits)
    out.mkdir(parents=True, exist_ok=True)

    bank = _bank(model, held_out.bank)
    found, measured = _judge(model, held_out.test, config, "test scenes", importance_scenes=config.importance_scenes, bank=bank)
    result: dict[str, Any] = {
        "model": {"path": str(path), "step": int(model.step.numpy()), "config": model.config.to_dict()},
        "data": str(data),
        "evaluation": config.to_dict(),
        "held_out": measured,
        "generalisation": {},
    }
    kinds = test_sets.generalisation(config.other_scenes, size, digits, model.config.max_steps) if config.other_scenes else []
    for kind in kinds:
        result["generalisation"][kind.name] = {"title": kind.title, **_judge_kind(model, kind, config, bank)}
    if kinds:
        # Its controller reads a flattened canvas of one size.
        result["generalisation"]["larger_canvas"] = {
            "title": "larger canvas",
            "not_possible": f"this controller sees canvases of {size[0]}x{size[1]} pixels only",
        }
    if config.pyro_scenes:
        kind = test_sets.pyro(config.pyro_scenes, size, digits)
        result["pyro"] = {"title": kind.title, **_judge_kind(model, kind, config, bank, config.importance_scenes)}
    result["versions"] = runs.versions()
    if config.figures:
        with stage("Figures", 0):
            rows = runs.MetricsFile(path / "metrics.csv").rows() if path.is_dir() else []
            result["figures"] = report.draw(out / "figures", model, held_out.test, found, measured, rows, config.seed)
    result["seconds"] = time.perf_counter() - began
    report.write(out, result)
    return result


def _judge_kind(
    model: AIRModel,
    kind: test_sets.TestSet,
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
    if scenes is None or scenes.counts is None or scenes.boxes is None or scenes.labels is None:
        return None
    with stage("Inferring training scenes", len(scenes)) as advance:
        found = measures.observe(model, scenes.images, advance)
    return probes.matched_objects(found.counts, found.windows, found.z_what, scenes)
