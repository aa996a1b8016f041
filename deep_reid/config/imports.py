"""Networks and losses of the user's own, found by their names; free of TensorFlow.

A name is ``MODULE:NAME``. The module is looked for where Python looks, then in the working
directory, where the user's file is while a command runs elsewhere.
"""

import difflib
import importlib
import inspect
import logging
import os
import sys
import traceback

from deep_reid.errors import UsageError, first_line
from deep_reid.system.tables import list_some

EXAMPLE = "my_module:MyNetwork"
_MISSING = object()
_logger = logging.getLogger(__name__)


def split_name(text):
    """Split ``MODULE:NAME``, and check both parts.

    Parameters
    ----------
    text : str

    Returns
    -------
    module, name : str

    Raises
    ------
    UsageError
        If it has another form.
    """
    module, _, name = text.partition(":")
    if "/" in module or "\\" in module or module.endswith(".py"):
        raise UsageError(
            f"{text!r} has the path of a file: write the module as Python imports it, such as "
            f"{EXAMPLE}, and start in its folder"
        )
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise UsageError(
            f"{text!r} must be MODULE:NAME, such as {EXAMPLE}: two names of Python, and one colon"
        )
    return module, name


def import_named(text):
    """Import something by its name.

    Parameters
    ----------
    text : str
        ``MODULE:NAME``.

    Returns
    -------
    object
        What the module has by this name. Of a class: an object, made without arguments.

    Raises
    ------
    UsageError
        If the name has another form, the module is not found or cannot be imported, has nothing of
        this name, or the class cannot be made. What went wrong in the module is the cause.
    """
    module_name, name = split_name(text)
    _look_in_working_directory()
    is_new = module_name not in sys.modules
    try:
        module = importlib.import_module(module_name)
        value = getattr(module, name, _MISSING)  # may import, too
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{text}: there is no module {error.name} in {os.getcwd()} or where Python looks: "
                "start in the folder of its file, or add that folder to PYTHONPATH"
            ) from error
        raise _cannot_be_imported(text, module_name, error) from error
    except (Exception, SystemExit) as error:  # a script may end the process when it is imported
        raise _cannot_be_imported(text, module_name, error) from error
    if value is _MISSING:
        raise UsageError(f"{text}: {_describe(module)} has no {name}{_propose(module, name)}")
    if is_new:
        _logger.info("Using %s of %s", text, _describe(module))
    return _make(text, value) if isinstance(value, type) else value


def check_call(text, function, positional, by_name=()):
    """Check that something of the user's can be called as the package calls it.

    Parameters
    ----------
    text : str
        How the user knows it.
    function : object
        None: it is missing.
    positional, by_name : sequence of str
        The arguments.

    Raises
    ------
    UsageError
        If it cannot.
    """
    if function is None:
        reason = "is missing"
    elif not callable(function):
        reason = f"cannot be called, as it is of type {type(function).__name__}"
    else:
        reason = _find_mismatch(function, positional, by_name)
    if reason:
        call = f"{text}({', '.join((*positional, *by_name))})"
        raise UsageError(f"{call} {reason}; docs/extending.md has an example")


def _find_mismatch(function, positional, by_name):
    try:
        signature = inspect.signature(function)
    except ValueError:  # a function of a C library does not tell
        return None
    try:
        signature.bind(*positional, **dict.fromkeys(by_name))
    except TypeError as error:
        return f"cannot be called with these arguments: {error}"
    return None


def _look_in_working_directory():
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        # Last: a file there must not take the place of a module that the package imports later.
        sys.path.append(here)
    importlib.invalidate_caches()  # the file may be newer than what Python knows of the folder


def _make(text, own_class):
    try:
        return own_class()
    except Exception as error:
        raise UsageError(
            f"{text}() failed: {_describe_error(error)}. A class is made without arguments; one "
            "that takes some can be made in the module, and the object be named here"
        ) from error


def _describe(module):
    folder = next(iter(getattr(module, "__path__", ())), "part of Python")
    return f"module {module.__name__} ({getattr(module, '__file__', None) or folder})"


def _propose(module, name):
    public = [known for known in vars(module) if not known.startswith("_")]
    close = difflib.get_close_matches(name, public, 1)
    if close:
        return f"; did you mean {close[0]}?"
    own = [
        known
        for known in public
        if getattr(vars(module)[known], "__module__", "") == module.__name__
    ]
    return f": it has {list_some(sorted(own))}" if own else ": define it there"


def _cannot_be_imported(text, module_name, error):
    return UsageError(
        f"{text}: module {module_name} cannot be imported: {_describe_error(error)}; --debug shows "
        "more"
    )


def _describe_error(error):
    """Return the error's kind, its first line, and the place in the user's file."""
    text = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    of_import = (__file__, importlib.__file__, "<frozen")
    own = [frame for frame in frames if not frame.filename.startswith(of_import)]
    # None: an error of syntax, which says it itself.
    return f"{text} ({own[0].filename}, line {own[0].lineno})" if own else text
