"""How long a person waits for the first answer: of --help, of `import air`, of a model."""

import subprocess
import sys
import time

from air.errors import AIRError
from benchmarks.process import ROOT
from benchmarks.results import Sample

FIRST_ANSWER = """
import sys
import numpy as np
import air
model = air.load(sys.argv[1])
print(model.infer(np.zeros((1, *model.config.canvas_size), np.uint8)).count, flush=True)
from benchmarks.process import peak_memory
print(peak_memory()[0])
"""


def measure(model: str) -> Sample:
    """Times each in a process of its own, the interpreter's start included; the memory is that of the model's."""
    commands = {
        "python": ("-c", "print(1)"),
        "import_air": ("-c", "import air; print(1)"),
        "training_help": ("training.py", "--help"),
        "first_answer": ("-c", FIRST_ANSWER, model),
    }
    answers = {name: until_first_line(command) for name, command in commands.items()}
    memory = float(answers["first_answer"][1])
    return {"peak_memory": (memory, "GiB"), **{name: (seconds, "s") for name, (seconds, _) in answers.items()}}


def until_first_line(arguments: tuple[str, ...]) -> tuple[float, str]:
    """Seconds until Python, run with these arguments, has printed a line, and what it printed after it."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        seconds = time.perf_counter() - began
        rest, errors = process.communicate()
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise AIRError(f"{arguments[0]}: exit status {process.returncode} ({last})")
    return seconds, rest.decode(errors="replace")
