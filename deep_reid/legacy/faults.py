"""Describes, in one line, what old code asks for and cannot get."""

import linecache
import os
import traceback

from deep_reid.legacy import gone_names, python_2
from deep_reid.legacy.old_code import OldCode

# From the module that lacks a name to its name in old code; the first match counts.
_OLD_PREFIXES = (
    ("tensorflow._api.v2.compat.v1", "tensorflow"),
    ("tensorflow._api.v2", "tensorflow"),
    ("tensorflow.compat.v1", "tensorflow"),
    ("tf_keras.api._v1.keras.__internal__.legacy.rnn_cell", "tensorflow.nn.rnn_cell"),
    ("tf_keras.api._v1.keras.__internal__.legacy", "tensorflow"),
    ("tf_keras.api._v1.keras", "tensorflow.keras"),
    ("tf_slim", "tensorflow.contrib.slim"),
)
# Errors about a missing name pass through these files.
_GO_BETWEENS = (
    os.path.join("tensorflow", "python", "util", "module_wrapper.py"),
    os.path.join("tensorflow", "python", "util", "lazy_loader.py"),
    os.path.join("importlib", "__init__.py"),
    os.path.join("scipy", "__init__.py"),
    os.path.join("scipy", "misc", "__init__.py"),
    os.path.join("scipy", "_lib", "deprecation.py"),
)


def describe(error: BaseException, old_code: OldCode) -> str | None:
    """Describe an error that an old name, a missing package or Python 2 caused.

    Parameters
    ----------
    error : BaseException
        With its trace.
    old_code : deep_reid.legacy.old_code.OldCode

    Returns
    -------
    str or None
        File and line of the old code, what it asks for, and the way out. None for all other
        errors.
    """
    if isinstance(error, SyntaxError):
        is_old = error.filename is not None and old_code.holds(error.filename)
        place = (error.filename, error.lineno) if is_old else None
        verdict = python_2.describe_syntax(error)
    else:
        place = _find_place(error, old_code)
        verdict = place and _describe_at(error, place)
    return f"{place[0]}:{place[1]}: {verdict}" if place and verdict else None


def _find_place(error, old_code):
    """Find file and line in old code; None if a library that it called raised the error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        # "<string>" is code that a script gave to exec.
        if not (frame.filename.startswith("<") or frame.filename.endswith(_GO_BETWEENS)):
            return (frame.filename, frame.lineno) if old_code.holds(frame.filename) else None
    return None


def _describe_at(error, place):
    if python_2.is_cause(error):
        return python_2.describe(linecache.getline(*place), place[0])
    if isinstance(error, ModuleNotFoundError):
        return error.name and _describe_module(error.name)
    owner, name = python_2.find_missing_name(error)
    is_import = isinstance(error, ImportError)
    return owner and _describe_name(owner, name, "tensorflow" if is_import else "tf", place)


def _describe_module(name):
    root, _, path = name.partition(".")
    if root == "tensorflow":
        return _describe_tensorflow(name, path)
    if name in gone_names.PIP_NAMES:
        return f"{name} is not installed: pip install {gone_names.PIP_NAMES[name]}"
    return _describe_library(name)


def _describe_name(module, name, root, place):
    """Describe a name that a module lacks; `root` is what the old code calls TensorFlow."""
    for prefix, old in _OLD_PREFIXES:
        if f"{module}.".startswith(f"{prefix}."):
            module = old + module[len(prefix) :]
            break
    package, _, path = f"{module}.{name}".partition(".")
    if package == "deep_reid":
        return f"{module} has no {name}: --engine=own runs the modules beside the script"
    if package != "tensorflow":
        return _describe_library(f"{module}.{name}")
    written = f"{root}.{path}"
    if path.startswith("contrib.slim.") and "contrib" not in linecache.getline(*place):
        written = ("tf_slim" if root == "tensorflow" else "slim") + path[len("contrib.slim") :]
    return _describe_tensorflow(written, path)


def _describe_tensorflow(written, path):
    replacement = _look_up(gone_names.TENSORFLOW, path)
    if replacement is None:
        return f"{written} has no counterpart in TensorFlow 2.x"
    return f"{written} is not in TensorFlow 2.x: use {replacement}"


def _describe_library(name):
    replacement = _look_up(gone_names.LIBRARIES, name)
    if replacement is None:
        return None
    return f"{name} is not in today's {name.partition('.')[0]}: use {replacement}"


def _look_up(table, name):
    """Look up a name, or the innermost package of it that the table has."""
    while name and name not in table:
        name = name.rpartition(".")[0]
    return table.get(name)
