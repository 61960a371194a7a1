"""Shared by all command lines: flags from dataclasses, one-line errors, exit statuses (2 for usage, 1 for failure)."""

import argparse
import contextlib
import gc
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import tyro

from air.errors import AIRError, UsageError
from air.schedules import Schedule
from air.support import xla_cache
from air.support.console import hidden_notes

Arguments = TypeVar("Arguments")

_SYSTEM_ERRORS = ("ResourceExhaustedError", "PermissionDeniedError", "NotFoundError", "FailedPreconditionError")
"""Names of TensorFlow's errors for a full disk or memory, or a file or folder that it can't use."""
_registry = tyro.constructors.ConstructorRegistry()


@_registry.primitive_rule
def _schedule_rule(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    if info.type is not Schedule:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT|SCHEDULE",
        instance_from_str=lambda arguments: Schedule.parse(arguments[0]),
        is_instance=lambda instance: isinstance(instance, Schedule),
        str_from_instance=lambda schedule: [str(schedule)],
    )


def parse(
    cls: type[Arguments],
    description: str | None,
    args: list[str] | None = None,
    default: Arguments | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Arguments:
    """Parse the command line into a dataclass, with a flag for every field, including those of nested configurations.

    Args:
        description: text for `--help`, such as the docstring of a script: its first line above the flags, the others below.
        args: the arguments; by default those of this process.
        default: an instance that supplies the flags' defaults.
        renamed: old names of fields mapped to the new ones; an old flag gets an error that says its new name.

    Raises:
        UsageError: if a flag is unknown or has an impossible value.
    """
    arguments = sys.argv[1:] if args is None else args
    options: dict[str, Any] = {"prog": os.path.basename(sys.argv[0])} | ({} if default is None else {"default": default})
    errors, columns = io.StringIO(), os.environ.get("COLUMNS")
    first_line, _, others = (description or "").strip().partition("\n")
    asks_help = not {"-h", "--help"}.isdisjoint(arguments)
    if not asks_help:
        os.environ["COLUMNS"] = "10000"  # keeps tyro from wrapping its message
    try:
        with contextlib.redirect_stderr(errors), _registry:
            markers = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
            return tyro.cli(cls, description=first_line, args=arguments, config=markers, **options)
    except SystemExit as stop:
        if not stop.code:
            if asks_help and others:
                print("\n" + re.sub(r"python (\w+)\.py", lambda script: command(script[1]), others.strip("\n")))
            raise
        flags = {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in arguments if argument.startswith("--")}
        for old, new in (renamed or {}).items():
            if old in flags:
                raise UsageError(f"--{old} is now called --{new}".replace("_", "-")) from None
        raise UsageError(_message(errors.getvalue())) from None
    finally:
        os.environ.pop("COLUMNS", None)
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _message(box: str) -> str:
    """Return the first paragraph of tyro's message as one line, or the first unknown flag and those like it.

    A frame or, on a terminal without UTF-8, a title stands around the message, and lines divide its paragraphs.
    """
    paragraphs: list[list[str]] = [[]]  # the first holds at most the title
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        text = line.strip("│ \t")
        if re.fullmatch("[╭╰].*|─+|-{3,}", text):
            paragraphs.append([])
        elif text:
            paragraphs[-1].append(text)
    _, first, hints, *_ = *paragraphs, []
    message = " ".join(first)
    if unknown := re.match("Unrecognized options: (--[^,=]+|[^,]+)", message):
        similar = [line.split()[0].strip(",") for line in hints if line.startswith("--")]
        return f"{unknown[1]}: unknown" + (f"; perhaps you meant {' or '.join(similar[:3])}" if similar else "")
    return re.sub(r"^Error parsing (?:(?!-)[\w.{}|-]+: )?", "", message)


def peek(flag: str) -> str | None:
    """Return the last value of a flag of this process before the command line is parsed; None if it isn't given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, "--" + flag[2:].replace("-", "_"), nargs="?", dest="value")  # the parser takes both spellings
    return parser.parse_known_args()[0].value


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let imports of an optional module fail, unless it has been imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """Import faster by a fifth: never look for garbage among the millions of objects that modules consist of."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Import TensorFlow with the cache of `air.support.xla_cache`; show the notes of its C++ code only if that fails.

    No setting silences them, so standard error is hidden from everything in the block, which should contain imports only.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    xla_cache.enable()
    with hidden_notes(), _garbage_kept():
        with _hidden("sklearn"):  # which Keras imports for its wrappers, a second for nothing
            import keras
        keras.config.set_floatx("float32")  # the user's keras.json may say otherwise
        keras.config.set_image_data_format("channels_last")
        yield


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's main function and exit; report warnings and expected errors in one line each, without a traceback."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # for file names that its encoding lacks
    try:
        with warnings.catch_warnings():  # restores what the next line changes
            warnings.showwarning = lambda message, *_, **__: _say("warning", str(message))
            try:
                main()
            finally:
                _flush()
    except AIRError as error:
        _fail(str(error), error.exit_status)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", 1)
    except MemoryError:
        _fail("out of memory", 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        if type(error).__name__ not in _SYSTEM_ERRORS:
            raise
        _fail(re.sub(r"{{.*?}}", "", str(error).splitlines()[0])[:500], 1)
    sys.exit(0)


def _flush() -> None:
    """Write what standard output holds back, or end quietly if its reader, such as `head`, has seen enough."""
    try:
        if isinstance(sys.exc_info()[1], BrokenPipeError):  # perhaps another pipe's
            print()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        sys.exit(1)


def _fail(message: str, status: int) -> NoReturn:
    _say("error", message)
    sys.exit(status)


def _say(kind: str, message: str) -> None:
    print(f"{os.path.basename(sys.argv[0])}: {kind}: {' '.join(message.split())}", file=sys.stderr)


def command(name: str, *words: object) -> str:
    """Return the command line that runs a script such as "training", as this one was: from its file, or as installed."""
    installed = {"training": "train", "evaluation": "evaluate", "multi_mnist": "scenes"}
    program = ["python", f"{name}.py"] if sys.argv[0].endswith(".py") else [f"air-{installed.get(name, name)}"]
    return shlex.join([*program, *map(str, words)])
