"""Write a folder for TensorBoard's projector: points in many dimensions, each with a picture and a row of metadata.

    points = Points("scenes", {"digit": digits, "step": steps}, "digit", pictures)
    write(folder, [Embedding("z_what", vectors, points), Embedding("z_what_whitened", whitened, points)])

TensorBoard reads only files next to `projector_config.pbtxt`, by their bare names. Vectors are text, which any projector reads.
It opens without a colour map, whatever the bookmarks say, so the sprites themselves are coloured.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.summary.writer.record_writer import RecordWriter

from air.embeddings.plots import Projection, group_colours

SPRITE_SIDE = 8192  # pixels; the projector rejects larger sprites
PALE = 0.4  # fraction of white in the colours of sprites, which the projector multiplies by those of its colour map
EVENTS = "events.out.tfevents.0.embeddings"
"""An event file without summaries, since TensorBoard looks for embeddings only where such files lie."""

# Defaults of the projector, which it expects in every bookmark.
TSNE = {"tSNEIteration": 0, "tSNEPerplexity": 30, "tSNELearningRate": 1, "tSNEis3d": False}
UMAP = {"umapIs3d": True, "umapNeighbors": 15, "umapMinDist": 0.1}
AXES = ("XLeft", "XRight", "YUp", "YDown")
CUSTOM = {f"custom{axis}Text": "" for axis in AXES} | {f"custom{axis}Regex": False for axis in AXES}


class Points(NamedTuple):
    """K objects that embeddings have a vector for."""

    name: str  # part of file names
    metadata: Mapping[str, np.ndarray]  # two or more columns [K]: the projector expects no header above a single one
    column: str  # of the metadata, which labels the points and colours their sprites
    colour_column: str  # of the metadata, which colours the points; those with an empty cell are black
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


def sprite(pictures: np.ndarray, ink: np.ndarray) -> Image.Image:
    """Tile pictures [K, h, w] uint8, bright on dark, row by row into a square of square cells: ink on transparency.

    The projector multiplies a sprite by the colour of its point and discards pixels below half opacity. So the ink, RGB in
    [0, 1] of each picture [K, 3], should be pale; dark pixels are transparent, so that points don't hide each other; and the
    brightest pixel of each picture is opaque.
    """
    number, height, width = pictures.shape
    cell, columns = max(height, width), math.ceil(number**0.5)
    brightest = np.maximum(pictures.max(axis=(1, 2), keepdims=True), 1).astype(np.float32)
    grid = np.zeros((columns * columns, cell, cell), np.uint8)
    top, left = (cell - height) // 2, (cell - width) // 2
    grid[:number, top : top + height, left : left + width] = np.round(pictures * (255 / brightest))
    pixels = np.zeros((columns * columns, cell, cell, 4), np.uint8)
    pixels[:number, ..., :3] = np.round(255 * ink)[:, None, None]
    pixels[..., 3] = grid
    side = columns * cell
    return Image.fromarray(pixels.reshape(columns, columns, cell, cell, 4).swapaxes(1, 2).reshape(side, side, 4))


def bookmark(embedding: Embedding, projection: Projection | None) -> dict[str, object]:
    """Describe a view for the projector's list of bookmarks.

    Points start at the positions of a projection, from which the projector's own t-SNE may continue; without one, the projector
    shows its PCA in three dimensions.
    """
    shape, column, colour_column = embedding.vectors.shape, embedding.points.column, embedding.points.colour_column
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
        "selectedColorOptionName": colour_column,
        "selectedLabelOption": column,
        "forceCategoricalColoring": True,  # even of more than 50 classes
        "pcaComponentDimensions": [0, 1, 2],
        "customSelectedSearchByMetadataOption": column,
        "cameraDef": {"orthographic": flat, "position": position, "target": [0, 0, 0], "zoom": 1.2 if flat else 1},
        **(TSNE | UMAP | CUSTOM),
    }


def write(folder: str | Path, embeddings: Sequence[Embedding]) -> None:
    """Write projector_config.pbtxt and the files that it names; points that embeddings share are written once."""
    folder = Path(folder)
    config = ProjectorConfig()
    with open(folder / EVENTS, "wb") as file:
        RecordWriter(file).write(Event(file_version="brain.Event:2").SerializeToString())
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
            groups = points.metadata[points.column].astype(str)
            colours = group_colours(points.column, groups)
            ink = PALE + (1 - PALE) * np.array([colours[name] for name in groups])
            sprite(points.pictures, ink).save(folder / entry.sprite.image_path, compress_level=1)
        entry.bookmarks_path = f"bookmarks_{embedding.name}.json"
        bookmarks = [bookmark(embedding, projection) for projection in embedding.bookmarks]
        (folder / entry.bookmarks_path).write_text(json.dumps(bookmarks), encoding="utf-8")
    (folder / "projector_config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")


def _table(columns: Mapping[str, np.ndarray]) -> str:
    rows = [columns, *zip(*(values.tolist() for values in columns.values()), strict=True)]
    cells = ([f"{value:.4g}" if isinstance(value, float) else str(value) for value in row] for row in rows)
    return "".join("\t".join(row) + "\n" for row in cells)
