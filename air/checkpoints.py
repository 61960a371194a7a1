"""Saving and loading models: `.keras` files, and the checkpoints of a run."""

import json
import math
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air.config import AIRConfig
from air.errors import ConfigError, DataError

if TYPE_CHECKING:
    from air.model import AIRModel

CHECKPOINT = re.compile(r"step_(\d{8,})\.keras")
WEIGHTS = "air.keras"  # in a folder such as model/
MAX_FILE_BYTES = 2**32  # no model of this project comes near; a damaged or hostile archive may claim any size


def write_atomically(path: Path, write: Any) -> None:
    """Calls write(temporary_path), then moves the file into place: `path` is never half-written.

    The temporary file keeps the ending of `path`, by which libraries tell formats apart.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        write(Path(temporary))
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Writes a tree of JSON's types; JSON knows neither NaN nor infinity, which become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def save_weights(model: "AIRModel", path: Path) -> None:
    """Writes a model without its optimiser, as one `.keras` file."""
    clone = type(model).from_config(model.get_config())
    clone.set_weights(model.get_weights())
    write_atomically(path, clone.save)


def load(path: str | Path) -> "AIRModel":
    """Loads a trained model.

    Args:
        path: a `.keras` file, a folder with `air.keras` such as `model/`, or a run folder (its newest intact checkpoint).

    Raises:
        DataError: if there is no such file, or if it is damaged or not a model of this project.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a .keras file, a run folder or a folder with {WEIGHTS}")
    if path.is_file():
        return load_file(path)
    if (path / WEIGHTS).is_file():
        return load_file(path / WEIGHTS)
    _, model = newest_checkpoint(path)
    return model


def load_file(path: Path) -> "AIRModel":
    """Loads one `.keras` file; raises DataError if it is damaged or not a model of this project."""
    import keras

    from air.model import AIRModel

    read_config(path)
    try:
        model = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras, h5py and zipfile each have their own; all mean that the file is unusable
        raise DataError(f"{path}: the model can't be loaded ({_first_line(error)})") from None
    if not isinstance(model, AIRModel):
        raise DataError(f"{path}: holds a {type(model).__name__}; it must be an AIRModel")
    return model


def read_config(path: Path) -> AIRConfig:
    """The configuration in a `.keras` file, after a check of the whole archive, without building the model."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_FILE_BYTES:
                raise DataError(f"{path}: claims more than {MAX_FILE_BYTES} bytes; it is no model of this project")
            broken = archive.testzip()
            if broken:
                raise DataError(f"{path}: damaged, the checksum of {broken} is wrong")
            content = json.loads(archive.read("config.json"))
    except DataError:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise DataError(f"{path}: not a .keras file, or damaged ({_first_line(error)})") from None
    if not isinstance(content, dict) or content.get("registered_name") != "air>AIRModel":
        name = content.get("registered_name") if isinstance(content, dict) else None
        raise DataError(f"{path}: holds {name!r:.80}; it must be an AIRModel")
    fields = content.get("config")
    try:
        return AIRConfig.from_dict(fields.get("config") if isinstance(fields, dict) else None)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run as (step, path), oldest first."""
    found = []
    for path in sorted((Path(run) / "models").glob("step_*.keras")):
        match = CHECKPOINT.fullmatch(path.name)
        if match:
            found.append((int(match[1]), path))
    return sorted(found)


def newest_checkpoint(run: Path) -> tuple[int, "AIRModel"]:
    """The newest checkpoint that can be loaded, and its step; a broken one is skipped with a warning.

    Raises:
        DataError: if there is none.
    """
    for step, path in reversed(checkpoints(run)):
        try:
            return step, load_file(path)
        except DataError as error:
            print(f"warning: {error}; using the checkpoint before", file=sys.stderr)
    raise DataError(f"{run}: no intact checkpoint in {run}/models, and no {WEIGHTS}; give a run folder or a .keras file")


def save_checkpoint(run: Path, model: "AIRModel", keep: int) -> Path:
    """Writes a checkpoint of a compiled model, and deletes the oldest ones beyond `keep`."""
    path = Path(run) / "models" / f"step_{int(model.step.numpy()):08d}.keras"
    write_atomically(path, model.save)
    for _, old in checkpoints(run)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
