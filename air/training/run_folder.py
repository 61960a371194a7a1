"""The folder of a training run.

config.json     command, both configurations, data, versions
source/         the project's source as it was
models/         checkpoints step_00001000.keras ..., with the optimiser's state
summary/        TensorBoard's event files: train/ and validation/
metrics.csv     a row for every scoring of held-out scenes
scores.json     what `air.evaluation.seed_scores` measured of the newest checkpoint
"""

import csv
import glob
import importlib.metadata
import itertools
import math
import os
import platform
import re
import secrets
import shutil
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, ConfigError, DataError
from air.support.files import TEMPORARY, BusyError, Claim, check_file, check_writable, read_json, write_atomically, write_json

DEFAULT_RUN = Path("air_results")
LOCK = ".lock"  # in the folder while a process writes to it
MAX_METRICS = 1 << 26  # characters of a metrics.csv that is read
_OWN = {LOCK, "attention.gif", "reference_set.npz", "config.json", "metrics.csv", "models", "scores.json", "source", "summary"}
_TEMPORARY = re.compile(re.escape(TEMPORARY) + r"[a-z0-9_]{8}\.\w+")  # of `write_atomically`


class RunFolder:
    """The folder of a training run. One process at a time may claim it, for as long as its `RunFolder` lives."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.models = self.path / "models"
        self.summary = self.path / "summary"
        self.metrics = MetricsFile(self.path / "metrics.csv")

    @classmethod
    def check(cls, path: Path | None, overwrite: bool = False) -> None:
        """Raises AIRError if `create` could not make this folder, so that a mistake costs no waiting."""
        if path is None or not Path(path).exists():
            check_writable(next(name for name in _free_names() if not name.exists()) if path is None else path, "run")
            return
        path = Path(path)
        if not overwrite:
            raise AIRError(f"{path}: exists already; choose another --run, or --overwrite to replace it")
        other = "so it is not replaced; choose another --run"
        if path.is_symlink() or not path.is_dir():
            raise AIRError(f"{path}: not a run folder, {other}")
        if Path.cwd().is_relative_to(path.resolve()):
            raise AIRError(f"{path}: has the current folder in it, {other}")
        strangers = sorted(entry.name for entry in path.iterdir() if not _is_of_run(entry))
        if strangers:
            raise AIRError(f"{path}: holds {strangers[0]!r}, which is no part of a run, {other}")
        if (path / "config.json").exists():
            try:
                cls(path).read()
            except DataError as error:
                raise AIRError(f"{error}, {other}") from None
        elif not all(map(_is_of_beginning, path.iterdir())):
            raise AIRError(f"{path}: not a run folder, {other}")

    @classmethod
    def create(cls, path: Path | None, overwrite: bool = False) -> "RunFolder":
        """Makes and claims the folder of a new run.

        Args:
            path: its name; None for `air_results`, or `air_results_1` ... where that is taken.
            overwrite: replace an existing run.

        Raises:
            AIRError: if the folder exists and `overwrite` is not set, or if it is not a run folder, or in use.
        """
        if path is None and overwrite:
            path = DEFAULT_RUN
        cls.check(path, overwrite)
        if path is not None and Path(path).exists():
            cls(Path(os.path.abspath(path)))._remove()
        for candidate in [Path(path)] if path else _free_names():
            try:
                candidate.mkdir(parents=True)
                folder = cls(candidate)
                folder.claim()
            except (FileExistsError, BusyError):  # also when another run was faster
                continue
            folder.models.mkdir()
            folder.summary.mkdir()
            return folder
        raise AIRError(f"{path}: exists already; choose another --run, or --overwrite to replace it")

    def claim(self) -> None:
        """Keeps other processes from writing to the folder, and removes what a killed one left half-written.

        Raises:
            BusyError: if another process has claimed it.
        """
        claim = Claim(self.path / LOCK)
        if not claim.take():
            raise BusyError(f"{self.path}: in use by another process; wait for its end, or choose another --run")
        weakref.finalize(self, claim.release)
        for folder in (self.path, self.models):
            for entry in folder.iterdir() if folder.is_dir() else ():
                if _TEMPORARY.fullmatch(entry.name) and entry.is_file():
                    entry.unlink()

    def _remove(self) -> None:
        """Deletes the folder; a claim is made first, and others see the folder as a whole or not at all."""
        claim = Claim(self.path / LOCK)
        if not claim.take():
            raise BusyError(f"{self.path}: in use by another process, so it is not replaced")
        if sys.platform == "win32":  # which moves no folder with an open file
            claim.release()
        for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.????????.old"):  # of one that was killed
            shutil.rmtree(left, ignore_errors=True)
        away = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.old")
        os.rename(self.path, away)
        shutil.rmtree(away)
        claim.release()

    def record(self, model: AIRConfig, training: TrainingConfig, **more: Any) -> None:
        """Writes config.json and the snapshot of the source; if that fails, the folder is deleted."""
        content = {
            "command": " ".join(["python", os.path.basename(sys.argv[0]), *sys.argv[1:]]),
            "model": model.to_dict(),
            "training": training.to_dict(),
            **more,
            "versions": versions(),
        }
        root = Path(__file__).parents[1]
        ignore = shutil.ignore_patterns("__pycache__")
        try:
            shutil.copytree(root, self.path / "source" / "air", ignore=ignore)
            for script in root.parent.glob("*.py"):
                shutil.copy(script, self.path / "source")
            write_json(self.path / "config.json", content)
        except BaseException as error:
            shutil.rmtree(self.path, ignore_errors=True)
            if isinstance(error, (OSError, shutil.Error)):
                raise AIRError(f"{self.path}: can't be written ({_reason(error)})") from None
            raise

    def update(self, **changes: Any) -> None:
        """Replaces fields of config.json, those of the configuration of training among them."""
        content = read_json(self.path / "config.json")
        for name, value in changes.items():
            place = content["training"] if name in TrainingConfig.model_fields else content
            place[name] = value
        write_json(self.path / "config.json", content)

    def read(self) -> tuple[AIRConfig, TrainingConfig, dict[str, Any]]:
        """The configurations in config.json, and its whole content.

        Raises:
            DataError: if the file is missing or not a run's.
        """
        path = self.path / "config.json"
        if not path.exists():
            raise DataError(f"{path}: no such file; {self.path} is not a run folder")
        content = read_json(path)
        try:
            configs = AIRConfig.from_dict(content["model"]), TrainingConfig.from_dict(content["training"])
            for name in ("command", "data", "held_out"):
                value = content.get(name)
                if not (isinstance(value, str) and _is_path(value)) and (name, value) != ("held_out", None):
                    raise DataError(f"{path}: {name}: {value!a:.80} is not allowed; it must be text")
        except ConfigError as error:
            raise DataError(f"{path}: {error}") from None
        except (AttributeError, KeyError, TypeError):
            raise DataError(f"{path}: not the configuration of a run") from None
        return *configs, content


class MetricsFile:
    """metrics.csv: a row for every scoring of held-out scenes.

    Columns: step; seconds since training began, and how many of them went into compiling (up to the first answer) and into
    scoring; train_loss, nats per scene; and the scores of `air.training.validation.count_scores`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def rows(self, *columns: str) -> list[dict[str, float]]:
        """All rows, oldest first; none if there is no file yet. A last row that was cut off is left out, with a warning.

        Args:
            columns: that the file must have, beside the step.

        Raises:
            DataError: if the file is damaged or something else.
        """
        if not self.path.exists():
            return []
        check_file(self.path)
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                text = file.read(MAX_METRICS + 1)
            if len(text) > MAX_METRICS:
                raise ValueError(f"longer than {MAX_METRICS} characters")
            whole, _, cut = text.rpartition("\n")
            if cut:
                print(f"warning: {self.path}: its last row is incomplete, and left out", file=sys.stderr)
            return _rows(whole.split("\n"), ("step", *columns)) if whole else []
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from None
        except (ValueError, csv.Error) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{self.path}: damaged, or not the metrics of a run ({reason})") from None

    def append(self, row: dict[str, float]) -> None:
        is_new = not self.path.exists()
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                if is_new:
                    writer.writerow(row)
                writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in row.values())
        except OSError as error:
            raise AIRError(f"{self.path}: can't be written ({error.strerror or error})") from None

    def rewind(self, step: int) -> dict[str, float]:
        """Drops the rows after a step, which a resumed run writes again, and returns the last one that stays."""
        kept = [row for row in self.rows() if row["step"] <= step]
        if not kept:
            self.path.unlink(missing_ok=True)
            return {}

        def write(temporary: Path) -> None:
            temporary.unlink()  # `append` begins a new file with the names of the columns
            for row in kept:
                MetricsFile(temporary).append({**row, "step": int(row["step"])})

        write_atomically(self.path, write)
        return kept[-1]


