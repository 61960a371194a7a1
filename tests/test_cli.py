"""Command lines: every field of a configuration is a flag, and a mistake ends in one line and the right exit status."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, ConfigError, DataError, UsageError
from air.schedules import Schedule
from air.support import cli

SCRIPTS = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Arguments:
    mode: Literal["fast", "slow"] = "fast"
    """How."""
    output: Path | None = None
    """Where."""
    model: AIRConfig = dataclasses.field(default_factory=AIRConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def parse(*args, default=None):
    return cli.parse(Arguments, "Tests the command line.", list(args), default=default)


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


def test_every_field_is_a_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for field in (*AIRConfig.model_fields, *TrainingConfig.model_fields):
        assert f"--{field.replace('_', '-')}" in text
    assert "Tests the command line." in text


@pytest.mark.parametrize(
    "text",
    [
        "0.7",
        "linear(1, 0.1, steps=200)",
        "exponential(1e4, factor=0.1, every=300, limit=1e-9)",
        "cosine(1,0.5,steps=3,start=2)",
    ],
)
def test_schedules(text):
    assert parse("--temperature", text).model.temperature == Schedule.parse(text)


def test_open_ended_schedule():
    assert parse("--learning-rate", "cosine(1e-2, 1e-3)").training.learning_rate == Schedule("cosine", 1e-2, 1e-3)


def test_defaults_of_an_instance():
    default = Arguments(model=AIRConfig(max_steps=7, temperature="linear(1, 0.5, steps=9)"), mode="slow")
    assert parse(default=default) == default
    changed = parse("--z-what-size", "3", default=default)
    assert changed.model == default.model.replace(z_what_size=3)


MISTAKES = [
    (["--max-steps", "0"], ["max_steps", "0", "greater than or equal to 1"]),
    (["--max-steps", "many"], ["max-steps", "many"]),
    (["--max-steps"], ["--max-steps"]),
    (["--max-steps", "3\n4"], ["max-steps"]),
    (["--max-stepz", "4"], ["--max-stepz"]),
    (["stray"], ["stray"]),
    (["--mode", "slowly"], ["--mode", "slowly", "fast", "slow"]),
    (["--canvas-size", "50"], ["--canvas-size"]),
    (["--canvas-size", "50", "2"], ["canvas_size", "2"]),
    (["--temperature", "-1"], ["temperature", "-1", "above 0"]),
    (["--temperature", "linear(1, 0.5)"], ["temperature", "needs its steps"]),
    (["--temperature", "__import__('os')"], ["--temperature", "__import__('os')", "neither a number nor a schedule"]),
    (["--temperature", f"linear({10**400}, 1, steps=2)"], ["--temperature"]),
    (["--decoder-bias", "nan"], ["decoder_bias", "nan", "finite"]),
    (["--activation", "sigmoid"], ["--activation", "sigmoid", "softplus"]),
    (["--seed", "-1"], ["seed", "-1"]),
    (["--cnn-filters", "3", "3", "3", "3", "3"], ["cnn_filters", "(3, 3, 3, 3, 3)"]),
]


@pytest.mark.parametrize(("args", "words"), MISTAKES, ids=lambda value: " ".join(value)[:30].replace("\n", " "))
def test_mistakes_are_usage_errors_of_one_line(args, words, capsys):
    with pytest.raises(UsageError) as caught:
        parse(*args)
    message = str(caught.value)
    assert caught.value.exit_status == 2
    assert "\n" not in message
    assert not re.search("[\u2500-\u257f\x1b]", message)  # box characters and colours
    for word in words:
        assert word in message
    assert capsys.readouterr() == ("", "")


def test_a_long_mistake_stays_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(UsageError) as caught:
        parse("--mode", "x" * 200)
    assert "x" * 200 in str(caught.value)
    assert os.environ["COLUMNS"] == "40"


def test_columns_are_not_left_behind(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    parse("--max-steps", "2")
    assert "COLUMNS" not in os.environ


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (["--preset", "original"], "original"),
        (["--seed", "1", "--preset=original"], "original"),
        (["--preset"], None),
        (["--preset", "paper", "--preset", "pyro"], "pyro"),
        (["--presets", "original"], None),
        ([], None),
    ],
)
def test_peek(command, value, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["training.py", *command])
    assert cli.peek("--preset") == value


def ending(main, capsys, monkeypatch):
    """The status and the standard error of a script with this main function."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/script.py"])
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    output = capsys.readouterr()
    assert output.out == ""
    return stop.value.code or 0, output.err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (AIRError("it broke"), 1, "it broke"),
        (DataError("x.npz: damaged"), 1, "x.npz: damaged"),
        (UsageError("--x: no"), 2, "--x: no"),
        (ConfigError("max_steps: 0 is not allowed"), 2, "max_steps: 0 is not allowed"),
        (DataError("two\n  lines"), 1, "two lines"),
        (FileNotFoundError(2, "No such file or directory", "a.npz"), 1, "a.npz: No such file or directory"),
        (PermissionError(13, "Permission denied", "b"), 1, "b: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (OSError("disk on fire"), 1, "disk on fire"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_become_one_line_and_a_status(error, status, line, capsys, monkeypatch):
    def main():
        raise error

    assert ending(main, capsys, monkeypatch) == (status, f"script.py: error: {line}\n")


@pytest.mark.parametrize("error", [PermissionError("keep out"), FileNotFoundError(2, "No such file")], ids=["text", "number"])
def test_a_file_error_without_a_name_keeps_its_own_words(error, capsys, monkeypatch):
    def main():
        raise error

    status, line = ending(main, capsys, monkeypatch)
    assert status == 1
    assert (error.strerror or str(error)) in line
    assert "None" not in line


def test_success_and_own_status(capsys, monkeypatch):
    assert ending(lambda: None, capsys, monkeypatch) == (0, "")
    assert ending(lambda: sys.exit(3), capsys, monkeypatch) == (3, "")


def test_programming_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 / 0)


