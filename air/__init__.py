"""Attend, Infer, Repeat in TensorFlow 2 / Keras 3.

    import air
    model = air.load("model")
    scenes = model.infer(images)

Names are imported when first used, so that `import air` does not wait for TensorFlow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from air.checkpoints import load
    from air.config import AIRConfig, TrainingConfig
    from air.errors import AIRError, ConfigError, DataError, UsageError
    from air.model import AIRModel, Scenes
    from air.scenes import SceneSet

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
    "air.checkpoints": ("load",),
    "air.config": ("AIRConfig", "TrainingConfig"),
    "air.errors": ("AIRError", "ConfigError", "DataError", "UsageError"),
    "air.model": ("AIRModel", "Scenes"),
    "air.scenes": ("SceneSet",),
}


def __getattr__(name: str) -> Any:
    import importlib

    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'air' has no attribute {name!r}")
