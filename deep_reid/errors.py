"""What can go wrong through no fault of the code, each with its exit code.

A message is one line that names the thing, the rule it breaks, and the way out.
"""


class ReidError(Exception):
    """Base of all errors that a user can mend; never raised itself."""

    exit_code = 1


class UsageError(ReidError, ValueError):
    """A setting breaks a rule that can be checked without looking at the data."""

    exit_code = 2


class DataError(ReidError, ValueError):
    """The data, a file or a checkpoint is not as it has to be."""


class MissingPathError(DataError, FileNotFoundError):
    """A file or folder is not where it has to be."""


class RunError(ReidError, RuntimeError):
    """Training or evaluation cannot go on."""
