"""Errors that a user can cause; each message fits on one line."""

MAX_LENGTH = 1500  # characters of a message


class AIRError(Exception):
    """Base of the project's own errors; `air.support.cli.run` prints the message and exits with `exit_status`.

    The message is one line of printable characters, even if it quotes odd file names or values.
    """

    exit_status = 1

    def __str__(self) -> str:
        line = " ".join(super().__str__().split())
        line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
        return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 4]} ..."


class UsageError(AIRError, ValueError):
    """A flag or an argument that can't be used as given."""

    exit_status = 2


class ConfigError(UsageError):
    """A configuration field with an impossible value."""


class DataError(AIRError, ValueError):
    """A file that is missing, damaged or of the wrong kind."""
