"""Every error that fairplay raises on purpose, as one tree.

Left out: errors of our own invariants (plain `AssertionError`). Floor 0: everything may import this file.

    FairplayError
    |-- SettingsError   exit 2   a recipe, option or name that is not known or not allowed
    |-- DataError       exit 3   input data, or a file of a run, that can't be used as it is
    |-- ResourceError   exit 4   memory, disk, a missing optional package
    |-- ServiceError    exit 5   a server or an API outside this process
    |-- LockedError     exit 6   another process works in the same run directory
    `-- Preempted       exit 75  stopped by a signal; run the same command again to resume
"""


class FairplayError(Exception):
    """An error with one line that says what and where, and a hint that says how to mend it.

    Args:
        message: What is wrong and where, in one line.
        hint: How to mend it; empty where the message says it all.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class SettingsError(FairplayError, ValueError):
    """A recipe, option or name that is not known or not allowed.

    Also a `ValueError`, so that settings classes that raise it in `__post_init__` have it collected at the YAML door.
    """

    exit_code = 2


class DataError(FairplayError):
    """Input data, or a file of a run, that can't be used as it is."""

    exit_code = 3


class ResourceError(FairplayError):
    """Too little memory or disk, or an optional package that is not installed."""

    exit_code = 4


class ServiceError(FairplayError):
    """A server or an API outside this process failed."""

    exit_code = 5


class LockedError(FairplayError):
    """Another process works in the same run directory."""

    exit_code = 6


class Preempted(FairplayError):
    """A signal asked the process to stop; everything committed is kept and the run can be resumed."""

    exit_code = 75
