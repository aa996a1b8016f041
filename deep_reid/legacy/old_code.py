"""Which files are old code, and what an import gives them.

Python looks ``__import__`` up in the builtins of the importing module. Old code gets builtins with
another ``__import__``. TensorFlow, Keras and all other libraries keep Python's, so that their own
imports, also later ones, give today's modules.
"""

import builtins
import functools
import importlib
import importlib.machinery
import os
import sys
import sysconfig
import types
from pathlib import Path

from deep_reid.legacy import sklearn_names

_LIBRARIES = {
    *(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")),
    str(Path(__file__).resolve().parents[1]),
}
_INSTALLED = {"site-packages", "dist-packages"}


class OldCode:
    """The files of a script and of its modules.

    Parameters
    ----------
    folder : str
        The folder of the script, or the working folder.
    engine : {"own", "deep_reid"}

    Attributes
    ----------
    builtins : module
        The ``builtins`` of old code.
    """

    def __init__(self, folder: str, engine: str) -> None:
        self.folder = os.path.realpath(folder)
        self.engine = engine
        self.builtins = types.ModuleType("builtins")
        self.builtins.__dict__.update(vars(builtins), __import__=self._import)

    def install(self) -> None:
        """Give these builtins to each module of old code that is loaded from now on."""

        def create_module(loader, spec):
            if not self.holds(loader.path):
                return None
            module = types.ModuleType(spec.name)
            module.__dict__["__builtins__"] = vars(self.builtins)
            return module

        # Loads all source files, also for importlib.util.spec_from_file_location.
        importlib.machinery.SourceFileLoader.create_module = create_module  # type: ignore
        importlib.import_module = self._create_import_module(importlib.import_module)

    def holds(self, path: str) -> bool:
        """Tell whether a file is old code.

        Parameters
        ----------
        path : str

        Returns
        -------
        bool
            False for Python's own files, installed packages, and this package.
        """
        path = os.path.realpath(path)
        if any(_is_below(path, library) for library in _LIBRARIES):
            return False
        inner = os.path.relpath(path, self.folder) if _is_below(path, self.folder) else path
        return _INSTALLED.isdisjoint(inner.split(os.sep)) and not self._is_in_target_folder(path)

    def _is_in_target_folder(self, path):
        """Tell whether a file is where ``pip install --target`` put packages."""
        folders = {os.path.realpath(entry) for entry in sys.path if entry} - {self.folder}
        return any(_is_below(path, folder) and _has_metadata(folder) for folder in folders)

    def _import(self, name, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002
        """Import as the statement does, in old code."""
        root = "" if level else name.partition(".")[0]
        if root == "builtins":
            return self.builtins
        if root in {"tensorflow", "tf_slim"}:
            from deep_reid.legacy import tensorflow_1

            if root == "tensorflow":
                return tensorflow_1.import_name(name, fromlist, self.engine)
            tensorflow_1.load(self.engine)
        elif root == "numpy":
            from deep_reid.legacy import numpy_names

            numpy_names.restore()
        elif root == "sklearn":
            sklearn_names.restore(name, fromlist)
        return builtins.__import__(name, globals, locals, fromlist, level)

    def _create_import_module(self, import_module):
        @functools.wraps(import_module)
        def import_as_caller(name, package=None):
            is_old = sys._getframe(1).f_builtins is vars(self.builtins)
            if is_old and not name.startswith("."):
                return self._import(name, fromlist=("__name__",))
            return import_module(name, package)

        return import_as_caller


def _is_below(path, folder):
    return path.startswith(folder.rstrip(os.sep) + os.sep)


@functools.cache
def _has_metadata(folder):
    return os.path.isdir(folder) and any(name.endswith(".dist-info") for name in os.listdir(folder))
