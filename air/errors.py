"""The errors that a user can cause, each with a message of one line."""


class AIRError(Exception):
    """Base of the project's own errors; scripts end with `exit_status`."""

    exit_status = 1


class UsageError(AIRError, ValueError):
    """A flag or an argument that can't be used as given."""

    exit_status = 2


class ConfigError(UsageError):
    """A configuration field with an impossible value."""


class DataError(AIRError, ValueError):
    """A file that is missing, damaged or of another kind than expected."""
