"""Folders that are written as a whole or not at all."""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from air.errors import DataError, UsageError


@contextlib.contextmanager
def replacing_folder(output: str | os.PathLike[str], overwrite: bool, own: re.Pattern[str], kind: str) -> Iterator[Path]:
    """A new folder that takes the place of `output` when all went well, and vanishes otherwise.

    Args:
        output: where the new folder ends up; folders above it are made.
        overwrite: whether an existing folder may be replaced.
        own: matches the names of all files that such a folder may hold; with others in it, it is not replaced.
        kind: what such a folder holds, for messages, such as "a data set".

    Raises:
        UsageError: for an output that exists and must not be replaced.
        DataError: when it can't be written.
    """
    check_replaceable(output, overwrite, own, kind)
    target = Path(os.path.realpath(output))
    token = secrets.token_hex(4)
    partial, old = target.with_name(f".{target.name}.{token}"), target.with_name(f".{target.name}.{token}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(partial, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
    except FileExistsError:
        raise DataError(f"output: {output} can't be written ({target.parent} is not a folder)") from None
    except OSError as error:
        raise DataError(f"output: {output} can't be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_replaceable(output: str | os.PathLike[str], overwrite: bool, own: re.Pattern[str], kind: str) -> None:
    """Raises UsageError if `replacing_folder` could not put a folder there, so that a mistake costs no waiting."""
    target = Path(os.path.realpath(output))
    if not target.exists():
        return
    if not overwrite:
        raise UsageError(f"output: {output} exists already; name another folder, or add --overwrite")
    if not target.is_dir():
        raise UsageError(f"output: {output} is not a folder; only a folder can be overwritten")
    strangers = sorted(entry.name for entry in target.iterdir() if not own.fullmatch(entry.name))
    if strangers:
        raise UsageError(f"output: {output} holds {strangers[0]!r}, which is no part of {kind}; it is not overwritten")