def _is_of_run(entry: Path) -> bool:
    return entry.name in _OWN or bool(_TEMPORARY.fullmatch(entry.name))


def _is_of_beginning(entry: Path) -> bool:
    """Whether the folder of a run that was killed before it had a config.json may have this."""
    if entry.name in ("models", "summary", "source") and entry.is_dir() and not entry.is_symlink():
        copied = [inner for inner in entry.iterdir() if inner.name == "air" or inner.suffix == ".py"]
        return len(copied) == len(list(entry.iterdir())) and (entry.name == "source" or not copied)
    return entry.name == LOCK or bool(_TEMPORARY.fullmatch(entry.name))


def _rows(lines: list[str], columns: Sequence[str]) -> list[dict[str, float]]:
    """The rows below a line of names; raises ValueError for rows that `MetricsFile.append` can't have written."""
    reader = csv.reader(lines, strict=True)
    names = next(reader, [])
    missing = [name for name in columns if name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(f"no column {missing[0]!r}" if missing else "two columns of one name")
    rows = []
    for number, values in enumerate(reader, start=2):
        row = dict(zip(names, map(float, values), strict=True))
        if not all(map(math.isfinite, row.values())) or row["step"] < 0 or row["step"] % 1:
            raise ValueError(f"impossible values in line {number}")
        rows.append(row)
    return rows


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error) and error.args and error.args[0]:  # of `copytree`: a list of what went wrong
        return re.sub(r"^\[.*?\] |: '.*", "", str(error.args[0][0][-1]))
    return error.strerror or str(error)


def _is_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _free_names() -> Iterator[Path]:
    yield DEFAULT_RUN
    for number in itertools.count(1):
        yield Path(f"{DEFAULT_RUN}_{number}")


def versions() -> dict[str, str]:
    """The versions of everything that decides a run's numbers."""
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
