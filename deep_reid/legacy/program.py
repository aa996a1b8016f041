"""Starts a script or a module as Python itself does."""

import importlib.machinery
import importlib.util
import io
import os
import sys
import types
from collections.abc import Sequence

from deep_reid.errors import UsageError
from deep_reid.legacy.modules import is_missing


def find_script(path: str) -> str:
    """Check the path of a script.

    Parameters
    ----------
    path : str

    Returns
    -------
    str
        Absolute path of its folder, which has its modules, too.

    Raises
    ------
    UsageError
        If there is no such file.
    """
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: name a script in it, or run -m PACKAGE.MODULE")
    if not os.path.exists(path):
        raise UsageError(f"{path} does not exist: check the path, it starts from {os.getcwd()}")
    try:
        with open(path, "rb"):
            return os.path.dirname(os.path.realpath(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; check its permissions") from None


def run_script(path: str, arguments: Sequence[str], builtins: types.ModuleType) -> None:
    """Run a script as ``__main__``.

    Parameters
    ----------
    path : str
    arguments : sequence of str
    builtins : module
        What the script sees as ``builtins``.
    """
    sys.argv[:] = [path, *arguments]
    absolute = os.path.join(os.getcwd(), path)  # Python does not normalize it either
    with io.open_code(absolute) as file:
        code = compile(file.read(), absolute, "exec", dont_inherit=True)
    loader = importlib.machinery.SourceFileLoader("__main__", absolute)
    _run_as_main(code, builtins, __file__=absolute, __loader__=loader, __package__=None)


def run_module(name: str, arguments: Sequence[str], builtins: types.ModuleType) -> None:
    """Run a module, or a package's ``__main__``, as ``python -m`` does.

    Parameters
    ----------
    name : str
        Dotted name.
    arguments : sequence of str
    builtins : module
        What the module sees as ``builtins``.

    Raises
    ------
    UsageError
        If there is no such module.
    """
    sys.argv[:] = ["-m", *arguments]
    spec = _find_module(name)
    code = spec.loader.get_code(spec.name)
    sys.argv[0] = spec.origin
    _run_as_main(
        code,
        builtins,
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
    )


def _find_module(name):
    spec = _find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find_spec(f"{name}.__main__")
        if spec is None:
            raise UsageError(f"-m {name}: {name} is a package without __main__.py: name its module")
    if spec is None or not hasattr(spec.loader, "get_code"):
        raise UsageError(f"-m {name}: no such module: check its name, it starts from {os.getcwd()}")
    return spec


def _find_spec(name):
    """Find a module; its packages are imported, which runs their code."""
    if name.startswith("."):
        return None
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if is_missing(name, error):
            return None
        raise


def _run_as_main(code, builtins, **names):
    main = types.ModuleType("__main__")
    main.__dict__.update(names, __builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    exec(code, main.__dict__)
