"""Imports the user's own networks and losses by their names; free of TensorFlow.

A name is ``MODULE:NAME``. Python looks for the module on its path, then in the working directory:
an installed command does not have that on its path, but the user's file is there.
"""

import importlib
import importlib.util
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from deep_reid.errors import UsageError, first_line
from deep_reid.system.spelling import propose
from deep_reid.system.tables import list_some

EXAMPLE = "my_module:MyNetwork"
_MISSING = object()
_logger = logging.getLogger(__name__)


def find_problem(text: str) -> str | None:
    """Find out what is wrong with the form of a name.

    Parameters
    ----------
    text : str
        Should be ``MODULE:NAME``.

    Returns
    -------
    str or None
        What to say after the name. None: nothing is wrong.
    """
    module, _, name = text.partition(":")
    if "/" in module or "\\" in module or module.endswith(".py"):
        return (
            f"has the path of a file: write the module as Python imports it, such as {EXAMPLE}, "
            "and start in its folder"
        )
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        return f"must be MODULE:NAME, such as {EXAMPLE}: two names of Python, and one colon"
    return None


def check_found(text: str) -> None:
    """Check that a module can be found, without importing it: it may import TensorFlow.

    Parameters
    ----------
    text : str
        ``MODULE:NAME``.

    Raises
    ------
    UsageError
        If there is no module of this name, or no package that it is in.
    """
    _look_in_working_directory()
    package = text.partition(":")[0].partition(".")[0]
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        raise _not_found(text, package)


def import_named(text: str) -> Any:
    """Import an object by its name.

    Parameters
    ----------
    text : str
        ``MODULE:NAME``.

    Returns
    -------
    object
        The module's object of this name. If that is a class: an instance, made without arguments.

    Raises
    ------
    UsageError
        If the name has another form, the module is not found or cannot be imported, has nothing of
        this name, or the class cannot be instantiated. The cause is the error in the module.
    """
    problem = find_problem(text)
    if problem:
        raise UsageError(f"{text!r} {problem}")
    module_name, _, name = text.partition(":")
    _look_in_working_directory()
    is_new = module_name not in sys.modules
    try:
        module = importlib.import_module(module_name)
        value = getattr(module, name, _MISSING)  # may import, too
    except (Exception, SystemExit) as error:  # a script may end the process when it is imported
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise _not_found(text, missing) from error
        raise UsageError(
            f"{text}: module {module_name} cannot be imported: {_describe_error(error)}; --debug "
            "shows more"
        ) from error
    if value is _MISSING:
        raise UsageError(f"{text}: {_describe(module)} has no {name}{_propose(module, name)}")
    if is_new:
        _logger.info("Using %s of %s", text, _describe(module))
    return _make(text, value) if isinstance(value, type) else value


def check_call(
    text: str, function: object, positional: Sequence[str], by_name: Sequence[str] = ()
) -> None:
    """Check that the user's function can be called as the package calls it.

    Parameters
    ----------
    text : str
        The user's name for it.
    function : object
        None: it is missing.
    positional, by_name : sequence of str
        The names of the arguments.

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
    except ValueError:  # a function of a C library has no signature
        return None
    try:
        signature.bind(*positional, **dict.fromkeys(by_name))
    except TypeError as error:
        return f"cannot be called with these arguments: {error}"
    return None


def _not_found(text, module_name):
    return UsageError(
        f"{text}: there is no module {module_name} in {os.getcwd()} or where Python looks: start "
        "in the folder of its file, or add that folder to PYTHONPATH"
    )


def _look_in_working_directory():
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        # Last: a file there must not shadow a module that the package imports later.
        sys.path.append(here)
    importlib.invalidate_caches()  # the file may be newer than Python's listing of the folder


def _make(text, user_class):
    try:
        return user_class()
    except Exception as error:
        raise UsageError(
            f"{text}() failed: {_describe_error(error)}. A class is made without arguments: if it "
            "needs some, make the object in the module, and give the object's name"
        ) from error


def _describe(module):
    folder = next(iter(getattr(module, "__path__", ())), "part of Python")
    return f"module {module.__name__} ({getattr(module, '__file__', None) or folder})"


def _propose(module, name):
    public = [known for known in vars(module) if not known.startswith("_")]
    proposal = propose(name, public)
    if proposal:
        return proposal
    own = [
        known
        for known in public
        if getattr(vars(module)[known], "__module__", "") == module.__name__
    ]
    return f": it has {list_some(sorted(own))}" if own else ": define it there"


def _describe_error(error):
    """Return the error's kind, its first line, and the place in the user's file."""
    text = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    of_import = (__file__, importlib.__file__, "<frozen")
    own = [frame for frame in frames if not frame.filename.startswith(of_import)]
    # An error of syntax has no such frame: its text names file and line.
    return f"{text} ({own[0].filename}, line {own[0].lineno})" if own else text
