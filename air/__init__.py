"""Attend, Infer, Repeat in TensorFlow 2 / Keras 3.

    import air
    model = air.load("model")
    scenes = model.infer(images)

Names are imported when first used, so that `import air` does not wait for TensorFlow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from air.config import AIRConfig, TrainingConfig
    from air.data.scenes import SceneSet
    from air.errors import AIRError, ConfigError, DataError, UsageError
    from air.model.air_model import AIRModel, Scenes
    from air.training.checkpoints import load

__version__ = "0.1.0"
__all__ = [
    "AIRConfig",
    "AIRError",
    "AIRModel",
    "ConfigError",
    "DataError",
    "SceneSet",
    "Scenes",
    "TrainingConfig",
    "UsageError",
    "load",
]

_HOMES = {
    "air.training.checkpoints": ("load",),
    "air.config": ("AIRConfig", "TrainingConfig"),
    "air.errors": ("AIRError", "ConfigError", "DataError", "UsageError"),
    "air.model.air_model": ("AIRModel", "Scenes"),
    "air.data.scenes": ("SceneSet",),
}


def __getattr__(name: str) -> Any:
    import importlib

    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'air' has no attribute {name!r}")
