"""Scores of inferred scenes against the truth: counts, boxes and segments. NumPy and SciPy, no model.

Boxes are (x, y, width, height) with x and y at the upper left corner, in pixels. N scenes of at most M true objects and T
detections; of a scene, only its first `true_counts` objects and first `counts` detections exist.
"""

from typing import Any, NamedTuple

import numpy as np

THRESHOLDS = np.arange(50, 100, 5) / 100
"""The IoU from which a detection is right: 0.5, 0.55 ... 0.95, as COCO's."""


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion (Wilson, 1927)."""
    from scipy.stats import binomtest  # here and below: training imports this file, and SciPy takes a second

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def count_accuracy(true_counts: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """How often the number of objects is right.

    Args:
        true_counts: [N], N above 0.
        counts: [N] inferred.

    Returns:
        accuracy, its 95 % `interval`, accuracy `by_count`, and the `confusion` matrix, whose rows are the true counts.
    """
    true_counts, counts = np.asarray(true_counts, int), np.asarray(counts, int)
    right = true_counts == counts
    confusion = np.zeros((true_counts.max() + 1, max(true_counts.max(), counts.max()) + 1), int)
    np.add.at(confusion, (true_counts, counts), 1)
    return {
        "accuracy": float(right.mean()),
        "interval": wilson_interval(int(right.sum()), len(right)),
        "by_count": {str(count): float(right[true_counts == count].mean()) for count in np.unique(true_counts)},
        "confusion": confusion.tolist(),
    }


def tight_boxes(objects: np.ndarray, threshold: float) -> np.ndarray:
    """The boxes around the pixels that are at least as bright as a threshold.

    Args:
        objects: [..., H, W].
        threshold: in the units of `objects`.

    Returns:
        [..., 4] float32; 0 where no pixel is that bright.
    """
    bright = np.asarray(objects) >= threshold
    spans = []
    for axis in (-2, -1):  # projected onto x, then onto y
        line = bright.any(axis=axis)
        first = line.argmax(axis=-1)
        spans.append((first, np.where(line.any(axis=-1), line.shape[-1] - line[..., ::-1].argmax(axis=-1) - first, 0)))
    (x, width), (y, height) = spans
    return np.stack([x, y, width, height], axis=-1).astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `a` [..., A, 4] with every one of `b` [..., B, 4]: [..., A, B]."""
    a, b = np.asarray(a, np.float64)[..., :, None, :], np.asarray(b, np.float64)[..., None, :, :]
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def centres(boxes: np.ndarray) -> np.ndarray:
    """The centres (x, y) of boxes [..., 4], in pixels: [..., 2]."""
    return boxes[..., :2] + boxes[..., 2:] / 2


class Pairs(NamedTuple):
    """Detections and true objects that belong together, P pairs."""

    scene: np.ndarray  # [P]
    detection: np.ndarray  # [P] the position among the scene's detections
    truth: np.ndarray  # [P] the position among its objects


