"""The folder of a training run.

config.json     command, both configurations, data, versions, date, host, Git commit
source/         a copy of the project's source
models/         checkpoints step_00001000.keras ..., with the state of the optimisers
summary/        TensorBoard's event files: train/ and validation/
metrics.csv     a row for every scoring of held-out scenes
attention.gif   a few scenes through training, if asked for
"""

import contextlib
import csv
import datetime
import importlib.metadata
import itertools
import math
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, DataError
from air.support import files
from air.support.files import data_errors

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or site-packages
DEFAULT_RUN = Path("air_results")
LOCK = ".lock"  # in the folder while a process writes to it
_UNFINISHED = rf"{re.escape(files.TEMPORARY)}[a-z0-9_]{{8}}\.\w+"  # a temporary file of `write_atomically`
_EMPTY = re.compile(rf"\.lock|{_UNFINISHED}")  # what a folder may hold before it has a config.json
_FILES = r"config\.json|metrics\.csv|scores\.json|attention\.gif|reference_set\.npz|models|source|summary"
_OWN = re.compile(rf"{_EMPTY.pattern}|{_FILES}")


class Record(NamedTuple):
    """The content of a run's config.json."""

    model: AIRConfig
    training: TrainingConfig
    fields: dict[str, Any]  # everything in the file, the configurations included


class RunFolder:
    """The folder of a training run. One process at a time may claim it, for as long as its `RunFolder` lives."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.models = self.path / "models"
        self.summary = self.path / "summary"
        self.metrics = MetricsFile(self.path / "metrics.csv")

    @classmethod
    def check(cls, path: str | Path | None, overwrite: bool = False) -> None:
        """Raise AIRError if `create` could not make this folder, so that a mistake costs no waiting."""
        path = _chosen(path, overwrite)
        if path is None:
            files.check_writable(next(name for name in _free_names() if not name.exists()), "run")
            return
        files.check_replaceable(path, overwrite, _OWN, "a run", flag="run")
        if (path / "config.json").exists() and not path.is_symlink():
            try:
                cls(path).read()
            except DataError as error:
                raise AIRError(f"{error}, so the folder is not replaced; choose another --run") from None
        elif path.is_symlink() or not all(entry.is_dir() or _EMPTY.fullmatch(entry.name) for entry in path.rglob("*")):
            raise AIRError(f"{path}: not a run folder, so it is not replaced; choose another --run")

    @classmethod
    def create(cls, path: str | Path | None, overwrite: bool = False) -> "RunFolder":
        """Make and claim the folder of a new run: by default `air_results`, or `air_results_1` ... where that is taken.

        Raises:
            AIRError: if the folder exists and `overwrite` is not set, or if it is not a run folder, or in use.
        """
        cls.check(path, overwrite)
        path = _chosen(path, overwrite)
        if path is not None and path.exists():
            cls(Path(os.path.abspath(path)))._remove()
        for candidate in [path] if path else _free_names():
            try:
                candidate.mkdir(parents=True)
                folder = cls(candidate)
                folder.claim()
            except (FileExistsError, files.BusyError):  # another run took the name first
                continue
            folder.models.mkdir()
            folder.summary.mkdir()
            return folder
        raise AIRError(f"{path}: was just created by another run; choose another --run")

    def claim(self) -> None:
        """Claim the folder, or raise BusyError if another process has; remove what a killed one left half-written."""
        claim = files.Claim(self.path / LOCK)
        if not claim.take():
            raise files.BusyError(f"{self.path}: in use by another process; wait for its end, or choose another --run")
        weakref.finalize(self, claim.release)
        for entry in itertools.chain(self.path.iterdir(), self.models.glob("*")):
            if re.fullmatch(_UNFINISHED, entry.name) and entry.is_file():
                entry.unlink()

    def _remove(self) -> None:
        """Delete the folder, unless a process is using it; other processes see all of it or nothing."""
        claim = files.Claim(self.path / LOCK)
        if not claim.take():
            raise files.BusyError(f"{self.path}: in use by another process, so it is not replaced")
        claim.release()  # now, as Windows can't rename a folder in which a file is open
        away = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.old")
        os.rename(self.path, away)
        shutil.rmtree(away)

    def record(self, model: AIRConfig, training: TrainingConfig, **more: Any) -> None:
        """Write config.json and a copy of the source; delete the folder if that fails."""
        script = os.path.basename(sys.argv[0])
        content = {
            "command": shlex.join(["python"] * script.endswith(".py") + [script, *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "host": platform.node(),
            "commit": git_commit(ROOT),
            "model": model.to_dict(),
            "training": training.to_dict(),
            **more,
            "versions": versions(),
        }
        try:
            files.write_json(self.path / "config.json", content)
            scripts = ROOT.glob("*.py") if (ROOT / "pyproject.toml").exists() else ()  # of a checkout, not of site-packages
            for source in [*scripts, *ROOT.glob("air/**/*.py")]:
                target = self.path / "source" / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise AIRError(f"{self.path}: can't be written ({error.strerror or error})") from None

    def update(self, **changes: Any) -> None:
        """Replace fields of config.json, or of the training configuration in it."""
        content = files.read_json(self.path / "config.json")
        for name, value in changes.items():
            place = content["training"] if name in TrainingConfig.model_fields else content
            place[name] = value
        files.write_json(self.path / "config.json", content)

    def read(self) -> Record:
        """Read config.json, or raise DataError if it is missing or not a run's."""
        path = self.path / "config.json"
        if not path.exists():
            raise DataError(f"{path}: no such file; {self.path} is not a run folder")
        content = files.read_json(path)
        with data_errors(path, "not the configuration of a run"):
            for name in ("command", "data", "held_out"):
                if not isinstance(content.get(name), str) and (name, content.get(name)) != ("held_out", None):
                    raise ValueError(f"{name}: {content.get(name)!a:.80} is not allowed; it must be text")
            return Record(AIRConfig.from_dict(content["model"]), TrainingConfig.from_dict(content["training"]), content)


