"""Recognizes what only Python 2 understands."""

import re
from types import ModuleType

from deep_reid.legacy import gone_names

_ERRORS = re.compile(
    r"Missing parentheses in call to|multiple exception types must be parenthesized"
    r"|leading zeros in decimal|parameters cannot be parenthesized"
)
_LINES = re.compile(
    r"^\s*(print|exec)\s+[^=(\s]|^\s*raise\s+[\w.]+\s*,|^\s*except\s+[\w.(), ]+,\s*\w+\s*:"
    r"|<>|`|\bur['\"]|\b(0x[0-9a-f]+|\d+)L\b",
    re.IGNORECASE,
)
_PRINT_TO_FILE = "unsupported operand type(s) for >>: 'builtin_function_or_method'"
_NO_NAME = re.compile(r"cannot import name '(\w+)'")


def describe_syntax(error: SyntaxError) -> str | None:
    """Describe a line that does not compile.

    Parameters
    ----------
    error : SyntaxError

    Returns
    -------
    str or None
        None if Python 2 does not know the line either.
    """
    text = error.text or ""
    if isinstance(error, TabError):
        return f"tabs and spaces are mixed, as Python 2 allowed: expand -t 8 {error.filename}"
    if _ERRORS.search(error.msg) or _LINES.search(text):
        return describe(text, error.filename)
    return None


def describe(line: str, path: str | None) -> str:
    """Describe a line of Python 2, and what converts it.

    Parameters
    ----------
    line : str
        The code.
    path : str or None
        The file.

    Returns
    -------
    str
    """
    return (
        f"this is Python 2 ({line.strip()}): convert it with 2to3 -w {path} (in Python up to "
        f"3.12), or pip install future and futurize -w {path}"
    )


def is_cause(error: BaseException) -> bool:
    """Tell whether an error comes from a name or a call that Python 3 lacks.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    bool
    """
    if isinstance(error, NameError):
        return error.name in gone_names.PYTHON_2_NAMES
    if isinstance(error, ModuleNotFoundError):
        return error.name in gone_names.PYTHON_2_MODULES
    if isinstance(error, TypeError):
        return str(error).startswith(_PRINT_TO_FILE)
    owner, name = find_missing_name(error)
    return f"{owner}.{name}" in gone_names.PYTHON_2_ATTRIBUTES


def find_missing_name(error: BaseException) -> tuple[str | None, str | None]:
    """Find out what an AttributeError, or an error of ``from ... import``, is about.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    owner : str or None
        Dotted name of the module, or name of the type, that lacks a name; None for other errors.
    name : str or None
        The name.
    """
    if isinstance(error, AttributeError):
        owner = error.obj if isinstance(error.obj, ModuleType) else type(error.obj)
        return owner.__name__, error.name
    if isinstance(error, ImportError) and (match := _NO_NAME.match(str(error))):
        return error.name, match[1]
    return None, None
