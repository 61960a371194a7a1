"""Attend, Infer, Repeat in TensorFlow 2 / Keras 3.

    import air
    model = air.load("model")
    scenes = model.infer(images)

Names that need TensorFlow are imported on first use, so that `import air` is fast.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

import wrapt

from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from air.data.photos import open_picture
    from air.data.scenes import SceneSet
    from air.model.air_model import AIRModel, Scenes
    from air.training.checkpoints import load

__version__ = "0.1.0"
__all__ = ["AIRConfig", "AIRError", "AIRModel", "ConfigError", "DataError", "SceneSet", "Scenes", "TrainingConfig"]
__all__ += ["UsageError", "load", "open_picture"]

_LAZY = {
    "AIRModel": "air.model.air_model",
    "SceneSet": "air.data.scenes",
    "Scenes": "air.model.air_model",
    "load": "air.training.checkpoints",
    "open_picture": "air.data.photos",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'air' has no attribute {name!r}")
    if not _LAZY[name].startswith("air.data") and "tensorflow" not in sys.modules:
        from air.support.console import hidden_notes

        with hidden_notes():  # TensorFlow writes nine lines of notes when it is imported
            importlib.import_module("air.model.air_model")
    return getattr(importlib.import_module(_LAZY[name]), name)


@wrapt.when_imported("keras")
def _register(keras: Any) -> None:
    """Register the model's classes, so that `keras.models.load_model` knows them after `import air` alone."""
    if keras.config.backend() == "tensorflow":
        importlib.import_module("air.model.air_model")