def test_a_script(run_script, tmp_path):
    done = run_script("training.py", "--max-steps", "0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"training\.py: error: max_steps: 0 is not allowed; .*1\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_command_lines_do_not_wait_for_tensorflow():
    code = (
        "import sys, air, air.support.cli, air.presets; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, timeout=60).returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed, tmp_path):
    """As a service manager may start a script."""
    command = f"{sys.executable} {SCRIPTS / 'multi_mnist.py'} --images-per-count 2 --validation-size 2 --test-size 2 {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "multi_mnist" / "test.npz").exists()


def test_names_that_standard_output_lacks(run_script, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    sizes = ["--images-per-count", "2", "--validation-size", "2", "--test-size", "2"]
    command = [sys.executable, SCRIPTS / "multi_mnist.py", "--output", "ünï", *sizes]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(r"\xfcn\xef: 10 scenes")


def test_names_that_are_no_text():
    with pytest.raises(UsageError, match=r"'a\\udcff' is not allowed; it must be text in UTF-8"):
        cli.parse(Arguments, None, ["--output", "a\udcff"])


@pytest.mark.parametrize("width", ["1", "4", "39"])
def test_help_in_a_narrow_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    with pytest.raises(SystemExit):
        cli.parse(Arguments, "What it does.\n\nMore.", ["--help"])
    shown = capsys.readouterr().out
    assert "What it does." in shown
    assert "More" not in shown
    assert os.environ["COLUMNS"] == width


def test_without_docstrings(tmp_path):
    command = [sys.executable, "-OO", SCRIPTS / "training.py", "--max-steps", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("training.py: error: max_steps: 0 is not allowed")


def test_other_settings_of_keras_do_not_matter(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax", "floatx": "float16", "image_data_format": "channels_first"}')
    code = "from air import cli\nwith cli.quiet_import(): import keras\nprint(keras.config.backend(), keras.config.floatx())"
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax", "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "tensorflow float32\n"), done.stderr


def test_one_line_after_the_import(tmp_path):
    """`quiet_import` holds back what is written within it, so nothing but imports may be there."""
    command = [
        sys.executable,
        "-m",
        "air.evaluation.release",
        tmp_path / "nowhere",
        "--data",
        tmp_path,
        "--output",
        tmp_path / "out",
    ]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "release.py: error: " in done.stderr
