"""Everything that is measured of a model on one set of scenes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from air.data.scenes import SceneSet
from air.evaluation import probes, scores
from air.model import bounds
from air.model.air_model import AIRModel
from air.model.generative import cross_entropy

BATCH = 500  # scenes whose pictures are kept in memory at a time
OBJECT_THRESHOLD = 0.2
"""Brightness, in [0, 1], from which a pixel of a rendered object belongs to it when its tight box is taken.

Of 0.05 to 0.5, it gives the greatest IoU on *training* scenes; the blurred edge of a render is wider than the digit's own.
"""
GROUPS = (1, 10, 100, 1000, 10000)
"""Numbers of samples at which the importance-weighted bound is stated, up to those that there are."""


class Observations(NamedTuple):
    """What a judge keeps of a model's answers: N scenes, T steps, latent dimensions Z."""

    count: np.ndarray  # [N]
    presence: np.ndarray  # [N, T] probability that the step attends to an object
    attention_boxes: np.ndarray  # [N, T, 4] attention windows, pixels
    object_boxes: np.ndarray  # [N, T, 4] tight boxes of the rendered objects, pixels
    segments: np.ndarray  # [N, H, W] which object each pixel shows, 0 for none
    z_what: np.ndarray  # [N, T, Z] posterior means
    nats: np.ndarray  # [N] cross-entropy of the reconstruction


def observe(model: AIRModel, images: np.ndarray, progress: Callable[[int], Any] | None = None) -> Observations:
    """Infers scenes [N, H, W] uint8 deterministically, in batches, which keeps the memory for their pictures small."""
    batches = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        found = model.infer(batch)
        batches.append(
            Observations(
                found.count,
                found.presence,
                found.object_boxes,
                scores.tight_boxes(found.objects, OBJECT_THRESHOLD),
                scores.segment(found.objects),
                found.z_what,
                cross_entropy(batch / np.float32(255), found.reconstruction).numpy(),
            )
        )
        if progress is not None:
            progress(len(batch))
    return Observations(*(np.concatenate(field) for field in zip(*batches, strict=True)))


def sampled_counts(presence: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draws the number of objects from its posterior.

    Args:
        presence: [N, T], non-increasing probabilities q(n >= t).
        seed: of the draws.

    Returns:
        [N]: how many of a scene's probabilities one uniform number is below.
    """
    uniform = np.random.default_rng(seed).random((len(presence), 1))
    return (uniform < presence).sum(axis=1)


def with_steps(model: AIRModel, max_steps: int) -> AIRModel:
    """The same model with another number of steps; counts that it did not know before have a `count_prior` of 0."""
    wider = AIRModel(model.config.replace(max_steps=max_steps), seed=model.seed)
    for part, trained in zip(wider.parts, model.parts, strict=True):
        part.set_weights(trained.get_weights())
    wider.step.assign(model.step)
    known = model.count_prior.numpy()[: max_steps + 1]
    wider.count_prior.assign(np.pad(known, (0, max_steps + 1 - len(known))))
    return wider


def measure(
    model: AIRModel,
    scenes: SceneSet,
    found: Observations,
    *,
    elbo: bounds.Elbo,
    weights: bounds.Weights | None = None,
    bank: probes.Objects | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All measures of a model on one set of scenes; those that need labels which the set lacks are left out.

    Args:
        model: to judge.
        scenes: the truth.
        found: what the model made of them.
        elbo: of these scenes.
        weights: importance samples of the first of these scenes; without them no importance-weighted bound.
        bank: labelled objects that teach the classifiers; without it no classification.
        seed: of the draws.

    Returns:
        A tree of numbers for JSON.
    """
    measures: dict[str, Any] = {"scenes": len(scenes), "reconstruction": scores.mean_and_error(found.nats)}
    if scenes.count is not None:
        measures["count"] = {
            "deterministic": scores.count_accuracy(scenes.count, found.count),
            "sampled": scores.count_accuracy(scenes.count, sampled_counts(found.presence, seed)),
        }
    if scenes.count is not None and scenes.boxes is not None and scenes.count.any():
        truth = (scenes.boxes, scenes.count)
        measures["boxes"] = {
            "object": scores.localisation(found.object_boxes, found.count, found.presence, *truth),
            "window": scores.localisation(found.attention_boxes, found.count, found.presence, *truth),
        }
    if scenes.segments is not None and scenes.segments.any():
        measures["segmentation"] = _segmentation(scenes, found.segments)
    measures["bounds"] = summarise_bounds(elbo, weights, bounds.count_priors(model))
    if scenes.count is not None and scenes.boxes is not None and scenes.labels is not None:
        objects = probes.matched_objects(found.count, found.attention_boxes, found.z_what, scenes)
        measures["z_what"] = {
            **(probes.classification(bank, objects) if bank else {}),
            **probes.clustering(objects, seed=seed),
        }
    return measures


def _segmentation(scenes: SceneSet, segments: np.ndarray) -> dict[str, float]:
    """The mean adjusted Rand index of scenes with objects, and of those where there is something to tell apart."""
    index = scores.foreground_ari(scenes.segments, segments)
    several = scenes.segments.max(axis=(1, 2)) > 1
    result = {"ari_all": float(np.nanmean(index))}
    return {"ari": float(index[several].mean()), "scenes": int(several.sum()), **result} if several.any() else result


def summarise_bounds(elbo: bounds.Elbo, weights: bounds.Weights | None, priors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The bounds by likelihood and prior over the count, and the ELBO's terms: means over scenes, nats.

    Args:
        elbo: of the scenes.
        weights: importance samples of the first of them; without them no importance-weighted bound.
        priors: see `air.model.bounds.count_priors`.
    """
    result: dict[str, Any] = {
        "priors": {name: prior.tolist() for name, prior in priors.items()},
        "terms": {
            "log_likelihood": {
                name: scores.mean_and_error(elbo.log_likelihood[:, i]) for i, name in enumerate(bounds.LIKELIHOODS)
            },
            "count_kl": {name: scores.mean_and_error(elbo.count_kl(prior)) for name, prior in priors.items()},
            "where_kl": scores.mean_and_error(elbo.where_kl),
            "what_kl": scores.mean_and_error(elbo.what_kl),
        },
        "elbo": {
            likelihood: {name: scores.mean_and_error(elbo.bound(likelihood, prior)) for name, prior in priors.items()}
            for likelihood in bounds.LIKELIHOODS
        },
    }
    if weights is not None:
        result["importance_scenes"], result["samples"] = weights.count.shape
        result["importance"] = {
            likelihood: {name: _importance(weights.log_weights(likelihood, prior)) for name, prior in priors.items()}
            for likelihood in bounds.LIKELIHOODS
        }
    return result


def _importance(log_weights: np.ndarray) -> dict[str, Any]:
    """The importance-weighted bound at several numbers of samples, and whether it rises with them as it must."""
    most = log_weights.shape[1]
    sizes = [*(size for size in GROUPS if size < most), most]
    by_samples = {str(size): scores.mean_and_error(bounds.importance_bound(log_weights, size)) for size in sizes}
    means = [bound["mean"] for bound in by_samples.values()]
    return {"by_samples": by_samples, "rises": means == sorted(means)}
