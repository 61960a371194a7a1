"""Keeps what XLA compiles between the runs of the scripts: the same training step is compiled once on a machine.

TensorFlow writes and reads the files, and takes one only if the program, the shapes and the device are the same. A damaged one
would end in a traceback, so each gets a checksum when the process that wrote it ends, and none is read without.
"""

import atexit
import contextlib
import hashlib
import importlib.metadata
import os
import platform
import zlib
from pathlib import Path

VARIABLE = "AIR_XLA_CACHE"
"""The environment variable that names another folder than ~/.cache to keep a folder `air` in; empty: nothing is kept."""
FLAG = "--tf_xla_persistent_cache_directory"
MAX_FILES = 30
"""A file takes a few megabytes; the oldest go."""


def enable() -> None:
    """Lets TensorFlow, which must not have been imported yet, use the cache; without one, if its folder can't be made."""
    base = os.environ.get(VARIABLE, os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    flags = os.environ.get("TF_XLA_FLAGS", "")
    # A quote can't be quoted in flags, and what doesn't begin with a dash is the name of a file of flags.
    if not base or "'" in base or FLAG in flags or flags.strip()[:1] not in ("", "-"):
        return
    folder = Path(base) / "air" / _machine()  # of our own, as whatever is in it is tidied away
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        tidy(folder)
        os.environ["TF_XLA_FLAGS"] = f"{flags} {FLAG}='{folder}'".strip()
        atexit.register(seal, folder)


def tidy(folder: Path) -> None:
    """Removes files that have no checksum or another one than theirs, and the oldest ones."""
    intact = [path for path in folder.glob("*.pb") if _checksum(path) == _sealed(path)]
    newest = sorted(intact, key=_written)[-MAX_FILES:]
    for path in {*folder.glob("*.pb"), *(mark.with_suffix("") for mark in folder.glob("*.pb.crc"))} - set(newest):
        _remove(path)
        _remove(_mark(path))


def seal(folder: Path) -> None:
    """Gives every file that has none its checksum."""
    for path in folder.glob("*.pb"):
        if not _mark(path).exists():
            with contextlib.suppress(OSError):
                _mark(path).write_text(_checksum(path))


def _machine() -> str:
    """This machine's processor, as XLA compiles for it, and this TensorFlow."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        processor = "".join(line for line in lines if line.startswith(("model name", "flags", "Features")))
    except OSError:
        processor = platform.machine() + platform.processor()
    machine = hashlib.sha256(processor.encode()).hexdigest()[:12]
    return f"xla-{importlib.metadata.version('tensorflow')}-{machine}"


def _mark(path: Path) -> Path:
    return path.with_suffix(".pb.crc")


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process tidies up too
        return 0.0


def _sealed(path: Path) -> str | None:
    try:
        return _mark(path).read_text()
    except (OSError, ValueError):
        return None


def _checksum(path: Path) -> str:
    try:
        return f"{zlib.crc32(path.read_bytes()):08x}" if path.is_file() else ""
    except OSError:
        return ""


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