def match(cost: np.ndarray, counts: np.ndarray, true_counts: np.ndarray) -> Pairs:
    """Pairs detections with true objects, one to one, at the least total cost of each scene (Hungarian method).

    Args:
        cost: [N, T, M] of pairing detection and object.
        counts: [N] detections of each scene.
        true_counts: [N] objects of each scene.
    """
    from scipy.optimize import linear_sum_assignment

    found = []
    for scene, (detections, objects) in enumerate(zip(counts.tolist(), true_counts.tolist(), strict=True)):
        rows, columns = linear_sum_assignment(cost[scene, :detections, :objects])
        found += [(scene, row, column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
    return Pairs(*np.array(found, int).reshape(-1, 3).T)


def localisation(
    boxes: np.ndarray, counts: np.ndarray, confidence: np.ndarray, true_boxes: np.ndarray, true_counts: np.ndarray
) -> dict[str, float]:
    """How well boxes fit the true ones.

    Args:
        boxes: [N, T, 4] detected.
        counts: [N] detections of each scene.
        confidence: [N, T], which ranks the detections of all scenes for the average precision.
        true_boxes: [N, M, 4].
        true_counts: [N].

    Returns:
        mean_iou and centre_error (pixels) over the `pairs` of the matching of greatest total IoU (NaN without pairs); ap50 and
        ap, the average precision at IoU 0.5 and its mean over 0.5, 0.55 ... 0.95; at IoU 0.5 also the false_positives, and the
        objects missed.
    """
    counts, true_counts = np.asarray(counts, int), np.asarray(true_counts, int)
    overlaps = iou(boxes, true_boxes)
    pairs = match(-overlaps, counts, true_counts)
    distances = np.linalg.norm(
        centres(boxes)[pairs.scene, pairs.detection] - centres(true_boxes)[pairs.scene, pairs.truth], axis=-1
    )
    exists = np.arange(boxes.shape[1]) < counts[:, None]
    right = _true_positives(overlaps, exists, confidence, true_counts)
    objects = int(true_counts.sum())
    precisions = [average_precision(confidence[exists], at_threshold[exists], objects) for at_threshold in right]
    return {
        "pairs": len(pairs.scene),
        "mean_iou": float(overlaps[pairs].mean()) if len(pairs.scene) else float("nan"),
        "centre_error": float(distances.mean()) if len(pairs.scene) else float("nan"),
        "ap50": precisions[0],
        "ap": float(np.mean(precisions)),
        "false_positives": int((exists & ~right[0]).sum()),
        "missed": objects - int(right[0].sum()),
    }


def _true_positives(overlaps: np.ndarray, exists: np.ndarray, confidence: np.ndarray, true_counts: np.ndarray) -> np.ndarray:
    """Which detections find an object, by threshold: [THRESHOLDS, N, T].

    As in COCO: in the order of their confidence, each takes the object with which it overlaps most among those still free.
    """
    scenes, detections, slots = overlaps.shape
    free = np.broadcast_to(np.arange(slots) < true_counts[:, None], (len(THRESHOLDS), scenes, slots)).copy()
    right = np.zeros((len(THRESHOLDS), scenes, detections), bool)
    if not slots:
        return right
    order = np.argsort(np.where(exists, -confidence, np.inf), axis=1, kind="stable")
    every = np.arange(scenes)
    for rank in range(detections):
        detection = order[:, rank]
        candidates = np.where(free, overlaps[every, detection], -1.0)
        best = candidates.argmax(axis=2)
        enough = candidates.max(axis=2) >= THRESHOLDS[:, None] - 1e-9
        hit = enough & exists[every, detection]
        right[:, every, detection] = hit
        free &= ~(hit[..., None] & (np.arange(slots) == best[..., None]))
    return right


def average_precision(confidence: np.ndarray, right: np.ndarray, objects: int) -> float:
    """The area under the precision-recall curve, with each precision raised to the greatest at any higher recall.

    Args:
        confidence: [D] of all detections.
        right: [D] whether each has found an object of its own.
        objects: how many there were to be found.

    Returns:
        In [0, 1]; NaN when there were neither objects nor detections, 0 with detections only.
    """
    if not objects:
        return 0.0 if len(right) else float("nan")
    order = np.argsort(-confidence, kind="stable")
    # Detections of equal confidence come all at once: their order is arbitrary, and must not decide the score.
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf))
    found = np.cumsum(right[order])[ends]
    precision = np.maximum.accumulate((found / (ends + 1))[::-1])[::-1]
    return float((precision * np.diff(found, prepend=0)).sum() / objects)


def segment(objects: np.ndarray) -> np.ndarray:
    """Gives each pixel to the object that is brightest there.

    Args:
        objects: [N, T, H, W], at least 0.

    Returns:
        [N, H, W] uint8, objects counted from 1; 0 where all are 0.
    """
    return np.where(objects.max(axis=1) > 0, objects.argmax(axis=1) + 1, 0).astype(np.uint8)


def foreground_ari(true_segments: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Adjusted Rand index (Hubert and Arabie, 1985) of the pixels of each scene's true objects.

    Args:
        true_segments: [N, H, W] uint8, 0 for the background.
        segments: [N, H, W] uint8, inferred.

    Returns:
        [N], at most 1; NaN for scenes without an object.
    """
    # All scenes at once: scikit-learn's function takes two milliseconds a scene, mostly to look at its arguments.
    scene, *pixel = np.nonzero(true_segments)
    truth, inferred = (labels[(scene, *pixel)].astype(int) for labels in (true_segments, segments))
    shape = (len(segments), truth.max(initial=0) + 1, inferred.max(initial=0) + 1)
    cells = np.ravel_multi_index((scene, truth, inferred), shape)
    table = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)

    def pairs(sizes: np.ndarray) -> np.ndarray:
        return (sizes * (sizes - 1) / 2).reshape(len(segments), -1).sum(axis=1)

    together, in_truth, in_inferred = pairs(table), pairs(table.sum(axis=2)), pairs(table.sum(axis=1))
    every = pairs(table.sum(axis=(1, 2)))
    expected = np.divide(in_truth * in_inferred, every, out=np.zeros_like(every), where=every > 0)
    best = (in_truth + in_inferred) / 2
    # Where both are one segment each, or nothing but single pixels, they agree: 0 / 0 counts as 1.
    index = np.divide(together - expected, best - expected, out=np.ones_like(every), where=best != expected)
    return np.where(true_segments.any(axis=(1, 2)), index, np.nan)


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    """The `mean` of values [N] and its standard error, `error`, which is NaN for a single one."""
    values = np.asarray(values, np.float64)
    return {
        "mean": float(values.mean()),
        "error": float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan"),
    }
