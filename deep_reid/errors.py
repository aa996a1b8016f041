"""What can go wrong through no fault of the code, each with its exit code.

A message is one line that names the thing, the rule it breaks, and the way out.
"""

import errno
import re

# What TensorFlow's graph mode writes around the message proper.
_GRAPH_ERROR = re.compile(
    r"Graph execution error:.*?\nNode: [^\n]*\n(?P<message>[^\n]+)", re.DOTALL
)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def first_line(error):
    """Reduce an error's text to the line that says what went wrong.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
        TensorFlow's errors of a graph begin with where the op was made; that is left out. Errors of
        the operating system name the path.
    """
    text = str(error).strip()
    match = _GRAPH_ERROR.match(text)
    if match:
        return match["message"].strip()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        is_full = error.errno in _NO_SPACE
        way_out = "free some space" if is_full else "check the path and its permissions"
        return f"{error.filename}: {error.strerror}; {way_out}"
    return text.partition("\n")[0]


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
