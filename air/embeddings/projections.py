"""Vectors of many dimensions in fewer: whitened, and on a plane."""

from typing import NamedTuple

import numpy as np

WHITENED_VARIANCE = 0.99
"""Share of the variance that is whitened: what is left are unused dimensions, which unit variance would turn into noise."""
PERPLEXITY = 30.0


class Plane(NamedTuple):
    """Places of points on a plane, P of them."""

    method: str  # for people
    places: np.ndarray  # [P, 2]
    points: np.ndarray  # [P] which points these are, ascending


def whitened(vectors: np.ndarray) -> np.ndarray | None:
    """Vectors [K, D] in their principal components, each with unit variance: [K, components]; None without variance."""
    from sklearn.decomposition import PCA  # here and below: scikit-learn takes a second

    if len(vectors) < 3 or not np.ptp(vectors, axis=0).any():
        return None
    return PCA(WHITENED_VARIANCE, whiten=True, svd_solver="full").fit_transform(vectors)


def pca(vectors: np.ndarray) -> Plane | None:
    """The plane of the two greatest variances of vectors [K, D]; None where there are too few of them."""
    from sklearn.decomposition import PCA

    if min(vectors.shape) < 2 or not np.ptp(vectors, axis=0).any():
        return None
    return Plane("PCA", PCA(2, svd_solver="full").fit_transform(vectors), np.arange(len(vectors)))


def tsne(vectors: np.ndarray, most: int, seed: int) -> Plane | None:
    """t-SNE (van der Maaten and Hinton, 2008) of vectors [K, D]; None where there are fewer than four.

    Args:
        vectors: of which neighbours stay neighbours.
        most: points on the plane, drawn at random if there are more vectors.
        seed: of the draws.
    """
    from sklearn.manifold import TSNE

    if len(vectors) < 4:
        return None
    points = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:most])
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    # Its own default start, the PCA, needs variance; this one needs nothing.
    fitted = TSNE(2, perplexity=perplexity, init="random", random_state=seed).fit_transform(vectors[points])
    return Plane("t-SNE", fitted, points)
