"""A cache of XLA's compiled programs on disk: TensorFlow compiles each training step only once on a machine."""

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

VARIABLE = "AIR_XLA_CACHE"
"""Environment variable with the folder in which to make the folder `air`, instead of ~/.cache; empty: no cache."""
FLAG = "--tf_xla_persistent_cache_directory"
MAX_FILES = 30  # of a few megabytes each; the oldest ones are deleted


def enable() -> None:
    """Let TensorFlow, which must not have been imported yet, use the cache if its folder can be made."""
    base = os.environ.get(VARIABLE, os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    flags = os.environ.get("TF_XLA_FLAGS", "").strip()
    if not base or "'" in base or FLAG in flags or (flags and not flags.startswith("-")):  # the last is a file of flags
        return
    # XLA compiles for one processor, and folders may be shared between machines.
    folder = Path(base) / "air" / f"xla-{importlib.metadata.version('tensorflow')}-{platform.node()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tidy(folder)
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        os.environ["TF_XLA_FLAGS"] = f"{flags} {FLAG}='{folder}'".strip()


def tidy(folder: Path) -> None:
    """Delete all but the newest files."""
    files = sorted(folder.glob("*.pb"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MAX_FILES]:
        path.unlink(missing_ok=True)
