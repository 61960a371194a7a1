"""Write a folder for TensorBoard's projector: points in many dimensions, each with a picture and a row of metadata.

    points = Points("scenes", {"digit": digits, "step": steps}, "digit", pictures)
    write(folder, [Embedding("z_what", vectors, points), Embedding("z_what_whitened", whitened, points)])

TensorBoard reads only files next to `projector_config.pbtxt`, by their bare names. Vectors are text, which any projector reads.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig

from air.embeddings.plots import Projection

SPRITE_SIDE = 8192  # pixels; the projector rejects larger sprites
INK = 150  # brightness of sprites

# Defaults of the projector, which it expects in every bookmark.
TSNE = {"tSNEIteration": 0, "tSNEPerplexity": 30, "tSNELearningRate": 1, "tSNEis3d": False}
UMAP = {"umapIs3d": True, "umapNeighbors": 15, "umapMinDist": 0.1}
AXES = ("XLeft", "XRight", "YUp", "YDown")
CUSTOM = {f"custom{axis}Text": "" for axis in AXES} | {f"custom{axis}Regex": False for axis in AXES}


class Points(NamedTuple):
    """K objects that embeddings have a vector for."""

    name: str  # part of file names
    metadata: Mapping[str, np.ndarray]  # two or more columns [K]: the projector expects no header above a single one
    column: str  # of the metadata, which colours and labels the points
    pictures: np.ndarray  # [K, h, w] uint8


class Embedding(NamedTuple):
    """One entry of the projector's menu."""

    name: str  # in the menu, and part of file names
    vectors: np.ndarray  # [K, dimensions]
    points: Points
    bookmarks: Sequence[Projection | None] = (None,)  # None for the projector's own PCA


def capacity(height: int, width: int) -> int:
    """Compute how many pictures [height, width] fit into the largest sprite."""
    return (SPRITE_SIDE // max(height, width)) ** 2


def sprite(pictures: np.ndarray) -> Image.Image:
    """Tile pictures [K, h, w] uint8, bright on dark, row by row into a square of square cells: grey ink on transparency.

    The projector multiplies a sprite by the colour of its point and discards pixels below half opacity. So the ink is grey,
    which shows in any colour on white and on black; dark pixels are transparent, so that points don't hide each other; and
    the brightest pixel of each picture is opaque.
    """
    number, height, width = pictures.shape
    cell, columns = max(height, width), math.ceil(number**0.5)
    brightest = np.maximum(pictures.max(axis=(1, 2), keepdims=True), 1).astype(np.float32)
    grid = np.zeros((columns * columns, cell, cell), np.uint8)
    top, left = (cell - height) // 2, (cell - width) // 2
    grid[:number, top : top + height, left : left + width] = np.round(pictures * (255 / brightest))
    opacity = grid.reshape(columns, columns, cell, cell).swapaxes(1, 2).reshape(columns * cell, columns * cell)
    return Image.merge("LA", [Image.new("L", opacity.shape, INK), Image.fromarray(opacity)])


def bookmark(embedding: Embedding, projection: Projection | None) -> dict[str, object]:
    """Describe a view for the projector's list of bookmarks.

    Points start at the positions of a projection, from which the projector's own t-SNE may continue; without one, the projector
    shows its PCA in three dimensions.
    """
    shape, column = embedding.vectors.shape, embedding.points.column
    flat = projection is not None
    positions = projection.positions.astype(float).round(3).tolist() if flat else []
    position = [0, 0, 10] if flat else [0.45, 0.9, 1.6]  # of the camera
    return {
        "label": f"{projection.method if flat else 'PCA'}, by {column}",
        "isSelected": False,
        "dataSetDimensions": list(shape),
        "selectedProjection": "tsne" if flat else "pca",
        "projections": [{"tsne-0": x, "tsne-1": y} for x, y in positions],
        "filteredPoints": projection.indices.tolist() if flat and len(positions) < shape[0] else None,
        "selectedPoints": [],
        "selectedColorOptionName": column,
        "selectedLabelOption": column,
        "forceCategoricalColoring": True,  # even of more than 50 classes
        "pcaComponentDimensions": [0, 1, 2],
        "customSelectedSearchByMetadataOption": column,
        "cameraDef": {"orthographic": flat, "position": position, "target": [0, 0, 0], "zoom": 1.2 if flat else 1},
        **(TSNE | UMAP | CUSTOM),
    }


def write(folder: Path, embeddings: Sequence[Embedding]) -> None:
    """Write projector_config.pbtxt and the files that it names; points that embeddings share are written once."""
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
            (folder / entry.metadata_path).write_text(_table(points.metadata), encoding="utf-8")
            sprite(points.pictures).save(folder / entry.sprite.image_path, compress_level=1)
        entry.bookmarks_path = f"bookmarks_{embedding.name}.json"
        bookmarks = [bookmark(embedding, projection) for projection in embedding.bookmarks]
        (folder / entry.bookmarks_path).write_text(json.dumps(bookmarks), encoding="utf-8")
    (folder / "projector_config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")


def _table(columns: Mapping[str, np.ndarray]) -> str:
    rows = [columns, *zip(*(values.tolist() for values in columns.values()), strict=True)]
    cells = ([f"{value:.4g}" if isinstance(value, float) else str(value) for value in row] for row in rows)
    return "".join("\t".join(row) + "\n" for row in cells)
