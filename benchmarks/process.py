"""A measurement in a process of its own: nothing is warm, and its peak memory is its own.

    alone("inference", model="model", calls=100, scenes=1000)

calls `benchmarks.inference.measure` with these arguments in a new process.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from air.errors import AIRError
from air.support import cli

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 900.0  # seconds
_STARTED = "AIR_BENCHMARK_STARTED"


def alone(module: str, **arguments: Any) -> dict[str, tuple[float, str]]:
    """The figures that `measure(**arguments)` of a module of this package returns in a new process: name to value and unit.

    Raises:
        AIRError: if the process fails or takes longer than TIMEOUT.
    """
    command = [sys.executable, "-m", "benchmarks.process", module, json.dumps(arguments)]
    environment = {**os.environ, _STARTED: repr(time.time()), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, **pipes, text=True, encoding="utf-8", errors="replace", timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise AIRError(f"{module}: took longer than {TIMEOUT:g} s") from None
    if done.returncode:
        *before, last = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        if any(line.startswith("Traceback") for line in before):  # a mistake of ours, not of the user
            print("", *before, sep="\n", file=sys.stderr)
        raise AIRError(f"{module}: {last.split(': error: ')[-1]}")
    return {name: (value, unit) for name, (value, unit) in json.loads(done.stdout.splitlines()[-1]).items()}


def since_start() -> float:
    """Seconds since the parent started this process."""
    return time.time() - float(os.environ[_STARTED])


def peak_memory() -> tuple[float, str]:
    """The most memory that this process ever had resident, with its unit."""
    try:  # ru_maxrss counts what the parent had at the fork too
        status = Path("/proc/self/status").read_text()
        kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kibibytes / 2**20, "GiB"


def main() -> None:
    module, arguments = sys.argv[1:]
    figures = importlib.import_module(f"benchmarks.{module}").measure(**json.loads(arguments))
    print(json.dumps({"peak_memory": peak_memory(), **figures}), flush=True)


if __name__ == "__main__":
    cli.run(main)
