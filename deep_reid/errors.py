"""The errors that a user can mend, each with its exit code.

A message is one line with the thing, the rule that it breaks, and the way out.
"""

import errno
import re

# TensorFlow's graph mode puts this text around the message.
_GRAPH_ERROR = re.compile(
    r"Graph execution error:.*?\nNode: [^\n]*\n(?P<message>[^\n]+)", re.DOTALL
)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def printable(text: str) -> str:
    """Escape what a terminal obeys instead of showing, such as a line break in the name of a file.

    Names come from others: with a line break one could forge a line of the log, with other control
    characters its colors, or the direction of its text.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        One line, with escapes, as in Python's strings, in place of the characters.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def first_line(error: BaseException) -> str:
    """Reduce an error's text to the line with the reason.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str
        Without the place of the op, with which TensorFlow's errors of a graph begin. With the path,
        if it is an error of the operating system.
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
    """Base of all errors that a user can mend; only subclasses are raised."""

    exit_code = 1


class UsageError(ReidError, ValueError):
    """A setting breaks a rule, which is checked without the data."""

    exit_code = 2


class DataError(ReidError, ValueError):
    """The data, a file or a checkpoint is not what it must be."""


class MissingPathError(DataError, FileNotFoundError):
    """A file or folder is missing."""


class RunError(ReidError, RuntimeError):
    """Training or evaluation cannot go on."""
