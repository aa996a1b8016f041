"""The data sets of this package, beside old code that calls its own ``datasets``, too."""

import builtins
import importlib.machinery
import os
import types
from pathlib import Path

NAME = "deep_reid_datasets"
_PACKAGE = Path(__file__).resolve().parents[1]


def find_folder():
    """Find the folder of this package's data sets.

    Returns
    -------
    str or None
        None where ``deep_reid`` is installed without them.
    """
    for folder in (_PACKAGE / "datasets", _PACKAGE.parent / "datasets"):
        if (folder / "market1501.py").is_file() and (folder / "__init__.py").is_file():
            return str(folder)
    return None


class OwnDatasetsFinder:
    """Finds this package's data sets under the name `NAME`.

    They import each other as ``datasets``, which is the old code's package in this process. In
    their files, ``import datasets`` means `NAME`.

    Parameters
    ----------
    folder : str
        As `find_folder` returns it.
    """

    def __init__(self, folder):
        self._folder = folder

    def find_spec(self, name, path=None, target=None):
        """Find a module of the data sets, or leave it to Python.

        Parameters
        ----------
        name : str
            Its full name.
        path : list of str, optional
            The folders of the package it is in; None for a top-level one.
        target : module, optional
            Not used.

        Returns
        -------
        importlib.machinery.ModuleSpec or None
        """
        package, _, module = name.partition(".")
        if package != NAME:
            return None
        file = os.path.join(self._folder, f"{module or '__init__'}.py")
        if not os.path.isfile(file):
            return None
        spec = importlib.machinery.ModuleSpec(name, _Loader(name, file), origin=file)
        spec.has_location = True
        spec.submodule_search_locations = None if module else [self._folder]
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        return module


def _import(name, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002
    if not level and name.partition(".")[0] == "datasets":
        name = NAME + name.removeprefix("datasets")
    return builtins.__import__(name, globals, locals, fromlist, level)
