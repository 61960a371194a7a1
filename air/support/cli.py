"""What all command lines share: flags from dataclasses, one-line errors, exit statuses (2 for usage, 1 for failure)."""

import contextlib
import io
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import tyro

from air.errors import AIRError, UsageError
from air.schedules import Schedule
from air.support import xla_cache

Arguments = TypeVar("Arguments")

MIN_WIDTH = 40  # columns of --help

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
    default: Any = None,
    renamed: Mapping[str, str] | None = None,
) -> Arguments:
    """Reads the command line into a dataclass.

    Args:
        cls: the dataclass; fields that are configurations are flattened, so that each of their fields is a flag.
        description: its first line is shown by `--help`; None, as Python without docstrings has it.
        args: the arguments without the program's name; those of this process when None.
        default: an instance whose values are the flags' defaults.
        renamed: fields by their former name, whose flags get an error that tells the new one.

    Raises:
        UsageError: for a flag that is unknown or has an impossible value.
        SystemExit: with status 0 after `--help`.
    """
    options = {} if default is None else {"default": default}
    errors = io.StringIO()
    width = os.environ.get("COLUMNS", "")
    arguments = sys.argv[1:] if args is None else args
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{argument!a} is not allowed; it must be text in UTF-8") from None
    description = (description or "").split("\n")[0]
    try:
        with contextlib.redirect_stderr(errors), _registry:
            if "--help" not in arguments:
                os.environ["COLUMNS"] = "10000"  # keeps tyro from wrapping the message, which becomes one line
            elif width.isdigit() and int(width) < MIN_WIDTH:  # where tyro searches without end
                os.environ["COLUMNS"] = str(MIN_WIDTH)
            return tyro.cli(cls, description=description, args=args, config=(tyro.conf.OmitArgPrefixes,), **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        for former, field in (renamed or {}).items():
            flag = f"--{former.replace('_', '-')}"
            if any(argument.split("=")[0].replace("_", "-") == flag for argument in arguments):
                raise UsageError(f"{flag} is now called --{field.replace('_', '-')}") from None
        raise UsageError(_message(errors.getvalue())) from None
    finally:
        os.environ.pop("COLUMNS", None)
        if width:
            os.environ["COLUMNS"] = width


def peek(flag: str) -> str | None:
    """The value of a flag of this process, the last one, before its command line is parsed; None where it is not given."""
    arguments, value = sys.argv[1:], None
    for argument, after in itertools.pairwise([*arguments, None]):
        if argument == flag:
            value = after
        elif argument.startswith(f"{flag}="):
            value = argument.removeprefix(f"{flag}=")
    return value


def _message(box: str) -> str:
    """The first paragraph of tyro's framed message, on one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│ \t") for line in box.splitlines()]
    body = [line for line in lines if line and not line.startswith(("╭", "╰"))]
    rule = next((i for i, line in enumerate(body) if set(line) == {"─"}), len(body))
    text = " ".join(body[:rule])
    text = re.sub(r"^Error parsing (?!-)[\w.{}|-]+: ", "", text)
    return text.removeprefix("Error parsing ")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Imports TensorFlow, with the cache of `air.support.xla_cache`, and holds back the notes that its C++ part writes meanwhile.

    No setting silences them, and they would bury our own lines. They are shown on standard error if the import fails. Our
    own warnings would be held back too, so there should be nothing but imports within it.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user has for other work
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for the notes after the import
    xla_cache.enable()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        stderr = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            import keras

            keras.config.set_floatx("float32")
            keras.config.set_image_data_format("channels_last")
            yield
        except ImportError:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a script's main function; a user's mistake ends in one line on standard error, without a traceback."""
    program = os.path.basename(sys.argv[0])
    _open_closed_streams()
    if hasattr(sys.stdout, "reconfigure"):  # as that of a notebook has not
        sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that its encoding lacks
    try:
        main()
    except AIRError as error:
        _fail(program, str(error), error.exit_status)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(program, f"{place}{error.strerror or error}", 1)
    except MemoryError:
        _fail(program, "out of memory", 1)
    except KeyboardInterrupt:
        _fail(program, "interrupted", 130)
    except Exception as error:
        if not _is_of_machine(error):
            raise
        _fail(program, re.sub(r"{{.*?}}", "", str(error).splitlines()[0])[:500], 1)
    sys.exit(0)


def _open_closed_streams() -> None:
    """Lets what is said go nowhere where a standard stream was closed before we began: libraries trust in there being one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _is_of_machine(error: Exception) -> bool:
    """Whether TensorFlow found the disk or the memory full, a file closed to it, or in the place of a folder."""
    if "tensorflow" not in sys.modules:
        return False
    from tensorflow import errors

    kinds = (errors.ResourceExhaustedError, errors.PermissionDeniedError, errors.NotFoundError, errors.FailedPreconditionError)
    return isinstance(error, kinds)


def _fail(program: str, message: str, status: int) -> NoReturn:
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)
