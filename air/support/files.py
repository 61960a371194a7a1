"""Files and folders that are written completely or not at all, locks between processes, and JSON files."""

import contextlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from air.errors import AIRError, DataError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TEMPORARY = ".air-"  # prefix of the names of files that are still being written
MAX_JSON = 1 << 20  # bytes of a JSON file; configurations have a few thousand
SCENES_LIMIT = 8 << 30  # bytes of a set of scenes


def shipped(*parts: str) -> Path:
    """Return the path of a file that comes with the project, in a checkout or in the installed package."""
    package = Path(__file__).resolve().parents[1]
    root = package / "shipped" if (package / "shipped").is_dir() else package.parent
    return root.joinpath(*parts)


class BusyError(AIRError):
    """Another process is at work in the same folder."""


class Claim:
    """An exclusive claim on a path, held from `take` to `release` or to the end of the process, even if that is killed.

    It is a lock on an empty file, which is deleted with the claim; a killed process leaves the file, but no lock. On file
    systems without locks, every process gets the claim.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def take(self) -> bool:
        """Take the claim and return True, or return False if another process holds it."""
        file = open(self.path, "ab")  # noqa: SIM115
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except OSError:
            pass  # no locks here
        if not os.fstat(file.fileno()).st_nlink:  # the previous holder deleted the file after we had opened it
            file.close()
            return self.take()
        self._file = file
        return True

    def release(self) -> None:
        """Give the claim back, if there is one."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # the folder may be gone
                self.path.unlink()
            self._file.close()
            self._file = None


@contextlib.contextmanager
def replacing_folder(
    output: str | os.PathLike[str], overwrite: bool, own: re.Pattern[str], kind: str, *, wait: bool = False
) -> Iterator[Path]:
    """Yield a new folder that takes the place of `output` on success and is deleted otherwise.

    Args:
        output: path of the finished folder; parent folders are made.
        overwrite: whether to replace an existing folder.
        own: matches every file name that such a folder may contain; a folder with other files is not replaced.
        kind: what such a folder is called in messages, such as "a data set".
        wait: wait for another process that writes the same folder, rather than fail.

    Raises:
        UsageError: if the output exists and must not be replaced.
        BusyError: if another process writes it.
        DataError: if it can't be written.
    """
    check_replaceable(output, overwrite, own, kind)
    target = Path(os.path.realpath(output))
    prefix = target.with_name(f"{TEMPORARY}{target.name}")
    new, old, claim = Path(f"{prefix}.new"), Path(f"{prefix}.old"), Claim(f"{prefix}.lock")

    def tidy() -> None:
        """Delete what this or a killed process left, or move it back if it stopped between the two renames."""
        if old.exists() and not target.exists():
            os.rename(old, target)
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not claim.take():
            if not wait:
                raise BusyError(f"output: {output} is being written by another process")
            print(f"Waiting for another process that makes {output} ...", file=sys.stderr, flush=True)
            while not claim.take():
                time.sleep(0.2)
        try:
            tidy()
            check_replaceable(output, overwrite, own, kind)  # again, as another process may have made it meanwhile
            new.mkdir()
            yield new
            if target.exists():
                os.rename(target, old)
            os.rename(new, target)
        finally:
            tidy()
            claim.release()
    except OSError as error:
        if error.filename and not str(error.filename).startswith(str(prefix)):
            raise  # an input file, not the folder
        raise DataError(f"output: {output} can't be written ({error.strerror or error})") from None


def check_replaceable(
    output: str | os.PathLike[str], overwrite: bool, own: re.Pattern[str], kind: str, flag: str = "output"
) -> None:
    """Raise the errors of `replacing_folder` before any work is done; `flag` is the flag, without dashes, that set `output`."""
    target = Path(os.path.realpath(output))
    if not target.exists():
        check_writable(output, flag)
        return
    if not overwrite:
        raise UsageError(f"{flag}: {output} exists already; choose another --{flag}, or add --overwrite to replace it")
    if not target.is_dir():
        raise UsageError(f"{flag}: {output} is not a folder; only a folder can be replaced")
    if Path.cwd().is_relative_to(target):
        raise UsageError(f"{flag}: {output} contains the current folder, so it is not replaced")
    foreign = sorted(entry.name for entry in target.iterdir() if not own.fullmatch(entry.name))
    if foreign:
        raise UsageError(f"{flag}: {output} contains {foreign[0]!r}, which is not part of {kind}, so it is not replaced")


def check_writable(path: str | os.PathLike[str], flag: str = "output") -> None:
    """Raise DataError, naming the flag, if no folder can be made or written at `path`."""
    place = Path(os.path.abspath(path))
    place = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
    if not place.is_dir():
        raise DataError(f"{flag}: {path} can't be written ({place} is not a folder)")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DataError(f"{flag}: {path} can't be written (Permission denied)")


def check_file(path: Path) -> None:
    """Raise DataError unless `path` is a regular file."""
    if not path.is_file():
        raise DataError(f"{path}: is a directory" if path.is_dir() else f"{path}: no such file or folder")


@contextlib.contextmanager
def data_errors(path: Path, problem: str) -> Iterator[None]:
    """Turn any exception while reading a file into a DataError that names the file, and the problem if it is damaged."""
    check_file(path)
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # libraries raise a dozen types for damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or f'{problem} ({reason})'}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file; raise DataError if it is missing, larger than MAX_JSON or not JSON."""
    with data_errors(path, "not valid JSON"):
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"larger than {MAX_JSON:,} bytes")
        return json.loads(path.read_bytes())


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinity, which JSON lacks, become null."""
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(finite, indent=2) + "\n"))


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], Any]) -> None:
    """Call write(temporary_path), then move that file to `path`, which is thus never half-written.

    The temporary file has the suffix of `path`, by which libraries choose a format.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}{path.suffix}")
    try:
        write(temporary)
        with open(temporary, "r+b") as file:  # Windows flushes only files that are open for writing
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # gone if it was moved
            temporary.unlink()
