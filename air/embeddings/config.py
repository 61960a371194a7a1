"""What is exported of z_what, and the files that hold it; loads neither TensorFlow nor Keras."""

import re
from typing import Annotated, Literal

from pydantic import Field

from air.config import Config, Count

OWN_FILES = re.compile(
    r"projector_config\.pbtxt|z_what(_clean|_whitened)?\.tsv|(metadata|sprite)_(scenes|clean)\.(tsv|png)"
    r"|bookmarks_\w+\.json|(pca|tsne)\.png|embeddings\.npz"
)
"""The files of a folder of embeddings."""


class EmbeddingsConfig(Config):
    """What is exported, and of how much."""

    scenes: Count | None = None
    """Most scenes to attend to, the first ones of the file; all when not given."""
    limit: Count | None = None
    """Most objects to export, the first ones; when not given, as many as fit into a sprite of 8192x8192 pixels."""
    distance: Annotated[float, Field(gt=0, le=3)] = 0.2
    """Greatest distance between the centres of an inferred object and a true digit that belong together, where a canvas is 2
    wide and 2 high."""
    sprite: Literal["reconstruction", "crop"] = "reconstruction"
    """What a point shows: the decoder's picture of the object, or what the attention window cut from the scene."""
    tsne_objects: Annotated[int, Field(ge=50, lt=2**31)] = 3000
    """Most objects in the t-SNE plot, drawn at random: its time grows faster than their number."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes all random draws."""
