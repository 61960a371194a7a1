"""Arrays: safe reading of NumPy files, checksums and work in batches."""

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from air.errors import DataError
from air.support.files import data_errors

Fields = TypeVar("Fields", bound=NamedTuple)


def read_arrays(
    path: str | os.PathLike[str], required: Sequence[str], optional: Sequence[str] = (), *, limit: int
) -> dict[str, np.ndarray]:
    """Read arrays of numbers from a NumPy file without unpickling anything.

    Args:
        path: an .npz file, or an .npy file, whose only array gets the first required name.
        required: names of arrays that the file must have.
        optional: names of arrays to read if the file has them.
        limit: maximum size of all arrays in the file, uncompressed, in bytes.

    Raises:
        DataError: if the file is missing, damaged, too large, not NumPy's, lacks an array or holds Python objects.
    """
    path = Path(path)
    with data_errors(path, "not a readable NumPy file"):
        with open(path, "rb") as file:
            if not file.read(6).startswith((b"PK", b"\x93NUMPY")):
                raise DataError(f"{path}: is neither an .npz nor an .npy file")
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # maps an .npy file, opens an .npz file
        is_single = isinstance(found, np.ndarray)
        size = found.nbytes if is_single else sum(member.file_size for member in found.zip.infolist())
        if size > limit:
            raise DataError(f"{path}: its arrays take {size:,} bytes; at most {limit:,} are allowed")
        found = {required[0]: found} if is_single else found
        for name in required:
            if name not in found:
                raise DataError(f"{path}: has no array {name!r}; it has {', '.join(found) or 'none at all'}")
        arrays = {name: np.array(found[name]) for name in (*required, *optional) if name in found}
    for name, array in arrays.items():
        if array.dtype.kind not in "buif":
            raise DataError(f"{path}: {name} has type {array.dtype}; only arrays of numbers can be read")
    return arrays


def in_batches(
    function: Callable[[slice], Fields], total: int, size: int, progress: Callable[[int], Any] | None = None
) -> Fields:
    """Call a function on consecutive parts of a long array and concatenate the results.

    Args:
        function: maps a slice of at most `size` positions to a named tuple of arrays, joined along their first axis.
        total: number of positions, at least 1.
        size: maximum number of positions at a time, which bounds memory.
        progress: called after each part with its number of positions.
    """
    parts = []
    for start in range(0, total, size):
        parts.append(function(slice(start, min(start + size, total))))
        if progress is not None:
            progress(min(size, total - start))
    return type(parts[0])._make(np.concatenate(field) for field in zip(*parts, strict=True))


def checksum(*parts: str | np.ndarray) -> int:
    """Compute the CRC-32 of the concatenated bytes of texts and arrays."""
    result = 0
    for part in parts:
        result = zlib.crc32(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data, result)
    return result
