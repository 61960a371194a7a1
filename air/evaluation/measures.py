"""Run a model on a set of scenes, and measure its accuracy and its bounds."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from air.config import AIRConfig
from air.data.scenes import SceneSet
from air.errors import UsageError
from air.evaluation import probes, scores
from air.evaluation.recognition import ReferenceSet
from air.model import bounds
from air.model.air_model import AIRModel
from air.model.composition import MAX_OPACITY
from air.model.generative import Scenes, cross_entropy
from air.support.arrays import in_batches

MAX_PIXELS = 4_000_000  # of canvases and decoded windows in memory at a time
MIN_STEPS = 12  # for scenes with more objects than in training, if the model takes any number of steps
OBJECT_THRESHOLD = 0.2
"""Opacity, which on black is brightness, from which a pixel of a render belongs to the object's tight box; it gives the best
IoU on *training* scenes."""
SAMPLE_SIZES = (1, 10, 100, 1000, 10000)  # at which the importance-weighted bound is reported, up to the number drawn


class Observations(NamedTuple):
    """The part of a model's inferences that an evaluation keeps: N scenes, T steps, Z latent dimensions."""

    count: np.ndarray  # type: ignore[assignment]  # [N]
    presence: np.ndarray  # [N, T] probability that the step attends to an object
    attention_boxes: np.ndarray  # [N, T, 4] pixels
    object_boxes: np.ndarray  # [N, T, 4] tight boxes of the rendered objects, pixels
    segments: np.ndarray  # [N, H, W] number of the object that each pixel shows most of, 0 for none
    z_what: np.ndarray  # [N, T, Z] posterior means
    nats: np.ndarray  # [N] cross-entropy of the reconstruction


def observe(
    model: AIRModel,
    images: np.ndarray,
    progress: Callable[[int], Any] | None = None,
    max_steps: int | None = None,
    any_size: bool = False,
) -> Observations:
    """Infer scenes [N, H, W] or [N, H, W, 3] uint8 deterministically, see `AIRModel.infer`, in batches that bound memory."""
    height, width = images.shape[1:3]
    steps = max_steps or model.config.steps_on((height, width))

    def infer(positions: slice) -> Observations:
        batch = images[positions]
        scenes = model.infer(batch, max_steps=max_steps, any_size=any_size)
        in_line = model.composition.in_line
        nats = cross_entropy(in_line(batch / np.float32(255)), in_line(scenes.reconstruction)).numpy()
        found = _boxes_and_segments(scenes, model.config.composition == "over")
        return Observations(scenes.count, scenes.presence, scenes.attention_boxes, *found, scenes.z_what, nats)

    size = MAX_PIXELS // (height * width + steps * math.prod(model.config.window_size))
    return in_batches(infer, len(images), max(size, 1), progress)


def enough_steps(config: AIRConfig, canvas_size: tuple[int, int]) -> int | None:
    """Return a number of steps for more objects than in training; None if the model's is fixed."""
    return max(config.steps_on(canvas_size), MIN_STEPS) if config.takes_any_canvas else None


def _boxes_and_segments(scenes: Scenes, covers: bool) -> tuple[np.ndarray, np.ndarray]:
    """Find the tight boxes of whole objects, [B, T, 4], and the object that each pixel shows most of, [B, H, W].

    Where objects cover what is behind them, pixels that show more of the background are no object's, as in the segmentations
    of models with slots. One object of each scene is rendered at a time: together, those of a large canvas take gigabytes.
    """
    boxes = np.zeros((*scenes.presence.shape, 4), np.float32)
    segments = np.zeros(scenes.reconstruction.shape[:3], np.uint16)
    nearest, total, thickness = (np.zeros(segments.shape, np.float32) for _ in range(3))
    for step in range(scenes.count.max(initial=0)):
        here = np.s_[:, step : step + 1]
        fields = {name: getattr(scenes, name)[here] for name in ("scale", "shift", "z_what")}
        alone = scenes._replace(count=np.int32(scenes.count > step), **fields)
        windows = scenes.opacity[here]
        opacity = alone._replace(decoded_windows=windows).objects[:, 0]
        boxes[:, step] = scores.tight_boxes(opacity, OBJECT_THRESHOLD)
        weight = opacity * np.exp(scenes.nearness[:, step, None, None])
        segments[weight > nearest] = step + 1
        nearest, total = np.maximum(nearest, weight), total + weight
        if covers:
            thickness += alone._replace(decoded_windows=-np.log1p(-np.minimum(windows, MAX_OPACITY))).objects[:, 0]
    if covers:
        clear = np.exp(-thickness)
        segments[clear * total > (1 - clear) * nearest] = 0
    return boxes, segments


def sampled_counts(presence: np.ndarray, seed: int = 0) -> np.ndarray:
    """Sample each scene's number of objects from its posterior, given probabilities q(n >= t) [N, T]: [N]."""
    uniform = np.random.default_rng(seed).random((len(presence), 1))
    return (uniform < presence).sum(axis=1)


