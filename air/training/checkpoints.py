"""Saving and loading models: `.keras` files, and the checkpoints of a run."""

import contextlib
import io
import math
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from air.config import AIRConfig
from air.errors import ConfigError, DataError
from air.support.files import MAX_JSON, check_file, parse_json, write_atomically

if TYPE_CHECKING:
    from air.model.air_model import AIRModel

CHECKPOINT = re.compile(r"step_(\d{8,})\.keras")
WEIGHTS = "air.keras"  # in a folder such as model/
MAX_FILE_BYTES = 2**32  # the largest model that AIRConfig allows takes three quarters of it
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
MAX_MEMBERS = 10_000  # of the file of weights; the default model has some 200
LEARNING_RATE = "air>LearningRate"  # the only object of ours that an optimiser in a file may have


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
    """Loads one `.keras` file; raises DataError if it is damaged or not a model of this project.

    The model is made from the file's configuration here rather than by Keras, of which a file may ask any object with any
    arguments; and only after its weights were found to be in the file, so that no claimed size is trusted.
    """
    config, content = _read(path)
    weights = _read_weights(path)
    if config.weights > sum(map(math.prod, weights.elements())):
        raise DataError(f"{path}: its configuration needs {config.weights} weights, which the file does not have")
    from air.model.air_model import AIRModel

    seed, compiled = content["config"].get("seed", 0), content.get("compile_config")
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise DataError(f"{path}: seed: {seed!r:.80} is not allowed; it must be an integer from 0 to {2**31 - 1}")
    try:
        _check_objects(compiled)
        model = AIRModel(config, seed=seed)
        if compiled is not None:
            model.compile_from_config(compiled)
        expected = Counter(tuple(weight.shape) for weight in _weights(model))
        if expected != weights:
            raise ValueError(f"its weights are not those of its configuration: {_difference(weights, expected)}")
        model.load_weights(path)
    except Exception as error:  # Keras, TensorFlow and h5py each have their own; all mean that the file is unusable
        raise DataError(f"{path}: the model can't be loaded ({_first_line(error)})") from None
    return model


def _weights(model: "AIRModel") -> list[Any]:
    """All that a file of the model keeps."""
    others = [getattr(model, name, None) for name in ("optimizer", "baseline_optimizer")]
    others += [model.statistics] if model.compiled else []
    return [*model.variables, *(variable for other in others if other for variable in other.variables)]


def _difference(found: Counter, expected: Counter) -> str:
    extra, missing = next(iter(found - expected), None), next(iter(expected - found), None)
    return f"one of shape {missing} is missing" if missing is not None else f"one of shape {extra} is too many"


def read_config(path: Path) -> AIRConfig:
    """The configuration in a `.keras` file, after a check of the whole archive, without building the model."""
    return _read(path)[0]


def _read(path: Path) -> tuple[AIRConfig, dict[str, Any]]:
    """The configuration in a `.keras` file, and the whole content of its config.json."""
    with _archive(path) as archive:
        broken = archive.testzip()
        if broken:
            raise DataError(f"{path}: damaged, the checksum of {broken} is wrong")
        content = parse_json(archive.read("config.json"))
    fields = content.get("config") if isinstance(content, dict) else None
    if not isinstance(fields, dict) or content.get("registered_name") != "air>AIRModel":
        name = content.get("registered_name") if isinstance(content, dict) else None
        raise DataError(f"{path}: holds {name!r:.80}; it must be an AIRModel")
    try:
        return AIRConfig.from_dict(fields.get("config")), content
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A `.keras` file of which every member may be read: each is there once, and no larger than the file."""
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sorted(member.filename for member in members) != sorted(_MEMBERS):
                names = ", ".join(member.filename for member in members[:5])
                raise DataError(f"{path}: not a .keras file: has {names!a:.200}; it must have {', '.join(_MEMBERS)}")
            room = min(path.stat().st_size, MAX_FILE_BYTES)
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED:
                    raise DataError(f"{path}: {member.filename} is compressed, which it is not in files of Keras")
                if member.file_size > (room if member.filename.endswith(".h5") else MAX_JSON):
                    raise DataError(f"{path}: {member.filename} claims {member.file_size} bytes, which it can't have")
            yield archive
    except (DataError, PermissionError):
        raise
    except Exception as error:  # zipfile, zlib and json have a dozen types for damaged files
        raise DataError(f"{path}: not a .keras file, or damaged ({_first_line(error)})") from None


def _read_weights(path: Path) -> Counter:
    """The shapes of all weights in a `.keras` file, after a check that they are numbers within that file."""
    import h5py

    with _archive(path) as archive:
        content = archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(content), "r") as file:
            shapes, room = Counter(), len(content)
            for dataset in _datasets(file):
                if dataset.external or dataset.is_virtual or dataset.chunks or dataset.dtype.kind not in "fiu":
                    raise ValueError(f"{dataset.name} is no plain array")
                room -= dataset.nbytes
                if room < 0 or dataset.id.get_storage_size() != dataset.nbytes:
                    raise ValueError(f"{dataset.name} claims shape {dataset.shape}, which it can't hold")
                if not np.isfinite(dataset[()]).all():
                    raise ValueError(f"{dataset.name} has values that are no finite numbers")
                shapes[dataset.shape] += 1
    return shapes


def _datasets(file: Any) -> Iterator[Any]:
    """All data sets of an HDF5 file; raises ValueError for links, which may lead to other files or in circles."""
    import h5py

    groups, members = [file], 0
    while groups:
        group = groups.pop()
        for name in group:
            members += 1
            if members > MAX_MEMBERS or not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r:.80} is a link, or one member too many")
            member = group[name]
            if isinstance(member, h5py.Group):
                groups.append(member)
            elif isinstance(member, h5py.Dataset):
                yield member
            else:
                raise ValueError(f"{name!r:.80} is neither a group nor an array")


def _check_objects(node: Any) -> None:
    """Raises ValueError unless all objects that `compile_config` asks Keras for are optimisers and learning rates."""
    for member in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _check_objects(member)
    if isinstance(node, dict) and "class_name" in node:
        module, registered = node.get("module"), node.get("registered_name")
        if registered != LEARNING_RATE and (registered or module not in ("keras.optimizers", "keras.optimizers.schedules")):
            raise ValueError(f"it asks for {node['class_name']!r:.40} of {module!r:.80}; only optimisers are allowed")


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
    try:
        write_atomically(path, model.save)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror or error}); the checkpoints before it are kept") from None
    for _, old in checkpoints(run)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
