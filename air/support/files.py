"""Folders that are written as a whole or not at all, claims that keep processes apart, and JSON files of strangers."""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from air.errors import AIRError, DataError, UsageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TEMPORARY = ".air-"  # how names of files begin that are not whole yet
MAX_JSON = 1 << 20  # bytes; configurations have a few thousand


class BusyError(AIRError):
    """Another process is at work on the same folder."""


class Claim:
    """An exclusive claim, held from `take` to `release` or to the end of the process, even if that is killed.

    It is a lock on an empty file, which vanishes with the claim; only that of a killed process stays, without effect. On a
    file system without locks everybody gets the claim.

    Args:
        path: of that file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def take(self) -> bool:
        """Whether the claim is ours now; False where another process has it."""
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "is not a regular file", str(self.path))
        while True:
            file = open(self.path, "ab+")  # noqa: SIM115
            if not _lock(file):
                file.close()
                return False
            if _is_at(file, self.path):
                break
            file.close()  # whoever had the claim deleted the file between our two calls
        self._file = file
        return True

    def wait(self, note: str, patience: float = 0.2) -> None:
        """Takes the claim when it is free; prints the note if that isn't now, and looks again every `patience` seconds."""
        if self.take():
            return
        print(note, file=sys.stderr, flush=True)
        while not self.take():
            time.sleep(patience)

    def release(self) -> None:
        """Gives the claim back; without one, nothing happens."""
        file, self._file = self._file, None
        if file is None:
            return
        if sys.platform == "win32":  # which deletes no open file
            file.close()
        if sys.platform == "win32" or _is_at(file, self.path):  # else the folder was moved or replaced since
            with contextlib.suppress(OSError):
                self.path.unlink()
        file.close()

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _lock(file: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


@contextlib.contextmanager
def replacing_folder(
    output: str | os.PathLike[str], overwrite: bool, own: re.Pattern[str], kind: str, *, wait: bool = False
) -> Iterator[Path]:
    """A new folder that takes the place of `output` when all went well, and vanishes otherwise.

    What a killed process left behind of the same folder is removed, or put back where it was on its way out.

    Args:
        output: where the new folder ends up; folders above it are made.
        overwrite: whether an existing folder may be replaced.
        own: matches the names of all files that such a folder may hold; with others in it, it is not replaced.
        kind: what such a folder holds, for messages, such as "a data set".
        wait: for another process that writes the same folder, rather than fail.

    Raises:
        UsageError: for an output that exists and must not be replaced.
        BusyError: when another process writes it.
        DataError: when it can't be written.
    """
    check_replaceable(output, overwrite, own, kind)
    target = Path(os.path.realpath(output))
    token = secrets.token_hex(4)
    partial, old = target.with_name(f".{target.name}.{token}"), target.with_name(f".{target.name}.{token}.old")
    claim = Claim(target.with_name(f".{target.name}.lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if wait:
            claim.wait(f"Waiting for another process that makes {output} ...")
        elif not claim.take():
            raise BusyError(f"output: {output} is being written by another process")
        _tidy(target, own)
        check_replaceable(output, overwrite, own, kind)  # again, as others had time to make it
        partial.mkdir()
        yield partial
        if target.exists():
            os.rename(target, old)
        os.rename(partial, target)
    except FileExistsError:
        raise DataError(f"output: {output} can't be written ({target.parent} is not a folder)") from None
    except OSError as error:
        place = error.filename and Path(os.path.abspath(error.filename))
        if place and partial not in (place, *place.parents) and place not in (claim.path, target, old, *target.parents):
            raise  # of what the folder is made of
        raise DataError(f"output: {output} can't be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not target.exists():  # interrupted between the two
            os.rename(old, target)
        shutil.rmtree(old, ignore_errors=True)
        claim.release()


def _tidy(target: Path, own: re.Pattern[str]) -> None:
    """Ends what killed processes left of replacing a folder. Only for those with the claim, so that nobody is at work there."""
    left = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}(\.old)?")
    for path in [Path(entry) for entry in os.scandir(target.parent) if left.fullmatch(entry.name) and entry.is_dir()]:
        if path.suffix == ".old" and not target.exists():
            os.rename(path, target)
        elif all(own.fullmatch(entry.name) or entry.name.startswith(".") for entry in path.iterdir()):
            shutil.rmtree(path, ignore_errors=True)


def check_replaceable(output: str | os.PathLike[str], overwrite: bool, own: re.Pattern[str], kind: str) -> None:
    """Raises UsageError if `replacing_folder` could not put a folder there, so that a mistake costs no waiting."""
    target = Path(os.path.realpath(output))
    if not target.exists():
        check_writable(output)
        return
    if not overwrite:
        raise UsageError(f"output: {output} exists already; name another folder, or add --overwrite")
    if not target.is_dir():
        raise UsageError(f"output: {output} is not a folder; only a folder can be overwritten")
    strangers = sorted(entry.name for entry in target.iterdir() if not own.fullmatch(entry.name))
    if strangers:
        raise UsageError(f"output: {output} holds {strangers[0]!r}, which is no part of {kind}; it is not overwritten")


def check_writable(path: str | os.PathLike[str], flag: str = "output") -> None:
    """Raises DataError, which names the flag, if no folder can be made or written there, so that a mistake costs no waiting."""
    place = Path(os.path.abspath(path))
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise DataError(f"{flag}: {path} can't be written ({place} is not a folder)")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DataError(f"{flag}: {path} can't be written (Permission denied)")


def check_file(path: Path) -> None:
    """Raises DataError unless there is a regular file: a pipe or a device may never end."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not path.is_file():
        raise DataError(f"{path}: is a directory" if path.is_dir() else f"{path}: is not a regular file")


def picture_formats() -> list[str]:
    """The formats that Pillow reads by itself, rather than by running other programs, as it does for PostScript, and that
    have no picture of another size than they claim in them, as icons have."""
    from PIL import Image

    Image.init()
    return [name for name in Image.OPEN if name not in ("EPS", "WMF", "ICO", "ICNS")]


def parse_json(content: str | bytes) -> Any:
    """The content of a JSON file from anywhere; raises ValueError for whatever is wrong with it."""
    if len(content) > MAX_JSON:
        raise ValueError(f"longer than {MAX_JSON} bytes")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file that may come from anywhere.

    Raises:
        DataError: for a file that is missing, too large or not JSON.
    """
    check_file(path)
    try:
        with open(path, "rb") as file:
            return parse_json(file.read(MAX_JSON + 1))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({' '.join(str(error).split())[:200]})") from None


def write_atomically(path: Path, write: Any) -> None:
    """Calls write(temporary_path), then moves the file into place: `path` is never half-written.

    The temporary file keeps the ending of `path`, by which libraries tell formats apart.

    Raises:
        OSError: if it can't be written, or there is something else than a file, such as a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        number, kind = (errno.EISDIR, "a directory") if path.is_dir() else (errno.EINVAL, "not a regular file")
        raise OSError(number, f"is {kind}", str(path))
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        write(Path(temporary))
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder last, where the system has a way to."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
