"""Every flag of every script refuses what it can't use: status 2 and what is allowed. New flags are found by themselves."""

import dataclasses
import importlib.util
import sys
import types
import typing
from pathlib import Path

import annotated_types
import pydantic
import pytest

from air.data import multi_mnist
from air.errors import AIRError, UsageError
from air.schedules import Schedule
from air.support import cli

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {  # the classes of their command lines, and what comes before the flags
    "multi_mnist.py": {"Arguments": []},
    "training.py": {"Arguments": []},
    "evaluation.py": {"ModelArguments": [], "SeedsArguments": ["seeds"]},
    "embeddings.py": {"Arguments": []},
    "demo.py": {"Arguments": []},
    "air/evaluation/recognition.py": {"Arguments": []},
    "air/evaluation/release.py": {"Arguments": ["run"]},
}


def load(script):
    spec = importlib.util.spec_from_file_location(f"script_{Path(script).stem}", ROOT / script)
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
    """The flags of a class of arguments: its fields, and those of the configurations in it."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if isinstance(hints[field.name], type) and issubclass(hints[field.name], pydantic.BaseModel):
            for name, inner in typing.get_type_hints(hints[field.name], include_extras=True).items():
                if name in hints[field.name].model_fields:
                    yield Flag(script, before, f"--{name.replace('_', '-')}", inner)
        elif "Positional" not in str(hints[field.name]):
            yield Flag(script, before, f"--{field.name.replace('_', '-')}", hints[field.name])


FLAGS = [
    flag
    for script, classes in SCRIPTS.items()
    for cls, before in classes.items()
    for flag in flags_of(script, tuple(before), getattr(MODULES[script], cls))
]


def mistakes(kind, bounds=()):
    """Values that a type must refuse, each a list of words, with what the message must say."""
    if typing.get_origin(kind) is typing.Annotated:
        inner, *metadata = typing.get_args(kind)
        return mistakes(inner, (*bounds, *annotations(metadata)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = (argument for argument in typing.get_args(kind) if argument is not type(None))
        return mistakes(kind, bounds)
    if typing.get_origin(kind) is typing.Literal:
        return [(["no-such"], [str(typing.get_args(kind)[0]), "no-such"])]
    if typing.get_origin(kind) is tuple:
        first, *others = typing.get_args(kind)
        single = mistakes(first)
        if others == [...]:
            return single
        return [([*words, *["1"] * len(others)], says) for words, says in single]
    if kind is Schedule:
        return [([text], ["schedule"]) for text in ("many", "linear(1)", "__import__('os')", "(" * 5000)] + [
            ([text], ["finite"]) for text in ("nan", "inf", "1e999", "linear(1, 1e999, steps=3)")
        ]
    if kind in (bool, Path):
        return []
    wrong = [
        ([text], [text]) for text in (("many", "1.5", "1e3", "--", "nan") if kind is int else ("many", "nan", "inf", "0x1"))
    ]
    for bound in bounds:
        for name, beyond in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            if hasattr(bound, name):
                limit = getattr(bound, name)
                wrong.append(([str(kind(limit + beyond))], [f"{limit:g}" if kind is float else str(limit)]))
    if kind is int:  # no flag takes any integer
        wrong += [([str(-(10**30))], ["10000000"]), ([str(10**30)], ["10000000"])]
    return wrong


def annotations(metadata):
    """The bounds in the metadata of a type, also those within pydantic's fields."""
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
    """Runs a script up to where its work begins, and returns the message with which its command line is refused."""

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
    monkeypatch.setattr(multi_mnist, "make_dataset", accept)
    monkeypatch.setattr("air.evaluation.seeds.report", accept)
    return run


def test_all_flags_are_found():
    assert {flag.script for flag in FLAGS} == set(SCRIPTS)
    assert len(FLAGS) > 100
    assert {"--max-steps", "--batch-size", "--images-per-count", "--sprite", "--frame-rate"} <= {flag.name for flag in FLAGS}
    bounds = [item for flag in FLAGS for item in annotations(getattr(flag.type, "__metadata__", ())) if hasattr(item, "ge")]
    assert any(isinstance(bound, annotated_types.Ge) for bound in bounds)


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_flag_cannot_be(script, refused):
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
    ("script", "flags", "says"),
    [
        ("multi_mnist.py", "--margin 25", ["margin: 25", "canvas_size"]),
        ("multi_mnist.py", "--width-scale 2 1", ["width_scale", "first value must not be above the second"]),
        ("multi_mnist.py", "--images-per-count 2147483647", ["images_per_count: 2147483647", "8 GiB"]),
        ("training.py", "--cnn-kernels 3", ["cnn_kernels", "as many values as"]),
        ("training.py", "--cnn-strides 50 2", ["cnn_strides", "canvas_size"]),
        ("training.py", "--lstm-units 65536 --encoder-units 65536", ["weights", "at most 268435456"]),
        ("training.py", "--temperature exponential(1,factor=0.1,every=9)", ["temperature", "above 0", "limit"]),
        ("demo.py", "--headless", ["--script and --out"]),
        ("demo.py", "--out x", ["for --headless"]),
    ],
)
def test_contradictions(script, flags, says, refused):
    message = refused(script, *flags.split())
    for text in says:
        assert text in message
