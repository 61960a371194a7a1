"""What z_what knows of an object's class, without having been told: nearest neighbours, a linear classifier, clusters."""

from typing import Any, NamedTuple

import numpy as np

from air.data.scenes import SceneSet
from air.evaluation import scores

NEIGHBOURS = 5


class Objects(NamedTuple):
    """Inferred objects that were matched to true ones, K of them."""

    z_what: np.ndarray  # [K, Z]
    labels: np.ndarray  # [K]


def matched_objects(counts: np.ndarray, windows: np.ndarray, z_what: np.ndarray, scenes: SceneSet) -> Objects:
    """Gives inferred objects the labels of the true ones, matched at the least total distance of their centres.

    Args:
        counts: [N] inferred.
        windows: [N, T, 4] attention windows (x, y, width, height), pixels.
        z_what: [N, T, Z].
        scenes: the N scenes with counts, boxes and labels.
    """
    difference = scores.centres(windows)[:, :, None] - scores.centres(scenes.boxes)[:, None]
    pairs = scores.match(np.linalg.norm(difference, axis=-1), counts, scenes.count)
    return Objects(z_what[pairs.scene, pairs.detection], scenes.labels[pairs.scene, pairs.truth])


def classification(bank: Objects, test: Objects) -> dict[str, Any]:
    """How well classes can be read from z_what: objects of the bank teach, those of the test set are classified.

    Returns:
        knn, the accuracy of 5 nearest neighbours by Euclidean distance; linear, that of multinomial logistic regression on
        standardised dimensions; and the numbers of objects. Empty where one of the sets has too few objects or classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(bank.labels) < NEIGHBOURS or len(np.unique(bank.labels)) < 2 or not len(test.labels):
        return {}
    neighbours = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(*bank)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*bank)
    return {
        "knn": float(neighbours.score(*test)),
        "linear": float(linear.score(*test)),
        "bank": len(bank.labels),
        "objects": len(test.labels),
    }


def clustering(objects: Objects, clusters: int = 10, seed: int = 0) -> dict[str, float]:
    """How far clusters of z_what are the classes.

    Returns:
        kmeans_ami, the adjusted mutual information of k-means and labels: 1 where they agree, 0 where they have nothing to do
        with each other. Empty where there are fewer objects than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    if len(objects.labels) < clusters:
        return {}
    found = KMeans(clusters, n_init=3, random_state=seed).fit_predict(objects.z_what)
    return {"kmeans_ami": float(adjusted_mutual_info_score(objects.labels, found))}
