"""Files of flags: training.py --config FILE."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from real_runs import MODEL, RECIPE

from air import presets
from air.errors import UsageError
from air.training import command


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Parses flags with a file of flags: read({"seed": 1}, "--iterations", "9")."""

    def call(content: Any, *flags: str) -> command.Arguments:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "flags.json").write_text(json.dumps(content))
        monkeypatch.setattr(sys, "argv", ["training.py", "--config", "flags.json", *flags])
        return command.read_arguments()

    return call


def test_flags_of_a_file_are_defaults(read) -> None:
    record = {"command": "python training.py", "model": MODEL.to_dict(), "training": RECIPE.to_dict(), "data": "theirs"}
    arguments = read(record, "--seed", "7")
    assert (arguments.model, arguments.training) == (MODEL, RECIPE.replace(seed=7))
    assert arguments.data == Path("stream")  # a run's config.json gives its recipe only
    flat = {"presence": "nvil", "head-units": [9, 8], "temperature": "linear(1, 0.5, steps=9)", "data": "scenes", "xla": False}
    arguments = read({**flat, "animate": True}, "--xla", "--head-units", "5")
    model, recipe = presets.default("nvil")
    assert arguments.model == model.replace(head_units=(5,), temperature="linear(1, 0.5, steps=9)")
    assert (arguments.training, arguments.data, arguments.animate) == (recipe, Path("scenes"), True)
    assert read({"preset": "pyro", "training": {"seed": 3}}).training == presets.pyro().training.replace(seed=3)


def test_recipes_of_an_older_version_stay_what_they_were(read) -> None:
    model = presets.default().model
    fields = model.to_dict()
    assert read({"command": "python training.py", "model": fields}).model == model
    del fields["cell_certainty"]
    assert read({"command": "python training.py", "model": fields}).model == model.replace(cell_certainty=0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"lstm_unit": 4}, "lstm_unit: unknown; it must be a flag of training.py"),
        ({"modell": {"lstm_units": 4}}, "modell: unknown"),
        ({"resume": "run"}, "resume: unknown"),
        ({"training": {"iterations": 0}}, "iterations: 0 is not allowed; input should be greater than or equal to 1"),
        ({"strategy": "two"}, "strategy: 'two' is not allowed; input should be 'none', 'mirrored' or 'multiworker'"),
        ({"data": 5}, "data: 5 is not allowed"),
        ([1], r"\[1\] is not allowed; it must be an object of flags"),
    ],
)
def test_a_mistake_in_a_file_of_flags_is_named(read, content: Any, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^flags\.json: {message}"):
        read(content)
