"""Command lines: every field of a configuration is a flag, and a mistake ends in one line and the right exit status."""

import dataclasses
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

import pytest

from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, DataError, UsageError
from air.schedules import Schedule
from air.support import cli

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = """Test the command line.

    script.py             # once
    script.py --max-steps 4

More.
"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    mode: Literal["fast", "slow"] = "fast"
    """How."""
    output: Path | None = None
    """Where."""
    model: AIRConfig = dataclasses.field(default_factory=AIRConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def parse(*args, **options):
    return cli.parse(Arguments, DESCRIPTION, list(args), **options)


def test_without_flags_all_is_default():
    assert parse() == Arguments()


def test_flags_of_nested_configurations_are_flat():
    arguments = parse(
        *("--mode", "slow", "--output", "x/y", "--max-steps", "5", "--canvas-size", "60", "70", "--head-units", "8", "9"),
        *("--scale-prior-mean", "-2.5", "--batch-size", "7", "--no-xla"),
    )
    assert (arguments.mode, arguments.output) == ("slow", Path("x/y"))
    assert arguments.model == AIRConfig(max_steps=5, canvas_size=(60, 70), head_units=(8, 9), scale_prior_mean=-2.5)
    assert arguments.training == TrainingConfig(batch_size=7, xla=False)


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["--max-steps", "4", "-h"]])
def test_help_shows_every_field_and_the_whole_description(args, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit) as stop:
        parse(*args)
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 90
    for field in (*AIRConfig.model_fields, *TrainingConfig.model_fields):
        assert f"--{field.replace('_', '-')}" in text
    first_line, others = DESCRIPTION.split("\n", 1)
    assert first_line in text
    assert text.endswith(others)
    assert "--output PATH" in text
    assert "None}" not in text
    assert "--temperature FLOAT|SCHEDULE" in text
    assert "FLOAT|SCHEDULE is a number, or a schedule over training steps: linear(1, 0.1," in text


@pytest.mark.parametrize("text", ["0.7", "linear(1, 0.1, steps=200)", "exponential(1e4, factor=0.1, every=300, limit=1e-9)"])
def test_schedules(text):
    assert parse("--temperature", text).model.temperature == Schedule.parse(text)


def test_defaults_of_an_instance():
    default = Arguments(model=AIRConfig(max_steps=7, temperature="linear(1, 0.5, steps=9)"), mode="slow")
    assert parse(default=default) == default
    changed = parse("--z-what-size", "3", default=default)
    assert changed.model == default.model.replace(z_what_size=3)


MISTAKES = [
    (["--max-steps", "0"], ["max_steps", "0", "greater than or equal to 1"]),
    (["--max-steps", "many"], ["max-steps", "many"]),
    (["--max-steps"], ["--max-steps"]),
    (["--max-step", "4"], ["--max-step: unknown; perhaps you meant --max-steps"]),
    (["--max-stepz=4", "--no-such"], ["--max-stepz: unknown; perhaps you meant --max-steps"]),
    (["--zzz", "4"], ["--zzz: unknown"]),
    (["stray"], ["stray: unknown"]),
    (["--output", "None", "--learn-count-prior-after", "None"], ["--learn-count-prior-after", "None"]),
    (["--mode", "slowly"], ["--mode", "slowly", "fast", "slow"]),
    (["--mode", "x" * 200], ["x" * 200]),
    (["--canvas-size", "50", "2"], ["canvas_size", "2"]),
    (["--temperature", "-1"], ["temperature", "-1", "above 0"]),
    (["--temperature", "__import__('os')"], ["--temperature", "__import__('os')", "neither a number nor a schedule"]),
    (["--cnn-filters", "3", "3", "3"], ["cnn_filters", "(3, 3, 3)"]),
]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(("args", "words"), MISTAKES, ids=lambda value: " ".join(value)[:30])
def test_mistakes_are_usage_errors_of_one_line(args, words, encoding, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))  # by which tyro chooses its frames
    with pytest.raises(UsageError) as caught:
        parse(*args)
    message = str(caught.value)
    assert caught.value.exit_status == 2
    assert not re.search("[\n\u2500-\u257f\x1b]|---|full helptext", message)  # no frames, colours or further paragraphs
    for word in words:
        assert word in message
    assert capsys.readouterr() == ("", "")
    assert os.environ["COLUMNS"] == "40"


def test_the_width_of_the_terminal_stays_unset(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    parse()
    assert "COLUMNS" not in os.environ


@pytest.mark.parametrize("flag", [["--old-steps", "3"], ["--old_steps=3"]])
def test_renamed_flags(flag):
    with pytest.raises(UsageError, match=r"^--old-steps is now called --max-steps$"):
        parse(*flag, renamed={"old_steps": "max_steps"})


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (["--preset", "original"], "original"),
        (["--seed", "1", "--preset=original"], "original"),
        (["--preset"], None),
        (["--preset", "paper", "--preset", "pyro"], "pyro"),
        (["--presets", "original"], None),
    ],
)
def test_peek(command, value, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["training.py", *command])
    assert cli.peek("--preset") == value


def test_peek_takes_both_spellings(monkeypatch):
    for spelling in ("--max-steps", "--max_steps"):
        monkeypatch.setattr(sys, "argv", ["training.py", spelling, "4"])
        assert cli.peek("--max-steps") == "4"


def ending(main, capsys, monkeypatch):
    """The status and the standard error of a script with this main function."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/script.py"])
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    output = capsys.readouterr()
    assert output.out == ""
    return stop.value.code or 0, output.err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (AIRError("it broke"), 1, "it broke"),
        (UsageError("--x: no"), 2, "--x: no"),
        (DataError("two\n  lines"), 1, "two lines"),
        (FileNotFoundError(2, "No such file or directory", "a.npz"), 1, "a.npz: No such file or directory"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (OSError("disk on fire"), 1, "disk on fire"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_become_one_line_and_a_status(error, status, line, capsys, monkeypatch):
    def main():
        raise error

    assert ending(main, capsys, monkeypatch) == (status, f"script.py: error: {line}\n")


def test_warnings_become_one_line(capsys, monkeypatch):
    before = warnings.showwarning
    status, errors = ending(lambda: warnings.warn("a file\n  is old", stacklevel=1), capsys, monkeypatch)
    assert (status, errors) == (0, "script.py: warning: a file is old\n")
    assert warnings.showwarning is before


def test_success_own_status_and_programming_errors(capsys, monkeypatch):
    assert ending(lambda: None, capsys, monkeypatch) == (0, "")
    assert ending(lambda: sys.exit(3), capsys, monkeypatch) == (3, "")
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 / 0)


def test_a_script(run_script, tmp_path):
    done = run_script("training.py", "--max-steps", "0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"training\.py: error: max_steps: 0 is not allowed; .*1\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("script", ["training.py", "demo.py"])  # whose help is longer than Python's buffer, and shorter
def test_a_reader_that_has_seen_enough(script, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, script, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(("script", "slow"), [("training", "tensorflow keras numpy PIL"), ("multi_mnist", "tensorflow keras")])
def test_help_does_not_wait_for_slow_imports(script, slow):
    code = f"""import runpy, sys
sys.argv, sys.path[:0] = ["{script}.py", "--help"], ["."]
try:
    runpy.run_path("{script}.py", run_name="__main__")
except SystemExit:
    print({{*{slow.split()}}} & {{*sys.modules}})"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("\nset()\n"), done.stderr


@pytest.mark.slow
def test_other_settings_of_keras_do_not_matter(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax", "floatx": "float16", "image_data_format": "channels_first"}')
    code = "from air.support import cli\nwith cli.quiet_import(): from keras import config\n"
    code += "print(config.backend(), config.floatx())"
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "tensorflow float32\n"), done.stderr
