"""Probe how much z_what, learned without labels, reveals about the classes of objects."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from air.data.scenes import SceneSet
from air.evaluation import scores

NEIGHBOURS = 5


class Objects(NamedTuple):
    """Inferred objects with the labels of the true objects that they match, K of them."""

    z_what: np.ndarray  # [K, Z]
    labels: np.ndarray  # [K]


def matched_objects(count: np.ndarray, attention_boxes: np.ndarray, z_what: np.ndarray, scenes: SceneSet) -> Objects:
    """Label inferred objects, [N], [N, T, 4] pixels and [N, T, Z], by matching them with the nearest true ones of N scenes."""
    offsets = scores.centres(attention_boxes)[:, :, None] - scores.centres(scenes.boxes)[:, None]
    pairs = scores.match(np.linalg.norm(offsets, axis=-1), count, scenes.count)
    return Objects(z_what[pairs.scene, pairs.detection], scenes.labels[pairs.scene, pairs.truth])


def classification(reference: Objects, test: Objects) -> dict[str, Any]:
    """Measure how well classifiers that are trained on the z_what of reference objects classify test objects.

    Returns:
        knn, the accuracy of 5 nearest neighbours; linear, that of logistic regression on standardised dimensions; and the
        numbers of reference objects and of test objects. Empty if either set has too few objects or classes.
    """
    if len(reference.labels) < NEIGHBOURS or len(np.unique(reference.labels)) < 2 or not len(test.labels):
        return {}
    knn = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(*reference)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*reference)
    sizes = {"reference_objects": len(reference.labels), "objects": len(test.labels)}
    return {"knn": float(knn.score(*test)), "linear": float(linear.score(*test)), **sizes}


def clustering(objects: Objects, clusters: int = 10, seed: int = 0) -> dict[str, float]:
    """Compute the adjusted mutual information of labels and k-means clusters of z_what, from 0 (chance) to 1 (agreement)."""
    if len(objects.labels) < clusters:
        return {}
    found = KMeans(clusters, n_init=3, random_state=seed).fit_predict(objects.z_what)
    return {"kmeans_ami": float(adjusted_mutual_info_score(objects.labels, found))}
