"""Score inferred scenes against the truth: counts, boxes and segments, without a model.

Boxes are (x, y, width, height) in pixels, with (x, y) the upper left corner. N scenes have at most M true objects and T
detections each; only a scene's first `true_count` objects and first `count` detections exist.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from sklearn.metrics import adjusted_rand_score, confusion_matrix, precision_recall_curve

THRESHOLDS = np.arange(50, 100, 5) / 100
"""IoU at which a detection counts as correct: 0.5, 0.55 ... 0.95, as in COCO."""


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    """Compute the `mean` of values [N] and its standard error, `error`, which is NaN for a single value."""
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return {"mean": float(values.mean()), "error": float(error)}


def count_accuracy(true_count: np.ndarray, count: np.ndarray) -> dict[str, Any]:
    """Compute how accurate counts [N] are.

    Returns:
        accuracy, its 95 % interval (Wilson, 1927) and itself by_count; absolute_error, the mean distance from the true
        count; and the confusion matrix, whose rows are true.
    """
    true_count, count = np.asarray(true_count, int), np.asarray(count, int)
    correct = true_count == count
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    confusion = confusion_matrix(true_count, count, labels=range(max(true_count.max(), count.max()) + 1))
    return {
        "accuracy": float(correct.mean()),
        "interval": (float(interval.low), float(interval.high)),
        "by_count": {str(n): float(correct[true_count == n].mean()) for n in np.unique(true_count)},
        "absolute_error": float(np.abs(count - true_count).mean()),
        "confusion": confusion[: true_count.max() + 1].tolist(),
    }


def tight_boxes(objects: np.ndarray, threshold: float) -> np.ndarray:
    """Find the smallest boxes around all pixels of [..., H, W] at or above a threshold: [..., 4]; 0 where there are none."""
    bright = np.greater_equal(objects, threshold)
    spans = []
    for axis in (-2, -1):  # projected onto x, then onto y
        line = bright.any(axis=axis)
        first = line.argmax(axis=-1)
        spans.append((first, np.where(line.any(axis=-1), line.shape[-1] - np.flip(line, -1).argmax(axis=-1) - first, 0)))
    (x, width), (y, height) = spans
    return np.stack([x, y, width, height], axis=-1).astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of each box of `a` [..., A, 4] with each of `b` [..., B, 4]: [..., A, B]."""
    a, b = np.asarray(a, np.float64)[..., :, None, :], np.asarray(b, np.float64)[..., None, :, :]
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = sides.clip(0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def centres(boxes: np.ndarray) -> np.ndarray:
    """Compute the centres (x, y) of boxes [..., 4], in pixels: [..., 2]."""
    return boxes[..., :2] + boxes[..., 2:] / 2


class Pairs(NamedTuple):
    """Matched detections and true objects, P pairs."""

    scene: np.ndarray  # [P]
    detection: np.ndarray  # [P] index among the scene's detections
    truth: np.ndarray  # [P] index among the scene's true objects


def match(cost: np.ndarray, count: np.ndarray, true_count: np.ndarray) -> Pairs:
    """Match the detections [N] of each scene with its true objects [N], one to one, at the lowest total of `cost` [N, T, M]."""
    matched = [linear_sum_assignment(cost[i, :n, :m]) for i, (n, m) in enumerate(zip(count, true_count, strict=True))]
    detection, truth = np.concatenate([np.zeros((2, 0), int), *matched], axis=1)
    return Pairs(np.repeat(np.arange(len(matched)), [len(rows) for rows, _ in matched]), detection, truth)


def localisation(
    boxes: np.ndarray, count: np.ndarray, confidence: np.ndarray, true_boxes: np.ndarray, true_count: np.ndarray
) -> dict[str, float]:
    """Score detected boxes [N, T, 4] against the true ones [N, M, 4]; `confidence` [N, T] ranks the detections of all scenes.

    Returns:
        mean_iou and centre_error (pixels) over the `pairs` of the matching with the greatest total IoU (NaN without pairs);
        ap50 and ap, the average precision at IoU 0.5 and its mean over `THRESHOLDS`; and, at IoU 0.5, the numbers of
        false_positives and of objects missed.
    """
    count, true_count = np.asarray(count, int), np.asarray(true_count, int)
    overlaps = iou(boxes, true_boxes)
    pairs = match(-overlaps, count, true_count)
    offsets = centres(boxes)[pairs.scene, pairs.detection] - centres(true_boxes)[pairs.scene, pairs.truth]
    exists = np.arange(boxes.shape[1]) < count[:, None]
    hits = _hits(overlaps, exists, confidence, true_count)
    objects = int(true_count.sum())
    precisions = [average_precision(confidence[exists], hit[exists], objects) for hit in hits]
    return {
        "pairs": len(pairs.scene),
        "mean_iou": float(overlaps[pairs].mean()) if len(pairs.scene) else np.nan,
        "centre_error": float(np.linalg.norm(offsets, axis=-1).mean()) if len(pairs.scene) else np.nan,
        "ap50": precisions[0],
        "ap": float(np.mean(precisions)),
        "false_positives": int((exists & ~hits[0]).sum()),
        "missed": objects - int(hits[0].sum()),
    }


def _hits(overlaps: np.ndarray, exists: np.ndarray, confidence: np.ndarray, true_count: np.ndarray) -> np.ndarray:
    """Decide which detections find an object at each threshold: [THRESHOLDS, N, T].

    As in COCO, detections choose in order of confidence; each takes the free object that it overlaps most.
    """
    scenes, detections, slots = overlaps.shape
    free = np.broadcast_to(np.arange(slots) < true_count[:, None], (len(THRESHOLDS), scenes, slots)).copy()
    hits = np.zeros((len(THRESHOLDS), scenes, detections), bool)
    order = np.argsort(np.where(exists, -confidence, np.inf), axis=1, kind="stable")
    every = np.arange(scenes)
    for detection in order.T if slots else ():
        candidates = np.where(free, overlaps[every, detection], -1.0)
        hit = (candidates.max(axis=2) >= THRESHOLDS[:, None] - 1e-9) & exists[every, detection]
        hits[:, every, detection] = hit
        free &= ~(hit[..., None] & (np.arange(slots) == candidates.argmax(axis=2)[..., None]))
    return hits


def average_precision(confidence: np.ndarray, hits: np.ndarray, objects: int) -> float:
    """Compute the area under the precision-recall curve, on which no precision may be below one at a higher recall.

    Each of D detections has a confidence and is a hit or not. Without detections and objects to find, the result is NaN.
    """
    if not hits.any():
        return 0.0 if objects or len(hits) else np.nan
    precision, recall, _ = precision_recall_curve(hits, confidence)  # recall falls, and is of the objects that were found
    interpolated = np.maximum.accumulate(precision[:-1])
    return float((interpolated * -np.diff(recall)).sum() * hits.sum() / objects)


def foreground_ari(true_segments: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Compute the adjusted Rand index (Hubert and Arabie, 1985) over the pixels of true objects: [N], NaN without any."""
    pairs = [(truth[truth > 0], found[truth > 0]) for truth, found in zip(true_segments, segments, strict=True)]
    return np.array([adjusted_rand_score(truth, found) if len(truth) else np.nan for truth, found in pairs])
