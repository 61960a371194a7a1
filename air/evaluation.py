"""Judging a model on held-out scenes."""

import numpy as np

from air.model import AIRModel, cross_entropy
from air.scenes import SceneSet


def count_scores(model: AIRModel, scenes: SceneSet, batch_size: int = 250) -> dict[str, float]:
    """What a training run wants to know of held-out scenes, inferred deterministically.

    Args:
        model: of the scenes' canvas size.
        scenes: at least one.
        batch_size: scenes at a time.

    Returns:
        Means over all scenes and by true count, as "reconstruction/all" (cross-entropy in nats per scene),
        "count_accuracy/all", "count_accuracy/0" ...; without accuracies where the counts are unknown.
    """
    counts, nats = [], []
    for start in range(0, len(scenes), batch_size):
        images = scenes.images[start : start + batch_size].astype(np.float32) / 255.0
        inferred = model(images)
        counts.append(inferred.count.numpy())
        nats.append(cross_entropy(images, inferred.reconstruction).numpy())
    scores = {"reconstruction/all": float(np.concatenate(nats).mean())}
    if scenes.counts is not None:
        right = np.concatenate(counts) == scenes.counts
        scores["count_accuracy/all"] = float(right.mean())
        for count in np.unique(scenes.counts):
            scores[f"count_accuracy/{count}"] = float(right[scenes.counts == count].mean())
    return scores
