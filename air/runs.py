"""The folder of a training run.

config.json     command, both configurations, data, versions
source/         the project's source as it was
models/         checkpoints step_00001000.keras ..., with the optimiser's state
summary/        TensorBoard's event files: train/ and validation/
metrics.csv     a row for every scoring of held-out scenes
scores.json     what `air.seed_scores` measured of the newest checkpoint
"""

import csv
import importlib.metadata
import itertools
import json
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from air.checkpoints import write_atomically, write_json
from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, ConfigError, DataError

DEFAULT_RUN = Path("air_results")


class RunFolder:
    """The folder of a training run."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.models = self.path / "models"
        self.summary = self.path / "summary"
        self.metrics = MetricsFile(self.path / "metrics.csv")

    @classmethod
    def check(cls, path: Path | None, overwrite: bool = False) -> None:
        """Raises AIRError if `create` could not make this folder, so that a mistake costs no waiting."""
        if path is None or not Path(path).exists():
            return
        path = Path(path)
        if not overwrite:
            raise AIRError(f"{path}: exists already; choose another --run, or --overwrite to replace it")
        if not path.is_dir() or (any(path.iterdir()) and not (path / "config.json").is_file()):
            raise AIRError(f"{path}: not a run folder, so it is not replaced; choose another --run")

    @classmethod
    def create(cls, path: Path | None, overwrite: bool = False) -> "RunFolder":
        """Makes the folder of a new run.

        Args:
            path: its name; None for `air_results`, or `air_results_1` ... where that is taken.
            overwrite: replace an existing run.

        Raises:
            AIRError: if the folder exists and `overwrite` is not set, or if it is not a run folder.
        """
        if path is None and overwrite:
            path = DEFAULT_RUN
        cls.check(path, overwrite)
        if path is not None and Path(path).exists():
            shutil.rmtree(path)
        for candidate in [Path(path)] if path else _free_names():
            try:
                candidate.mkdir(parents=True)
            except FileExistsError:  # also when another run was faster
                continue
            folder = cls(candidate)
            folder.models.mkdir()
            folder.summary.mkdir()
            return folder
        raise AIRError(f"{path}: exists already; choose another --run, or --overwrite to replace it")

    def record(self, model: AIRConfig, training: TrainingConfig, **more: Any) -> None:
        """Writes config.json and the snapshot of the source."""
        content = {
            "command": " ".join(["python", *sys.argv]),
            "model": model.to_dict(),
            "training": training.to_dict(),
            **more,
            "versions": versions(),
        }
        write_json(self.path / "config.json", content)
        root = Path(__file__).parent
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root, self.path / "source" / "air", ignore=ignore)
        for script in root.parent.glob("*.py"):
            shutil.copy(script, self.path / "source")

    def read(self) -> tuple[AIRConfig, TrainingConfig, dict[str, Any]]:
        """The configurations in config.json, and its whole content.

        Raises:
            DataError: if the file is missing or not a run's.
        """
        path = self.path / "config.json"
        try:
            content = json.loads(path.read_text())
            configs = AIRConfig.from_dict(content["model"]), TrainingConfig.from_dict(content["training"])
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; {self.path} is not a run folder") from None
        except ConfigError as error:
            raise DataError(f"{path}: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: not the configuration of a run") from None
        return *configs, content


class MetricsFile:
    """metrics.csv: a row for every scoring of held-out scenes.

    Columns: step; seconds since training began, and how many of them went into compiling (up to the first answer) and into
    scoring; train_loss, nats per scene; and the scores of `air.evaluation.count_scores`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def rows(self) -> list[dict[str, float]]:
        """All rows, oldest first; none if there is no file yet."""
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def append(self, row: dict[str, float]) -> None:
        is_new = not self.path.exists()
        with open(self.path, "a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(row)
            writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in row.values())

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


def _free_names() -> Iterator[Path]:
    yield DEFAULT_RUN
    for number in itertools.count(1):
        yield Path(f"{DEFAULT_RUN}_{number}")


def versions() -> dict[str, str]:
    """The versions of everything that decides a run's numbers."""
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
