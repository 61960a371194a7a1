"""A folder for TensorBoard's projector: points in spaces of many dimensions, each with a picture and a row of metadata.

    points = Points("scenes", {"digit": digits, "step": steps}, pictures)
    write(folder, [Embedding("z_what", vectors, points), Embedding("z_what_whitened", whitened, points)])

TensorBoard accepts only files beside `projector_config.pbtxt`, by their bare names. Vectors are text although the plugin reads
bytes too: it takes a file for text unless it fails to decode as such, which a small file of bytes need not; and the same
text can be loaded into any other projector.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf import text_format
from PIL import Image

SPRITE_SIDE = 8192  # pixels; the projector refuses larger ones
INK = 150  # brightness of sprites
FILTERS = ("XLeft", "XRight", "YUp", "YDown")  # text fields of a projection that no bookmark of ours shows


class Points(NamedTuple):
    """Things that embeddings have points for, K of them."""

    name: str  # part of the names of files
    metadata: Mapping[
        str, Sequence[object]
    ]  # columns of K values, at least two: the projector takes the head of one for a value
    pictures: np.ndarray  # [K, h, w] uint8


class Embedding(NamedTuple):
    """Vectors of points."""

    name: str  # in the projector's menu, and part of the names of files
    vectors: np.ndarray  # [K, dimensions]
    points: Points
    bookmarks: Sequence[Mapping[str, object]] = ()  # views of the points, see `bookmark`


def capacity(height: int, width: int) -> int:
    """How many pictures [height, width] fit into the largest sprite."""
    return (SPRITE_SIDE // max(height, width)) ** 2


def sprite(pictures: np.ndarray) -> Image.Image:
    """Pictures row by row in a square of squares, grey ink on nothing.

    The projector multiplies a sprite with the colour of its point and leaves out what is less than half opaque. So the ink is
    grey, which shows on white and on black, in any colour; dark pixels are transparent, lest points hide each other; and
    the brightest pixel of each picture is opaque.

    Args:
        pictures: [K, h, w] uint8, bright on dark; K up to `capacity`.
    """
    number, height, width = pictures.shape
    cell = max(height, width)
    columns = math.ceil(number**0.5)
    brightest = np.maximum(pictures.max(axis=(1, 2), keepdims=True), 1).astype(np.float32)
    grid = np.zeros((columns * columns, cell, cell), np.uint8)
    top, left = (cell - height) // 2, (cell - width) // 2
    grid[:number, top : top + height, left : left + width] = np.round(pictures * (255 / brightest))
    opacity = grid.reshape(columns, columns, cell, cell).swapaxes(1, 2).reshape(columns * cell, columns * cell)
    return Image.merge("LA", [Image.new("L", opacity.shape, INK), Image.fromarray(opacity)])


def bookmark(
    label: str, shape: tuple[int, int], column: str, places: np.ndarray | None = None, which: np.ndarray | None = None
) -> dict[str, object]:
    """A view, which the projector offers as a bookmark.

    Args:
        label: its name.
        shape: of the embedding's vectors, [K, dimensions].
        column: of the metadata, which colours and labels the points.
        places: [P, 2] of some of the points on a plane, from which the projector's own t-SNE goes on; None for its PCA of
            all points in three dimensions.
        which: [P] these points, ascending.
    """
    on_plane = places is not None
    part = on_plane and len(which) < shape[0]
    named_filter = {f"custom{field}{kind}": value for field in FILTERS for kind, value in (("Text", ""), ("Regex", False))}
    return {
        "label": label,
        "isSelected": False,
        "dataSetDimensions": list(shape),
        "selectedProjection": "tsne" if on_plane else "pca",
        "projections": [{"tsne-0": x, "tsne-1": y} for x, y in places.astype(float).round(3).tolist()] if on_plane else [],
        "filteredPoints": which.tolist() if part else None,
        "selectedPoints": [],
        "selectedColorOptionName": column,
        "selectedLabelOption": column,
        "forceCategoricalColoring": True,  # more than 50 classes are classes too
        "tSNEIteration": 0,
        "tSNEPerplexity": 30,
        "tSNELearningRate": 1,
        "tSNEis3d": False,
        "umapIs3d": True,
        "umapNeighbors": 15,
        "umapMinDist": 0.1,
        "pcaComponentDimensions": [0, 1, 2],
        "customSelectedSearchByMetadataOption": column,
        **named_filter,
        "cameraDef": {
            "orthographic": on_plane,
            "position": [0, 0, 10] if on_plane else [0.45, 0.9, 1.6],
            "target": [0, 0, 0],
            "zoom": 1.2 if on_plane else 1,
        },
    }


def write(folder: Path, embeddings: Sequence[Embedding]) -> None:
    """Writes projector_config.pbtxt and the files that it names; points that embeddings share are written once."""
    from tensorboard.plugins.projector import ProjectorConfig

    config = ProjectorConfig()
    for embedding in embeddings:
        points = embedding.points
        entry = config.embeddings.add()
        entry.tensor_name = embedding.name
        entry.tensor_shape.extend(embedding.vectors.shape)
        entry.tensor_path = f"{embedding.name}.tsv"
        entry.metadata_path = f"metadata_{points.name}.tsv"
        entry.sprite.image_path = f"sprite_{points.name}.png"
        entry.sprite.single_image_dim.extend([max(points.pictures.shape[1:])] * 2)
        np.savetxt(folder / entry.tensor_path, embedding.vectors, fmt="%.6g", delimiter="\t")
        if not (folder / entry.metadata_path).exists():
            _write_metadata(folder / entry.metadata_path, points.metadata)
            sprite(points.pictures).save(folder / entry.sprite.image_path, compress_level=1)
        if embedding.bookmarks:
            entry.bookmarks_path = f"bookmarks_{embedding.name}.json"
            (folder / entry.bookmarks_path).write_text(json.dumps(embedding.bookmarks), encoding="utf-8")
    (folder / "projector_config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")


def _write_metadata(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
