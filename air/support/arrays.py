"""Arrays: reading NumPy files that may come from anywhere, checksums, and work in batches."""

import contextlib
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from air.errors import DataError
from air.support.files import check_file

Fields = TypeVar("Fields", bound=NamedTuple)

_DEFLATE_RATIO = 1032  # no deflated byte ever becomes more bytes than this


def read_arrays(
    path: str | os.PathLike[str], required: Sequence[str], optional: Sequence[str] = (), *, limit: int
) -> dict[str, np.ndarray]:
    """Reads named arrays of a NumPy file that may come from anywhere: nothing is unpickled, no claimed size is trusted.

    Args:
        path: an .npz file; or an .npy file, whose only array gets the first required name.
        required: arrays that the file must have.
        optional: arrays that are read when the file has them.
        limit: most bytes that all these arrays may take together.

    Raises:
        DataError: for a file that is missing, damaged, too large, not NumPy's, lacks an array or holds Python objects.
    """
    path = Path(path)
    check_file(path)
    limit = min(limit, _memory() // 2)
    with data_errors(path, "not a readable NumPy file"), open(path, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic == b"\x93NUMPY":
            size = os.fstat(file.fileno()).st_size
            _check_header(path, required[0], file, size, limit)
            file.seek(0)
            return {required[0]: np.lib.format.read_array(file, allow_pickle=False)}
        if not magic.startswith(b"PK"):
            raise DataError(f"{path}: is neither an .npz nor an .npy file")
        with zipfile.ZipFile(file) as archive:
            return _read_members(path, archive, required, optional, limit)


def _read_members(
    path: Path, archive: zipfile.ZipFile, required: Sequence[str], optional: Sequence[str], limit: int
) -> dict[str, np.ndarray]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
    for name in required:
        if name not in members:
            raise DataError(f"{path}: has no array {name!r}; it has {', '.join(members) or 'none at all'}"[:500])
    arrays = {}
    for name in (*required, *(name for name in optional if name in members)):
        info = members[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{path}: {name} has zip compression {info.compress_type}; NumPy's own are 0 and 8")
        if info.file_size > (info.compress_size + 1) * _DEFLATE_RATIO:
            raise DataError(f"{path}: {name} claims {info.file_size} bytes, which {info.compress_size} bytes can't hold")
        with archive.open(info) as stream:
            limit -= _check_header(path, name, stream, info.file_size, limit)
        with archive.open(info) as stream:
            arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _check_header(path: Path, name: str, stream: BinaryIO, size: int, limit: int) -> int:
    """The bytes of an array whose .npy header can be trusted, before any memory is taken for it."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: {name} has .npy version {version}; versions 1.0 and 2.0 can be read")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.kind not in "buif":
        raise DataError(f"{path}: {name} has type {dtype}; only arrays of numbers are read"[:500])
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > limit or min(shape, default=0) < 0:
        raise DataError(f"{path}: {name} claims shape {shape} of {dtype}; {limit} bytes are allowed"[:500])
    if stream.tell() + nbytes != size:
        raise DataError(f"{path}: {name} claims shape {shape} of {dtype}, but has {size - stream.tell()} bytes"[:500])
    return nbytes


def _memory() -> int:
    """The memory of the machine, bytes; as if it were endless where the system doesn't tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


@contextlib.contextmanager
def data_errors(path: Path, otherwise: str) -> Iterator[None]:
    """Turns whatever a damaged file makes the readers raise into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or f'{otherwise} ({error})'}") from None
    except Exception as error:  # zipfile, zlib and NumPy's header parser have a dozen types for it
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: {otherwise} ({reason})") from None


def in_batches(
    function: Callable[[slice], Fields], total: int, size: int, progress: Callable[[int], Any] | None = None
) -> Fields:
    """Call a function on consecutive parts of a long array, and join what it returns.

    Args:
        function: maps a slice of at most `size` positions to a named tuple of arrays, whose first axis is those positions.
        total: positions in all, at least 1.
        size: most positions at a time, which bounds memory.
        progress: called after each part with its number of positions.

    Returns:
        The same named tuple, of arrays whose first axis has `total` positions.
    """
    parts = []
    for start in range(0, total, size):
        parts.append(function(slice(start, min(start + size, total))))
        if progress is not None:
            progress(min(size, total - start))
    return type(parts[0])(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def checksum(*parts: str | np.ndarray) -> int:
    """Compute the CRC-32 of texts and of the bytes of arrays, one after the other."""
    result = 0
    for part in parts:
        result = zlib.crc32(part.encode() if isinstance(part, str) else np.ascontiguousarray(part), result)
    return result
