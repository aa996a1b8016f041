"""The errors that a user can mend, each with its exit code.

A message is one line with the thing, the rule that it breaks, and the way out.
"""

import errno
import os
import re

# TensorFlow's runtime on several machines puts this text before the message.
_ORIGIN = re.compile(r"From /job:\S+:\n")

# TensorFlow's graph mode puts this text around the message; without a node, only the first line.
_GRAPH_ERROR = re.compile(
    r"Graph execution error:(.*?\nNode: [^\n]*\n|\s+)(?P<message>[^\n]+)", re.DOTALL
)

_WAYS_OUT = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f)",
    errno.EISDIR: "name a file",
    errno.ELOOP: "remove the link",
}


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
        Without the place of the op or the process, with which TensorFlow's errors may begin. With
        the path, if it is an error of the operating system. Control characters are escaped.
    """
    text = _ORIGIN.sub("", str(error).strip(), count=1)
    match = _GRAPH_ERROR.match(text)
    if match:
        return printable(match["message"].strip())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        way_out = _WAYS_OUT.get(error.errno or 0, "check the path and its permissions")
        name = error.filename
        name = os.fsdecode(name) if isinstance(name, bytes) else name
        return printable(f"{name}: {error.strerror}; {way_out}")
    # Our own messages are one line: a break in them belongs to a name.
    return printable(text if isinstance(error, ReidError) else text.partition("\n")[0])


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
