"""Every flag of every script refuses impossible values and says what is allowed; new flags are found automatically."""

import dataclasses
import importlib.util
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pydantic
import pytest

from air.data.scenes import SceneSet
from air.errors import AIRError, UsageError
from air.schedules import Schedule
from air.support import cli

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {  # the classes of their command lines, and what comes before the flags
    "air/data/command.py": {"Arguments": []},
    "air/training/command.py": {"Arguments": []},
    "air/evaluation/command.py": {"ModelArguments": [], "SeedsArguments": ["seeds"]},
    "air/embeddings/command.py": {"Arguments": []},
    "air/gui/command.py": {"Arguments": []},
    "air/evaluation/recognition.py": {"Arguments": []},
    "air/evaluation/release.py": {"Arguments": ["run"]},
}


def load(script):
    spec = importlib.util.spec_from_file_location(f"script_{script}".replace("/", "_").removesuffix(".py"), ROOT / script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for types
    spec.loader.exec_module(module)
    return module


MODULES = {script: load(script) for script in SCRIPTS}


class Flag(typing.NamedTuple):
    script: str
    before: tuple
    name: str
    type: typing.Any


def flags_of(script, before, cls):
    """Yield the flags of a class of arguments: its fields and those of nested configurations."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if isinstance(hints[field.name], type) and issubclass(hints[field.name], pydantic.BaseModel):
            for name, inner in typing.get_type_hints(hints[field.name], include_extras=True).items():
                if name in hints[field.name].model_fields:
                    yield Flag(script, before, f"--{name.replace('_', '-')}", inner)
        elif "Positional" not in str(hints[field.name]):
            yield Flag(script, before, f"--{field.name.replace('_', '-')}", hints[field.name])


FLAGS = {  # a flag of several scripts is tested with the first
    (flag.name, str(flag.type)): flag
    for script, classes in reversed(SCRIPTS.items())
    for cls, before in classes.items()
    for flag in flags_of(script, tuple(before), getattr(MODULES[script], cls))
}.values()


def mistakes(kind, bounds=()):
    """Return values that a type must refuse, each a list of words, and what the message must say."""
    if typing.get_origin(kind) is typing.Annotated:
        inner, *metadata = typing.get_args(kind)
        return mistakes(inner, (*bounds, *annotations(metadata)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [argument for argument in typing.get_args(kind) if argument is not type(None)]
        return mistakes(kinds[0], bounds) if len(kinds) == 1 else []  # any text is the path of something
    if typing.get_origin(kind) is typing.Literal:
        return [(["no-such"], [str(typing.get_args(kind)[0]), "no-such"])]
    if typing.get_origin(kind) is tuple:
        first, *others = typing.get_args(kind)
        single = mistakes(first)
        if others == [...]:
            return single
        return [([*words, *["1"] * len(others)], says) for words, says in single]
    if kind is Schedule:
        return [(["linear(1)"], ["schedule"]), (["nan"], ["finite"])]
    if kind in (bool, Path):
        return []
    wrong = [([text], [text]) for text in (["1.5"] if kind is int else ["many", "nan"])]
    for bound in bounds:
        for name, beyond in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            if hasattr(bound, name):
                limit = getattr(bound, name)
                wrong.append(([str(kind(limit + beyond))], [f"{limit:g}" if kind is float else str(limit)]))
    return wrong


def annotations(metadata):
    """Yield the bounds in the metadata of a type, also those within pydantic's fields."""
    for item in metadata:
        yield from annotations(item.metadata) if isinstance(item, pydantic.fields.FieldInfo) else [item]


def needs_value(kind):
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return kind is not bool and Ellipsis not in typing.get_args(kind)


CASES = [
    (flag, words, says)
    for flag in FLAGS
    for words, says in [*mistakes(flag.type), *([([], [flag.name])] if needs_value(flag.type) else [])]
]


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """Run a script up to where its work begins, and return the message with which its command line is refused."""

    def accept(*_, **__):
        raise AIRError("the work begins")

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        try:
            MODULES[script].main()
        except UsageError as error:
            return str(error)
        except AIRError as error:  # about what comes after the command line
            return f"accepted, but then: {error}"
        return "accepted"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "quiet_import", accept)
    monkeypatch.setattr(MODULES["air/data/command.py"], "make_dataset", accept)
    monkeypatch.setattr("air.evaluation.seeds.report", accept)
    return run


def test_all_flags_are_found():
    assert len(FLAGS) > 100
    assert {"--max-steps", "--batch-size", "--images-per-count", "--sprite"} <= {flag.name for flag in FLAGS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_impossible_values(script, refused):
    wrong = []
    for flag, words, says in CASES:
        if flag.script != script:
            continue
        value = [f"{flag.name}={words[0]}"] if len(words) == 1 else [flag.name, *words]
        message = refused(script, *flag.before, *value)
        named = {flag.name, flag.name.removeprefix("--"), flag.name.removeprefix("--").replace("-", "_")}
        is_named = any(name in message for name in named)
        if message.startswith("accepted") or not is_named or not all(text in message for text in says):
            wrong.append((value, message))
    assert not wrong, "\n".join(f"{value}: {message}"[:300] for value, message in wrong)


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        ("--data scenes.npz", (20, 24)),
        ("--data=scenes", (20, 24)),
        ("--data scenes.npz --canvas-size 30 40", (30, 40)),
        ("--data scenes.npz --canvas_size 50 50", (50, 50)),
        ("--data damaged.npy", (50, 50)),
        ("--data missing", (50, 50)),
        ("", (50, 50)),
    ],
)
def test_the_canvas_has_the_size_of_the_data(flags, size, tmp_path, monkeypatch):
    scenes = SceneSet(np.zeros((2, 20, 24), np.uint8))
    (tmp_path / "scenes").mkdir()
    for name in ("scenes.npz", "scenes/train.npz"):
        scenes.save(tmp_path / name)
    (tmp_path / "damaged.npy").write_text("text")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["training.py", *flags.split()])
    assert MODULES["air/training/command.py"].read_arguments().model.canvas_size == size


@pytest.mark.parametrize(
    ("script", "flags", "says"),
    [
        ("air/data/command.py", "--margin 25", ["margin: 25", "canvas_size"]),
        ("air/data/command.py", "--width-scale 2 1", ["width_scale", "first value must not be above the second"]),
        ("air/training/command.py", "--cnn-kernels 3", ["cnn_kernels", "as many values as"]),
        ("air/training/command.py", "--controller canvas --cnn-strides 50 2", ["cnn_strides", "canvas_size"]),
        ("air/training/command.py", "--temperature exponential(1,factor=0.1,every=9)", ["temperature", "above 0", "limit"]),
    ],
)
def test_contradictions(script, flags, says, refused):
    message = refused(script, *flags.split())
    for text in says:
        assert text in message