def with_steps(model: AIRModel, max_steps: int) -> AIRModel:
    """Copy a model whose LSTM takes a fixed number of steps, with another number; new counts get a `count_prior` of 0.

    Raises:
        UsageError: if the model can't take more, see `AIRConfig.can_take_more_steps`.
    """
    if not model.config.can_take_more_steps:
        raise UsageError(f"max_steps: {model.config.max_steps} is not allowed; its controller has no weights for more steps")
    copy = AIRModel(model.config.replace(max_steps=max_steps), seed=model.seed)
    for part, trained in zip(copy.parts, model.parts, strict=True):
        part.set_weights(trained.get_weights())
    copy.step.assign(model.step)
    if model.log_std is not None:
        copy.log_std.assign(model.log_std)
    known = model.count_prior.numpy()[: max_steps + 1]
    copy.count_prior.assign(np.pad(known, (0, max_steps + 1 - len(known))))
    return copy


def measure_briefly(scenes: SceneSet, found: Observations, reference: ReferenceSet | None) -> dict[str, Any]:
    """Measure counts, boxes and names of labelled scenes, as a tree for JSON.

    `named` is the fraction of true objects that the reference set names correctly; one that was not found is not named.
    """
    measures: dict[str, Any] = {
        "scenes": len(scenes),
        "count": {"deterministic": scores.count_accuracy(scenes.count, found.count)},
    }
    if scenes.count.any():
        boxes = scores.localisation(found.object_boxes, found.count, found.presence, scenes.boxes, scenes.count)
        measures["boxes"] = {"object": boxes}
        if reference is not None:
            objects = probes.matched_objects(found.count, found.attention_boxes, found.z_what, scenes)
            names, _ = reference.predict(objects.z_what)
            measures["named"] = float((names == objects.labels).sum() / scenes.count.sum(dtype=int))
    return measures


def measure(scenes: SceneSet, found: Observations, reference: probes.Objects | None = None, seed: int = 0) -> dict[str, Any]:
    """Measure all that the scenes' labels allow, as a tree for JSON; without reference objects, z_what is not classified."""
    measures: dict[str, Any] = {"scenes": len(scenes), "reconstruction": scores.mean_and_error(found.nats)}
    has_boxes = scenes.count is not None and scenes.boxes is not None
    if scenes.count is not None:
        measures["count"] = {
            "deterministic": scores.count_accuracy(scenes.count, found.count),
            "sampled": scores.count_accuracy(scenes.count, sampled_counts(found.presence, seed)),
        }
    if has_boxes and scenes.count.any():
        measures["boxes"] = {
            kind: scores.localisation(boxes, found.count, found.presence, scenes.boxes, scenes.count)
            for kind, boxes in (("object", found.object_boxes), ("window", found.attention_boxes))
        }
    if scenes.segments is not None and scenes.segments.any():
        index = scores.foreground_ari(scenes.segments, found.segments)
        several = index[scenes.segments.max(axis=(1, 2)) > 1]  # scenes whose objects can be confused
        ari = {"ari": float(several.mean()), "scenes": len(several)} if len(several) else {}
        measures["segmentation"] = {**ari, "ari_all": float(np.nanmean(index))}
    if has_boxes and scenes.labels is not None:
        objects = probes.matched_objects(found.count, found.attention_boxes, found.z_what, scenes)
        classified = probes.classification(reference, objects) if reference else {}
        measures["z_what"] = {**classified, **probes.clustering(objects, seed=seed)}
    return measures


def summarise_bounds(
    elbo: bounds.Elbo, importance: bounds.ImportanceSamples | None, priors: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Average over scenes, in nats, the ELBO's terms and the bounds by likelihood and prior over the count.

    Importance samples may be of the first scenes only; for the `priors`, see `air.model.bounds.count_priors`.
    """
    mean = scores.mean_and_error
    likelihoods = bounds.LIKELIHOODS
    result: dict[str, Any] = {
        "priors": {name: prior.tolist() for name, prior in priors.items()},
        "terms": {
            "log_likelihood": dict(zip(likelihoods, map(mean, elbo.log_likelihood.T), strict=True)),
            "count_kl": {name: mean(elbo.count_kl(prior)) for name, prior in priors.items()},
            "where_kl": mean(elbo.where_kl),
            "what_kl": mean(elbo.what_kl),
            "background_kl": mean(elbo.background_kl),
        },
        "elbo": {each: {name: mean(elbo.bound(each, prior)) for name, prior in priors.items()} for each in likelihoods},
    }
    if importance is not None:
        result["importance_scenes"], result["samples"] = importance.count.shape
        result["importance"] = {
            each: {name: _importance(importance.log_weights(each, prior)) for name, prior in priors.items()}
            for each in likelihoods
        }
    return result


def _importance(log_weights: np.ndarray) -> dict[str, Any]:
    """Average the importance-weighted bound at several numbers of samples, and check that it rises with them as it must."""
    total = log_weights.shape[1]
    sizes = [*(size for size in SAMPLE_SIZES if size < total), total]
    by_samples = {str(size): scores.mean_and_error(bounds.importance_bound(log_weights, size)) for size in sizes}
    means = [bound["mean"] for bound in by_samples.values()]
    return {"by_samples": by_samples, "rises": means == sorted(means)}
