"""Options of the embeddings export and the names of its files; imports neither TensorFlow nor Keras."""

import re
from typing import Annotated, Literal

from pydantic import Field

from air.config import Config, Count

OWN_FILES = re.compile(
    r"projector_config\.pbtxt|z_what(_clean|_whitened)?\.tsv|(metadata|sprite)_(scenes|clean)\.(tsv|png)"
    r"|bookmarks_\w+\.json|(pca|tsne)\.png|embeddings\.npz|events\.out\.tfevents\.0\.embeddings"
)
"""Names of all files that an export may write; only a folder without others is overwritten."""


class EmbeddingsConfig(Config):
    """The contents and the extent of an export."""

    scenes: Count | None = None
    """Maximum number of scenes, taken from the start of the file; all by default."""
    limit: Count | None = None
    """Maximum number of objects, taken from the first scenes; by default as many as fit into a sprite of 8192x8192 pixels."""
    distance: Annotated[float, Field(gt=0, le=3)] = 0.2
    """Maximum distance between the centres of an inferred object and its true digit, in canvas units (canvas: 2 x 2)."""
    sprite: Literal["reconstruction", "crop"] = "reconstruction"
    """Picture of a point: the decoder's reconstruction of the object, or the crop of the scene that the encoder saw."""
    tsne_objects: Annotated[int, Field(ge=50, lt=2**31)] = 3000
    """Maximum number of objects in the t-SNE plot, sampled at random; t-SNE's run time is superlinear in it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of all random draws."""
