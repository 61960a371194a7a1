"""Load and save models: `.keras` files, and the checkpoints of a run."""

import json
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from air.config import AIRConfig
from air.errors import ConfigError, DataError
from air.support import files
from air.support.files import check_file, data_errors, write_atomically

if TYPE_CHECKING:  # imported late below, so that a run's checkpoints can be listed without TensorFlow
    from air.model.air_model import AIRModel

NAME = re.compile(r"step_(\d{8,})\.keras")
WEIGHTS = "air.keras"  # in a folder such as model/
MAX_FILE_BYTES = 2**32  # the largest model that AIRConfig allows takes three quarters of it


class Checkpoint(NamedTuple):
    """A checkpoint of a run."""

    step: int
    path: Path


def load(path: str | Path | None = None) -> "AIRModel":
    """Load a trained model.

    Args:
        path: a `.keras` file, a folder with `air.keras` such as `model/`, or a run folder (its newest intact checkpoint); by
            default the model that comes with the project.

    Raises:
        DataError: if there is no such file, or if it is damaged or not a model of this project.
    """
    path = files.shipped("model") if path is None else Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a .keras file, a run folder or a folder with {WEIGHTS}")
    if path.is_file():
        return load_file(path)
    if (path / WEIGHTS).is_file():
        return load_file(path / WEIGHTS)
    return newest_checkpoint(path)[1]


def load_file(path: str | Path) -> "AIRModel":
    """Load one `.keras` file, with the exact state of its optimisers if it has any; raise DataError as `load` does."""
    path = Path(path)
    read_config(path)
    import keras

    from air.model.air_model import AIRModel  # registers the classes that the file names

    with data_errors(path, "the model can't be loaded"), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Skipping variable loading")  # of an optimiser
        model: AIRModel = keras.saving.load_model(path, safe_mode=True)
        return model


def read_config(path: str | Path) -> AIRConfig:
    """Read the configuration in a `.keras` file, and check the file for damage, without TensorFlow; raise as `load`."""
    path = Path(path)
    check_file(path)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"{path}: has {path.stat().st_size} bytes; a model has at most {MAX_FILE_BYTES}")
    with data_errors(path, "not a .keras file, or damaged"), zipfile.ZipFile(path) as archive:
        if broken := archive.testzip():
            raise DataError(f"{path}: damaged, the checksum of {broken} is wrong")
        content = json.loads(archive.read("config.json"))
        kind = content["registered_name"] or content["class_name"]
        if kind != "air>AIRModel":  # registered under this name, whatever its module was called
            raise DataError(f"{path}: holds {kind!r:.80}; it must be an AIRModel")
        fields, glimpses = content["config"]["config"], content["config"].get("glimpses")
    try:
        config = AIRConfig.from_dict(fields)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None
    if config.background != "none" and glimpses is None:
        raise DataError(f"{path}: of an older version, whose glimpses of scenes with a background were others; train it again")
    return config


def checkpoints(run: str | Path) -> list[Checkpoint]:
    """List the checkpoints of a run, oldest first."""
    found = ((NAME.fullmatch(path.name), path) for path in (Path(run) / "models").glob("step_*.keras"))
    return sorted(Checkpoint(int(match[1]), path) for match, path in found if match)


def newest_checkpoint(run: str | Path) -> tuple[int, "AIRModel"]:
    """Load the newest intact checkpoint, and return its step and model; skip broken ones with a warning.

    Raises:
        DataError: if there is none.
    """
    for step, path in reversed(checkpoints(run)):
        try:
            return step, load_file(path)
        except DataError as error:
            print(f"warning: {error}; using the previous checkpoint", file=sys.stderr)
    raise DataError(f"{run}: no intact checkpoint in {run}/models, and no {WEIGHTS}; give a run folder or a .keras file")


def save_weights(model: "AIRModel", path: str | Path) -> None:
    """Write a model without its optimisers, as one `.keras` file."""
    clone = type(model).from_config(model.get_config())
    clone.set_weights(model.get_weights())
    write_atomically(path, clone.save)


def save_checkpoint(run: str | Path, model: "AIRModel", keep: int) -> Path:
    """Write a checkpoint of a compiled model, and delete the oldest ones beyond `keep`; raise DataError if that fails."""
    path = Path(run) / "models" / f"step_{int(model.step.numpy()):08d}.keras"
    try:
        write_atomically(path, model.save)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror or error}); the previous checkpoints are kept") from None
    for old in checkpoints(run)[:-keep]:
        old.path.unlink(missing_ok=True)
    return path