class MetricsFile:
    """metrics.csv: a row for every scoring of held-out scenes.

    Columns: step; seconds since training began, and how many of them went into compiling (up to the first answer) and into
    scoring; train_loss, nats per scene; and the scores of `air.training.validation.count_scores`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def rows(self, *columns: str) -> list[dict[str, float]]:
        """Read all rows, oldest first; none if there is no file yet. An incomplete last row is left out, with a warning.

        Args:
            columns: that the file must have, besides the step.

        Raises:
            DataError: if the file is damaged or of another kind.
        """
        if not self.path.exists():
            return []
        with data_errors(self.path, "damaged, or not the metrics of a run"):
            whole, _, cut = self.path.read_text(encoding="utf-8").rpartition("\n")
            if cut:
                print(f"warning: {self.path}: its last row is incomplete, and left out", file=sys.stderr)
            if not whole:
                return []
            reader = csv.DictReader(whole.splitlines())
            rows = [{name: float(value) for name, value in row.items()} for row in reader]
            if missing := {"step", *columns}.difference(reader.fieldnames):
                raise ValueError(f"no column {min(missing)!r}")
            if not all(math.isfinite(value) for row in rows for value in row.values()):
                raise ValueError("a value is not finite")
            return rows

    def append(self, row: dict[str, float]) -> None:
        """Write a row, after a line of names if there is no file yet."""
        is_new = not self.path.exists()
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([row] if is_new else [])
                writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in row.values())
        except OSError as error:
            raise AIRError(f"{self.path}: can't be written ({error.strerror or error})") from None

    def rewind(self, step: int, every: int = 1) -> dict[str, float]:
        """Return the last row up to a step, and drop what a run resumed at this step will write again.

        Those are the rows after it, and those between its intervals, which only the end of an interrupted or shorter run has.
        """
        before = [row for row in self.rows() if row["step"] <= step]
        kept = [number for number, row in enumerate(before, 1) if row["step"] % every == 0]
        if kept:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            text = "".join(lines[number] for number in (0, *kept))
            files.write_atomically(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        else:
            self.path.unlink(missing_ok=True)
        return before[-1] if before else {}


def _chosen(path: str | Path | None, overwrite: bool) -> Path | None:
    """Return the path of a new run, by default that of the run to overwrite; None for the first free name."""
    if path is None:
        return DEFAULT_RUN if overwrite else None
    return Path(path)


def _free_names() -> Iterator[Path]:
    yield DEFAULT_RUN
    for number in itertools.count(1):
        yield Path(f"{DEFAULT_RUN}_{number}")


def git_commit(root: Path) -> str | None:
    """Return the Git commit of the checkout at `root`; None if it is none, such as an installed package."""
    if not (root / ".git").exists():  # Git would look in the folders above it too
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    return None


def versions() -> dict[str, str]:
    """List the versions of everything that affects a run's results."""
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
