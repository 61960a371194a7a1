"""What the machine is and what it can do: the peak of its matrix products and the bandwidth of its memory."""

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

SIZE = 4096  # of the square matrices: 64 MiB each
ARRAY_BYTES = 1 << 28  # of each of three arrays: several times a processor's caches
TRIES = 5


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def description() -> dict[str, str | int | bool]:
    """What figures depend on besides the code."""
    libraries = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    return {
        "cpu": _processor(),
        "cores": cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        **libraries,
    }


def measure() -> dict[str, tuple[float, str]]:
    """The best of a few tries each, as a peak is what undisturbed work reaches."""
    return {
        "matrix_products": (matrix_products() / 1e9, "GFLOP/s"),
        "memory_bandwidth": (memory_bandwidth() / 1e9, "GB/s"),
    }


def matrix_products(size: int = SIZE) -> float:
    """FLOP/s of float32 products of square matrices through TensorFlow."""
    import tensorflow as tf

    left, right = tf.random.stateless_normal([2, size, size], [0, 0])
    return 2 * size**3 / _best(lambda: tf.matmul(left, right).numpy()[0, 0])


def memory_bandwidth(array_bytes: int = ARRAY_BYTES) -> float:
    """Bytes per second of a = b + c on all cores, two read and one written, as STREAM's Add counts (McCalpin, 1995)."""
    import numpy as np

    arrays = np.ones([3, array_bytes // 4], np.float32)  # written here, so that no page is new when it counts
    parts = np.array_split(arrays, cores(), axis=1)
    with ThreadPoolExecutor(len(parts)) as pool:  # NumPy lets go of the interpreter's lock while it adds
        return arrays.nbytes / _best(lambda: list(pool.map(lambda part: np.add(part[0], part[1], out=part[2]), parts)))


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of TRIES calls, after one that is not counted."""
    times = []
    for _ in range(TRIES + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
